"""One run of a source: documents stored, changed and removed through the ports, and what is remembered of each item.

Killing a run at any line loses nothing: an item is noted after its document is stored, and the next run stores an item
that was not noted again, under the same external id.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import structlog

from bookwheel.errors import BookwheelError, NotFoundError, SourceError
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.types import Document, DocumentDraft, FileStatus, Scope, Source, SourceItem, Store

T = TypeVar("T")

PAGE = 1_000  #: items read at once
BATCH, AT_ONCE = 200, 4  #: documents removed in one transaction; questions to the catalog at once
PURPOSE = "assistants"  #: of the files that a source makes
MAX_KEY_BYTES = 2_000  #: an external id must fit into an index
MAX_ATTRIBUTE = 512  #: characters of the path or URL kept as an attribute
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 60.0, 3_600.0
MANY, SHARE = 20, 0.5  #: a run that removes more than this share of so many documents says so

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Run:
    """What one run knows and has done. `number` counts the source's runs from 1."""

    source: Source
    store: Store
    ports: Ports
    settings: Settings
    items: dict[str, SourceItem] = field(default_factory=dict)  #: by key, as they were last noted
    counts: Counter[str] = field(default_factory=Counter)  #: added, changed, unchanged, removed, failed, waiting
    state: dict[str, Any] = field(default_factory=dict)  #: for the next run
    error: str | None = None  #: of the place, when the run goes on all the same
    first_failure: str | None = None

    @property
    def scope(self) -> Scope:
        """The source's own store and nothing else."""
        return Scope(tenant_id=self.source.tenant_id, store_ids=(self.source.store_id,), manages=True)

    @property
    def number(self) -> int:
        """Of this run."""
        return self.source.runs + 1

    def external_id(self, key: str) -> str:
        """The id of an item's document; two sources never share one."""
        return external_id(self.source, key)

    async def load(self) -> None:
        """Read what is known of all items."""
        async for item in all_items(self.source.id, self.ports):
            self.items[item.key] = item

    async def keep(
        self,
        key: str,
        data: AsyncIterator[bytes],
        *,
        filename: str,
        validator: Mapping[str, Any],
        place: Mapping[str, str],
        max_bytes: int,
    ) -> None:
        """Bring an item's document to these bytes; the same bytes again make nothing. Raises TooLargeError."""
        if not _fits(key):
            raise SourceError(f"The name is longer than {MAX_KEY_BYTES} bytes. Rename it.")
        sha256, size = await self.ports.blobs.put(data, max_bytes=max_bytes)
        known = self.items.get(key)
        told = {**validator, "sha256": sha256.hex()}
        if known is not None and known.external_id is not None and known.validator.get("sha256") == sha256.hex():
            await self.unchanged(key, told)
            return
        file = await self.ports.files.create(filename, scope=self.scope, purpose=PURPOSE, size=size, sha256=sha256)
        await self._put(key, file.id, place)
        await self._note(SourceItem(key=key, validator=told, external_id=self.external_id(key)))
        self.counts["changed" if known is not None and known.external_id is not None else "added"] += 1

    async def _put(self, key: str, file_id: UUID, place: Mapping[str, str]) -> None:
        """Make the file the item's document; the file that it was made of before was made by us and goes."""
        external = self.external_id(key)
        before = await _file_of(external, scope=self.scope, ports=self.ports)
        attributes = {"source": f"src_{self.source.id.hex}"} | {
            name: value[:MAX_ATTRIBUTE] for name, value in place.items()
        }
        draft = DocumentDraft(file_id=file_id, external_id=external, attributes=attributes)
        await self.ports.documents.put([draft], scope=self.scope, store=self.store)
        if before is not None and before != file_id:
            await _remove_file(before, scope=self.scope, ports=self.ports)

    async def unchanged(self, key: str, validator: Mapping[str, Any] | None = None) -> None:
        """Count an item that needs nothing; with a validator that differs from the last one, note it."""
        self.counts["unchanged"] += 1
        known = self.items[key]
        if validator is not None and (validator != known.validator or known.last_error is not None):
            await self._note(replace(known, validator=validator, last_error=None, retry_at=None))

    async def is_in_progress(self, key: str) -> bool:
        """Whether an item's document is not searchable yet, and not failed."""
        try:
            document = await self.ports.documents.find(scope=self.scope, external_id=self.external_id(key))
        except NotFoundError:
            return False
        return document.status is FileStatus.IN_PROGRESS

    async def fail(self, key: str, reason: str, *, backoff: bool) -> None:
        """Note why an item could not be read; its document stays as it is."""
        self.counts["failed"] += 1
        self.first_failure = self.first_failure or f"{key[:200]}: {reason}"
        if not _fits(key):
            return
        known = self.items.get(key, SourceItem(key=key))
        failures = int(known.validator.get("failures", 0)) + 1
        if backoff:
            wait = backoff_seconds(self.source.every_seconds, failures)
            known = replace(
                known,
                validator={**known.validator, "failures": failures},
                retry_at=datetime.now(UTC) + timedelta(seconds=wait),
            )
        if reason != known.last_error or backoff:
            log.warning("source item failed", source=self.source.id.hex, item=key[:200], reason=reason)
            await self._note(replace(known, last_error=reason))

    def skip(self, item: SourceItem) -> None:
        """Count an item that waits after an error."""
        self.counts["failed"] += 1
        self.first_failure = self.first_failure or f"{item.key[:200]}: {item.last_error}"

    def summary(self) -> str | None:
        """What failed, in one line."""
        failed = self.counts["failed"]
        return f"{failed} failed; the first: {self.first_failure}" if failed else None

    async def gone(self, key: str, reason: str) -> None:
        """Remove the document of an item that is still listed, but is not there."""
        known = self.items.get(key, SourceItem(key=key))
        if known.external_id is not None:
            await remove_documents([known.external_id], scope=self.scope, ports=self.ports)
            self.counts["removed"] += 1
        self.items[key] = SourceItem(key=key, validator={"failures": known.validator.get("failures", 0)})
        await self.fail(key, reason, backoff=True)

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove items and their documents; the very next query does not see them."""
        documents = sum(item.external_id is not None for item in self.items.values())
        if documents > MANY and len(keys) > documents * SHARE:
            log.warning("source removes many documents", source=self.source.id.hex, removed=len(keys), of=documents)
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            await remove_documents([self.external_id(key) for key in batch], scope=self.scope, ports=self.ports)
            await self.ports.source_runs.save(self.source.id, (), gone=batch)
            self.counts["removed"] += sum(self.items.pop(key).external_id is not None for key in batch)

    async def _note(self, item: SourceItem) -> None:
        item = replace(item, last_seen_run=self.number)
        try:
            await self.ports.source_runs.save(self.source.id, [item])
        except NotFoundError:  # the source was removed while its document was being stored
            await remove_documents([self.external_id(item.key)], scope=self.scope, ports=self.ports)
            raise
        self.items[item.key] = item


def external_id(source: Source, key: str) -> str:
    """The id of an item's document in the store."""
    return f"src_{source.id.hex}/{key}"


