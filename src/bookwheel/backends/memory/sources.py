"""Sources in memory: the owner's side and the worker's."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from bookwheel.backends.memory.database import Lease, MemoryDatabase, page
from bookwheel.errors import NotFoundError
from bookwheel.rights import store_is_there
from bookwheel.types import (
    FileStatus,
    Scope,
    Source,
    SourceChange,
    SourceDraft,
    SourceItem,
    SourceKind,
    SourceOutcome,
    Store,
)


class MemorySources:
    """Fills ports.Sources."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def create(self, draft: SourceDraft, *, scope: Scope, store: Store) -> Source:
        """See ports.Sources."""
        kept = self.database.stores.get(store.id)
        if kept is None or not store_is_there(kept, scope):
            raise NotFoundError(f"No vector store with id vs_{store.id.hex}.")
        source = Source(
            id=uuid4(),
            tenant_id=scope.tenant_id,
            store_id=store.id,
            kind=draft.kind,
            config=_stored(draft.config),
            every_seconds=draft.every_seconds,
            paused=False,
            created_at=self.database.now(),
            next_run_at=self.database.now(),
        )
        self.database.sources[source.id] = source
        return source

    async def get(self, source_id: UUID, *, scope: Scope) -> Source:
        """See ports.Sources."""
        return self._counted(self._one(source_id, scope))

    async def list(
        self, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True
    ) -> Sequence[Source]:
        """See ports.Sources."""
        found = page(
            self.database.sources,
            lambda source: store_is_there(self.database.stores[source.store_id], scope),
            limit=limit,
            after=after,
            newest=newest,
        )
        return [self._counted(source) for source in found]

    async def update(self, source_id: UUID, change: SourceChange, *, scope: Scope) -> Source:
        """See ports.Sources."""
        source = self._one(source_id, scope)
        paused = source.paused if change.paused is None else change.paused
        self.database.sources[source_id] = changed = replace(
            source,
            config=source.config if change.config is None else _stored(change.config),
            every_seconds=source.every_seconds if change.every_seconds is None else change.every_seconds,
            paused=paused,
            failures=0 if change.due else source.failures,
            next_run_at=self.database.now() if change.due or not paused else None,
        )
        if change.due:
            items = self.database.source_items.get(source_id, {})
            items.update({key: replace(item, retry_at=None) for key, item in items.items()})
        return self._counted(changed)

    async def failures(self, source_id: UUID, *, scope: Scope, limit: int) -> Sequence[SourceItem]:
        """See ports.Sources."""
        self._one(source_id, scope)
        return [item for item in _by_key(self.database, source_id) if item.last_error is not None][:limit]

    async def delete(self, source_id: UUID, *, scope: Scope, if_empty: bool = False) -> bool:
        """See ports.Sources."""
        self._one(source_id, scope)
        if if_empty and self.database.source_items.get(source_id):
            return False
        self.database.remove_source(source_id)
        return True

    def _one(self, source_id: UUID, scope: Scope) -> Source:
        source = self.database.sources.get(source_id)
        if source is None or not store_is_there(self.database.stores[source.store_id], scope):
            raise _unknown(source_id)
        return source

    def _counted(self, source: Source) -> Source:
        broken = {
            row.document.external_id
            for row in self.database.documents.values()
            if row.document.store_id == source.store_id and row.document.status is FileStatus.FAILED
        }
        items = _by_key(self.database, source.id)
        return replace(
            source,
            items=sum(item.external_id is not None for item in items),
            failed=sum(item.last_error is not None or item.external_id in broken - {None} for item in items),
        )


class MemorySourceRuns:
    """Fills ports.SourceRuns."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def claim(self, *, owner: str, lease_seconds: float, limit: int) -> Sequence[Source]:
        """See ports.SourceRuns."""
        due = sorted(filter(self._is_due, self.database.sources.values()), key=_due_at)[:limit]
        for source in due:
            expires_at = self.database.clock() + lease_seconds
            self.database.source_leases[source.id] = Lease(owner=owner, expires_at=expires_at)
        return due

    async def renew(self, owner: str, *, lease_seconds: float) -> None:
        """See ports.SourceRuns."""
        for source_id in self._held(owner):
            expires_at = self.database.clock() + lease_seconds
            self.database.source_leases[source_id] = Lease(owner=owner, expires_at=expires_at)

    async def release(self, owner: str) -> None:
        """See ports.SourceRuns."""
        for source_id in self._held(owner):
            del self.database.source_leases[source_id]

    async def items(self, source_id: UUID, *, limit: int, after: str = "") -> Sequence[SourceItem]:
        """See ports.SourceRuns."""
        return [item for item in _by_key(self.database, source_id) if item.key > after][:limit]

    async def save(self, source_id: UUID, items: Sequence[SourceItem], *, gone: Sequence[str] = ()) -> None:
        """See ports.SourceRuns."""
        if source_id not in self.database.sources:
            raise _unknown(source_id)
        kept = self.database.source_items.setdefault(source_id, {})
        for key in gone:
            kept.pop(key, None)
        kept.update({item.key: replace(item, validator=_stored(item.validator)) for item in items})

    async def finish(self, source: Source, outcome: SourceOutcome, *, owner: str) -> None:
        """See ports.SourceRuns."""
        now = self.database.sources.get(source.id)
        if now is None or source.id not in self._held(owner):
            return
        del self.database.source_leases[source.id]
        following = None if now.paused else self.database.now() + timedelta(seconds=outcome.next_in_seconds)
        self.database.sources[source.id] = replace(
            now,
            last_run_at=self.database.now(),
            last_error=outcome.error,
            runs=now.runs + 1,
            counts=dict(outcome.counts),
            state=_stored(outcome.state),
            failures=now.failures + 1 if outcome.failed else 0,
            next_run_at=following if now.next_run_at == source.next_run_at else now.next_run_at,
        )

    async def watched(self) -> Sequence[Source]:
        """See ports.SourceRuns."""
        sources = self.database.sources.values()
        return [source for source in sources if source.kind is SourceKind.DIRECTORY and not source.paused]

    async def wake(self, source_ids: Sequence[UUID]) -> None:
        """See ports.SourceRuns."""
        for source_id in source_ids:
            source = self.database.sources.get(source_id)
            if source is not None and not source.paused:
                self.database.sources[source_id] = replace(source, next_run_at=self.database.now())

    def _held(self, owner: str) -> list[UUID]:
        return [source_id for source_id, lease in self.database.source_leases.items() if lease.owner == owner]

    def _is_due(self, source: Source) -> bool:
        lease = self.database.source_leases.get(source.id)
        is_free = lease is None or lease.expires_at <= self.database.clock()
        return is_free and source.next_run_at is not None and source.next_run_at <= self.database.now()


def _due_at(source: Source) -> datetime:
    return source.next_run_at or source.created_at


def _by_key(database: MemoryDatabase, source_id: UUID) -> list[SourceItem]:
    items = database.source_items.get(source_id, {})
    return [items[key] for key in sorted(items, key=str.encode)]


def _stored(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON storage gives them back; the caller's own mapping may change later."""
    stored: dict[str, Any] = json.loads(json.dumps(dict(values)))
    return stored


def _unknown(source_id: UUID) -> NotFoundError:
    return NotFoundError(f"No source with id src_{source_id.hex}. List yours with GET /v1/sources.")
