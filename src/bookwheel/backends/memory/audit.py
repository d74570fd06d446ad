"""The audit log in memory."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from uuid import UUID

from bookwheel.audit import chained, check
from bookwheel.backends.memory.database import MemoryDatabase
from bookwheel.types import AuditEntry, AuditEvent, AuditFilter, Head, Scope, Verified


class MemoryAuditLog:
    """Fills ports.AuditLog."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def append(self, entries: Sequence[AuditEntry]) -> Sequence[AuditEvent]:
        """See ports.AuditLog."""
        return [self._link(entry) for entry in entries]

    def _link(self, entry: AuditEntry) -> AuditEvent:
        sealed = entry.tenant_id in self.database.sealed
        chain = [] if sealed else self.database.audit_events.setdefault(entry.tenant_id, [])
        (event,) = chained([entry], head=_head(entry.tenant_id, chain))
        chain.append(event)
        return event

    async def list(
        self, *, scope: Scope, limit: int, after: int | None = None, newest: bool = True, filter: AuditFilter
    ) -> Sequence[AuditEvent]:
        """See ports.AuditLog."""
        chain = self.database.audit_events.get(scope.tenant_id, [])
        ordered: Iterable[AuditEvent] = reversed(chain) if newest else chain
        wanted = (event for event in ordered if _behind(event, after, newest) and passes(event, filter))
        return list(islice(wanted, limit))

    async def verify(self, *, scope: Scope, expected: bytes | None = None) -> Verified:
        """See ports.AuditLog."""
        return await check(self.export(scope=scope, filter=AuditFilter()), expected=expected)

    async def export(self, *, scope: Scope, filter: AuditFilter) -> AsyncIterator[AuditEvent]:
        """See ports.AuditLog."""
        for event in self.database.audit_events.get(scope.tenant_id, []):
            if passes(event, filter):
                yield event

    async def heads(self) -> Sequence[Head]:
        """See ports.AuditLog."""
        chains = sorted(self.database.audit_events.items())
        return [_head(tenant_id, chain) for tenant_id, chain in chains if chain]

    async def offboard(self, *, scope: Scope) -> Head:
        """See ports.AuditLog."""
        return _head(scope.tenant_id, self.database.audit_events.pop(scope.tenant_id, []))


class MemoryKeyUses:
    """Fills ports.KeyUses."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def networks(self, actor: str) -> Mapping[str, tuple[datetime, datetime]]:
        """See ports.KeyUses."""
        return dict(self.database.key_uses.get(actor, {}))

    async def used(self, actor: str, network: str, *, at: datetime, keep: int) -> None:
        """See ports.KeyUses."""
        uses = self.database.key_uses.setdefault(actor, {})
        first, last = uses.get(network, (at, at))
        uses[network] = min(first, at), max(last, at)
        for old in sorted(uses, key=lambda one: uses[one][1])[:-keep]:
            del uses[old]

    async def forget(self, actors: Sequence[str]) -> None:
        """See ports.KeyUses."""
        for actor in actors:
            self.database.key_uses.pop(actor, None)


def passes(event: AuditEvent, filter: AuditFilter) -> bool:
    """Whether the event is wanted."""
    return (
        (filter.since is None or event.at >= filter.since)
        and (filter.until is None or event.at < filter.until)
        and filter.action in (None, event.action)
        and filter.actor in (None, event.actor)
    )


def _behind(event: AuditEvent, after: int | None, newest: bool) -> bool:
    return after is None or (event.sequence < after if newest else event.sequence > after)


def _head(tenant_id: UUID, chain: Sequence[AuditEvent]) -> Head:
    if not chain:
        return Head(tenant_id=tenant_id)
    return Head(tenant_id=tenant_id, sequence=chain[-1].sequence, hash=chain[-1].hash)
