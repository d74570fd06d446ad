"""Moves of tenants between partitions of PostgreSQL's vector tables, killed anywhere."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import astuple, replace
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from pgvector import HalfVector

from bookwheel.backends.postgres import migrate, partitions, vectors
from bookwheel.backends.postgres.database import Database
from bookwheel.backends.postgres.ports import open_database, postgres_ports
from bookwheel.backends.postgres.shards import SHARDS, hold_shards, shard_of
from bookwheel.errors import ConflictError, NotFoundError
from bookwheel.ports import Ports
from bookwheel.testing import HashEmbedder, memory_ports
from bookwheel.testing.desk import Desk, axis, chunks_of
from bookwheel.types import DocumentDraft, Store

DOCUMENTS = 120
STEPS = ("_prepare", "_begin", "_copy_batch", "_finish_index", "build_graph", "_switch", "_remove_batch", "_end")


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches so small that a move has several, and a graph however few rows there are."""
    monkeypatch.setattr(partitions, "BATCH_ROWS", 25)
    monkeypatch.setattr(partitions, "PAGE_DOCUMENTS", 40)
    monkeypatch.setattr(vectors, "GRAPH_ROWS", 1)


@pytest.fixture(scope="session")
async def partitioned(database_url: str) -> AsyncIterator[tuple[Ports, Database]]:
    """Ports over the migrated database."""
    await migrate.migrate(database_url)
    embedder = HashEmbedder()
    space = await migrate.ensure_space(
        database_url, model=embedder.model, revision=embedder.revision, dimensions=embedder.dimensions
    )
    async with open_database(database_url, works=True) as database:
        filled = postgres_ports(database)
        yield replace(memory_ports(), **filled, embedders={space.id: embedder}, space=space), database


@pytest.fixture
def ports(partitioned: tuple[Ports, Database], small: None) -> Ports:
    """The ports under test."""
    return partitioned[0]


@pytest.fixture
def database(partitioned: tuple[Ports, Database]) -> Database:
    """The database below them."""
    return partitioned[1]


@pytest.fixture
async def desk(ports: Ports, database_url: str) -> Desk:
    """A new tenant."""
    tenant_id = uuid4()
    await migrate.register_tenant(database_url, tenant_id, tenant_id.hex)
    return Desk(ports=ports, tenant=tenant_id)


async def _filled(desk: Desk) -> Store:
    """A store with many small documents."""
    store = await desk.store()
    drafts = [DocumentDraft(external_id=uuid4().hex, text=f"{uuid4()}\nsecond") for _ in range(DOCUMENTS)]
    claims = await desk.claims(*await desk.ports.documents.put(drafts, scope=desk.scope(store), store=store))
    chunks = [chunk for claim in claims for chunk in chunks_of(claim)]
    embedded = await desk.ports.embedders[store.space.id].embed([chunk.piece.embed_text for chunk in chunks])
    await desk.ports.ingestion.write(claims, chunks)
    await desk.ports.vectors.upsert(store.space, claims, chunks, embedded)
    await desk.ports.ingestion.publish(claims)
    return store


async def _found(desk: Desk, store: Store) -> list[int]:
    found = await desk.search(axis(desk.ports.space, 1), store, limit=10 * DOCUMENTS)
    return sorted(one.chunk_id for one in found)


async def _rows(database: Database, desk: Desk) -> dict[int, int]:
    """Vectors of the tenant by partition."""
    query = (
        f"SELECT shard, count(*) FROM vectors_{desk.ports.space.id} WHERE store_id IN"
        " (SELECT id FROM stores WHERE tenant_id = %s) GROUP BY shard"
    )
    return dict(await database.fetch(query, (desk.tenant,)))  # type: ignore[arg-type]


def _killed_at(monkeypatch: pytest.MonkeyPatch, step: str, *, call: int, after: bool) -> None:
    """The call of this step with this number ends the move, before or after it did its work."""
    work, calls = getattr(partitions, step), iter(range(1, 1_000_000))

    async def dies(*arguments: Any, **named: Any) -> Any:
        mine = next(calls) == call
        if mine and not after:
            raise KilledError
        result = await work(*arguments, **named)
        if mine:
            raise KilledError
        return result

    monkeypatch.setattr(partitions, step, dies)


