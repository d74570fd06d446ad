"""/v1/vector_stores/{id}/search: a question in, hits out."""

import asyncio
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from starlette.responses import Response

from bookwheel.api.bodies import RankingOptions, Search
from bookwheel.api.shapes import hit_object, milliseconds
from bookwheel.api.wiring import JSON, StoreScope, ThePorts, TheStore, router
from bookwheel.errors import InvalidRequestError
from bookwheel.filters import parse as parse_filter
from bookwheel.retrieve import retrieve
from bookwheel.telemetry import RETRIEVAL
from bookwheel.types import Found, Hit, Question

routes = router("search")


@routes.post("/v1/vector_stores/{store_id}/search")
async def search(body: Search, store: TheStore, scope: StoreScope, ports: ThePorts) -> Response:
    """Hybrid search in one store; several queries are searched side by side and merged by best score."""
    start = perf_counter()
    questions = _questions(body)
    answers = await asyncio.gather(
        *(retrieve(question, scope=scope, space=store.space, ports=ports) for question in questions)
    )
    found = answers[0] if len(answers) == 1 else _merged(answers, limit=body.max_num_results)
    total = perf_counter() - start
    RETRIEVAL.observe(total)
    return JSON(_page(questions, found, {**found.timings, "total": total}))


def _questions(body: Search) -> list[Question]:
    if body.filters is not None:
        parse_filter(body.filters)  # told before anything is searched
    texts = [body.query] if isinstance(body.query, str) else body.query
    weight = _dense_weight(body.ranking_options)
    return [
        Question(
            text=text,
            limit=body.max_num_results,
            filter=body.filters,
            score_threshold=body.ranking_options.score_threshold,
            dense_weight=weight,
        )
        for text in texts
    ]


def _dense_weight(options: RankingOptions) -> float | None:
    weights = options.hybrid_search
    if weights is None:
        return None
    total = weights.embedding_weight + weights.text_weight
    if not total:
        param = "ranking_options.hybrid_search"
        raise InvalidRequestError(f"{param}: one of the two weights must be above zero.", param=param)
    return weights.embedding_weight / total


def _merged(answers: Sequence[Found], *, limit: int) -> Found:
    best: dict[int, Hit] = {}
    for hit in (hit for found in answers for hit in found.hits):
        if hit.chunk_id not in best or best[hit.chunk_id].score < hit.score:
            best[hit.chunk_id] = hit
    hits = sorted(best.values(), key=lambda hit: hit.score, reverse=True)[:limit]
    degraded = tuple(dict.fromkeys(stage for found in answers for stage in found.degraded))
    stages = dict.fromkeys(stage for found in answers for stage in found.timings)
    timings = {stage: max(found.timings.get(stage, 0.0) for found in answers) for stage in stages}
    return Found(hits=hits, degraded=degraded, timings=timings)


def _page(questions: Sequence[Question], found: Found, timings: Mapping[str, float]) -> dict[str, Any]:
    return {
        "object": "vector_store.search_results.page",
        "search_query": [question.text for question in questions],
        "data": [hit_object(hit) for hit in found.hits],
        "has_more": False,
        "next_page": None,
        "degraded": list(found.degraded),
        "timings": milliseconds(timings),
    }
