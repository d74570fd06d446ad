"""A thousand tenants of very different sizes in one vector index: does a small one find as well and as fast as alone?

    uv run python benchmarks/tenants.py [TENANTS]           # 1,000 when not said

Sizes follow Zipf's law: the largest tenant has a thousand times the vectors of the smallest, some 120,000 together.
Vectors lie around centres that all tenants share, so that a tenant's nearest neighbours in the graph are mostly
another's. They are written to the tables directly; searches go through the port. A question is one of the tenant's
vectors, moved a little; what is nearest is computed exactly. For latency the same tenants and questions are asked in a
second, empty database that has only the one tenant, in turns.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector

from bookwheel.backends.postgres import migrate
from bookwheel.backends.postgres.database import Database
from bookwheel.backends.postgres.embedded import EmbeddedPostgres
from bookwheel.backends.postgres.ports import open_database
from bookwheel.backends.postgres.shards import shard_of
from bookwheel.backends.postgres.vectors import PgVectorIndex
from bookwheel.types import Scope, Space
from harness import Figure, median, report

TENANTS = 1_000
LARGEST = 16_000  # vectors
DIMENSIONS, CENTRES = 384, 200
SPREAD = 0.8  # of vectors around their centres, whose length is 1
CHUNKS_PER_DOCUMENT = 20
DECILES, TENANTS_PER_DECILE, QUESTIONS = 10, 20, 5
K = 10
SMALL, ROUNDS = 5, 60  # tenants whose latency is measured, and how often
RECALL_BAR, LATENCY_BAR = 0.95, 1.2

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant with one store."""

    id: UUID
    store_id: UUID
    vectors: Matrix

    @property
    def scope(self) -> Scope:
        """Its store."""
        return Scope(tenant_id=self.id, store_ids=(self.store_id,))


@dataclass(frozen=True, slots=True)
class Shelf:
    """A database with its index."""

    database: Database
    index: PgVectorIndex
    space: Space