async def _killed_move(desk: Desk, monkeypatch: pytest.MonkeyPatch, step: str, *, call: int, after: bool) -> None:
    with monkeypatch.context() as patched:
        _killed_at(patched, step, call=call, after=after)
        with pytest.raises(KilledError):
            await desk.ports.vectors.move(desk.tenant, own_partition=True)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("step", "call"), [*((step, 1) for step in STEPS), ("_copy_batch", 4), ("_remove_batch", 4)])
async def test_a_killed_move_goes_on(
    desk: Desk, database: Database, monkeypatch: pytest.MonkeyPatch, step: str, call: int, after: bool
) -> None:
    """Killed anywhere, searches and writers go on, and the next call ends it: every vector once, in one partition."""
    store = await _filled(desk)
    orphans = (await desk.ports.vectors.orphans(desk.ports.space, repair=False))["vectors"]
    before = await _found(desk, store)
    await _killed_move(desk, monkeypatch, step, call=call, after=after)
    assert await _found(desk, store) == before
    document, chunks = await desk.add(store, f"{uuid4()}", external_id="between")
    (gone,) = await desk.ports.documents.list(scope=desk.scope(store), limit=1, newest=False)
    await desk.ports.documents.delete([gone.id], scope=desk.scope(store))
    between = await _found(desk, store)
    assert len(between) == len(before) - 1
    assert chunks[0].id in between
    await desk.ports.vectors.move(desk.tenant, own_partition=True)
    assert await _found(desk, store) == between
    ((shard,),) = await database.fetch("SELECT shard FROM tenants WHERE id = %s", (desk.tenant,))
    assert shard >= SHARDS
    assert await _rows(database, desk) == {shard: len(between)}
    assert await database.fetch("SELECT FROM moves WHERE tenant_id = %s", (desk.tenant,)) == []
    assert (await desk.ports.vectors.orphans(desk.ports.space, repair=False))["vectors"] == orphans
    await desk.ports.documents.delete([document.id], scope=desk.scope(store))
    assert len(await _found(desk, store)) == len(between) - 1


async def test_another_process_follows_at_once(desk: Desk, database_url: str) -> None:
    """A process that planned its searches before the move finds what is put after it, with its next search."""
    store = await _filled(desk)
    async with open_database(database_url, works=False) as other:
        reader = replace(desk, ports=replace(desk.ports, vectors=vectors.PgVectorIndex(other)))
        before = await _found(reader, store)
        await desk.ports.vectors.move(desk.tenant, own_partition=True)
        _, chunks = await desk.add(store, "new")
        assert await _found(reader, store) == sorted([*before, chunks[0].id])


