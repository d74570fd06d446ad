"""The audit log in PostgreSQL. What keeps it from being changed is in migration 0015."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
from cachetools import LRUCache

from bookwheel.audit import as_json, chained, check
from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.types import NO_HASH, AuditEntry, AuditEvent, AuditFilter, Head, Outcome, Scope, Verified

EVENT: Final = (
    "tenant_id, sequence, at, actor, actor_role, action, object_type, object_id, object_hash, outcome, request_id,"
    " address, details, previous_hash, hash"
)
NAMES: Final = EVENT.replace(" ", "").split(",")
APPEND: Final = "SELECT append_audit(%s, %s, %s, %s::jsonb)"
HEAD: Final = "SELECT sequence, hash FROM audit_events WHERE tenant_id = %s ORDER BY sequence DESC LIMIT 1"
HEADS: Final = """
SELECT DISTINCT ON (tenant_id) tenant_id, sequence, hash FROM audit_events ORDER BY tenant_id, sequence DESC
"""
USED: Final = """
INSERT INTO key_uses AS k (actor, network, first_at, last_at) VALUES (%(actor)s, %(network)s, %(at)s, %(at)s)
ON CONFLICT (actor, network) DO UPDATE
SET first_at = least(k.first_at, excluded.first_at), last_at = greatest(k.last_at, excluded.last_at)
"""
FORGET_USES: Final = """
DELETE FROM key_uses WHERE actor = %(actor)s AND network NOT IN (
    SELECT network FROM key_uses WHERE actor = %(actor)s ORDER BY last_at DESC LIMIT %(keep)s)
"""
KNOWN_HEADS: Final = 10_000  # chains whose end is remembered between appends
EXPORT_PAGE: Final = 500


class PostgresAuditLog:
    """Fills ports.AuditLog."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._heads: LRUCache[UUID, Head] = LRUCache(KNOWN_HEADS)

    async def append(self, entries: Sequence[AuditEntry]) -> Sequence[AuditEvent]:
        """See ports.AuditLog."""
        chains: dict[UUID, list[int]] = {}
        for place, entry in enumerate(entries):
            chains.setdefault(entry.tenant_id, []).append(place)
        made: dict[int, AuditEvent] = {}
        for tenant_id, places in chains.items():
            events = await self._append(tenant_id, [entries[place] for place in places])
            made.update(zip(places, events, strict=True))
        return [made[place] for place in range(len(entries))]

    async def _append(self, tenant_id: UUID, entries: Sequence[AuditEntry]) -> Sequence[AuditEvent]:
        # The end that was seen last is nearly always still the end: then an append is one trip.
        events = chained(entries, head=self._heads.get(tenant_id) or Head(tenant_id=tenant_id))
        async with self.database.connection() as connection:
            if not await _appended(connection, events):
                async with connection.transaction():
                    await connection.execute("SELECT lock_audit_chain(%s)", (tenant_id,))
                    events = chained(entries, head=await _head(connection, tenant_id))
                    await _appended(connection, events)
        self._heads[tenant_id] = Head(tenant_id=tenant_id, sequence=events[-1].sequence, hash=events[-1].hash)
        return events

    async def list(
        self, *, scope: Scope, limit: int, after: int | None = None, newest: bool = True, filter: AuditFilter
    ) -> Sequence[AuditEvent]:
        """See ports.AuditLog."""
        comparison, direction = ("<", "DESC") if newest else (">", "ASC")
        conditions, values = _wanted(scope, filter)
        if after is not None:
            conditions, values = f"{conditions} AND sequence {comparison} %s", [*values, after]
        query = f"SELECT {EVENT} FROM audit_events WHERE {conditions} ORDER BY sequence {direction} LIMIT %s"
        return [_event(row) for row in await self.database.fetch(query, [*values, limit])]

    async def verify(self, *, scope: Scope, expected: bytes | None = None) -> Verified:
        """See ports.AuditLog."""
        return await check(self.export(scope=scope, filter=AuditFilter()), expected=expected)

    async def export(self, *, scope: Scope, filter: AuditFilter) -> AsyncIterator[AuditEvent]:
        """See ports.AuditLog."""
        page: Sequence[AuditEvent] = ()
        while not page or len(page) == EXPORT_PAGE:
            after = page[-1].sequence if page else None
            page = await self.list(scope=scope, limit=EXPORT_PAGE, after=after, newest=False, filter=filter)
            for event in page:
                yield event
            if not page:
                return

    async def heads(self) -> Sequence[Head]:
        """See ports.AuditLog."""
        return [Head(tenant_id=row[0], sequence=row[1], hash=row[2]) for row in await self.database.fetch(HEADS)]

    async def offboard(self, *, scope: Scope) -> Head:
        """See ports.AuditLog."""

        async def work(connection: Connection) -> Head:
            await connection.execute("SELECT set_config('bookwheel.offboarding', %s, true)", (str(scope.tenant_id),))
            found = await rows(connection, "SELECT sequence, hash FROM offboard_audit(%s)", (scope.tenant_id,))
            return _read_head(scope.tenant_id, found)

        head = await self.database.transact(work)
        self._heads.pop(scope.tenant_id, None)
        return head


class PostgresKeyUses:
    """Fills ports.KeyUses."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def networks(self, actor: str) -> Mapping[str, tuple[datetime, datetime]]:
        """See ports.KeyUses."""
        found = await self.database.fetch("SELECT network, first_at, last_at FROM key_uses WHERE actor = %s", (actor,))
        return {network: (first, last) for network, first, last in found}

    async def used(self, actor: str, network: str, *, at: datetime, keep: int) -> None:
        """See ports.KeyUses."""

        async def work(connection: Connection) -> None:
            await connection.execute(USED, {"actor": actor, "network": network, "at": at})
            await connection.execute(FORGET_USES, {"actor": actor, "keep": keep})

        await self.database.transact(work)

    async def forget(self, actors: Sequence[str]) -> None:
        """See ports.KeyUses."""
        async with self.database.connection() as connection:
            await connection.execute("DELETE FROM key_uses WHERE actor = ANY(%s)", (list(actors),))


async def _appended(connection: Connection, events: Sequence[AuditEvent]) -> bool:
    first = events[0]
    added = orjson.dumps([as_json(event) for event in events]).decode()
    values = (first.tenant_id, first.sequence - 1, first.previous_hash, added)
    ((done,),) = await rows(connection, APPEND, values)
    return bool(done)


async def _head(connection: Connection, tenant_id: UUID) -> Head:
    return _read_head(tenant_id, await rows(connection, HEAD, (tenant_id,)))


def _read_head(tenant_id: UUID, found: Sequence[tuple[Any, ...]]) -> Head:
    sequence, last_hash = found[0] if found else (0, NO_HASH)
    return Head(tenant_id=tenant_id, sequence=sequence, hash=last_hash)


def _wanted(scope: Scope, filter: AuditFilter) -> tuple[str, list[Any]]:
    """The condition on the rows, and its values."""
    possible = {
        "at >= %s": filter.since,
        "at < %s": filter.until,
        "action = %s": filter.action,
        "actor = %s": filter.actor,
    }
    given = {condition: value for condition, value in possible.items() if value is not None}
    return " AND ".join(["tenant_id = %s", *given]), [scope.tenant_id, *given.values()]


def _event(row: tuple[Any, ...]) -> AuditEvent:
    values = dict(zip(NAMES, row, strict=True))
    return AuditEvent(**{**values, "outcome": Outcome(values["outcome"])})
