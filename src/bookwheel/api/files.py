"""/v1/files: uploaded bytes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Send
from starlette.types import Scope as Connection

from bookwheel.acts import note
from bookwheel.api.idempotency import once_for_form
from bookwheel.api.ids import parse, public
from bookwheel.api.pages import Order, fetch, listed
from bookwheel.api.shapes import file_object
from bookwheel.api.uploads import receive_upload
from bookwheel.api.wiring import JSON, ThePorts, TheScope, TheSettings, router
from bookwheel.errors import InvalidRequestError
from bookwheel.ports import Files
from bookwheel.quota import check_room
from bookwheel.types import File, Scope

PURPOSES = frozenset({"assistants", "batch", "fine-tune", "vision", "user_data", "evals"})
MIN_LIFE, MAX_LIFE = 3600, 30 * 24 * 3600  #: seconds until a file goes by itself
_SECONDS = re.compile(r"[0-9]{1,9}")
BAD_RANGE = "The file has no such range. Ask for bytes=FIRST-LAST within its size, or leave Range out."
SCAN = 1000  #: files read at once when a list is narrowed to a purpose

routes = router("files", streams=True)


@routes.post("/v1/files")
async def upload(request: Request, ports: ThePorts, scope: TheScope, settings: TheSettings) -> Response:
    """Store a file: a multipart form with `file` and `purpose`, and `expires_after[anchor]` (created_at) with
    `expires_after[seconds]` for one that goes by itself."""
    announced = request.headers.get("content-length", "")
    await check_room(scope=scope, ports=ports, size=int(announced) if announced.isdigit() else 1)
    form = await receive_upload(request, ports.blobs, max_bytes=settings.max_file_bytes)
    purpose = form.fields.get("purpose", "assistants")
    if purpose not in PURPOSES:
        raise InvalidRequestError(f"purpose must be one of {', '.join(sorted(PURPOSES))}.", param="purpose")
    expires_in = _expires_in(form.fields)

    async def create() -> Response:
        file = await ports.files.create(
            form.filename,
            scope=scope,
            purpose=purpose,
            size=form.size,
            sha256=form.sha256,
            expires_in=expires_in,
        )
        note(object_id=public("file", file.id), object_hash=form.sha256, bytes=form.size)
        return JSON(file_object(file))

    content = repr((form.filename, form.sha256, purpose, expires_in))
    return await once_for_form(request, content, create)


def _expires_in(fields: Mapping[str, str]) -> int | None:
    """The seconds of `expires_after`, if it is there. Raises InvalidRequestError."""
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidRequestError("expires_after.anchor must be created_at.", param="expires_after.anchor")
    if not _SECONDS.fullmatch(seconds or "") or not MIN_LIFE <= int(seconds or "") <= MAX_LIFE:
        raise InvalidRequestError(
            f"expires_after.seconds must be a whole number from {MIN_LIFE} to {MAX_LIFE}.",
            param="expires_after.seconds",
        )
    return int(seconds or "")


@routes.get("/v1/files")
async def list_files(
    ports: ThePorts,
    scope: TheScope,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    after: str | None = None,
    order: Order = "desc",
    purpose: str | None = None,
) -> Response:
    """A page of the caller's files."""
    start = parse("file", after) if after else None

    async def read(count: int) -> Sequence[File]:
        if purpose is None:
            return await ports.files.list(scope=scope, limit=count, after=start, newest=order == "desc")
        return await _with_purpose(ports.files, purpose, count, scope=scope, after=start, newest=order == "desc")

    files, more = await fetch(limit, read)
    return JSON(listed([file_object(file) for file in files], more=more))


async def _with_purpose(
    files: Files, purpose: str, count: int, *, scope: Scope, after: UUID | None, newest: bool
) -> list[File]:
    found: list[File] = []
    while len(found) < count:
        scanned = await files.list(scope=scope, limit=SCAN, after=after, newest=newest)
        found += [file for file in scanned if file.purpose == purpose]
        if len(scanned) < SCAN:
            break
        after = scanned[-1].id
    return found[:count]


@routes.get("/v1/files/{file_id}")
async def get_file(file_id: str, ports: ThePorts, scope: TheScope) -> Response:
    """One file."""
    return JSON(file_object(await ports.files.get(parse("file", file_id), scope=scope)))


class Download(FileResponse):
    """A file whose bad ranges are refused in the shape of every error, not in Starlette's plain text."""

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Send the file or the ranges of it that are asked for. Raises HTTPException for ranges that it has not."""
        refused: Message = {}

        async def passed(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
                refused.update(message)
            elif not refused:
                await send(message)

        await super().__call__(scope, receive, passed)
        if refused:
            kept = {name: value for name, value in Headers(raw=refused["headers"]).items() if name == "content-range"}
            raise HTTPException(refused["status"], BAD_RANGE, kept)


@routes.get("/v1/files/{file_id}/content")
async def content(file_id: str, ports: ThePorts, scope: TheScope) -> Response:
    """The bytes as they were uploaded, for those who may read a document made of them."""
    file = await ports.files.get(parse("file", file_id), scope=replace(scope, manages=False))
    path = await ports.blobs.path(file.sha256)
    # Never shown in place: a file of a stranger must not run as a page of ours.
    return Download(
        path,
        media_type="application/octet-stream",
        filename=file.filename,
        headers={"x-content-type-options": "nosniff"},
    )


@routes.delete("/v1/files/{file_id}")
async def delete_file(file_id: str, ports: ThePorts, scope: TheScope, unless_used: bool = False) -> Response:
    """Remove a file and every document made of it, or with `unless_used` nothing while there is such a document; a
    worker removes the bytes a minute later."""
    file = parse("file", file_id)
    removed = await ports.files.delete(file, scope=scope, unless_used=unless_used)
    deleted: dict[str, Any] = {"id": public("file", file), "object": "file", "deleted": removed}
    note(deleted=removed)
    return JSON(deleted)
