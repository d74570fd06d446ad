"""Fusion of dense and keyword candidates into one ranking. Pure; see docs/decisions for the measurements."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bookwheel.types import Candidate

RRF_K = 10
DENSE_WEIGHT = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """A chunk with its fused score, 0 to 1, and what it was made of."""

    chunk_id: int
    score: float
    dense: float | None
    keyword: float | None


def fuse(
    dense: Sequence[Candidate],
    keyword: Sequence[Candidate],
    *,
    method: Literal["convex", "rrf"] = "convex",
    dense_weight: float = DENSE_WEIGHT,
) -> list[Fused]:
    """Rank the union, best first. `dense` should hold cosines of the keyword candidates too, where they are known."""
    cosines = {candidate.chunk_id: candidate.score for candidate in dense}
    bm25 = {candidate.chunk_id: candidate.score for candidate in keyword}
    if method == "rrf":
        scores = _rrf(dense, keyword, dense_weight)
    else:
        scores = _convex(cosines, bm25, dense_weight if cosines else 0.0)
    ranked = sorted(scores, key=lambda chunk_id: (-scores[chunk_id], chunk_id))
    return [
        Fused(chunk_id=chunk_id, score=scores[chunk_id], dense=cosines.get(chunk_id), keyword=bm25.get(chunk_id))
        for chunk_id in ranked
    ]


def _convex(cosines: dict[int, float], bm25: dict[int, float], weight: float) -> dict[int, float]:
    """BM25 by its maximum, cosine min-max over the union, then the weighted sum."""
    if not bm25:
        weight = 1.0
    top = max(bm25.values(), default=0.0) or 1.0
    low, high = min(cosines.values(), default=0.0), max(cosines.values(), default=0.0)
    spread = (high - low) or 1.0
    return {
        chunk_id: weight * ((cosines.get(chunk_id, low) - low) / spread)
        + (1.0 - weight) * (bm25.get(chunk_id, 0.0) / top)
        for chunk_id in cosines.keys() | bm25.keys()
    }


def _rrf(dense: Sequence[Candidate], keyword: Sequence[Candidate], weight: float) -> dict[int, float]:
    """Reciprocal rank fusion, scaled so that first place in both lists is 1."""
    scores: dict[int, float] = {}
    for candidates, share in ((dense, weight), (keyword, 1.0 - weight)):
        for rank, candidate in enumerate(candidates, start=1):
            scores[candidate.chunk_id] = scores.get(candidate.chunk_id, 0.0) + share * (RRF_K + 1) / (RRF_K + rank)
    return scores
