"""/v1/vector_stores/{id}/search: a question in, hits out."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

from starlette.responses import Response

from bookwheel.api.bodies import PlainSearch, Search
from bookwheel.api.cache_control import TheCacheControl, cache_headers, cached_object
from bookwheel.api.given import read_vector
from bookwheel.api.shapes import hit_object, milliseconds
from bookwheel.api.wiring import JSON, StoreScope, ThePorts, TheStore, router
from bookwheel.errors import InvalidRequestError
from bookwheel.expiry import note_search
from bookwheel.filters import parse as parse_filter
from bookwheel.ports import Ports
from bookwheel.retrieve import retrieve
from bookwheel.telemetry import RETRIEVAL
from bookwheel.types import Cached, Found, Freshness, Hit, Question, Scope, Space

routes = router("search")


@routes.post("/v1/vector_stores/{store_id}/search")
async def search(
    body: Search, control: TheCacheControl, store: TheStore, scope: StoreScope, ports: ThePorts
) -> Response:
    """Hybrid search in one store; several queries are searched side by side and merged by best score."""
    asked = with_vector(questions(body), body.query_vector, space=store.space)
    await note_search([store], scope=scope, ports=ports)
    found = await find(asked, scope=scope, space=store.space, ports=ports, freshness=control.freshness([store]))
    return JSON(_page(asked, found), headers=cache_headers(found.cached, control))


def questions(body: Search | PlainSearch) -> list[Question]:
    """One question for each query. Raises InvalidRequestError."""
    if isinstance(body, Search):
        name, wanted, limit = "filters", body.filters, body.max_num_results
    else:
        name, wanted, limit = "filter", body.filter, body.top_k
    if wanted is not None:
        parse_filter(wanted, path=name)  # told before anything is searched
    if body.query_vector is not None and not isinstance(body.query, str):
        raise InvalidRequestError(
            "query_vector is the vector of one query, but query is a list. Send one query.", param="query_vector"
        )
    texts = [body.query] if isinstance(body.query, str) else body.query
    return [body.ranking_options.question(text, limit=limit, filter=wanted) for text in texts]


def with_vector(asked: list[Question], vector: object, *, space: Space) -> list[Question]:
    """The same with the vector that the caller sent in place of the text's own, if any. Raises InvalidRequestError."""
    if vector is None:
        return asked
    unit = read_vector(vector, place="query_vector", space=space)
    return [replace(question, vector=unit) for question in asked]


async def find(
    asked: Sequence[Question], *, scope: Scope, space: Space, ports: Ports, freshness: Freshness | None = None
) -> Found:
    """Search for all questions side by side; one list, best first, with the whole time in its timings."""
    start = perf_counter()
    answers = await asyncio.gather(
        *(retrieve(one, scope=scope, space=space, ports=ports, freshness=freshness) for one in asked)
    )
    found = answers[0] if len(answers) == 1 else _merged(answers, limit=asked[0].limit)
    total = perf_counter() - start
    RETRIEVAL.observe(total)
    return replace(found, timings={**found.timings, "total": total})


def _merged(answers: Sequence[Found], *, limit: int) -> Found:
    best: dict[int, Hit] = {}
    for hit in (hit for found in answers for hit in found.hits):
        if hit.chunk_id not in best or best[hit.chunk_id].score < hit.score:
            best[hit.chunk_id] = hit
    hits = sorted(best.values(), key=lambda hit: hit.score, reverse=True)[:limit]
    stages = dict.fromkeys(stage for found in answers for stage in found.timings)
    return Found(
        hits=hits,
        degraded=tuple(dict.fromkeys(stage for found in answers for stage in found.degraded)),
        warnings=() if hits else tuple(dict.fromkeys(warning for found in answers for warning in found.warnings)),
        timings={stage: max(found.timings.get(stage, 0.0) for found in answers) for stage in stages},
        cached=_all_cached(answers),
    )


def _all_cached(answers: Sequence[Found]) -> Cached | None:
    """Where the oldest of the answers came from, if all were kept."""
    cached = [found.cached for found in answers if found.cached is not None]
    return max(cached, key=lambda one: one.age_seconds) if len(cached) == len(answers) else None


def _page(asked: Sequence[Question], found: Found) -> dict[str, Any]:
    return {
        "object": "vector_store.search_results.page",
        "search_query": [question.text for question in asked],
        "data": [hit_object(hit) for hit in found.hits],
        "has_more": False,
        "next_page": None,
        **found_details(found),
    }


def found_details(found: Found) -> dict[str, Any]:
    """What stands beside the hits."""
    return {
        "warnings": list(found.warnings),
        "degraded": list(found.degraded),
        "timings": milliseconds(found.timings),
        "cache": cached_object(found.cached),
    }
