"""Vector stores in PostgreSQL."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from bookwheel.backends.postgres.access_sql import Where, hidden_of_store, store_visible
from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.backends.postgres.removal import remove_contents
from bookwheel.errors import NotFoundError
from bookwheel.etags import check_tag, store_tag
from bookwheel.rights import bound_to_stores, holds_hidden, lists_closed, store_is_open
from bookwheel.types import Access, Chunking, FileStatus, Keep, Metadata, Scope, Space, Store

COUNTS = ("size", "chunk_count", "in_progress", "completed", "failed", "cancelled")
STORES = """
SELECT s.id, s.tenant_id, s.name, s.space_id, p.model, p.revision, p.dimensions, s.chunking, s.metadata, s.version,
    s.created_at, s.last_active_at, s.paused, s.expires_after_days,
    s.expired_at IS NOT NULL OR coalesce(s.last_active_at + s.expires_after_days * interval '1 day' <= now(), false),
    s.access, s.denied, {counts} FROM stores s JOIN spaces p ON p.id = s.space_id {hidden}
"""
SELECT = STORES.format(counts=", ".join(f"s.{name}" for name in COUNTS), hidden="")
# What a caller may not know of is not counted for it.
LESS_HIDDEN = ", ".join(f"s.{name} - h.{name}" for name in COUNTS)
HIDDEN = """
CROSS JOIN LATERAL (SELECT coalesce(sum(d.size), 0)::bigint AS size,
    coalesce(sum(d.chunk_count), 0)::bigint AS chunk_count,
    count(*) FILTER (WHERE d.status = 'in_progress') AS in_progress,
    count(*) FILTER (WHERE d.status = 'completed') AS completed, count(*) FILTER (WHERE d.status = 'failed') AS failed,
    count(*) FILTER (WHERE d.status = 'cancelled') AS cancelled FROM {hidden}) AS h
"""

# Whatever is changed of it, it is used.
LISTS = (
    "CASE WHEN %(keep_access)s THEN access ELSE %(access)s::text[] END,"
    " CASE WHEN %(keep_denied)s THEN denied ELSE nullif(%(denied)s::text[], '{}') END"
)
UPDATE = f"""
UPDATE stores SET name = coalesce(%(name)s, name), metadata = coalesce(%(metadata)s, metadata),
    paused = coalesce(%(paused)s, paused),
    expires_after_days = CASE WHEN %(keep)s THEN expires_after_days ELSE %(days)s END,
    expired_at = NULL, last_active_at = now(),
    version = version + ((access, denied) IS DISTINCT FROM ({LISTS}))::integer, (access, denied) = ROW({LISTS})
