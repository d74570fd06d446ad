"""/v1/vector_stores/{id}/documents: texts under the caller's own ids, one or millions."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from bookwheel.acts import Digest, note
from bookwheel.api.attributes import checked_access, checked_attributes, checked_denied
from bookwheel.api.audited import audited_later
from bookwheel.api.given import read_given
from bookwheel.api.ids import PREFIXES, public
from bookwheel.api.lines import MEDIA_TYPE, Conversation, Line, whole_line
from bookwheel.api.linked import Linked, fetch_all, fetched_files, remove_unused
from bookwheel.api.pages import ThePage, fetch, listed
from bookwheel.api.shapes import chunk_object, document_object
from bookwheel.api.store_files import find_source
from bookwheel.api.wiring import JSON, StoreScope, ThePorts, TheSettings, TheStore, router
from bookwheel.errors import BookwheelError, FetchRefusedError, InvalidDocumentError, NotFoundError, TooLargeError
from bookwheel.fetching import checked_url
from bookwheel.ports import Ports
from bookwheel.quota import check_room
from bookwheel.settings import Settings
from bookwheel.telemetry import ERRORS
from bookwheel.types import Document, DocumentDraft, FileStatus, Scope, Space, Store

MAX_ID = 512  #: characters
MAX_TITLE = 1024  #: characters
THREAD_BYTES = 256 << 10  #: of lines, from which on reading them leaves the event loop: vectors take time
UNCHANGED = "unchanged"

routes = router("documents", streams=True)


@routes.post("/v1/vector_stores/{store_id}/documents")
async def put_documents(
    request: Request, store: TheStore, scope: StoreScope, ports: ThePorts, settings: TheSettings
) -> Response:
    """Upsert documents by the caller's ids: NDJSON lines, answered line by line, or one JSON object."""
    kind = request.headers.get("content-type", MEDIA_TYPE).partition(";")[0].strip().lower()
    if kind == "application/json":
        return await _put_one(request, store, scope, ports, settings)

    written, write = Digest(), audited_later(request, operation="put_documents")

    async def handle(lines: Sequence[Line]) -> bytes:
        return await put_lines(lines, store=store, scope=scope, ports=ports, settings=settings, written=written)

    async def ended(whole: bool) -> None:
        note(object_hash=written.hex(), documents=written.count, whole=whole)
        await write()

    return Conversation(request, handle, max_line_bytes=settings.max_line_bytes, ended=ended)


async def _put_one(request: Request, store: Store, scope: Scope, ports: Ports, settings: Settings) -> Response:
    line = await whole_line(request.stream(), max_bytes=settings.max_line_bytes)
    read = await asyncio.to_thread(read_draft, line, space=store.space)
    (draft,) = await _with_content([read], scope=scope, ports=ports, settings=settings)
    if isinstance(draft, BookwheelError):
        raise draft
    await check_room(scope=scope, ports=ports, documents=1, size=len(line or b""))
    before = await fetched_files([draft], scope=scope, ports=ports)
    try:
        documents = await ports.documents.put([draft], scope=scope, store=store)
    finally:
        await remove_unused([draft], before, scope=scope, ports=ports)
    written = Digest()
    written.add([draft])
    note(object_id=public("document", documents[0].id), object_hash=written.hex(), documents=written.count)
    return JSON(_result(documents[0]))