def _fits(key: str) -> bool:
    return len(key.encode()) <= MAX_KEY_BYTES


def backoff_seconds(every_seconds: float, failures: int) -> float:
    """Until the next try after so many failures in a row: from a minute, or less as the schedule says, to an hour."""
    first = min(every_seconds, FIRST_BACKOFF_SECONDS)
    doubled = min(MAX_BACKOFF_SECONDS, first * 2.0 ** min(max(failures - 1, 0), 16))
    return doubled * random.uniform(0.9, 1.1)  # noqa: S311 - spread, not secrecy


async def all_items(source_id: UUID, ports: Ports) -> AsyncIterator[SourceItem]:
    """Every item of a source, by key."""
    after = ""
    while page := await ports.source_runs.items(source_id, limit=PAGE, after=after):
        for item in page:
            yield item
        after = page[-1].key


async def remove_source_documents(source: Source, *, ports: Ports) -> None:
    """Remove the documents of a source, with what is known of its items."""
    scope = Scope(tenant_id=source.tenant_id, store_ids=(source.store_id,), manages=True)
    while page := await ports.source_runs.items(source.id, limit=BATCH):
        await remove_documents([external_id(source, item.key) for item in page], scope=scope, ports=ports)
        await ports.source_runs.save(source.id, (), gone=[item.key for item in page])


async def remove_documents(externals: Sequence[str], *, scope: Scope, ports: Ports) -> None:
    """Remove documents of a source in one transaction, then the files that it made for them. Those that are gone
    already do not matter."""
    found: list[Document] = []

    async def find(external: str) -> None:
        with suppress(NotFoundError):
            found.append(await ports.documents.find(scope=scope, external_id=external))

    async def remove_file(document: Document) -> None:
        if document.file_id is not None:
            await _remove_file(document.file_id, scope=scope, ports=ports)

    await each(externals, find, at_once=AT_ONCE)
    if found:
        await ports.documents.delete([document.id for document in found], scope=scope)
    await each(found, remove_file, at_once=AT_ONCE)


async def _file_of(external: str, *, scope: Scope, ports: Ports) -> UUID | None:
    try:
        return (await ports.documents.find(scope=scope, external_id=external)).file_id
    except NotFoundError:
        return None


async def _remove_file(file_id: UUID, *, scope: Scope, ports: Ports) -> None:
    with suppress(NotFoundError):  # its owner was quicker
        await ports.files.delete(file_id, scope=scope)


async def each(things: Iterable[T], work: Callable[[T], Awaitable[None]], *, at_once: int) -> None:
    """Work on all things, a few at a time. Raises the first error, after which nothing new is begun."""
    waiting = iter(things)

    async def go() -> None:
        for thing in waiting:
            await work(thing)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(go())
    except BaseExceptionGroup as group:
        known = [error for error in group.exceptions if isinstance(error, BookwheelError)]
        raise (known or group.exceptions)[0] from group
