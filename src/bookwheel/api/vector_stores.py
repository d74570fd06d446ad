"""/v1/vector_stores: named collections."""

from starlette.responses import Response

from bookwheel.access import within
from bookwheel.acts import note
from bookwheel.api.attributes import checked_access, checked_denied, checked_metadata
from bookwheel.api.bodies import ExpiresAfter, StoreCreate, StoreModify
from bookwheel.api.ids import parse, public
from bookwheel.api.pages import ThePage, fetch, listed
from bookwheel.api.preconditions import IfMatch, tagged
from bookwheel.api.shapes import store_object
from bookwheel.api.wiring import JSON, ThePorts, TheScope, TheStore, router
from bookwheel.etags import store_tag
from bookwheel.quota import check_room
from bookwheel.types import Chunking, DocumentDraft, Store

routes = router("vector stores")


@routes.post("/v1/vector_stores")
async def create_store(body: StoreCreate, ports: ThePorts, scope: TheScope) -> Response:
    """Make a store, with files if any are given."""
    chunking = body.chunking_strategy.chunking() if body.chunking_strategy else None
    drafts = [DocumentDraft(file_id=parse("file", file_id)) for file_id in dict.fromkeys(body.file_ids)]
    for draft in drafts:  # an unknown file must not leave a store behind
        if draft.file_id is not None:
            await ports.files.get(draft.file_id, scope=scope)
    if drafts:
        await check_room(scope=scope, ports=ports, documents=len(drafts))
    store = await ports.stores.create(
        body.name,
        scope=scope,
        space=ports.space,
        chunking=chunking or Chunking(),
        metadata=checked_metadata(body.metadata),
        expires_after_days=_days(body.expires_after),
        access=checked_access(body.access),
        denied=checked_denied(body.denied),
    )
    note(object_id=public("store", store.id), files=len(drafts))
    if drafts:
        await ports.documents.put(drafts, scope=within(scope, store.id), store=store)
        store = await ports.stores.get(store.id, scope=scope)
    return _tagged(store)


@routes.get("/v1/vector_stores")
async def list_stores(ports: ThePorts, scope: TheScope, page: ThePage) -> Response:
    """A page of the caller's stores."""
    after = parse("store", page.after) if page.after else None
    stores, more = await fetch(
        page.limit, lambda count: ports.stores.list(scope=scope, limit=count, after=after, newest=page.newest)
    )
    return JSON(listed([store_object(store) for store in stores], more=more))


@routes.get("/v1/vector_stores/{store_id}")
async def get_store(store: TheStore) -> Response:
    """One store with its counts."""
    return _tagged(store)


@routes.post("/v1/vector_stores/{store_id}")
async def modify_store(
    store_id: str, body: StoreModify, ports: ThePorts, scope: TheScope, if_match: IfMatch
) -> Response:
    """Change the name, the metadata, the expiry or the lists; what is not given stays. An expired store can be used
    again."""
    store = await ports.stores.update(
        parse("store", store_id),
        scope=scope,
        name=body.name,
        metadata=None if body.metadata is None else checked_metadata(body.metadata),
        expires_after_days=_days(body.expires_after) if "expires_after" in body.model_fields_set else "keep",
        access=checked_access(body.access) if "access" in body.model_fields_set else "keep",
        denied=checked_denied(body.denied) if "denied" in body.model_fields_set else "keep",
        if_match=if_match,
    )
    return _tagged(store)


@routes.post("/v1/vector_stores/{store_id}/pause")
async def pause_store(store_id: str, ports: ThePorts, scope: TheScope) -> Response:
    """Stop ingesting into the store once what is in hand is done; it stays searchable and takes uploads."""
    return JSON(store_object(await ports.stores.update(parse("store", store_id), scope=scope, paused=True)))


@routes.post("/v1/vector_stores/{store_id}/resume")
async def resume_store(store_id: str, ports: ThePorts, scope: TheScope) -> Response:
    """Ingest what waits."""
    store = await ports.stores.update(parse("store", store_id), scope=scope, paused=False)
    await ports.jobs.wake()
    return JSON(store_object(store))


@routes.delete("/v1/vector_stores/{store_id}")
async def delete_store(store_id: str, ports: ThePorts, scope: TheScope, if_match: IfMatch) -> Response:
    """Remove a store with its documents; the files stay."""
    parsed = parse("store", store_id)
    await ports.stores.delete(parsed, scope=scope, if_match=if_match)
    return JSON({"id": public("store", parsed), "object": "vector_store.deleted", "deleted": True})


def _tagged(store: Store) -> Response:
    return tagged(store_object(store), store_tag(store))


def _days(expires_after: ExpiresAfter | None) -> int | None:
    return None if expires_after is None else expires_after.days
