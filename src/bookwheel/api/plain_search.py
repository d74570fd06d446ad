"""/v1/search: a question in, passages out, over one store, several, or all."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from starlette.responses import Response

from bookwheel.access import within
from bookwheel.api.bodies import MAX_STORES, PlainSearch
from bookwheel.api.ids import parse
from bookwheel.api.search import find, found_details, questions
from bookwheel.api.shapes import hit_object
from bookwheel.api.wiring import JSON, ThePorts, TheScope, router
from bookwheel.errors import InvalidRequestError, NotFoundError
from bookwheel.expiry import note_search
from bookwheel.ports import Ports
from bookwheel.types import Found, Hit, Scope, Space, Store

NO_STORES = "There is no vector store yet. Make one with POST /v1/vector_stores."

routes = router("search")


@routes.post("/v1/search")
async def plain_search(body: PlainSearch, ports: ThePorts, scope: TheScope) -> Response:
    """Search the stores named by id or by name, or all of them. Several stores of one name are all searched."""
    asked = questions(body)
    stores = await chosen_stores(body.vector_store_ids, body.stores, scope=scope, ports=ports)
    if stores:
        narrowed = within(scope, *(store.id for store in stores))
        found = await find(asked, scope=narrowed, space=one_space(stores), ports=ports)
    else:
        found = Found(hits=(), warnings=(NO_STORES,))
    results = [result_object(hit) for hit in found.hits]
    return JSON({"object": "search.results", "results": results, **found_details(found)})


async def chosen_stores(ids: Sequence[str], names: Sequence[str], *, scope: Scope, ports: Ports) -> Sequence[Store]:
    """The stores with these public ids and these names; where none is named, all that have not expired. Raises
    NotFoundError for one that is not there, StoreExpiredError, InvalidRequestError for more than MAX_STORES."""
    if ids or names:
        parsed = [parse("store", public_id) for public_id in dict.fromkeys(ids)]
        by_id = await asyncio.gather(*(ports.stores.get(store_id, scope=scope) for store_id in parsed))
        stores = {store.id: store for store in (*by_id, *await _named(names, scope=scope, ports=ports))}
    else:
        stores = {store.id: store for store in await live_stores(scope=scope, ports=ports, limit=MAX_STORES + 1)}
    if len(stores) > MAX_STORES:
        raise InvalidRequestError(
            f"One search covers at most {MAX_STORES} vector stores. Name some in vector_store_ids or stores.",
            param="vector_store_ids",
        )
    await note_search(list(stores.values()), scope=scope, ports=ports)
    return list(stores.values())


async def live_stores(*, scope: Scope, ports: Ports, limit: int) -> Sequence[Store]:
    """The caller's stores that have not expired, newest first."""
    live = list[Store]()
    after: UUID | None = None
    while len(live) < limit:
        page = await ports.stores.list(scope=scope, limit=limit, after=after)
        live += [store for store in page if not store.expired]
        if len(page) < limit:
            break
        after = page[-1].id
    return live[:limit]


async def _named(names: Sequence[str], *, scope: Scope, ports: Ports) -> Sequence[Store]:
    if not names:
        return ()
    found = await ports.stores.named(names, scope=scope, limit=MAX_STORES + 1)
    if len(found) <= MAX_STORES and (missing := set(names) - {store.name for store in found}):
        raise NotFoundError(
            f"There is no vector store named {min(missing)!r}. List yours with GET /v1/vector_stores.", param="stores"
        )
    return found


def one_space(stores: Sequence[Store]) -> Space:
    """The embedding space of all these stores. Raises InvalidRequestError when they have several."""
    if len({store.space.id for store in stores}) > 1:
        raise InvalidRequestError(
            "These stores use different embedding models; search them one at a time.", param="vector_store_ids"
        )
    return stores[0].space


def result_object(hit: Hit) -> dict[str, Any]:
    """A hit as a plain result."""
    shown = hit_object(hit)
    document = {name: shown[name] for name in ("file_id", "filename", "attributes")}
    return {"text": hit.text, "score": shown["score"], "document": {**shown["document"], **document}}
