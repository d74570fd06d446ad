"""Dense search with pgvector: exact where that is cheaper, an HNSW graph elsewhere; the scope is inside both."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import errors
from psycopg.errors import UniqueViolation

from bookwheel.backends.postgres.access_sql import Passing, layout_rows, passing
from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.backends.postgres.ingestion import still_writable
from bookwheel.backends.postgres.orphans import count_or_remove, ingest_again
from bookwheel.backends.postgres.partitions import build_graph, move, own_shard
from bookwheel.backends.postgres.removal import WANTED
from bookwheel.backends.postgres.shards import hold_shards, shard_of
from bookwheel.errors import IndexUnavailableError
from bookwheel.ports import Vectors
from bookwheel.types import Candidate, Chunk, Claim, Filter, Scope, Space

LAYOUT_SECONDS = 2.0  # how long a plan may rest on old counts; a wrong plan is slower, never wrong
EXACT_ROWS = 800  # below this an exact scan beats the graph
GRAPH_COST = 12  # a row visited by the graph costs about this many rows of an exact scan
CANDIDATES = 120  # rows the graph visits for an unfiltered search: hnsw.ef_search

GRAPH_ROWS = 1_000  # a partition gets its graph from here on, once nothing is being ingested: 0.1 ms a row built at
GRAPH_ROWS_BUSY = 50_000  # once, 0.7 ms inserted one by one; so large that searches cannot wait for a quiet moment

LAYOUT = """
SELECT t.shard, {rows},
    (SELECT greatest(c.reltuples, 0)::bigint FROM pg_class c
        WHERE c.oid = to_regclass('vectors_' || %s || '_' || t.shard)),
    (SELECT count(*) > 0 FROM pg_index i WHERE i.indisvalid
        AND i.indexrelid = to_regclass('vectors_' || %s || '_' || t.shard || '_graph'))
FROM tenants t LEFT JOIN stores s ON s.tenant_id = t.id AND s.id = ANY(%s) WHERE t.id = %s GROUP BY t.id
"""

# Partitions that have grown enough and have no finished graph; a count would read the whole table.
GRAPHLESS = """
SELECT c.relname FROM pg_inherits h
    JOIN pg_class c ON c.oid = h.inhrelid
    LEFT JOIN pg_class g ON g.oid = to_regclass(c.relname || '_graph')
    LEFT JOIN pg_index i ON i.indexrelid = g.oid
WHERE h.inhparent = to_regclass(%s) AND i.indisvalid IS NOT TRUE
    AND pg_relation_size(c.oid) / %s > %s
"""

VECTORLESS = """
SELECT DISTINCT d.id FROM documents d JOIN tenants t ON t.id = d.tenant_id
    JOIN chunks c ON c.document_id = d.id AND c.version = d.live_version
WHERE d.status = 'completed'
    AND NOT EXISTS (SELECT FROM {table} v WHERE v.shard = t.shard AND v.chunk_id = c.id)