WHERE id = %(id)s
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
        access: Access | None = None,
        denied: Access = (),
    ) -> Store:
        """See ports.Stores."""
        if scope.granted is not None:
            raise bound_to_stores()
        store_id = uuid4()
        cut, labels = Jsonb(chunking_json(chunking)), Jsonb(dict(metadata))
        await self.database.fetch(
            "INSERT INTO stores (id, tenant_id, space_id, name, chunking, metadata, expires_after_days, access, denied)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, nullif(%s::text[], '{}')) RETURNING id",
            (
                *(store_id, scope.tenant_id, space.id, name, cut, labels, expires_after_days),
                *(None if access is None else list(access), list(denied)),
            ),
        )
        return await self.get(store_id, scope=replace(scope, manages=True))  # its maker may see it as it was made

    async def get(self, store_id: UUID, *, scope: Scope) -> Store:
        """See ports.Stores."""
        select, there = _select(scope), store_visible(scope)
        found = await self.database.fetch(
            f"{select.sql} WHERE s.id = %s AND {there.sql}", [*select.values, store_id, *there.values]
        )
        if not found:
            raise _unknown(store_id)
        return _store(found[0])

    async def list(self, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True) -> "list[Store]":
        """See ports.Stores."""
        select, there = _select(scope), store_visible(scope)
        query, parameters = page(
            select.sql, there.sql, there.values, alias="s", table="stores", after=after, newest=newest
        )
        found = await self.database.fetch(query, [*select.values, *parameters, limit])
        return [_store(row) for row in found]

    async def named(self, names: Sequence[str], *, scope: Scope, limit: int) -> Sequence[Store]:
        """See ports.Stores."""
        select, there = _select(scope), store_visible(scope)
        found = await self.database.fetch(
            f"{select.sql} WHERE {there.sql} AND s.name = ANY(%s) ORDER BY s.created_at, s.id LIMIT %s",
            [*select.values, *there.values, list(names), limit],
        )
        return [_store(row) for row in found]

    async def update(
        self,
        store_id: UUID,
        *,
        scope: Scope,
        name: str | None = None,
        metadata: Metadata | None = None,
        paused: bool | None = None,
        expires_after_days: int | Keep | None = "keep",
        access: Access | Keep | None = "keep",
        denied: Access | Keep = "keep",
        if_match: Collection[str] | None = None,
    ) -> Store:
        """See ports.Stores."""
        changes = {
            "keep_access": access == "keep",
            "access": None if access is None or access == "keep" else list(access),
            "keep_denied": denied == "keep",
            "denied": None if denied == "keep" else list(denied),
            "name": name,
            "metadata": None if metadata is None else Jsonb(dict(metadata)),
            "paused": paused,
            "keep": expires_after_days == "keep",
            "days": None if expires_after_days == "keep" else expires_after_days,
            "id": store_id,
        }

        async def work(connection: Connection) -> Store:
            store = await _held(connection, store_id, scope, if_match, lock="NO KEY UPDATE")
            if not (access == denied == "keep" or scope.manages or store_is_open(store, scope)):
                raise lists_closed("vector store")
            await connection.execute(UPDATE.encode(), changes)
            select = _select(scope)
            return _store((await rows(connection, f"{select.sql} WHERE s.id = %s", [*select.values, store_id]))[0])

        return await self.database.transact(work)

    async def delete(self, store_id: UUID, *, scope: Scope, if_match: Collection[str] | None = None) -> None:
        """See ports.Stores."""

        async def work(connection: Connection) -> None:
            store = await _held(connection, store_id, scope, if_match)
            if (hidden := hidden_of_store(scope)) and await rows(
                connection,
                f"SELECT 1 FROM stores s WHERE s.id = %s AND EXISTS (SELECT FROM {hidden.sql})",
                [store_id, *hidden.values],
            ):
                raise holds_hidden("vector store")
            await remove_contents(connection, store_id, space_id=store.space.id)
            await connection.execute("DELETE FROM stores WHERE id = %s", (store_id,))

        await self.database.transact(work)


async def _held(
    connection: Connection, store_id: UUID, scope: Scope, if_match: Collection[str] | None, *, lock: str = "UPDATE"
) -> Store:
    """The store, held as it is until we commit. Raises NotFoundError, PreconditionFailedError when that is not what
    the caller read."""
    there = store_visible(scope)
    query = f"{SELECT} WHERE s.id = %s AND {there.sql} FOR {lock} OF s"
    found = await rows(connection, query, [store_id, *there.values])
    if not found:
        raise _unknown(store_id)
    store = _store(found[0])
    check_tag(store_tag(store), if_match)
    return store


def _select(scope: Scope) -> Where:
    """Stores with the counts of what the caller may know of."""
    hidden = hidden_of_store(scope)
    if hidden is None:
        return Where(SELECT)
    return Where(STORES.format(counts=LESS_HIDDEN, hidden=HIDDEN.format(hidden=hidden.sql)), hidden.values)


def _unknown(store_id: UUID) -> NotFoundError:
    return NotFoundError(f"No vector store with id vs_{store_id.hex}. List yours with GET /v1/vector_stores.")


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
    size, chunk_count, *counts = row[17:]
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
        paused=row[12],
        expires_after_days=row[13],
        expired=row[14],
        access=None if row[15] is None else tuple(row[15]),
        denied=tuple(row[16] or ()),
        size=size,
        chunk_count=chunk_count,
        counts=dict(zip(FileStatus, counts, strict=True)),
    )
