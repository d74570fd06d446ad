"""/v1/tenant/export: all that the caller's tenant has, as lines of JSON."""

import base64
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal

import orjson
from fastapi import Query
from starlette.responses import Response, StreamingResponse

from bookwheel.acts import note
from bookwheel.api.ids import public
from bookwheel.api.keys import key_object
from bookwheel.api.lines import MEDIA_TYPE
from bookwheel.api.shapes import document_object, file_object, store_object
from bookwheel.api.sources import source_object
from bookwheel.api.tenants import tenant_object
from bookwheel.api.webhooks import webhook_object
from bookwheel.api.wiring import ThePorts, TheScope, router
from bookwheel.errors import NotFoundError
from bookwheel.export import Owned, check_may_export, owned, pieces, text_of
from bookwheel.ports import Ports
from bookwheel.types import (
    ApiKey,
    Document,
    File,
    ModelResponse,
    Scope,
    Source,
    Store,
    Tenant,
    WebhookEndpoint,
)

PIECE_BYTES = 64 << 10  # of lines that are sent together
HINTS = frozenset({"signing_secret_hint"})  # of secrets, which are not exported

Line = Mapping[str, Any]

routes = router("tenant")


@routes.get("/v1/tenant/export")
async def export_tenant(
    ports: ThePorts, scope: TheScope, include: Annotated[list[Literal["content"]] | None, Query()] = None
) -> Response:
    """All that the tenant has: itself, its keys and webhooks without secrets, files, sources, stores with their
    documents and texts, responses; with `include=content` the bytes of files too. The last line counts the others."""
    check_may_export(scope)
    content = include is not None and "content" in include
    note(content=content)
    lines = _counted(_lines(scope, ports, content=content))
    return StreamingResponse(_sent(lines), media_type=MEDIA_TYPE, headers={"cache-control": "no-store"})


async def _lines(scope: Scope, ports: Ports, *, content: bool) -> AsyncIterator[Line]:
    async for one in owned(scope, ports):
        line = _line(one)
        if isinstance(one, Document):
            line = _document(one, await text_of(one, scope=scope, ports=ports))
        yield line
        if content and isinstance(one, File):
            async for piece in _content(one, ports):
                yield piece


def _line(one: Owned) -> Line:
    match one:
        case Tenant():
            return {"type": "tenant", **tenant_object(one), "generator": one.generator}
        case ApiKey():
            return {"type": "key", **key_object(one)}
        case WebhookEndpoint():
            shown = webhook_object(one)
            return {"type": "webhook", **{name: shown[name] for name in shown if name not in HINTS}}
        case File():
            return {"type": "file", **file_object(one), "sha256": one.sha256.hex()}
        case Source():
            return {"type": "source", **source_object(one), "config": dict(one.config)}
        case Store():
            return {"type": "vector_store", **store_object(one)}
        case ModelResponse():
            asked = {"caller": one.caller_id, "request": one.request}
            return {"type": "response", **asked, "response": one.body}
        case Document():
            return _document(one, None)


def _document(document: Document, text: str | None) -> Line:
    """As POST /v1/vector_stores/{id}/documents reads it, and what else there is to say."""
    return {"type": "document", **document_object(document), **({} if text is None else {"text": text})}


async def _content(file: File, ports: Ports) -> AsyncIterator[Line]:
    offset, named = 0, {"type": "file_content", "file_id": public("file", file.id)}
    try:
        async for piece in pieces(file, ports=ports):
            yield {**named, "offset": offset, "base64": base64.b64encode(piece).decode()}
            offset += len(piece)
    except NotFoundError:  # deleted meanwhile, or lost: that must be seen
        yield {"type": "missing_content", "file_id": public("file", file.id)}


async def _counted(lines: AsyncIterator[Line]) -> AsyncIterator[Line]:
    """The lines and how many of each type they were: an export without this line was cut off."""
    counts: Counter[str] = Counter()
    async for line in lines:
        counts[line["type"]] += 1
        yield line
    yield {"type": "end", "counts": dict(sorted(counts.items()))}


async def _sent(lines: AsyncIterator[Line]) -> AsyncIterator[bytes]:
    waiting = bytearray()
    async for line in lines:
        waiting += orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        if len(waiting) >= PIECE_BYTES:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)