"""
ROW_OVERHEAD = 100  # bytes of a row beside its vector

NEAREST = """
(SELECT v.chunk_id, -(v.embedding <#> %(vector)b), v.document_id, v.ordinal
 FROM {table} v JOIN documents d ON d.id = v.document_id AND d.live_version = v.version {chunks}
 WHERE v.store_id = ANY(%(stores)s) AND {passes}
 ORDER BY {order} LIMIT %(limit)s)
"""
ALSO = """
UNION
(SELECT v.chunk_id, -(v.embedding <#> %(vector)b), v.document_id, v.ordinal
 FROM {table} v JOIN documents d ON d.id = v.document_id AND d.live_version = v.version {chunks}
 WHERE v.chunk_id = ANY(%(also)s) AND v.store_id = ANY(%(stores)s) AND {passes})
"""
CHUNKS = "JOIN chunks c ON c.id = v.chunk_id"  # only where the filter asks for them
MATCHING = "SELECT coalesce(sum(d.chunk_count), 0)::bigint FROM documents d WHERE {passes}"
MATCHING_CHUNKS = """
SELECT count(*) FROM (SELECT FROM documents d JOIN chunks c ON c.document_id = d.id AND c.version = d.live_version
    WHERE {passes} LIMIT {enough}) AS passing
"""
# In the snapshot of the search itself: the tenant may have moved since the plan was made.
PARTITION = """
UNION ALL
(SELECT NULL, NULL, NULL, t.shard FROM tenants t WHERE t.id = %(tenant)s)
"""
MOVED_TRIES = 5
GRAPH_ORDER = "v.embedding <#> %(vector)b"
EXACT_ORDER = "(v.embedding <#> %(vector)b) + 0"  # not the index's expression, so the graph is not used


@dataclass(frozen=True, slots=True)
class _Layout:
    shard: int
    rows: int  #: chunks of the stores in question that the caller may read
    partition_rows: int
    has_graph: bool
    read_at: float


INDEX_ERRORS = (errors.UndefinedTable, errors.UndefinedFunction, errors.InternalError, errors.InsufficientPrivilege)


@contextmanager
def _index_errors() -> Iterator[None]:
    """What is wrong with the tables of vectors alone, such as one that is gone or damaged, is the index's."""
    try:
        yield
    except (
        errors.UndefinedTable,
        errors.UndefinedFunction,
        errors.InternalError,
        errors.InsufficientPrivilege,
    ) as error:
        raise IndexUnavailableError(
            f"The vector index does not answer: {error.diag.message_primary}. `bookwheel check` says which part."
        ) from error


class PgVectorIndex:
    """Fills ports.VectorIndex."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._layouts: dict[tuple[int, Scope], _Layout] = {}

    async def prepare(self, space: Space) -> None:
        """See ports.VectorIndex: the tables are made with the space, in migrate.ensure_space."""
        await self.database.fetch("SELECT to_regclass(%s)", (f"vectors_{space.id}",))

    async def upsert(self, space: Space, claims: Sequence[Claim], chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """See ports.VectorIndex."""
        if not chunks:
            return
        owners = {claim.document_id: claim for claim in claims}
        try:
            async with self.database.connection() as connection, connection.transaction():
                await _copy(connection, space, owners, await _writable(connection, claims, chunks, vectors))
        except UniqueViolation:  # an earlier try got this far
            ids = [chunk.id for chunk in chunks]
            async with self.database.connection() as connection, connection.transaction():
                pairs = await _writable(connection, claims, chunks, vectors)
                await connection.execute(f"DELETE FROM vectors_{space.id} WHERE chunk_id = ANY(%s)".encode(), (ids,))
                await _copy(connection, space, owners, pairs)

    async def search(
        self,
        space: Space,
        vector: NDArray[np.float32],
        *,
        scope: Scope,
        filter: Filter | None,
        limit: int,
        also: Sequence[int] = (),
    ) -> list[Candidate]:
        """See ports.VectorIndex."""
        wanted = {"vector": HalfVector(vector), "stores": list(scope.store_ids), "limit": limit, "also": list(also)}
        with _index_errors():
            for _ in range(MOVED_TRIES):
                layout = await self._layout(space, scope)
                if layout is None:
                    return []
                query, parameters = await self._query(space, layout, scope=scope, filter=filter)
                found = await self.database.fetch(query, {**parameters, **wanted, "tenant": scope.tenant_id})
                if [row[3] for row in found if row[0] is None] == [layout.shard]:
                    break
                self._layouts.pop((space.id, scope), None)
        candidates = [
            Candidate(chunk_id=row[0], score=float(row[1]), document_id=row[2], ordinal=row[3])
            for row in found
            if row[0] is not None
        ]
        return sorted(candidates, key=lambda candidate: -candidate.score)

    async def orphans(self, space: Space, *, repair: bool) -> dict[str, int]:
        """See ports.VectorIndex."""

        async def work(connection: Connection) -> dict[str, int]:
            held = f"FROM vectors_{space.id} x WHERE NOT {WANTED}"
            count = await count_or_remove(connection, held, repair=repair)
            missing = [row[0] for row in await rows(connection, VECTORLESS.format(table=f"vectors_{space.id}"))]
            if repair:
                await ingest_again(connection, missing)
            return {"vectors": count, "documents_without_vectors": len(missing)}

        return await self.database.transact(work)

    async def tend(self, space: Space, *, idle: bool) -> list[str]:
        """See ports.VectorIndex: build the graphs of partitions that have grown."""
        rows = GRAPH_ROWS if idle else GRAPH_ROWS_BUSY
        row_bytes = 2 * space.dimensions + ROW_OVERHEAD
        grown = await self.database.fetch(GRAPHLESS, (f"vectors_{space.id}", row_bytes, rows))
        for (table,) in grown:
            async with self.database.connection() as connection:
                await build_graph(connection, table)
                await connection.execute(f"ANALYZE {table}".encode())
        self._layouts.clear()
        return [f"graph of {table} built" for (table,) in grown]

    async def move(self, tenant_id: UUID, *, own_partition: bool) -> None:
        """See ports.VectorIndex."""
        shard = await own_shard(self.database, tenant_id) if own_partition else shard_of(tenant_id)
        await move(self.database, tenant_id, shard, graph_rows=GRAPH_ROWS)
        self._layouts.clear()

    async def ping(self) -> None:
        """See ports.VectorIndex."""
        await self.database.fetch("SELECT 1")

    async def _query(
        self, space: Space, layout: _Layout, *, scope: Scope, filter: Filter | None
    ) -> tuple[str, dict[str, Any]]:
        wanted = passing(scope, filter)
        unfiltered = filter is None and scope.rule is None
        exact = not layout.has_graph or exact_is_cheaper(
            layout.rows if unfiltered else await self._matching_rows(wanted, layout),
            layout.partition_rows,
        )
        passes, parameters = wanted.whole.named()
        query = (NEAREST + ALSO + PARTITION).format(
            table=f"vectors_{space.id}_{layout.shard}",
            chunks="" if wanted.chunk is None else CHUNKS,
            passes=passes,
            order=EXACT_ORDER if exact else GRAPH_ORDER,
        )
        return query, parameters

    async def _matching_rows(self, wanted: Passing, layout: _Layout) -> int:
        count = MATCHING if wanted.chunk is None else MATCHING_CHUNKS
        query = count.format(passes=wanted.whole.sql, enough=graph_rows(layout.partition_rows))
        found = await self.database.fetch(query, wanted.whole.values)
        return int(found[0][0])

    async def _layout(self, space: Space, scope: Scope) -> _Layout | None:
        key = (space.id, scope)
        layout = self._layouts.get(key)
        if layout is None or time.monotonic() - layout.read_at > LAYOUT_SECONDS:
            number, stores = str(space.id), list(scope.store_ids)
            readable = layout_rows(scope)
            found = await self.database.fetch(
                LAYOUT.format(rows=readable.sql), [*readable.values, number, number, stores, scope.tenant_id]
            )
            if not found:
                return None
            shard, rows, partition_rows, has_graph = found[0]
            layout = _Layout(shard, rows, max(partition_rows or 0, rows), has_graph, time.monotonic())
            self._forget_old()
            self._layouts[key] = layout
        return layout

    def _forget_old(self) -> None:
        now = time.monotonic()
        self._layouts = {key: old for key, old in self._layouts.items() if now - old.read_at <= LAYOUT_SECONDS}


def exact_is_cheaper(rows: int, partition_rows: int) -> bool:
    """Whether scanning `rows` beats walking a graph of `partition_rows`, of which only `rows` pass the filter."""
    visited = CANDIDATES * max(1.0, partition_rows / max(rows, 1))
    return rows <= EXACT_ROWS or rows <= GRAPH_COST * visited


def graph_rows(partition_rows: int) -> int:
    """So many passing rows make the graph cheaper than a scan: nobody needs to count further."""
    return max(EXACT_ROWS, math.isqrt(GRAPH_COST * CANDIDATES * partition_rows)) + 1


async def _writable(
    connection: Connection, claims: Sequence[Claim], chunks: Sequence[Chunk], vectors: Vectors
) -> list[tuple[Chunk, NDArray[np.float16]]]:
    """Chunks whose version is still wanted, with their vectors."""
    wanted = {chunk.id for chunk in await still_writable(connection, claims, chunks)}
    return [pair for pair in zip(chunks, vectors.astype(np.float16), strict=True) if pair[0].id in wanted]


async def _copy(
    connection: Connection,
    space: Space,
    owners: dict[UUID, Claim],
    pairs: Sequence[tuple[Chunk, NDArray[np.float16]]],
) -> None:
    statement = (
        f"COPY vectors_{space.id} (shard, chunk_id, store_id, document_id, version, ordinal, text_hash, embedding)"
        " FROM STDIN WITH (FORMAT BINARY)"
    )
    shards = await hold_shards(connection, {claim.store_id for claim in owners.values()})
    async with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        copy.set_types(("int4", "int8", "uuid", "uuid", "int4", "int4", "uuid", "halfvec"))
        for chunk, vector in pairs:
            claim = owners[chunk.document_id]
            what = (chunk.id, claim.store_id, chunk.document_id, chunk.version, chunk.ordinal)
            for shard in shards[claim.store_id].written:
                await copy.write_row((shard, *what, UUID(bytes=chunk.text_hash), HalfVector(vector)))
