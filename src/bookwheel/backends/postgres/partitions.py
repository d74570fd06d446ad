"""Tenants that change partitions while they are searched and written to.

The steps of a move, each of which may be repeated, so that a move that was killed anywhere is simply begun again:

1. the new partition is made in every embedding space;
2. `moves` gets a row: from now on vectors are written to both partitions and removed from both (shards.py);
3. what was there before is copied in batches, each alone with the tenant;
4. the new partition gets its graph;
5. `tenants.shard` and `moves.switched` change together: from now on searches read the new partition;
6. the old rows go in batches, then the row of `moves`.

A search reads one partition and sees in the same snapshot whether it is the tenant's (vectors.py)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple
from uuid import UUID

from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.backends.postgres.migrate import ensure_partition
from bookwheel.backends.postgres.shards import ALONE, LOCK
from bookwheel.errors import ConflictError, NotFoundError
from bookwheel.types import Space

MOVER = 7307  # an arbitrary number: the class of the locks of those who move a tenant
BATCH_ROWS = 1_000  # copied or removed at once; writers of the tenant wait while a batch is copied
PAGE_DOCUMENTS = 50
NO_DOCUMENT = UUID(int=0)

OWN = """
UPDATE own_partitions SET tenant_id = %(tenant)s WHERE shard = (
    SELECT shard FROM own_partitions WHERE tenant_id IS NULL OR tenant_id = %(tenant)s
    ORDER BY tenant_id NULLS LAST LIMIT 1 FOR UPDATE)
RETURNING shard
"""
NEW = "INSERT INTO own_partitions (tenant_id) SELECT id FROM tenants WHERE id = %s RETURNING shard"
# A search of the old partition that began before is not disturbed: it has its snapshot.
SWITCH = """
WITH done AS (UPDATE moves SET switched = true WHERE tenant_id = %s RETURNING tenant_id, target)
UPDATE tenants t SET shard = done.target FROM done WHERE t.id = done.tenant_id
"""
COLUMNS = "chunk_id, store_id, document_id, version, ordinal, text_hash, embedding"
COPY = f"""
INSERT INTO {{target}} (shard, {COLUMNS}) SELECT %s, {COLUMNS} FROM {{source}} WHERE chunk_id = ANY(%s)
ON CONFLICT DO NOTHING
"""
PAGE = """
SELECT DISTINCT document_id FROM {source} WHERE store_id = %s AND document_id > %s ORDER BY document_id LIMIT %s
"""
CHUNKS = "SELECT chunk_id FROM {source} WHERE store_id = %s AND document_id = ANY(%s)"
EMPTY = """
DELETE FROM {source} WHERE chunk_id = ANY(ARRAY(SELECT chunk_id FROM {source} WHERE store_id = %s LIMIT %s))
"""
GRAPH = """
CREATE INDEX CONCURRENTLY {table}_graph ON {table} USING hnsw (embedding halfvec_ip_ops)
    WITH (m = 16, ef_construction = 64)
