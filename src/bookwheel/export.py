"""All that a tenant has, one thing after the other, in bounded memory: for its right to take it elsewhere.

Everything of the tenant is in it, also documents whose lists keep them from whoever asks: only an admin whose key has
no bounds may. It is no snapshot: what is changed meanwhile may be there as it was before or as it is afterwards.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar
from uuid import UUID

from bookwheel.access import within
from bookwheel.errors import PermissionDeniedError
from bookwheel.ports import Ports
from bookwheel.rights import sees_all
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

PAGE = 100  # of anything
PIECE_BYTES = 768 << 10  # of a file, in one item: 1 MiB as base64

Named = TypeVar("Named", Store, File, Document, Source, ApiKey, WebhookEndpoint, ModelResponse)
Owned = Tenant | Store | File | Document | Source | ApiKey | WebhookEndpoint | ModelResponse


def check_may_export(scope: Scope) -> None:
    """Raises PermissionDeniedError for a caller from whom something of the tenant is kept."""
    if not sees_all(scope):
        raise PermissionDeniedError("This key has bounds, and an export has all of the tenant. Use a key without any.")


async def owned(scope: Scope, ports: Ports) -> AsyncIterator[Owned]:
    """What the tenant has, what others rest on first. Texts and bytes are read apart, with `text_of` and `pieces`."""
    yield await ports.tenants.get(scope=scope)
    async for key in _all(lambda after: ports.keys.list(scope=scope, limit=PAGE, after=after)):
        yield key
    async for endpoint in _all(lambda after: ports.webhooks.list(scope=scope, limit=PAGE, after=after, newest=False)):
        yield endpoint
    async for file in _all(lambda after: ports.files.list(scope=scope, limit=PAGE, after=after, newest=False)):
        yield file
    async for source in _all(lambda after: ports.sources.list(scope=scope, limit=PAGE, after=after, newest=False)):
        yield source
    async for store in _all(lambda after: ports.stores.list(scope=scope, limit=PAGE, after=after, newest=False)):
        yield store
        async for document in _documents(within(scope, store.id), ports):
            yield document
    async for response in _all(lambda after: ports.exports.responses(scope=scope, limit=PAGE, after=after)):
        yield response


async def text_of(document: Document, *, scope: Scope, ports: Ports) -> str | None:
    """The text of a document that was put as text; None for one that was made of a file."""
    return None if document.file_id else await ports.exports.text(document.id, scope=scope)


async def pieces(file: File, *, ports: Ports) -> AsyncIterator[bytes]:
    """The bytes of a file, some at a time. Raises NotFoundError where they are gone."""
    content = await asyncio.to_thread(_opened, await ports.blobs.path(file.sha256))
    try:
        while piece := await asyncio.to_thread(content.read, PIECE_BYTES):
            yield piece
    finally:
        content.close()


def _documents(inside: Scope, ports: Ports) -> AsyncIterator[Document]:
    return _all(lambda after: ports.documents.list(scope=inside, limit=PAGE, after=after, newest=False))


async def _all(fetch: Callable[[UUID | None], Awaitable[Sequence[Named]]]) -> AsyncIterator[Named]:
    """All items of a `list` verb."""
    after: UUID | None = None
    while page := await fetch(after):
        for one in page:
            yield one
        if len(page) < PAGE:
            return
        after = page[-1].id


def _opened(path: str) -> BinaryIO:
    return Path(path).open("rb")
