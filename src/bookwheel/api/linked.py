"""Documents by their address: the page is fetched while its line is being answered.

What is acknowledged is ours: the bytes are durable before the line's result says so, and a page that cannot be fetched
is told in that result, so nothing has to remember pages that never came. Pages to be followed are a source's work.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import UUID

from bookwheel.errors import BookwheelError, FetchFailedError, NotFoundError
from bookwheel.fetching import Fetcher
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.types import DocumentDraft, Scope

PURPOSE = "url"  #: of files that are made here: they go when their document is made of another


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked:
    """A document whose content is at an address."""

    draft: DocumentDraft  #: without content
    url: str


async def fetch_all(
    wanted: Sequence[Linked], *, scope: Scope, ports: Ports, settings: Settings
) -> list[DocumentDraft | BookwheelError]:
    """A draft with a file for each, or why there is none; a few pages at once."""

    async def one(linked: Linked, fetcher: Fetcher) -> DocumentDraft | BookwheelError:
        try:
            return await _fetch(linked, fetcher, scope=scope, ports=ports, max_bytes=settings.max_file_bytes)
        except BookwheelError as error:
            return error

    async with Fetcher(settings) as fetcher:
        return await asyncio.gather(*(one(linked, fetcher) for linked in wanted))


async def _fetch(linked: Linked, fetcher: Fetcher, *, scope: Scope, ports: Ports, max_bytes: int) -> DocumentDraft:
    async with fetcher.get(linked.url) as page:
        if page.is_gone:
            raise FetchFailedError(f"{linked.url}: HTTP {page.status}: there is no such page.", http_status=page.status)
        sha256, size = await ports.blobs.put(page.body, max_bytes=max_bytes)
        filename = page.filename
    file = await ports.files.create(filename, scope=scope, purpose=PURPOSE, size=size, sha256=sha256)
    return replace(linked.draft, file_id=file.id)


async def fetched_files(drafts: Sequence[DocumentDraft], *, scope: Scope, ports: Ports) -> list[UUID]:
    """Files that were made here, and that documents are made of now which are to be made of other files."""
    found = []
    for draft in (draft for draft in drafts if draft.file_id is not None):
        with suppress(NotFoundError):
            document = await ports.documents.find(scope=scope, external_id=draft.external_id)
            if document.file_id and (await ports.files.get(document.file_id, scope=scope)).purpose == PURPOSE:
                found.append(document.file_id)
    return found


async def remove_unused(drafts: Sequence[DocumentDraft], before: Sequence[UUID], *, scope: Scope, ports: Ports) -> None:
    """Remove what no document is made of any more, or never became: former files, and new ones of puts that failed."""
    for file_id in (*before, *(draft.file_id for draft in drafts if draft.file_id is not None)):
        with suppress(NotFoundError):  # its owner was quicker
            await ports.files.delete(file_id, scope=scope, unless_used=True)
