"""/v1/search: a question in, passages out, over one store, several, or all."""

from typing import Any

from starlette.responses import Response

from bookwheel.access import within
from bookwheel.api.bodies import PlainSearch
from bookwheel.api.cache_control import CacheControl, TheCacheControl, cache_headers
from bookwheel.api.search import find, found_details, questions, with_vector
from bookwheel.api.shapes import hit_object
from bookwheel.api.store_choice import NO_STORES, chosen_stores, one_space
from bookwheel.api.wiring import JSON, ThePorts, TheScope, router
from bookwheel.ports import Ports
from bookwheel.types import Found, Hit, Scope

routes = router("search")


@routes.post("/v1/search")
async def plain_search(body: PlainSearch, control: TheCacheControl, ports: ThePorts, scope: TheScope) -> Response:
    """Search the stores named by id or by name, or all of them. Several stores of one name are all searched."""
    found = await found_for(body, control, ports=ports, scope=scope)
    return JSON(results_object(found), headers=cache_headers(found.cached, control))


async def found_for(body: PlainSearch, control: CacheControl, *, ports: Ports, scope: Scope) -> Found:
    """What such a search finds. Raises as chosen_stores and retrieve do."""
    asked = questions(body)
    stores = await chosen_stores(body.vector_store_ids, body.stores, scope=scope, ports=ports)
    if not stores:
        return Found(hits=(), warnings=(NO_STORES,))
    space = one_space(stores)
    asked = with_vector(asked, body.query_vector, space=space)
    narrowed = within(scope, *(store.id for store in stores))
    return await find(asked, scope=narrowed, space=space, ports=ports, freshness=control.freshness(stores))


def results_object(found: Found) -> dict[str, Any]:
    """The body of a plain search."""
    results = [result_object(hit) for hit in found.hits]
    return {"object": "search.results", "results": results, **found_details(found)}


def result_object(hit: Hit) -> dict[str, Any]:
    """A hit as a plain result."""
    shown = hit_object(hit)
    document = {name: shown[name] for name in ("file_id", "filename", "attributes")}
    return {"text": hit.text, "score": shown["score"], "document": {**shown["document"], **document}}
