"""/v1/vector_stores/{id}/file_batches: many files at once."""

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from bookwheel.acts import note
from bookwheel.api.bodies import BatchCreate
from bookwheel.api.ids import parse, public
from bookwheel.api.pages import ThePage, fetch, listed
from bookwheel.api.shapes import batch_object, store_file_object
from bookwheel.api.store_files import draft_of, find_source
from bookwheel.api.wiring import JSON, StoreScope, ThePorts, TheStore, router
from bookwheel.quota import check_room
from bookwheel.types import FileStatus

POLL = {"openai-poll-after-ms": "500"}  # OpenAI's clients wait a second unless told otherwise

routes = router("file batches")


@routes.post("/v1/vector_stores/{store_id}/file_batches")
async def create_batch(body: BatchCreate, store: TheStore, scope: StoreScope, ports: ThePorts) -> Response:
    """Put up to 2,000 files into the store, all of them or none; files that are put one by one go before them."""
    drafts = [draft_of(file) for file in body.attached()]
    await check_room(scope=scope, ports=ports, documents=len(drafts))
    batch = await ports.batches.create(drafts, scope=scope, store=store)
    note(object_id=public("batch", batch.id), files=len(drafts))
    return JSON(batch_object(batch))


@routes.get("/v1/vector_stores/{store_id}/file_batches/{batch_id}")
async def get_batch(batch_id: str, scope: StoreScope, ports: ThePorts) -> Response:
    """One batch with its counts. A file that was taken out of the store is not counted any more."""
    batch = await ports.batches.get(parse("batch", batch_id), scope=scope)
    return JSON(batch_object(batch), headers=POLL)


@routes.post("/v1/vector_stores/{store_id}/file_batches/{batch_id}/cancel")
async def cancel_batch(batch_id: str, scope: StoreScope, ports: ThePorts) -> Response:
    """End what is unfinished of the batch; what is completed stays."""
    return JSON(batch_object(await ports.batches.cancel(parse("batch", batch_id), scope=scope)))


@routes.get("/v1/vector_stores/{store_id}/file_batches/{batch_id}/files")
async def list_batch_files(
    batch_id: str,
    scope: StoreScope,
    ports: ThePorts,
    page: ThePage,
    status: Annotated[FileStatus | None, Query(alias="filter")] = None,
) -> Response:
    """A page of the batch's files, all or those of one status."""
    batch = parse("batch", batch_id)
    after = (await find_source(page.after, scope=scope, ports=ports)).id if page.after else None
    documents, more = await fetch(
        page.limit,
        lambda count: ports.batches.documents(
            batch, scope=scope, limit=count, after=after, newest=page.newest, status=status
        ),
    )
    return JSON(listed([store_file_object(document) for document in documents], more=more))