"""
HAS_GRAPH = """
SELECT count(*) FILTER (WHERE i.indisvalid) > 0, count(*) > 0 FROM pg_index i
WHERE i.indexrelid = to_regclass(%s || '_graph')
"""


class _Move(NamedTuple):
    tenant_id: UUID
    source: int
    target: int
    switched: bool


async def own_shard(database: Database, tenant_id: UUID) -> int:
    """The number of the tenant's own partition: the one that it has, one that nobody has any more, or a new one.

    Raises NotFoundError."""

    async def work(connection: Connection) -> int:
        await connection.execute("LOCK TABLE own_partitions IN SHARE ROW EXCLUSIVE MODE")
        if not await rows(connection, "SELECT FROM tenants WHERE id = %s", (tenant_id,)):
            raise NotFoundError("There is no such tenant.")
        found = await rows(connection, OWN, {"tenant": tenant_id}) or await rows(connection, NEW, (tenant_id,))
        return int(found[0][0])

    return await database.transact(work)


async def move(database: Database, tenant_id: UUID, shard: int, *, graph_rows: int) -> None:
    """Bring a tenant's vectors to this partition, with a graph if they are so many; a move that broke off goes on.

    Raises NotFoundError, and ConflictError while somebody else moves the tenant or has begun to move it elsewhere."""
    async with _sole_mover(database, tenant_id):
        await _prepare(database, shard)
        moving = await _begin(database, tenant_id, shard)
        if moving is None:
            return
        if not moving.switched:
            await _copy_all(database, moving)
            await _finish_index(database, moving, graph_rows)
            await _switch(database, moving)
        await _empty_source(database, moving)
        await _end(database, moving)


async def build_graph(connection: Connection, table: str) -> None:
    """The graph of a partition, unless it has one; half of one, by somebody who was killed, is removed first."""
    whole, there = (await rows(connection, HAS_GRAPH, (table,)))[0]
    if whole:
        return
    if there:
        await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {table}_graph".encode())
    await connection.execute(GRAPH.format(table=table).encode())


@asynccontextmanager
async def _sole_mover(database: Database, tenant_id: UUID) -> AsyncIterator[None]:
    """The lock goes with the connection when the process is killed."""
    who = (MOVER, tenant_id)
    async with database.connection() as connection:
        if not (await rows(connection, "SELECT pg_try_advisory_lock(%s, hashtext(%s::uuid::text))", who))[0][0]:
            raise ConflictError(f"Tenant {tenant_id.hex} is being moved already. Wait until that has ended.")
        try:
            yield
        finally:
            await connection.execute("SELECT pg_advisory_unlock(%s, hashtext(%s::uuid::text))", who)


async def _spaces(database: Database) -> list[Space]:
    found = await database.fetch("SELECT id, model, revision, dimensions FROM spaces ORDER BY id")
    return [Space(id=row[0], model=row[1], revision=row[2], dimensions=row[3]) for row in found]


async def _stores(database: Database, moving: _Move) -> list[UUID]:
    found = await database.fetch("SELECT id FROM stores WHERE tenant_id = %s ORDER BY id", (moving.tenant_id,))
    return [row[0] for row in found]


async def _prepare(database: Database, shard: int) -> None:
    for space in await _spaces(database):
        async with database.connection() as connection:
            await ensure_partition(connection, space, shard)


async def _begin(database: Database, tenant_id: UUID, shard: int) -> _Move | None:
    """None when the tenant is there."""

    async def work(connection: Connection) -> _Move | None:
        await connection.execute(ALONE, (LOCK, tenant_id))
        found = await rows(connection, "SELECT shard FROM tenants WHERE id = %s FOR NO KEY UPDATE", (tenant_id,))
        if not found:
            raise NotFoundError("There is no such tenant.")
        begun = await rows(connection, "SELECT source, target, switched FROM moves WHERE tenant_id = %s", (tenant_id,))
        if begun and begun[0][1] != shard:
            raise ConflictError(
                f"Tenant {tenant_id.hex} is on its way to partition {begun[0][1]}. Let that move end first."
            )
        if not begun and found[0][0] == shard:
            return None
        if not begun:
            await _clear(connection, shard)
            columns = (tenant_id, found[0][0], shard)
            await connection.execute("INSERT INTO moves (tenant_id, source, target) VALUES (%s, %s, %s)", columns)
        source, target, switched = begun[0] if begun else (found[0][0], shard, False)
        return _Move(tenant_id, source, target, switched)

    return await database.transact(work)


async def _clear(connection: Connection, shard: int) -> None:
    """Of an own partition that somebody left: a graph full of dead rows finds new ones badly."""
    if not await rows(connection, "SELECT FROM own_partitions WHERE shard = %s", (shard,)):
        return
    for (space_id,) in await rows(connection, "SELECT id FROM spaces"):
        table = f"vectors_{int(space_id)}_{int(shard)}"
        await connection.execute(f"DROP INDEX IF EXISTS {table}_graph".encode())
        await connection.execute(f"TRUNCATE {table}".encode())


async def _copy_all(database: Database, moving: _Move) -> None:
    for space in await _spaces(database):
        for store_id in await _stores(database, moving):
            await _copy_store(database, moving, space, store_id)


async def _copy_store(database: Database, moving: _Move, space: Space, store_id: UUID) -> None:
    """By documents, in the order of their ids; what is put meanwhile is written to both partitions by who puts it."""
    source, last = _table(space, moving.source), NO_DOCUMENT
    while True:
        page = await database.fetch(PAGE.format(source=source), (store_id, last, PAGE_DOCUMENTS))
        if not page:
            return
        documents = [row[0] for row in page]
        chunks = [row[0] for row in await database.fetch(CHUNKS.format(source=source), (store_id, documents))]
        for start in range(0, len(chunks), BATCH_ROWS):
            await _copy_batch(database, moving, space, chunks[start : start + BATCH_ROWS])
        last = documents[-1]


async def _copy_batch(database: Database, moving: _Move, space: Space, chunks: list[int]) -> None:
    """Alone with the tenant: what is removed before is not copied, and what is removed afterwards goes from both."""
    query = COPY.format(source=_table(space, moving.source), target=_table(space, moving.target))

    async def work(connection: Connection) -> None:
        await connection.execute(ALONE, (LOCK, moving.tenant_id))
        await connection.execute(query.encode(), (moving.target, chunks))

    await database.transact(work)


async def _finish_index(database: Database, moving: _Move, graph_rows: int) -> None:
    """Before the switch, so that no search meets a large partition without a graph or without statistics."""
    for space in await _spaces(database):
        table = _table(space, moving.target)
        async with database.connection() as connection:
            if (await rows(connection, f"SELECT count(*) FROM {table}"))[0][0] >= graph_rows:
                await build_graph(connection, table)
            await connection.execute(f"ANALYZE {table}".encode())


async def _switch(database: Database, moving: _Move) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute(ALONE, (LOCK, moving.tenant_id))
        await connection.execute(SWITCH, (moving.tenant_id,))

    await database.transact(work)


async def _empty_source(database: Database, moving: _Move) -> None:
    for space in await _spaces(database):
        for store_id in await _stores(database, moving):
            while await _remove_batch(database, _table(space, moving.source), store_id):
                pass
        async with database.connection() as connection:  # searches of the neighbours walk past dead rows until then
            await connection.execute(f"VACUUM (ANALYZE) {_table(space, moving.source)}".encode())


async def _remove_batch(database: Database, source: str, store_id: UUID) -> int:
    async def work(connection: Connection) -> int:
        query = EMPTY.format(source=source).encode()
        return (await connection.execute(query, (store_id, BATCH_ROWS))).rowcount

    return await database.transact(work)


async def _end(database: Database, moving: _Move) -> None:
    """An own partition that is left may be another tenant's next."""

    async def work(connection: Connection) -> None:
        await connection.execute("DELETE FROM moves WHERE tenant_id = %s", (moving.tenant_id,))
        left = (moving.source, moving.tenant_id)
        await connection.execute("UPDATE own_partitions SET tenant_id = NULL WHERE shard = %s AND tenant_id = %s", left)

    await database.transact(work)


def _table(space: Space, shard: int) -> str:
    return f"vectors_{int(space.id)}_{int(shard)}"
