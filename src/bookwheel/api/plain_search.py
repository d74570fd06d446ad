"""/v1/search: a question in, passages out, over one store, several, or all."""

from typing import Any

from starlette.responses import Response

from bookwheel.access import within
from bookwheel.api.bodies import PlainSearch
from bookwheel.api.search import find, found_details, questions, with_vector
from bookwheel.api.shapes import hit_object
from bookwheel.api.store_choice import NO_STORES, chosen_stores, one_space
from bookwheel.api.wiring import JSON, ThePorts, TheScope, router
from bookwheel.types import Found, Hit

routes = router("search")


@routes.post("/v1/search")
async def plain_search(body: PlainSearch, ports: ThePorts, scope: TheScope) -> Response:
    """Search the stores named by id or by name, or all of them. Several stores of one name are all searched."""
    asked = questions(body)
    stores = await chosen_stores(body.vector_store_ids, body.stores, scope=scope, ports=ports)
    if stores:
        space = one_space(stores)
        asked = with_vector(asked, body.query_vector, space=space)
        found = await find(asked, scope=within(scope, *(store.id for store in stores)), space=space, ports=ports)
    else:
        found = Found(hits=(), warnings=(NO_STORES,))
    results = [result_object(hit) for hit in found.hits]
    return JSON({"object": "search.results", "results": results, **found_details(found)})


def result_object(hit: Hit) -> dict[str, Any]:
    """A hit as a plain result."""
    shown = hit_object(hit)
    document = {name: shown[name] for name in ("file_id", "filename", "attributes")}
    return {"text": hit.text, "score": shown["score"], "document": {**shown["document"], **document}}
