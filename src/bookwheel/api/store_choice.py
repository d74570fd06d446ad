"""Which stores a request reads."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from bookwheel.api.bodies import MAX_STORES
from bookwheel.api.ids import parse
from bookwheel.api.models import store_of
from bookwheel.errors import InvalidRequestError, NotFoundError
from bookwheel.expiry import note_search
from bookwheel.ports import Ports
from bookwheel.types import Scope, Space, Store

NO_STORES = "There is no vector store yet. Make one with POST /v1/vector_stores."


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


async def answering_stores(
    model: str, ids: Sequence[str], *, param: str, remedy: str, scope: Scope, ports: Ports
) -> tuple[Sequence[Store], Space]:
    """The stores that an answer rests on, named in the model or by public id, and their space. Raises
    InvalidRequestError, NotFoundError, StoreExpiredError."""
    named = store_of(model, ports)
    wanted = dict.fromkeys([*([named] if named else []), *ids])
    if not wanted:
        raise InvalidRequestError(f"No documents to answer from. {remedy}", param=param)
    stores = await chosen_stores(list(wanted), (), scope=scope, ports=ports)
    return stores, one_space(stores, param=param)


def one_space(stores: Sequence[Store], *, param: str = "vector_store_ids") -> Space:
    """The embedding space of all these stores. Raises InvalidRequestError when they have several."""
    if len({store.space.id for store in stores}) > 1:
        raise InvalidRequestError("These stores use different embedding models; ask them one at a time.", param=param)
    return stores[0].space
