"""GET /v1/search: a search as a link, which HTTP's caches understand."""

import hashlib
from typing import Annotated, Any

import orjson
from fastapi import Header, Query
from pydantic import ValidationError
from starlette.responses import Response

from bookwheel.api.bodies import PlainSearch
from bookwheel.api.cache_control import TheCacheControl, cache_headers
from bookwheel.api.failures import invalid_request
from bookwheel.api.plain_search import found_for, results_object
from bookwheel.api.wiring import JSON, ThePorts, TheScope, TheSettings, router
from bookwheel.errors import InvalidRequestError
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.types import Found, Scope

routes = router("search")

Text = Annotated[str, Query(min_length=1, max_length=8192)]
Names = Annotated[list[str] | None, Query(max_length=100)]


@routes.get("/v1/search")
async def search_by_link(
    query: Text,
    control: TheCacheControl,
    settings: TheSettings,
    ports: ThePorts,
    scope: TheScope,
    top_k: Annotated[int, Query(ge=1, le=50)] = 10,
    stores: Names = None,
    vector_store_ids: Names = None,
    filter: Annotated[str | None, Query(max_length=8192)] = None,
    if_none_match: Annotated[str, Header()] = "",
) -> Response:
    """The same as POST /v1/search, with lists as repeated parameters and the filter as JSON. The ETag stands for what
    was found."""
    asked = {"query": query, "top_k": top_k, "stores": stores or [], "vector_store_ids": vector_store_ids or []}
    found = await found_for(_body({**asked, "filter": _filter(filter)}), control, ports=ports, scope=scope)
    tag = _tag(found)
    headers = {
        "cache-status": cache_headers(found.cached, control)["cache-status"],  # no age: it was found to hold just now
        "etag": tag,
        "cache-control": await _keeping(found, scope, settings, ports),
        "vary": "authorization",
    }
    if {"*", tag.removeprefix("W/")} & {one.strip().removeprefix("W/") for one in if_none_match.split(",")}:
        return Response(status_code=304, headers=headers)
    return JSON(results_object(found), headers=headers)


def _body(asked: dict[str, Any]) -> PlainSearch:
    try:
        return PlainSearch.model_validate(asked)
    except ValidationError as error:
        problems = [{**one, "loc": ("query", *one["loc"])} for one in error.errors()]
        raise invalid_request(problems) from error


def _filter(text: str | None) -> Any:
    try:
        return None if text is None else orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"filter is not JSON: {error}.", param="filter") from error


def _tag(found: Found) -> str:
    """Of the passages and their scores; it is weak, since times do not count."""
    parts = [
        (hit.chunk_id, round(float(hit.score), 6), hit.updated_at.timestamp(), dict(hit.attributes))
        for hit in found.hits
    ]
    data = orjson.dumps([parts, found.warnings, found.degraded], option=orjson.OPT_SORT_KEYS)
    return f'W/"{hashlib.blake2b(data, digest_size=16).hexdigest()}"'


async def _keeping(found: Found, scope: Scope, settings: Settings, ports: Ports) -> str:
    """What is the same for all of the tenant may be kept: whoever stands for somebody sees what others may not, and
    who is denied does not see what others may. What lacks a part is nobody's to keep."""
    seconds = settings.search_public_seconds
    bounds = scope.principals or scope.granted is not None or scope.rule is not None
    if not seconds or bounds or found.degraded or await _restricted(found, scope, ports):
        return "private, no-cache"
    return f"public, max-age={seconds}"


async def _restricted(found: Found, scope: Scope, ports: Ports) -> bool:
    """Whether a list keeps anything that was found from somebody."""
    stores = [await ports.stores.get(store, scope=scope) for store in {hit.store_id for hit in found.hits}]
    return any(store.access is not None or store.denied for store in stores) or any(
        hit.access is not None or hit.denied for hit in found.hits
    )
