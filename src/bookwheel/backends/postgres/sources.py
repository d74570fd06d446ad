"""Sources in PostgreSQL: the owner's side and the worker's."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from bookwheel.backends.postgres.access_sql import Where, store_visible
from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.backends.postgres.stores import page
from bookwheel.errors import NotFoundError
from bookwheel.types import Scope, Source, SourceChange, SourceDraft, SourceItem, SourceKind, SourceOutcome, Store

COLUMNS = (
    "s.id, s.tenant_id, s.store_id, s.kind, s.config, s.every_seconds, s.paused, s.created_at, s.next_run_at,"
    " s.last_run_at, s.last_error, s.failures, s.runs, s.counts, s.state"
)
COUNTED = f"""
SELECT {COLUMNS}, n.items, n.failed FROM sources s CROSS JOIN LATERAL (
    SELECT count(i.external_id) AS items,
        count(*) FILTER (WHERE i.last_error IS NOT NULL OR d.status = 'failed') AS failed
    FROM source_items i LEFT JOIN documents d ON d.store_id = s.store_id AND d.external_id = i.external_id
    WHERE i.source_id = s.id) AS n
"""
ITEMS = "SELECT key, validator, external_id, last_seen_run, last_error, retry_at FROM source_items"

CHANGE = """
UPDATE sources SET config = coalesce(%(config)s, config), every_seconds = coalesce(%(every)s, every_seconds),
    paused = coalesce(%(paused)s, paused), failures = CASE WHEN %(due)s THEN 0 ELSE failures END,
    next_run_at = CASE WHEN %(due)s THEN clock_timestamp() WHEN coalesce(%(paused)s, paused) THEN NULL
        ELSE clock_timestamp() END
WHERE id = %(id)s RETURNING id
"""

CLAIM = f"""
UPDATE sources s SET owner = %(owner)s, expires_at = clock_timestamp() + %(seconds)s * interval '1 second'
FROM (SELECT id FROM sources WHERE next_run_at <= now()
        AND (owner IS NULL OR expires_at < clock_timestamp())
      ORDER BY next_run_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED) AS due
WHERE s.id = due.id RETURNING {COLUMNS}
"""

FINISH = """
UPDATE sources SET owner = NULL, expires_at = NULL, last_run_at = clock_timestamp(), runs = runs + 1,
    last_error = %(error)s, counts = %(counts)s, state = %(state)s,
    failures = CASE WHEN %(failed)s THEN failures + 1 ELSE 0 END,
    next_run_at = CASE WHEN next_run_at IS DISTINCT FROM %(due)s THEN next_run_at WHEN paused THEN NULL
        ELSE clock_timestamp() + %(delay)s * interval '1 second' END
WHERE id = %(id)s AND owner = %(owner)s
"""

SAVE = """
INSERT INTO source_items (source_id, key, validator, external_id, last_seen_run, last_error, retry_at)
SELECT %s, u.* FROM unnest(%s::text[], %s::jsonb[], %s::text[], %s::integer[], %s::text[], %s::timestamptz[]) AS u
ON CONFLICT (source_id, key) DO UPDATE SET validator = excluded.validator, external_id = excluded.external_id,
    last_seen_run = excluded.last_seen_run, last_error = excluded.last_error, retry_at = excluded.retry_at
"""


class PostgresSources:
    """Fills ports.Sources."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def create(self, draft: SourceDraft, *, scope: Scope, store: Store) -> Source:
        """See ports.Sources."""
        there = store_visible(scope)
        made = await self.database.fetch(
            "INSERT INTO sources (id, tenant_id, store_id, kind, config, every_seconds)"
            f" SELECT %s, s.tenant_id, s.id, %s, %s, %s FROM stores s WHERE s.id = %s AND {there.sql} FOR KEY SHARE"
            " RETURNING id",
            [uuid4(), draft.kind.value, Jsonb(dict(draft.config)), draft.every_seconds, store.id, *there.values],
        )
        if not made:
            raise NotFoundError(f"No vector store with id vs_{store.id.hex}. List yours with GET /v1/vector_stores.")
        return await self.get(made[0][0], scope=scope)

    async def get(self, source_id: UUID, *, scope: Scope) -> Source:
        """See ports.Sources."""
        there = _there(scope)
        found = await self.database.fetch(f"{COUNTED} WHERE s.id = %s AND {there.sql}", [source_id, *there.values])
        if not found:
            raise _unknown(source_id)
        return _source(found[0])

    async def list(self, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True) -> "list[Source]":
        """See ports.Sources."""
        there = _there(scope)
        query, parameters = page(
            COUNTED, there.sql, there.values, alias="s", table="sources", after=after, newest=newest
        )
        return [_source(row) for row in await self.database.fetch(query, [*parameters, limit])]

    async def update(self, source_id: UUID, change: SourceChange, *, scope: Scope) -> Source:
        """See ports.Sources."""
        values = {
            "id": source_id,
            "config": None if change.config is None else Jsonb(dict(change.config)),
            "every": change.every_seconds,
            "paused": change.paused,
            "due": change.due,
        }

        async def work(connection: Connection) -> None:
            await _hold(connection, source_id, scope=scope)
            await rows(connection, CHANGE, values)
            if change.due:
                await connection.execute(
                    "UPDATE source_items SET retry_at = NULL WHERE source_id = %s AND retry_at IS NOT NULL",
                    (source_id,),
                )

        await self.database.transact(work)
        return await self.get(source_id, scope=scope)

    async def failures(self, source_id: UUID, *, scope: Scope, limit: int) -> Sequence[SourceItem]:
        """See ports.Sources."""
        await self.get(source_id, scope=scope)
        found = await self.database.fetch(
            f"{ITEMS} WHERE source_id = %s AND last_error IS NOT NULL ORDER BY key LIMIT %s", (source_id, limit)
        )
        return [_item(row) for row in found]

    async def delete(self, source_id: UUID, *, scope: Scope, if_empty: bool = False) -> bool:
        """See ports.Sources."""

        async def work(connection: Connection) -> bool:
            await _hold(connection, source_id, scope=scope, lock="UPDATE")
            if if_empty and await rows(
                connection, "SELECT 1 FROM source_items WHERE source_id = %s LIMIT 1", (source_id,)
            ):
                return False
            await connection.execute("DELETE FROM sources WHERE id = %s", (source_id,))
            return True

        return await self.database.transact(work)


