"""Rerankers behind HTTP in the shape of Cohere's /v2/rerank: Cohere's own, vLLM, Jina, another Bookwheel."""

import math
import ssl
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import httpx

from bookwheel.errors import OverloadedError, RerankerUnavailableError, SettingsError
from bookwheel.lenient import NoLimiter
from bookwheel.model_url import parse_model_url
from bookwheel.ports import Limiter
from bookwheel.resilience import Failure, Upstream, http_failure
from bookwheel.settings import Settings
from bookwheel.throttle import THROTTLE_OPTIONS, Throttle, open_throttle
from bookwheel.tls import upstream_context

NAME = "The reranker"
CONCURRENCY = 16  # requests at once
SETTING = "BOOKWHEEL_RERANKER_URL"
TOKEN_CHARACTERS = 4  # of a usual token
TOLD_CHARACTERS = 200  # of what the server says about an error


def open_cohere_reranker(url: str, settings: Settings, *, limiter: Limiter | None = None) -> "CohereReranker":
    """For `cohere:https://HOST/v2/rerank?model=NAME`. `&requests_per_minute=` and `&tokens_per_minute=` are the pace
    that all processes keep together, by `limiter`. Raises SettingsError."""
    model = parse_model_url(url, setting=SETTING, options=THROTTLE_OPTIONS)
    if not model.address:
        raise SettingsError(
            f"BOOKWHEEL_RERANKER_URL has value {url!r}, which names no server: write"
            " cohere:https://HOST/v2/rerank?model=NAME."
        )
    return CohereReranker(
        model.address,
        model=model.model,
        key=settings.reranker_api_key.get_secret_value(),
        timeout_seconds=settings.upstream_timeout_seconds,
        tls=upstream_context(settings),
        throttle=open_throttle(model, limiter or NoLimiter(), name=NAME, setting=SETTING),
    )


class CohereReranker:
    """Fills the Reranker port. One request for each call, unless one fails for a reason that may pass."""

    reads_as_embedder = False

    def __init__(
        self,
        address: str,
        *,
        model: str,
        key: str,
        timeout_seconds: float,
        tls: ssl.SSLContext | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        """`timeout_seconds` is all that one call takes, its attempts included; `tls` says whom to trust."""
        self.model = model
        self._address = address
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        trust = True if tls is None else tls
        self._client = httpx.AsyncClient(headers=headers, timeout=timeout_seconds, verify=trust)
        self._upstream = Upstream(
            NAME,
            judge=_judge,
            unavailable=RerankerUnavailableError,
            deadline_seconds=timeout_seconds,
            concurrency=CONCURRENCY,
            throttle=throttle,
        )

    async def rerank(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """See ports.Reranker. Texts of white space are not sent, since servers refuse them: their score is 0."""
        sent = [number for number, text in enumerate(texts) if text.strip()]
        scores = [0.0] * len(texts)
        if sent:
            documents = [texts[number] for number in sent]
            body = {"model": self.model, "query": query, "documents": documents, "top_n": len(documents)}
            for number, score in zip(sent, _scores(await self._answer(body), count=len(sent)), strict=True):
                scores[number] = score
        return scores

    async def close(self) -> None:
        """End the connections. Idempotent."""
        await self._client.aclose()

    async def _answer(self, body: Mapping[str, Any]) -> Any:
        try:
            return await self._upstream.call(lambda: self._post(body), tokens=lambda: _tokens(body))
        except OverloadedError as error:  # whoever it is that has too much to do, the search goes on without it
            raise RerankerUnavailableError(error.message, retry_after=error.retry_after) from error

    async def _post(self, body: Mapping[str, Any]) -> Any:
        response = await self._client.post(self._address, json=body)
        response.raise_for_status()
        return response.json()


def _judge(error: Exception) -> Failure | None:
    if isinstance(error, httpx.HTTPStatusError):
        response = error.response
        said = response.text[:TOLD_CHARACTERS]
        return http_failure(
            response.status_code, said, name=NAME, headers=response.headers, unavailable=RerankerUnavailableError
        )
    if isinstance(error, httpx.TransportError | ssl.SSLError):  # an alert while reading comes as it is
        unavailable = RerankerUnavailableError(f"{NAME} cannot be reached ({type(error).__name__}).")
        return Failure(error=unavailable, retryable=True, broken=True)
    if isinstance(error, ValueError):  # no JSON
        return Failure(error=_unusable("it is no JSON"), retryable=False, broken=True)
    return None


def _tokens(body: Mapping[str, Any]) -> int:
    """About so many: the model's own tokenizer is the server's. Each document is read with the query."""
    documents = body["documents"]
    characters = sum(map(len, documents)) + len(documents) * len(body["query"])
    return ceil(characters / TOKEN_CHARACTERS)


def _scores(answer: Any, *, count: int) -> list[float]:
    """In the order of the request. Raises RerankerUnavailableError for an answer of another shape."""
    try:
        found = {int(one["index"]): float(one["relevance_score"]) for one in answer["results"]}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _unusable("it has no results with index and relevance_score") from error
    if found.keys() != set(range(count)) or not all(map(math.isfinite, found.values())):
        raise _unusable(f"it does not score each of {count} documents")
    return _scaled([found[number] for number in range(count)])


def _scaled(scores: list[float]) -> list[float]:
    """As they are when all are from 0 to 1; else they are logits or cosines, and the sigmoid keeps their order."""
    if all(0.0 <= score <= 1.0 for score in scores):
        return scores
    return [0.5 * (1.0 + math.tanh(0.5 * score)) for score in scores]


def _unusable(reason: str) -> RerankerUnavailableError:
    return RerankerUnavailableError(
        f"The reranker's answer cannot be used: {reason}. Check that BOOKWHEEL_RERANKER_URL names a server of Cohere's"
        " /v2/rerank shape."
    )
