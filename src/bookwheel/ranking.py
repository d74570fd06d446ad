"""The order of the hits after the search: judged again by a reranker, and each new beside those before it."""

from collections.abc import MutableMapping, Sequence
from dataclasses import replace

import structlog

from bookwheel.chunk import with_context
from bookwheel.diversify import collapse, mmr
from bookwheel.errors import RerankerUnavailableError
from bookwheel.ports import Ports
from bookwheel.telemetry import DEGRADED, stage
from bookwheel.types import Hit, Question, Space

RERANKED = 20  # hits that a reranker judges: more change nothing (docs/decisions/0009)
RERANK_WEIGHT = 0.5  # of its score beside the fused one, which is never replaced: no reranker alone was better

log = structlog.get_logger()


def candidates(question: Question) -> int:
    """How many hits the ranking wants to choose from."""
    if question.rerank or question.diversity is not None:
        return max(question.limit, RERANKED)
    return question.limit


async def ranked(
    hits: Sequence[Hit], question: Question, *, space: Space, ports: Ports, timings: MutableMapping[str, float]
) -> tuple[Sequence[Hit], tuple[str, ...]]:
    """At most the question's limit of them, best first; and what was left out because it failed."""
    degraded: tuple[str, ...] = ()
    if question.rerank and hits:
        try:
            with stage("rerank", timings):
                hits = await _reranked(hits, question, space=space, ports=ports)
        except RerankerUnavailableError:
            DEGRADED.labels("rerank").inc()
            log.info("left out", part="rerank")
            degraded = ("rerank",)
    if question.diversity is not None:
        distinct = [group.hit for group in collapse(hits)]
        hits = mmr(distinct, balance=question.diversity, limit=question.limit)
    return hits[: question.limit], degraded


async def _reranked(hits: Sequence[Hit], question: Question, *, space: Space, ports: Ports) -> Sequence[Hit]:
    texts = [with_context(hit.title, hit.heading_path, hit.text) for hit in hits]
    scores = await ports.parts.rerank.call(lambda: ports.reranker.rerank(question.text, texts))
    trust = ports.embedders[space.id].coverage(question.text) if ports.reranker.reads_as_embedder else 1.0
    weight = RERANK_WEIGHT * trust
    judged = [
        replace(hit, score=(hit.score + weight * score) / (1 + weight)) for hit, score in zip(hits, scores, strict=True)
    ]
    return sorted(judged, key=lambda hit: -hit.score)