class PostgresSourceRuns:
    """Fills ports.SourceRuns."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def claim(self, *, owner: str, lease_seconds: float, limit: int) -> list[Source]:
        """See ports.SourceRuns."""
        found = await self.database.fetch(CLAIM, {"owner": owner, "seconds": lease_seconds, "limit": limit})
        return [_source((*row, 0, 0)) for row in sorted(found, key=lambda row: row[8])]

    async def renew(self, owner: str, *, lease_seconds: float) -> None:
        """See ports.SourceRuns."""
        await self._execute(
            "UPDATE sources SET expires_at = clock_timestamp() + %s * interval '1 second' WHERE owner = %s",
            (lease_seconds, owner),
        )

    async def release(self, owner: str) -> None:
        """See ports.SourceRuns."""
        await self._execute("UPDATE sources SET owner = NULL, expires_at = NULL WHERE owner = %s", (owner,))

    async def items(self, source_id: UUID, *, limit: int, after: str = "") -> list[SourceItem]:
        """See ports.SourceRuns."""
        found = await self.database.fetch(
            f"{ITEMS} WHERE source_id = %s AND key > %s ORDER BY key LIMIT %s", (source_id, after, limit)
        )
        return [_item(row) for row in found]

    async def save(self, source_id: UUID, items: Sequence[SourceItem], *, gone: Sequence[str] = ()) -> None:
        """See ports.SourceRuns."""
        latest = sorted({item.key: item for item in items}.values(), key=lambda item: item.key)

        async def work(connection: Connection) -> None:
            await _hold(connection, source_id)
            if gone:
                await connection.execute(
                    "DELETE FROM source_items WHERE source_id = %s AND key = ANY(%s)", (source_id, list(gone))
                )
            if latest:
                await connection.execute(SAVE.encode(), (source_id, *_columns(latest)))

        await self.database.transact(work)

    async def finish(self, source: Source, outcome: SourceOutcome, *, owner: str) -> None:
        """See ports.SourceRuns."""
        await self._execute(
            FINISH,
            {
                "id": source.id,
                "owner": owner,
                "error": outcome.error,
                "counts": Jsonb(dict(outcome.counts)),
                "state": Jsonb(dict(outcome.state)),
                "failed": outcome.failed,
                "due": source.next_run_at,
                "delay": outcome.next_in_seconds,
            },
        )

    async def watched(self) -> list[Source]:
        """See ports.SourceRuns."""
        found = await self.database.fetch(
            f"SELECT {COLUMNS} FROM sources s WHERE s.kind = 'directory' AND NOT s.paused ORDER BY s.id"
        )
        return [_source((*row, 0, 0)) for row in found]

    async def wake(self, source_ids: Sequence[UUID]) -> None:
        """See ports.SourceRuns."""
        await self._execute(
            "UPDATE sources SET next_run_at = clock_timestamp() WHERE id = ANY(%s) AND NOT paused", (list(source_ids),)
        )

    async def _execute(self, statement: str, parameters: Any) -> None:
        async with self.database.connection() as connection:
            await connection.execute(statement.encode(), parameters)


async def _hold(
    connection: Connection, source_id: UUID, *, scope: Scope | None = None, lock: str = "KEY SHARE"
) -> None:
    """Keep the source from being deleted until we commit, or lock it for ourselves. Raises NotFoundError."""
    there = Where("TRUE") if scope is None else _there(scope)
    query = f"SELECT 1 FROM sources s WHERE s.id = %s AND {there.sql} FOR {lock} OF s"
    if not await rows(connection, query, [source_id, *there.values]):
        raise _unknown(source_id)


def _there(scope: Scope) -> Where:
    """Sources of stores that the caller may know of."""
    there = store_visible(scope)
    return Where(f"s.store_id IN (SELECT s.id FROM stores s WHERE {there.sql})", there.values)


def _unknown(source_id: UUID) -> NotFoundError:
    return NotFoundError(f"No source with id src_{source_id.hex}. List yours with GET /v1/sources.")


def _columns(items: Sequence[SourceItem]) -> tuple[list[Any], ...]:
    return (
        [item.key for item in items],
        [Jsonb(dict(item.validator)) for item in items],
        [item.external_id for item in items],
        [item.last_seen_run for item in items],
        [item.last_error for item in items],
        [item.retry_at for item in items],
    )


def _source(row: Sequence[Any]) -> Source:
    return Source(
        id=row[0],
        tenant_id=row[1],
        store_id=row[2],
        kind=SourceKind(row[3]),
        config=row[4],
        every_seconds=row[5],
        paused=row[6],
        created_at=row[7],
        next_run_at=row[8],
        last_run_at=row[9],
        last_error=row[10],
        failures=row[11],
        runs=row[12],
        counts=row[13],
        state=row[14],
        items=row[15],
        failed=row[16],
    )


def _item(row: Sequence[Any]) -> SourceItem:
    return SourceItem(
        key=row[0], validator=row[1], external_id=row[2], last_seen_run=row[3], last_error=row[4], retry_at=row[5]
    )