async def put_lines(
    lines: Sequence[Line], *, store: Store, scope: Scope, ports: Ports, settings: Settings, written: Digest
) -> bytes:
    """Put a batch of lines; returns one JSON line for each, in order. An error of one line is its result. What is kept
    is added to `written`."""
    results: list[dict[str, Any]] = [{"line": line.number} for line in lines]
    large = sum(len(line.data or b"") for line in lines) > THREAD_BYTES
    read = await asyncio.to_thread(_read, lines, space=store.space) if large else _read(lines, space=store.space)
    whole = await _with_content(read, scope=scope, ports=ports, settings=settings)
    drafts: list[DocumentDraft] = []
    places: list[int] = []
    for place, draft in enumerate(whole):
        if isinstance(draft, BookwheelError):
            results[place] |= {"id": _id_in(lines[place].data)} | draft.body()
        else:
            drafts.append(draft)
            places.append(place)
    before = await fetched_files(drafts, scope=scope, ports=ports)
    outcomes = await _put(drafts, store=store, scope=scope, ports=ports)
    for place, outcome in zip(places, outcomes, strict=True):
        results[place] |= outcome
    kept = [draft for draft, outcome in zip(drafts, outcomes, strict=True) if "error" not in outcome]
    if large:
        await asyncio.to_thread(written.add, kept)
    else:
        written.add(kept)
    await remove_unused(drafts, before, scope=scope, ports=ports)
    return b"".join([orjson.dumps(result, option=orjson.OPT_APPEND_NEWLINE) for result in results])


def _read(lines: Sequence[Line], *, space: Space) -> list[DocumentDraft | Linked | BookwheelError]:
    """Each line's draft, or why there is none."""

    def one(line: Line) -> DocumentDraft | Linked | BookwheelError:
        try:
            return read_draft(line.data, space=space)
        except BookwheelError as error:
            return error

    return [one(line) for line in lines]


async def _with_content(
    read: Sequence[DocumentDraft | Linked | BookwheelError], *, scope: Scope, ports: Ports, settings: Settings
) -> list[DocumentDraft | BookwheelError]:
    """The same in order, what is at an address fetched."""
    wanted = [one for one in read if isinstance(one, Linked)]
    fetched = iter(await fetch_all(wanted, scope=scope, ports=ports, settings=settings) if wanted else ())
    return [next(fetched) if isinstance(one, Linked) else one for one in read]


async def _put(
    drafts: Sequence[DocumentDraft], *, store: Store, scope: Scope, ports: Ports
) -> Sequence[dict[str, Any]]:
    if not drafts:
        return ()
    try:
        await check_room(scope=scope, ports=ports, documents=len(drafts), size=_size(drafts))
        return [_result(document) for document in await ports.documents.put(drafts, scope=scope, store=store)]
    except BookwheelError as error:  # the batch is one transaction: nothing of it was kept
        ERRORS.labels("documents", type(error).__name__).inc(len(drafts))
        return [{"id": draft.external_id} | error.body() for draft in drafts]


def _size(drafts: Sequence[DocumentDraft]) -> int:
    """Of the texts, about: characters; what a file holds was counted with the file."""
    return sum(max(1, len(draft.text or "")) for draft in drafts)


def _result(document: Document) -> dict[str, Any]:
    # A put never finishes work, so what is already complete was not changed by it.
    status = UNCHANGED if document.status is FileStatus.COMPLETED else document.status.value
    return {
        "id": document.external_id,
        "document_id": public("document", document.id),
        "version": document.version,
        "status": status,
    }


def read_draft(data: bytes | None, *, space: Space) -> DocumentDraft | Linked:
    """A line as a draft, or as one whose content is to be fetched; vectors must be of the space. Raises
    InvalidDocumentError with what is wrong, TooLargeError for None."""
    if data is None:
        raise TooLargeError("The line is longer than the limit. Split the document, or raise BOOKWHEEL_MAX_LINE_BYTES.")
    try:
        raw = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidDocumentError(f"The line is not valid JSON: {error}.") from None
    if not isinstance(raw, dict):
        raise InvalidDocumentError("The line must be a JSON object with `id` and `text`, `chunks` or `url`.")
    name, text, title, url = raw.get("id"), raw.get("text"), raw.get("title"), raw.get("url")
    if not isinstance(name, str) or not name or len(name) > MAX_ID or "\0" in name:
        raise InvalidDocumentError(f"`id` must be a string of 1 to {MAX_ID} characters.", param="id")
    given = read_given(raw, space=space)
    if given is None:
        _check_content(text, url)
    else:
        text = given[0]
    if title is not None and (not isinstance(title, str) or len(title) > MAX_TITLE):
        raise InvalidDocumentError(f"`title` must be a string of at most {MAX_TITLE} characters.", param="title")
    draft = DocumentDraft(
        external_id=name,
        text=_storable(text) if text is not None else None,
        title=_storable(title) if title is not None else None,
        attributes=checked_attributes(raw.get("attributes")),
        access=checked_access(raw["access"]) if "access" in raw else "keep",
        denied=checked_denied(raw["denied"]) if "denied" in raw else "keep",
        given=given[1] if given else None,
    )
    return draft if url is None else Linked(draft=draft, url=url)


