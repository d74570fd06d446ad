"""/v1/vector_stores/{id}/files: documents as OpenAI's clients see them."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from bookwheel.acts import note
from bookwheel.api.attributes import checked_access, checked_attributes, checked_denied
from bookwheel.api.bodies import AttributesUpdate, FileAttach
from bookwheel.api.ids import PREFIXES, parse, public
from bookwheel.api.pages import ThePage, fetch, listed
from bookwheel.api.preconditions import IfMatch, tagged
from bookwheel.api.shapes import source_id, store_file_object
from bookwheel.api.wiring import JSON, StoreScope, ThePorts, TheStore, router
from bookwheel.errors import InvalidRequestError
from bookwheel.etags import document_tag
from bookwheel.ports import Ports
from bookwheel.quota import check_room
from bookwheel.types import Access, Document, DocumentDraft, FileStatus, Hit, Keep, Scope

routes = router("vector store files")


@routes.post("/v1/vector_stores/{store_id}/files")
async def attach(body: FileAttach, store: TheStore, scope: StoreScope, ports: ThePorts) -> Response:
    """Put a file into the store; it is searchable once its status is `completed`. With an `external_id` that the store
    knows already, the file becomes that document's new version."""
    await check_room(scope=scope, ports=ports, documents=1)
    documents = await ports.documents.put([draft_of(body)], scope=scope, store=store, bulk=body.bulk)
    _note(documents[0])
    return _tagged(documents[0])


@routes.get("/v1/vector_stores/{store_id}/files")
async def list_store_files(
    _store: TheStore,
    scope: StoreScope,
    ports: ThePorts,
    page: ThePage,
    status: Annotated[FileStatus | None, Query(alias="filter")] = None,
) -> Response:
    """A page of the store's documents, all or those of one status."""
    after = (await find_source(page.after, scope=scope, ports=ports)).id if page.after else None
    documents, more = await fetch(
        page.limit,
        lambda count: ports.documents.list(scope=scope, limit=count, after=after, newest=page.newest, status=status),
    )
    return JSON(listed([store_file_object(document) for document in documents], more=more))


@routes.get("/v1/vector_stores/{store_id}/files/{file_id}")
async def get_store_file(file_id: str, scope: StoreScope, ports: ThePorts) -> Response:
    """One document by its file's id, or its own."""
    return _tagged(await find_source(file_id, scope=scope, ports=ports))


@routes.post("/v1/vector_stores/{store_id}/files/{file_id}")
async def update_attributes(
    file_id: str, body: AttributesUpdate, scope: StoreScope, ports: ThePorts, if_match: IfMatch
) -> Response:
    """Replace the attributes or the lists; the content is not read again."""
    if body.model_fields_set.isdisjoint({"attributes", "access", "denied"}):
        raise InvalidRequestError("Nothing to change: send attributes, access or denied.", param="attributes")
    attributes = checked_attributes(body.attributes) if "attributes" in body.model_fields_set else None
    document = await find_source(file_id, scope=scope, ports=ports)
    _note(document)
    changed = await ports.documents.update(
        document.id, scope=scope, attributes=attributes, access=_access(body), denied=_denied(body), if_match=if_match
    )
    return _tagged(changed)


@routes.delete("/v1/vector_stores/{store_id}/files/{file_id}")
async def detach(file_id: str, scope: StoreScope, ports: ThePorts) -> Response:
    """Take a document out of the store; the file stays."""
    document = await find_source(file_id, scope=scope, ports=ports)
    _note(document)
    await ports.documents.delete([document.id], scope=scope)
    return JSON({"id": source_id(document), "object": "vector_store.file.deleted", "deleted": True})


@routes.get("/v1/vector_stores/{store_id}/files/{file_id}/content")
async def store_file_content(file_id: str, scope: StoreScope, ports: ThePorts) -> Response:
    """The text that was read from the file, in parts that do not overlap."""
    document = await find_source(file_id, scope=scope, ports=ports)
    chunks = await ports.passages.of_document(document.id, scope=scope)
    return JSON(
        {
            "object": "vector_store.file_content.page",
            "data": _parts(chunks),
            "has_more": False,
            "next_page": None,
            "file_id": source_id(document),
            "filename": document.filename,
            "attributes": dict(document.attributes),
        }
    )


def draft_of(body: FileAttach) -> DocumentDraft:
    """A file to be attached. Raises InvalidRequestError, or NotFoundError for an ill-formed id."""
    return DocumentDraft(
        file_id=parse("file", body.file_id),
        external_id=body.external_id,
        title=body.title,
        attributes=checked_attributes(body.attributes),
        access=_access(body),
        denied=_denied(body),
        chunking=body.chunking_strategy.chunking() if body.chunking_strategy else None,
    )


async def find_source(source: str, *, scope: Scope, ports: Ports) -> Document:
    """The document of the scope's one store with this `file-` or `doc_` id. Raises NotFoundError."""
    if source.startswith(PREFIXES["document"]):
        return await ports.documents.get(parse("document", source), scope=scope)
    return await ports.documents.find(scope=scope, file_id=parse("file", source))


def _note(document: Document) -> None:
    file_id = None if document.file_id is None else public("file", document.file_id)
    note(object_id=public("document", document.id), version=document.version, file_id=file_id)


def _tagged(document: Document) -> Response:
    return tagged(store_file_object(document), document_tag(document))


def _access(body: FileAttach | AttributesUpdate) -> Access | Keep | None:
    return checked_access(body.access) if "access" in body.model_fields_set else "keep"


def _denied(body: FileAttach | AttributesUpdate) -> Access | Keep:
    return checked_denied(body.denied) if "denied" in body.model_fields_set else "keep"


def _parts(chunks: Sequence[Hit]) -> list[dict[str, Any]]:
    parts, reached = [], 0
    for chunk in chunks:
        text = chunk.text[max(0, reached - chunk.start) :]
        reached = max(reached, chunk.end)
        if text:
            parts.append({"type": "text", "text": text})
    return parts
