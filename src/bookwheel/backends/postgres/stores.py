"""Vector stores in PostgreSQL."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.backends.postgres.removal import remove_contents
from bookwheel.errors import NotFoundError
from bookwheel.etags import check_tag, store_tag
from bookwheel.types import Chunking, FileStatus, Keep, Metadata, Scope, Space, Store

COLUMNS = """
    s.id, s.tenant_id, s.name, s.space_id, p.model, p.revision, p.dimensions, s.chunking, s.metadata, s.version,
    s.created_at, s.last_active_at, s.size, s.in_progress, s.completed, s.failed, s.cancelled,
    s.paused, s.chunk_count, s.expires_after_days,
    s.expired_at IS NOT NULL OR coalesce(s.last_active_at + s.expires_after_days * interval '1 day' <= now(), false)
"""
SELECT = f"SELECT {COLUMNS} FROM stores s JOIN spaces p ON p.id = s.space_id"

# Whatever is changed of it, it is used.
UPDATE = """
UPDATE stores SET name = coalesce(%(name)s, name), metadata = coalesce(%(metadata)s, metadata),
    paused = coalesce(%(paused)s, paused),
    expires_after_days = CASE WHEN %(keep)s THEN expires_after_days ELSE %(days)s END,
    expired_at = NULL, last_active_at = now()
WHERE id = %(id)s AND tenant_id = %(tenant)s
"""


class PostgresStores:
    """Fills ports.Stores."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def create(
        self,
        name: str,
        *,
        scope: Scope,
        space: Space,
        chunking: Chunking,
        metadata: Metadata,
        expires_after_days: int | None = None,
    ) -> Store:
        """See ports.Stores."""
        store_id = uuid4()
        cut, labels = Jsonb(chunking_json(chunking)), Jsonb(dict(metadata))
        await self.database.fetch(
            "INSERT INTO stores (id, tenant_id, space_id, name, chunking, metadata, expires_after_days)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING id",
            (store_id, scope.tenant_id, space.id, name, cut, labels, expires_after_days),
        )
        return await self.get(store_id, scope=scope)

    async def get(self, store_id: UUID, *, scope: Scope) -> Store:
        """See ports.Stores."""
        found = await self.database.fetch(f"{SELECT} WHERE s.id = %s AND s.tenant_id = %s", (store_id, scope.tenant_id))
        if not found:
            raise NotFoundError(f"No vector store with id vs_{store_id.hex}. List yours with GET /v1/vector_stores.")
        return _store(found[0])

    async def list(self, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True) -> "list[Store]":
        """See ports.Stores."""
        query, parameters = page(
            SELECT, "s.tenant_id = %s", [scope.tenant_id], alias="s", table="stores", after=after, newest=newest
        )
        return [_store(row) for row in await self.database.fetch(query, [*parameters, limit])]

    async def named(self, names: Sequence[str], *, scope: Scope, limit: int) -> Sequence[Store]:
        """See ports.Stores."""
        query = f"{SELECT} WHERE s.tenant_id = %s AND s.name = ANY(%s) ORDER BY s.created_at, s.id LIMIT %s"
        return [_store(row) for row in await self.database.fetch(query, (scope.tenant_id, list(names), limit))]

    async def update(
        self,
        store_id: UUID,
        *,
        scope: Scope,
        name: str | None = None,
        metadata: Metadata | None = None,
        paused: bool | None = None,
        expires_after_days: int | Keep | None = "keep",
        if_match: Collection[str] | None = None,
    ) -> Store:
        """See ports.Stores."""
        changes = {
            "name": name,
            "metadata": None if metadata is None else Jsonb(dict(metadata)),
            "paused": paused,
            "keep": expires_after_days == "keep",
            "days": None if expires_after_days == "keep" else expires_after_days,
            "id": store_id,
            "tenant": scope.tenant_id,
        }

        async def work(connection: Connection) -> None:
            await _check(connection, store_id, scope, if_match)
            await connection.execute(UPDATE.encode(), changes)

        await self.database.transact(work)
        return await self.get(store_id, scope=scope)

    async def delete(self, store_id: UUID, *, scope: Scope, if_match: Collection[str] | None = None) -> None:
        """See ports.Stores."""

        async def work(connection: Connection) -> None:
            await _check(connection, store_id, scope, if_match)
            held = await rows(
                connection,
                "SELECT s.space_id, t.shard FROM stores s JOIN tenants t ON t.id = s.tenant_id"
                " WHERE s.id = %s AND s.tenant_id = %s FOR UPDATE OF s",
                (store_id, scope.tenant_id),
            )
            if not held:
                raise NotFoundError(f"No vector store with id vs_{store_id.hex}.")
            space_id, shard = held[0]
            await remove_contents(connection, store_id, space_id=space_id, shard=shard)
            await connection.execute("DELETE FROM stores WHERE id = %s", (store_id,))

        await self.database.transact(work)


async def _check(connection: Connection, store_id: UUID, scope: Scope, if_match: Collection[str] | None) -> None:
    """Hold the store as it is until we commit. Raises PreconditionFailedError when that is not what the caller read."""
    if if_match is None:
        return
    mine = f"{SELECT} WHERE s.id = %s AND s.tenant_id = %s FOR UPDATE OF s"
    for row in await rows(connection, mine, (store_id, scope.tenant_id)):
        check_tag(store_tag(_store(row)), if_match)


def page(
    select: str, condition: str, parameters: "list[Any]", *, alias: str, table: str, after: UUID | None, newest: bool
) -> tuple[str, "list[Any]"]:
    """A keyset page by (created_at, id); the limit is the caller's last parameter."""
    comparison, direction = ("<", "DESC") if newest else (">", "ASC")
    if after is not None:
        cursor = f"(SELECT created_at, id FROM {table} WHERE id = %s)"
        condition = f"{condition} AND ({alias}.created_at, {alias}.id) {comparison} {cursor}"
        parameters = [*parameters, after]
    order = f"ORDER BY {alias}.created_at {direction}, {alias}.id {direction} LIMIT %s"
    return f"{select} WHERE {condition} {order}", parameters


def chunking_json(chunking: Chunking) -> dict[str, Any]:
    """As the catalog stores it."""
    stored = {
        "strategy": chunking.strategy,
        "max_tokens": chunking.max_tokens,
        "overlap_tokens": chunking.overlap_tokens,
    }
    if chunking.strategy == "parent_child":  # so that rows of the others compare equal to those of older versions
        stored["parent_tokens"] = chunking.parent_tokens
    return stored


def _store(row: tuple[Any, ...]) -> Store:
    counts = dict(zip(FileStatus, row[13:17], strict=True))
    return Store(
        id=row[0],
        tenant_id=row[1],
        name=row[2],
        space=Space(id=row[3], model=row[4], revision=row[5], dimensions=row[6]),
        chunking=Chunking(**row[7]),
        metadata=row[8],
        version=row[9],
        created_at=row[10],
        last_active_at=row[11],
        size=row[12],
        counts=counts,
        paused=row[17],
        chunk_count=row[18],
        expires_after_days=row[19],
        expired=row[20],
    )