def unit(rows: Matrix) -> Matrix:
    """Each row with length 1."""
    scaled: Matrix = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def made_tenants(count: int, random: np.random.Generator) -> list[Tenant]:
    """Largest first."""
    centres = unit(random.standard_normal((CENTRES, DIMENSIONS)))
    tenants = []
    for rank in range(1, count + 1):
        near = centres[random.integers(CENTRES, size=max(LARGEST // rank, 1))]
        noise = unit(random.standard_normal(near.shape)) * SPREAD
        tenants.append(Tenant(uuid4(), uuid4(), unit(near + noise)))
    return tenants


@asynccontextmanager
async def shelf(directory: Path) -> AsyncIterator[Shelf]:
    """An empty database of its own."""
    server = EmbeddedPostgres(directory / "postgres")
    server.start()
    try:
        await migrate.migrate(server.url)
        space = await migrate.ensure_space(server.url, model="benchmark", revision="1", dimensions=DIMENSIONS)
        async with open_database(server.url, works=False) as database:
            yield Shelf(database, PgVectorIndex(database), space)
    finally:
        server.stop()


async def fill(place: Shelf, tenants: Sequence[Tenant]) -> None:
    """Live documents with their vectors, and the graphs that the worker's maintenance builds."""
    first = 1
    async with place.database.connection() as connection, connection.transaction(), connection.cursor() as cursor:
        for tenant in tenants:
            await cursor.execute(
                "INSERT INTO tenants (id, name, shard) VALUES (%s, %s, %s)",
                (tenant.id, tenant.id.hex, shard_of(tenant.id)),
            )
            await cursor.execute(
                "INSERT INTO stores (id, tenant_id, space_id, name, chunking) VALUES (%s, %s, %s, 's', '{}')",
                (tenant.store_id, tenant.id, place.space.id),
            )
        rows = [row for tenant in tenants for row in documents(tenant)]
        async with cursor.copy(
            "COPY documents (id, tenant_id, store_id, external_id, filename, chunking, status, version, live_version,"
            " size, chunk_count, sha256, is_inline) FROM STDIN"
        ) as copy:
            for document_id, tenant, count in rows:
                whose = (document_id, tenant.id, tenant.store_id, document_id.hex)
                await copy.write_row((*whose, "f", "{}", "completed", 1, 1, 1, count, b"", True))
        statement = f"COPY vectors_{place.space.id} FROM STDIN WITH (FORMAT BINARY)"
        async with cursor.copy(statement.encode()) as copy:
            copy.set_types(("int4", "int8", "uuid", "uuid", "int4", "int4", "uuid", "halfvec"))
            offset = dict.fromkeys((tenant.id for tenant in tenants), 0)
            for document_id, tenant, count in rows:
                begins = offset[tenant.id]
                for ordinal, vector in enumerate(tenant.vectors[begins : begins + count]):
                    where = (shard_of(tenant.id), first, tenant.store_id, document_id, 1, ordinal, uuid4())
                    await copy.write_row((*where, HalfVector(vector.astype(np.float16))))
                    first += 1
                offset[tenant.id] += count
    await place.index.tend(place.space, idle=True)


def documents(tenant: Tenant) -> list[tuple[UUID, Tenant, int]]:
    """Its documents with how many chunks each has."""
    sizes = [CHUNKS_PER_DOCUMENT] * (len(tenant.vectors) // CHUNKS_PER_DOCUMENT)
    rest = len(tenant.vectors) - sum(sizes)
    return [(uuid4(), tenant, size) for size in [*sizes, rest] if size]


def questions(tenant: Tenant, count: int, random: np.random.Generator) -> Matrix:
    """Near some of its vectors."""
    near = tenant.vectors[random.integers(len(tenant.vectors), size=count)]
    return unit(near + 0.5 * unit(random.standard_normal(near.shape)))


async def ids_of(place: Shelf, tenant: Tenant) -> list[int]:
    """Chunk ids in the order of the tenant's vectors."""
    table = f"vectors_{place.space.id}_{shard_of(tenant.id)}"
    found = await place.database.fetch(f"SELECT chunk_id FROM {table} WHERE store_id = %s", (tenant.store_id,))  # noqa: S608 - our own numbers
    return sorted(row[0] for row in found)


async def recall(place: Shelf, tenant: Tenant, random: np.random.Generator) -> float:
    """The share of the nearest that is found."""
    ids, found = await ids_of(place, tenant), 0
    k = min(K, len(ids))
    asked = questions(tenant, QUESTIONS, random)
    for question in asked:
        best = {ids[int(one)] for one in np.argsort(-(tenant.vectors @ question))[:k]}
        hits = await place.index.search(place.space, question, scope=tenant.scope, filter=None, limit=K)
        found += len(best & {hit.chunk_id for hit in hits})
    return found / (k * len(asked))


async def recalls(place: Shelf, tenants: Sequence[Tenant], random: np.random.Generator) -> list[float]:
    """By size decile, largest tenants first."""
    deciles = np.array_split(np.arange(len(tenants)), DECILES)
    means = []
    for decile in deciles:
        chosen = random.choice(decile, size=min(TENANTS_PER_DECILE, len(decile)), replace=False)
        means.append(float(np.mean([await recall(place, tenants[int(one)], random) for one in chosen])))
    return means


async def timed(place: Shelf, tenant: Tenant, asked: Matrix) -> list[float]:
    """Milliseconds of each search."""
    taken = []
    for question in asked:
        began = time.perf_counter()
        hits = await place.index.search(place.space, question, scope=tenant.scope, filter=None, limit=K)
        taken.append(1_000 * (time.perf_counter() - began))
        assert hits
    return taken


async def latency(
    crowd: Shelf, tenant: Tenant, directory: Path, random: np.random.Generator
) -> tuple[list[float], list[float]]:
    """Of the tenant among the others, and alone, in turns."""
    among, alone = [], []
    async with shelf(directory) as empty:
        await fill(empty, [tenant])
        await timed(crowd, tenant, questions(tenant, 20, random))
        await timed(empty, tenant, questions(tenant, 20, random))
        for _ in range(ROUNDS):
            asked = questions(tenant, 5, random)
            among += await timed(crowd, tenant, asked)
            alone += await timed(empty, tenant, asked)
    return among, alone


async def measure(count: int) -> list[Figure]:
    """Both figures."""
    random = np.random.default_rng(6)
    tenants = made_tenants(count, random)
    total = sum(len(tenant.vectors) for tenant in tenants)
    async with AsyncExitStack() as opened:
        directory = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="bookwheel-bench-")))
        crowd = await opened.enter_async_context(shelf(directory))
        await fill(crowd, tenants)
        by_decile = await recalls(crowd, tenants, random)
        print("recall by decile, largest first:", " ".join(f"{one:.3f}" for one in by_decile), flush=True)
        ratios, among, alone = [], [], []
        for number in range(SMALL):
            tenant = tenants[-1 - number * (len(tenants) // 2) // SMALL]
            here, there = await latency(crowd, tenant, directory / f"alone-{number}", random)
            print(f"{len(tenant.vectors)} vectors: {median(here):.2f} ms, alone {median(there):.2f} ms", flush=True)
            ratios.append(median(here) / median(there))
            among, alone = among + here, alone + there
    sizes = f"{count:,} tenants, Zipf sizes, {total:,} vectors"
    return [
        Figure(
            name="recall@10 of tenants of all sizes, worst size decile",
            value=min(by_decile),
            bar=RECALL_BAR,
            detail=f"{sizes}; deciles, largest first: " + " ".join(f"{one:.3f}" for one in by_decile),
        ),
        Figure(
            name="p50 of a small tenant among many, to the same one alone",
            value=median(ratios),
            bar=LATENCY_BAR,
            at_most=True,
            detail=f"{sizes}; p50 {median(among):.2f} against {median(alone):.2f} ms, {SMALL} tenants",
        ),
    ]


if __name__ == "__main__":
    report("tenants", asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else TENANTS)))