def _check_content(text: object, url: object) -> None:
    if url is None and (not isinstance(text, str) or not text.strip()):
        raise InvalidDocumentError(
            "`text` must be a string that is not empty; or give `chunks` or a `url`.", param="text"
        )
    if url is None:
        return
    if text is not None or not isinstance(url, str):
        raise InvalidDocumentError("`url` must be a string, and stand without `text`.", param="url")
    try:
        checked_url(url)
    except FetchRefusedError as error:
        raise InvalidDocumentError(error.message, param="url") from None


def _storable(text: str) -> str:
    return text.replace("\0", "\ufffd") if "\0" in text else text  # PostgreSQL has no NUL; offsets stay


def _id_in(data: bytes | None) -> str | None:
    """The id of a line that was refused, where it can be told."""
    try:
        raw = orjson.loads(data or b"null")
    except orjson.JSONDecodeError:
        return None
    name = raw.get("id") if isinstance(raw, dict) else None
    return name[:MAX_ID] if isinstance(name, str) else None


@routes.get("/v1/vector_stores/{store_id}/documents")
async def list_documents(
    _store: TheStore,
    scope: StoreScope,
    ports: ThePorts,
    page: ThePage,
    status: Annotated[FileStatus | None, Query()] = None,
) -> Response:
    """A page of the store's documents; `after` is an `id` or a `document_id` of the page before."""
    after = (await _find(page.after, scope=scope, ports=ports)).id if page.after else None
    documents, more = await fetch(
        page.limit,
        lambda count: ports.documents.list(scope=scope, limit=count, after=after, newest=page.newest, status=status),
    )
    return JSON(listed([document_object(document) for document in documents], more=more))


@routes.get("/v1/vector_stores/{store_id}/documents/{id:path}")
async def get_document(
    id: str, scope: StoreScope, ports: ThePorts, include: Annotated[list[str] | None, Query()] = None
) -> Response:
    """One document; with `include=content` its live chunks too."""
    document = await _find(id, scope=scope, ports=ports)
    shown = document_object(document)
    if include and "content" in include:
        chunks = await ports.passages.of_document(document.id, scope=scope)
        shown["chunks"] = [chunk_object(chunk) for chunk in chunks]
    return JSON(shown)


@routes.delete("/v1/vector_stores/{store_id}/documents/{id:path}")
async def delete_document(id: str, scope: StoreScope, ports: ThePorts) -> Response:
    """Remove one document; the next search does not see it."""
    document = await _find(id, scope=scope, ports=ports)
    note(object_id=public("document", document.id), version=document.version)
    await ports.documents.delete([document.id], scope=scope)
    return JSON(
        {
            "id": id,
            "object": "vector_store.document.deleted",
            "document_id": public("document", document.id),
            "deleted": True,
        }
    )


async def _find(id: str, *, scope: Scope, ports: Ports) -> Document:
    """By the caller's id, else by a `doc_` or `file-` id. Raises NotFoundError."""
    try:
        return await ports.documents.find(scope=scope, external_id=id.replace("\0", "\ufffd"))
    except NotFoundError:
        if not id.startswith((PREFIXES["document"], PREFIXES["file"])):
            raise
    return await find_source(id, scope=scope, ports=ports)
