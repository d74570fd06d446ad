"""Late interaction: each token of the query looks for the token of the text that is nearest to it (MaxSim).

The token vectors are those of the local embedder before pooling, so it needs no weights of its own. The embedder was
not trained for it: docs/decisions/0009-reranking.md says where it helps.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bookwheel.backends.openvino.directory import ModelDirectory
from bookwheel.backends.openvino.embedder import (
    BATCH_TOKENS,
    Ids,
    model_at,
    open_tokenizer,
    padded,
    special_tokens,
    token_batches,
)
from bookwheel.backends.openvino.graph import build_token_graph
from bookwheel.backends.openvino.inference import Inference
from bookwheel.errors import SettingsError
from bookwheel.ports import Vectors
from bookwheel.settings import Settings

TOKENISE_TEXTS = 64  # texts tokenised in one turn of the thread
LEAST_WEIGHT = 1e-6  # of a query's token: a text alone has all of them alike
SPACE_MARKS = "Ġ▁"  # before the pieces of other tokenizers than BERT's


def open_late_reranker(url: str, settings: Settings) -> "LateReranker":
    """For `late:`, the embedder's model. Raises SettingsError."""
    if url != "late:":
        raise SettingsError(f"BOOKWHEEL_RERANKER_URL has value {url!r}: use late: without more.")
    scheme, _, directory = settings.embedder_url.partition(":")
    if scheme != "openvino":
        raise SettingsError(
            "BOOKWHEEL_RERANKER_URL is late:, which needs the token vectors of a local embedder. Set"
            " BOOKWHEEL_EMBEDDER_URL to openvino:[DIRECTORY], or choose another reranker."
        )
    return LateReranker(model_at(Path(directory) if directory else None), threads=settings.embed_threads)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """A stretch of one text that the model reads at once."""

    text: int  #: position of the text in its call
    ids: Ids  #: special tokens included
    says: NDArray[np.bool_]  #: for each token whether it counts


class LateReranker:
    """Fills the Reranker port. Costs one pass of each text through the embedder's model."""

    reads_as_embedder = True

    def __init__(self, model: ModelDirectory, *, threads: int) -> None:
        self.model = f"late-{model.name}"
        self._tokenizer = open_tokenizer(model)
        self._before, self._after = special_tokens(self._tokenizer)
        self._window = model.window
        self._speaking = _speaking(self._tokenizer)
        self._inference = Inference(build_token_graph(model), threads=threads)

    async def rerank(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """See ports.Reranker: the weighted mean, over the query's tokens, of the highest cosine in the text."""
        if not texts:
            return []
        (asked,) = await self.token_vectors([query])
        highest = np.zeros((len(texts), len(asked)), np.float32)
        async for window, vectors in self._read(texts):
            np.maximum(highest[window.text], highest_cosines(asked, vectors), out=highest[window.text])
        return scores_of(highest)

    async def token_vectors(self, texts: Sequence[str]) -> list[Vectors]:
        """For each text a unit row for each token that has a letter or digit."""
        parts: list[list[Vectors]] = [[] for _ in texts]
        async for window, vectors in self._read(texts):  # the windows of one text come in order
            parts[window.text].append(vectors)
        return [np.concatenate(part) for part in parts]

    def close(self) -> None:
        """End the thread. Idempotent."""
        self._inference.close()

    async def _read(self, texts: Sequence[str]) -> AsyncIterator[tuple[_Window, Vectors]]:
        """The windows of all texts, those of one text in order, a batch in memory at a time."""
        windows: list[_Window] = []
        for start in range(0, len(texts), TOKENISE_TEXTS):
            windows += await self._inference.turn(self._cut, texts[start : start + TOKENISE_TEXTS], first=start)
        for batch in token_batches([len(window.ids) for window in windows], budget=BATCH_TOKENS):
            chosen = [windows[position] for position in batch]
            for window, vectors in zip(chosen, await self._inference.turn(self._infer, chosen), strict=True):
                yield window, vectors

    def _cut(self, texts: Sequence[str], *, first: int) -> list[_Window]:
        """Windows of even size of each text; `first` is the position of the first text."""
        codes = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        room = self._window - len(self._before) - len(self._after)
        return [
            self._enclosed(first + number, part)
            for number, code in enumerate(codes)
            for part in np.array_split(np.array(code.ids, np.int32), max(1, -(-len(code.ids) // room)))
        ]

    def _enclosed(self, text: int, part: Ids) -> _Window:
        ids = np.concatenate((self._before, part, self._after))
        says = np.zeros(len(ids), np.bool_)
        says[len(self._before) : len(self._before) + len(part)] = self._speaking[part]
        return _Window(text=text, ids=ids, says=says)

    def _infer(self, windows: Sequence[_Window]) -> list[Vectors]:
        ids, lengths = padded([window.ids for window in windows], window=self._window)
        made = self._inference.infer(ids, lengths)
        return [made[row, : len(window.ids)][window.says] for row, window in enumerate(windows)]


def highest_cosines(query: Vectors, text: Vectors) -> NDArray[np.float32]:
    """For each row of the query the highest cosine among the rows of the text; 0 where it has none."""
    if not len(text):
        return np.zeros(len(query), np.float32)
    highest: NDArray[np.float32] = (query @ text.T).max(axis=1)
    return highest


def scores_of(highest: NDArray[np.float32]) -> list[float]:
    """One score, 0 to 1, for each row of cosines (texts, query tokens), those below 0 as 0.

    A token counts by how far its best text is ahead of the mean: one that all texts have alike, such as "the", tells
    them apart no better than one that none has.
    """
    if not highest.size:
        return [0.0] * len(highest)
    cosines = np.clip(highest.astype(np.float64), 0.0, 1.0)
    weights = cosines.max(axis=0) - cosines.mean(axis=0) + LEAST_WEIGHT
    return [float(score) for score in (cosines @ weights) / weights.sum()]


def _speaking(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """By token id whether it has a letter or a digit and is no special token."""
    pieces = tokenizer.get_vocab()
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    speaking = np.zeros(max(pieces.values(), default=0) + 1, np.bool_)
    for piece, number in pieces.items():
        speaking[number] = piece not in special and any(map(str.isalnum, piece.lstrip(SPACE_MARKS)))
    return speaking
