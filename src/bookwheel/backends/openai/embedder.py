"""Embeddings of a server with OpenAI's API."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import openai
from tokenizers import Tokenizer

from bookwheel.backends.openai.service import BrokenAnswerError, judge, open_client
from bookwheel.errors import EmbedderUnavailableError, OverloadedError, SettingsError
from bookwheel.lenient import NoLimiter
from bookwheel.model_url import ModelUrl, parse_model_url
from bookwheel.ports import Limiter, Vectors
from bookwheel.resilience import Upstream
from bookwheel.settings import Settings
from bookwheel.throttle import THROTTLE_OPTIONS, Throttle, open_throttle

SETTING = "BOOKWHEEL_EMBEDDER_URL"
OPTIONS = ("dimensions", "window", "revision", "hedge_seconds", *THROTTLE_OPTIONS)
WINDOW = 512  # tokens, unless the URL says otherwise
SPECIAL_TOKENS = 2  # of the window: models put one before and one behind
CONCURRENCY = 8
BATCH = 64  # texts of one request
NOTHING = "-"  # in place of a text without a word, which servers refuse


async def open_embedder(
    url: str, settings: Settings, *, tokenizer: Tokenizer, limiter: Limiter | None = None
) -> "OpenAIEmbedder":
    """The embedder of `openai:https://HOST/v1?model=NAME`.

    `tokenizer` counts in place of the model's own. `&dimensions=384` says how long the vectors are; without it a text
    is embedded to see, and the server must answer. `&window=`: tokens that the model reads at once, `&revision=`:
    change it when the model behind the name changes, `&hedge_seconds=`: ask a second time when there is no answer by
    then, `&requests_per_minute=`, `&tokens_per_minute=`: the pace that all processes keep together. Raises
    SettingsError, EmbedderUnavailableError.
    """
    model = parse_model_url(url, setting=SETTING, options=OPTIONS)
    seconds = settings.upstream_timeout_seconds
    client = open_client(model, settings, seconds=seconds)
    throttle = open_throttle(model, limiter or NoLimiter(), name=f"openai:{model.model}", setting=SETTING)
    embedder = OpenAIEmbedder(client, model, tokenizer=tokenizer, seconds=seconds, throttle=throttle)
    await embedder.learn_dimensions()
    return embedder


class OpenAIEmbedder:
    """Fills the Embedder port."""

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        url: ModelUrl,
        *,
        tokenizer: Tokenizer,
        seconds: float,
        throttle: Throttle | None = None,
    ) -> None:
        self.model = url.model
        self.revision = url.options.get("revision") or "1"
        self.dimensions = int(_number(url, "dimensions") or 0)  # 0 until it is learnt
        self.window = int(_number(url, "window") or WINDOW)
        self.tokenizer = tokenizer
        self._hedge_after = _number(url, "hedge_seconds")
        self._client = client
        name = f"openai:{url.model}"
        self._upstream = Upstream(
            name,
            judge=partial(judge, name=name, unavailable=EmbedderUnavailableError),
            unavailable=EmbedderUnavailableError,
            deadline_seconds=seconds,
            concurrency=CONCURRENCY,
            throttle=throttle,
        )

    async def learn_dimensions(self) -> None:
        """Ask the server how long its vectors are, unless the URL says so. Raises EmbedderUnavailableError."""
        if not self.dimensions:
            self.dimensions = len((await self._request([NOTHING]))[0])

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit vector for each text, in order; a text longer than the window is the mean of its windows, weighted
        by their tokens. Raises EmbedderUnavailableError."""
        windows = [window for number, text in enumerate(texts) for window in self._windows(number, text)]
        joined = np.zeros((len(texts), self.dimensions), np.float32)
        for start in range(0, len(windows), BATCH):
            batch = windows[start : start + BATCH]
            rows = _units(await self._request([text for _, text, _ in batch]), dimensions=self.dimensions)
            weights = np.array([weight for _, _, weight in batch], np.float32)
            np.add.at(joined, [number for number, _, _ in batch], rows * weights[:, np.newaxis])
        return _units(joined, dimensions=self.dimensions)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, as the local tokenizer counts them."""
        return [len(code.ids) for code in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def coverage(self, text: str) -> float:
        """1 for a text with letters or digits: what the server's model knows cannot be seen from here."""
        return float(any(letter.isalnum() for letter in text))

    async def ping(self) -> None:
        """Raises EmbedderUnavailableError when it cannot answer."""
        await self._request(["ping"])

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self._client.close()

    def _windows(self, number: int, text: str) -> list[tuple[int, str, int]]:
        """The text's number, and its windows of even size with their tokens."""
        offsets = self.tokenizer.encode(text, add_special_tokens=False).offsets
        if not offsets:
            return [(number, text if text.strip() else NOTHING, 1)]
        parts = -(-len(offsets) // (self.window - SPECIAL_TOKENS))
        if parts == 1:
            return [(number, text, len(offsets))]
        spans = np.array_split(np.array(offsets), parts)
        return [(number, text[span[0][0] : span[-1][1]], len(span)) for span in spans]

    async def _request(self, texts: Sequence[str]) -> Vectors:
        """The server's vectors. Raises EmbedderUnavailableError, also when the server takes no more requests."""
        try:
            return await self._upstream.call(
                lambda: self._ask(texts),
                hedge_after=self._hedge_after,
                tokens=lambda: sum(self.token_counts(texts)) + SPECIAL_TOKENS * len(texts),
            )
        except OverloadedError as error:
            raise EmbedderUnavailableError(error.message, retry_after=error.retry_after) from error

    async def _ask(self, texts: Sequence[str]) -> Vectors:
        answer = await self._client.embeddings.create(model=self.model, input=list(texts))
        try:
            rows = np.array([row.embedding for row in sorted(answer.data, key=lambda row: row.index)], np.float32)
        except (AttributeError, TypeError, ValueError) as error:
            raise BrokenAnswerError("its vectors have another shape than the API's") from error
        if rows.shape != (len(texts), self.dimensions or rows.shape[-1]) or not np.isfinite(rows).all():
            raise BrokenAnswerError(f"{len(texts)} texts gave vectors of shape {rows.shape}")
        return rows


def _units(rows: Vectors, *, dimensions: int) -> Vectors:
    """Rows of length 1; one without a direction gets the first."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    first = np.eye(1, dimensions, dtype=np.float32)
    units: Vectors = np.where(lengths > 0, rows / np.maximum(lengths, np.finfo(np.float32).tiny), first)
    return units.astype(np.float32)


def _number(url: ModelUrl, option: str) -> float | None:
    """A positive number among the URL's options. Raises SettingsError."""
    if not (given := url.options.get(option)):
        return None
    try:
        number = float(given)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise SettingsError(f"{SETTING} has {option}={given!r}: use a positive number.")
    return number