async def test_searches_meet_a_graph_when_they_are_switched(
    desk: Desk, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new partition has its graph and its statistics before the first search reads it."""
    await _filled(desk)
    await _killed_move(desk, monkeypatch, "_switch", call=1, after=False)
    ((target,),) = await database.fetch("SELECT target FROM moves WHERE tenant_id = %s", (desk.tenant,))
    table = f"vectors_{desk.ports.space.id}_{target}"
    query = (
        "SELECT i.indisvalid, c.reltuples FROM pg_class c JOIN pg_index i ON i.indrelid = c.oid"
        " WHERE i.indexrelid = to_regclass(%s)"
    )
    assert await database.fetch(query, (f"{table}_graph",)) == [(True, 2.0 * DOCUMENTS)]
    await desk.ports.vectors.move(desk.tenant, own_partition=True)


async def test_writers_are_fenced(desk: Desk, database: Database) -> None:
    """Who writes when the move begins is waited for: a vector by an old answer is copied, never lost."""
    store = await _filled(desk)
    claim = await desk.claim(await desk.put(store, "late"))
    (chunk,) = chunks_of(claim)
    await desk.ports.ingestion.write([claim], [chunk])
    async with database.connection() as connection, connection.transaction():
        ((shard,), _) = astuple((await hold_shards(connection, [store.id]))[store.id])
        moving = asyncio.create_task(desk.ports.vectors.move(desk.tenant, own_partition=True))
        await asyncio.sleep(0.5)  # long enough to end without the fence
        assert not moving.done()
        what = (chunk.id, store.id, claim.document_id, chunk.version, chunk.ordinal, UUID(bytes=chunk.text_hash))
        values = (shard, *what, HalfVector(axis(store.space, 1)))
        await connection.execute(
            f"INSERT INTO vectors_{store.space.id} VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", values
        )
    await moving
    await desk.ports.ingestion.publish([claim])
    assert chunk.id in await _found(desk, store)


async def test_what_changes_after_the_copy_is_in_both(
    desk: Desk, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put or deleted when everything was copied already, and not switched yet: the new partition knows of it."""
    store = await _filled(desk)
    before, switch, put = await _found(desk, store), partitions._switch, []

    async def changed_first(*arguments: Any) -> None:
        put.extend((await desk.add(store, f"{uuid4()}"))[1])
        (gone,) = await desk.ports.documents.list(scope=desk.scope(store), limit=1, newest=False)
        await desk.ports.documents.delete([gone.id], scope=desk.scope(store))
        await switch(*arguments)

    monkeypatch.setattr(partitions, "_switch", changed_first)
    await desk.ports.vectors.move(desk.tenant, own_partition=True)
    after = await _found(desk, store)
    assert put[0].id in after
    assert len(after) == len(before) + 1 - 2
    assert sum((await _rows(database, desk)).values()) == len(after)


async def test_two_do_not_move_one_tenant(desk: Desk, database: Database) -> None:
    """The second is told to wait; and a move that broke off is ended before another one begins."""
    await _filled(desk)
    both = [desk.ports.vectors.move(desk.tenant, own_partition=True) for _ in range(2)]
    ended = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(one).__name__ for one in ended) == ["ConflictError", "NoneType"]


async def test_the_way_back_of_a_broken_move_is_to_end_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere is refused until then."""
    await _filled(desk)
    await _killed_move(desk, monkeypatch, "_switch", call=1, after=True)
    with pytest.raises(ConflictError, match="on its way"):
        await desk.ports.vectors.move(desk.tenant, own_partition=False)
    await desk.ports.vectors.move(desk.tenant, own_partition=True)
    await desk.ports.vectors.move(desk.tenant, own_partition=False)


async def test_an_unknown_tenant_is_not_moved(ports: Ports) -> None:
    """It gets no partition either."""
    for own_partition in (True, False):
        with pytest.raises(NotFoundError):
            await ports.vectors.move(uuid4(), own_partition=own_partition)


async def test_a_partition_that_was_left_is_used_again(desk: Desk, database: Database) -> None:
    """By the next tenant that gets one of its own; a tenant that has one keeps it."""
    shard = await partitions.own_shard(database, desk.tenant)
    assert await partitions.own_shard(database, desk.tenant) == shard
    await desk.ports.vectors.move(desk.tenant, own_partition=True)
    await desk.ports.vectors.move(desk.tenant, own_partition=False)
    free = await database.fetch("SELECT tenant_id FROM own_partitions WHERE shard = %s", (shard,))
    assert free == [(None,)]


async def test_new_spaces_have_all_partitions(desk: Desk, database: Database, database_url: str) -> None:
    """A tenant with a partition of its own has it in each embedding space that comes later."""
    await desk.ports.vectors.move(desk.tenant, own_partition=True)
    space = await migrate.ensure_space(database_url, model="later", revision=uuid4().hex, dimensions=8)
    shards = [row[0] for row in await database.fetch("SELECT shard FROM own_partitions")]
    for shard in (*range(SHARDS), *shards):
        ((there,),) = await database.fetch("SELECT to_regclass(%s) IS NOT NULL", (f"vectors_{space.id}_{shard}",))
        assert there


def _tenants() -> Iterator[UUID]:
    for _ in range(3_200):
        yield uuid4()


def test_tenants_are_spread_over_the_partitions() -> None:
    """Evenly, and each always to the same."""
    counts = np.bincount([shard_of(tenant) for tenant in _tenants()], minlength=SHARDS)
    assert len(counts) == SHARDS
    assert counts.min() > 130
