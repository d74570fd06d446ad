"""Vector stores in PostgreSQL."""

from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.errors import NotFoundError
from bookwheel.types import Chunking, FileStatus, Metadata, Scope, Space, Store

COLUMNS = """
    s.id, s.tenant_id, s.name, s.space_id, p.model, p.revision, p.dimensions, s.chunking, s.metadata, s.version,
    s.created_at, s.last_active_at, s.size, s.in_progress, s.completed, s.failed, s.cancelled,
    s.paused, s.chunk_count
"""
SELECT = f"SELECT {COLUMNS} FROM stores s JOIN spaces p ON p.id = s.space_id"


class PostgresStores:
    """Fills ports.Stores."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def create(self, name: str, *, scope: Scope, space: Space, chunking: Chunking, metadata: Metadata) -> Store:
        """See ports.Stores."""
        store_id = uuid4()
        await self.database.fetch(
            "INSERT INTO stores (id, tenant_id, space_id, name, chunking, metadata) VALUES (%s, %s, %s, %s, %s, %s)"
            " RETURNING id",
            (store_id, scope.tenant_id, space.id, name, Jsonb(chunking_json(chunking)), Jsonb(dict(metadata))),
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

    async def update(
        self,
        store_id: UUID,
        *,
        scope: Scope,
        name: str | None = None,
        metadata: Metadata | None = None,
        paused: bool | None = None,
    ) -> Store:
        """See ports.Stores."""
        await self.database.fetch(
            "UPDATE stores SET name = coalesce(%s, name), metadata = coalesce(%s, metadata),"
            " paused = coalesce(%s, paused) WHERE id = %s AND tenant_id = %s RETURNING id",
            (name, None if metadata is None else Jsonb(dict(metadata)), paused, store_id, scope.tenant_id),
        )
        return await self.get(store_id, scope=scope)

    async def delete(self, store_id: UUID, *, scope: Scope) -> None:
        """See ports.Stores."""

        async def work(connection: Connection) -> None:
            held = await rows(
                connection,
                "SELECT s.space_id, t.shard FROM stores s JOIN tenants t ON t.id = s.tenant_id"
                " WHERE s.id = %s AND s.tenant_id = %s FOR UPDATE OF s",
                (store_id, scope.tenant_id),
            )
            if not held:
                raise NotFoundError(f"No vector store with id vs_{store_id.hex}.")
            space_id, shard = held[0]
            await rows(
                connection,
                "SELECT append_to_outbox(array_agg('remove'::text), array_agg(tenant_id), array_agg(store_id),"
                " array_agg(id), array_agg(version)) FROM documents WHERE store_id = %s HAVING count(*) > 0",
                (store_id,),
            )
            for statement in (
                "DELETE FROM chunks c USING documents d WHERE d.store_id = %s AND c.document_id = d.id",
                "DELETE FROM sections c USING documents d WHERE d.store_id = %s AND c.document_id = d.id",
                f"DELETE FROM vectors_{space_id} WHERE store_id = %s AND shard = {int(shard)}",
                "DELETE FROM stores WHERE id = %s",
            ):
                await connection.execute(statement.encode(), (store_id,))

        await self.database.transact(work)


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
    )
