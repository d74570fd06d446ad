"""The contract of ports.VectorIndex."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import MANY, Desk, axis, rows
from bookwheel.testing.metadata import STAFF, filters, shelf
from bookwheel.types import Attributes, Space, Store

PRECISION = 2e-3  # an index may store half precision


async def add(desk: Desk, store: Store, *weights: float, attributes: Attributes | None = None) -> int:
    """A live document of one chunk with a known vector; returns the chunk's id."""
    vectors = rows(axis(desk.ports.space, *weights))
    _, chunks = await desk.add(store, "text", attributes=attributes, vectors=vectors)
    return chunks[0].id


def _close_together(space: Space, count: int, *, seed: int = 11) -> NDArray[np.float32]:
    """Unit vectors that differ little, in a direction that no test with another seed uses."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal(space.dimensions) + 0.1 * random.standard_normal((count, space.dimensions))
    unit: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


async def _all(desk: Desk, store: Store, ever: Iterable[int]) -> list[int]:
    """Every chunk as often as it is found; asked for by id, since a graph may pass over one."""
    found = await desk.search(axis(desk.ports.space, 1), store, limit=MANY, also=[*ever])
    return sorted(one.chunk_id for one in found)


async def _there_and_back(desk: Desk) -> None:
    for own_partition in (True, False):
        await desk.ports.vectors.move(desk.tenant, own_partition=own_partition)


class VectorIndexContract(PortsContract):
    """Subclass it for a backend that fills ports.VectorIndex."""

    async def test_nearest_come_first_with_their_cosines(self, desk: Desk) -> None:
        """The best `limit` chunks, best first, scored by cosine."""
        store = await desk.store()
        near = await add(desk, store, 1, 0)
        middle = await add(desk, store, 3, 4)
        await add(desk, store, 0, 1)
        await add(desk, store, -1, 0)
        found = await desk.search(axis(desk.ports.space, 1), store, limit=2)
        assert [candidate.chunk_id for candidate in found] == [near, middle]
        assert [candidate.score for candidate in found] == pytest.approx([1.0, 0.6], abs=PRECISION)

    async def test_candidates_say_where_they_stand(self, desk: Desk) -> None:
        """Each has its document and its ordinal there."""
        store, space = await desk.store(), desk.ports.space
        document, chunks = await desk.add(store, "one\ntwo", vectors=rows(axis(space, 1), axis(space, 0, 1)))
        found = await desk.search(axis(space, 0, 1), store)
        assert (found[0].chunk_id, found[0].document_id, found[0].ordinal) == (chunks[1].id, document.id, 1)

    async def test_recall_is_that_of_a_full_scan(self, desk: Desk) -> None:
        """Over a few hundred random vectors at least 95 % of the ten nearest are found; graphs are approximate."""
        store, space, count = await desk.store(), desk.ports.space, 300
        random = np.random.default_rng(7)
        vectors = random.standard_normal((count, space.dimensions)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        _, chunks = await desk.add(store, "\n".join(map(str, range(count))), vectors=vectors)
        hits = 0
        for question in vectors[:20]:
            best = {chunks[int(index)].id for index in np.argsort(-(vectors @ question))[:10]}
            found = await desk.search(question, store, limit=10)
            assert len(found) == 10
            hits += len(best & {candidate.chunk_id for candidate in found})
        assert hits >= 190

    async def test_scope_is_inside_the_search(self, desk: Desk, stranger: Desk) -> None:
        """Nearer chunks of other tenants and other stores neither show up nor take places."""
        store, other, foreign = await desk.store(), await desk.store(), await stranger.store()
        question, *near = _close_together(desk.ports.space, 41)
        _, (mine, *_) = await desk.add(store, "far", vectors=rows(-question))
        await desk.add(other, "\n".join(["near"] * 20), vectors=rows(*near[:20]))
        await stranger.add(foreign, "\n".join(["near"] * 20), vectors=rows(*near[20:]))
        assert [one.chunk_id for one in await desk.search(question, store, limit=5)] == [mine.id]
        assert len(await desk.search(question, store, other, limit=50)) == 21
        assert await stranger.search(question, store, other, limit=5) == []
        assert [one.chunk_id for one in await desk.search(question, store, foreign, limit=5)] == [mine.id]
        assert await desk.search(question, limit=5) == []

    async def test_selective_filter_finds_its_share(self, desk: Desk) -> None:
        """A filter works inside the search: the few that pass are found behind any number of nearer ones."""
        store = await desk.store()
        for number in range(60):
            await add(desk, store, 10, number / 60, attributes={"kind": "common"})
        rare = [await add(desk, store, -1, number, attributes={"kind": "rare"}) for number in range(3)]
        found = await desk.search(axis(desk.ports.space, 1), store, limit=3, filter={"kind": "rare"})
        assert [candidate.chunk_id for candidate in found] == rare[::-1]
        assert await desk.search(axis(desk.ports.space, 1), store, limit=3, filter={"kind": "none"}) == []

    async def test_filter_sees_attributes_as_they_are_now(self, desk: Desk) -> None:
        """Attributes changed without a new version are those that the next search filters by."""
        store = await desk.store()
        await desk.add(store, "text", external_id="a", attributes={"year": 2023})
        await desk.put(store, "text", external_id="a", attributes={"year": 2024})
        question = axis(desk.ports.space, 1)
        assert await desk.search(question, store, filter={"year": 2023}) == []
        assert len(await desk.search(question, store, filter={"year": 2024})) == 1

    async def test_every_key_filters_with_every_operator(self, desk: Desk) -> None:
        """Candidates are exactly the chunks that pass by the reference, found by nearness or asked for by id."""
        made, question = await shelf(desk), axis(desk.ports.space, 1)
        for asked in filters(made):
            for limit, also in ((MANY, []), (1, list(made.chunks))):
                found = await desk.ports.vectors.search(
                    made.store.space, question, scope=made.reader, filter=asked, limit=limit, also=also
                )
                assert {one.chunk_id for one in found} == made.passing(asked), asked

    async def test_selective_filter_on_chunks_finds_its_share(self, desk: Desk) -> None:
        """A filter on chunks works inside the search too, beside one on documents."""
        store = await desk.store()
        question, *near = _close_together(desk.ports.space, 121, seed=13)
        text = "\n".join(["line"] * 60)
        _, chunks = await desk.add(store, text, vectors=rows(*near[:60]), attributes={"kind": "long"})
        await desk.add(store, text, vectors=rows(*near[60:]))
        passing = sorted((50, 51, 52), key=lambda ordinal: -float(near[ordinal] @ question))
        asked = {"chunk.ordinal": {"$in": passing}, "kind": "long"}
        found = await desk.search(question, store, limit=2, filter=asked)
        assert [one.chunk_id for one in found] == [chunks[ordinal].id for ordinal in passing[:2]]

    async def test_access_is_inside_the_search(self, desk: Desk) -> None:
        """Nearer chunks that the caller may not read neither show up nor take places, nor are they had by id."""
        store, space = await desk.store(), desk.ports.space
        open_one = await add(desk, store, -1, 1)
        secret = await add(desk, store, -1, 2)
        listed = await desk.ports.documents.list(scope=desk.scope(store), limit=1)
        await desk.ports.documents.update(listed[0].id, scope=desk.scope(store), access=(STAFF,))
        hidden = [await add(desk, store, 10, number) for number in range(3)]
        for document in await desk.ports.documents.list(scope=desk.scope(store), limit=3):
            await desk.ports.documents.update(document.id, scope=desk.scope(store), access=("nobody",))
        for principals, expected in (((), [open_one]), ((STAFF,), [secret, open_one])):
            found = await desk.ports.vectors.search(
                space,
                axis(space, 1),
                scope=replace(desk.scope(store), principals=frozenset(principals)),
                filter=None,
                limit=2,
                also=[*hidden, secret],
            )
            assert [one.chunk_id for one in found] == expected

    async def test_also_adds_exact_cosines(self, desk: Desk) -> None:
        """Chunks asked for by id are scored exactly, once each, behind the nearest."""
        store = await desk.store()
        near = await add(desk, store, 1, 0)
        await add(desk, store, 4, 3)
        far = await add(desk, store, -3, 4)
        found = await desk.search(axis(desk.ports.space, 1), store, limit=1, also=[far, near, far, 2**62])
        assert [candidate.chunk_id for candidate in found] == [near, far]
        assert [candidate.score for candidate in found] == pytest.approx([1.0, -0.6], abs=PRECISION)

    async def test_also_stays_inside_scope_and_filter(self, desk: Desk, stranger: Desk) -> None:
        """Chunks asked for by id are left out when the scope or the filter does not let them pass."""
        store, other, foreign = await desk.store(), await desk.store(), await stranger.store()
        inside = await add(desk, store, 1, attributes={"year": 2024})
        outside = [
            await add(desk, store, 1, 1, attributes={"year": 2023}),
            await add(desk, other, 1, 1, attributes={"year": 2024}),
            await add(stranger, foreign, 1, 1, attributes={"year": 2024}),
        ]
        found = await desk.search(axis(desk.ports.space, 1), store, filter={"year": 2024}, also=outside)
        assert [candidate.chunk_id for candidate in found] == [inside]

    async def test_versions_that_are_not_live_are_not_found(self, desk: Desk) -> None:
        """A new version is invisible while it is written and the only one once it is published."""
        store, space = await desk.store(), desk.ports.space
        question = axis(space, 1)
        _, old = await desk.add(store, "old", external_id="a", vectors=rows(axis(space, 1)))
        claim = await desk.claim(await desk.put(store, "new", external_id="a"))
        new = await desk.write(claim, rows(axis(space, 1, 1)))
        both = [old[0].id, new[0].id]
        assert [one.chunk_id for one in await desk.search(question, store, also=both)] == [old[0].id]
        await desk.ports.ingestion.publish([claim])
        assert [one.chunk_id for one in await desk.search(question, store, also=both)] == [new[0].id]

    async def test_deletion_is_seen_by_the_next_search(self, desk: Desk) -> None:
        """Each search right after a delete is without the deleted, while others are still found."""
        store = await desk.store()
        added = [await desk.add(store, "text", vectors=rows(axis(desk.ports.space, 1, n))) for n in range(4)]
        for number, (document, _) in enumerate(added, start=1):
            await desk.ports.documents.delete([document.id], scope=desk.scope(store))
            found = await desk.search(axis(desk.ports.space, 1), store)
            assert [one.chunk_id for one in found] == [chunks[0].id for _, chunks in added[number:]]

    async def test_the_same_chunk_again_replaces(self, desk: Desk) -> None:
        """A second try of the same chunk leaves one vector, the newer; also where only some chunks were there."""
        store, space = await desk.store(), desk.ports.space
        claim = await desk.claim(await desk.put(store, "one\ntwo"))
        chunks = await desk.write(claim, rows(axis(space, 0, 1), axis(space, 0, 0, 1)))
        await desk.ports.vectors.upsert(space, [claim], chunks[:1], rows(axis(space, 1)))
        await desk.ports.ingestion.publish([claim])
        found = await desk.search(axis(space, 1), store)
        assert [candidate.chunk_id for candidate in found] == [chunks[0].id, chunks[1].id]
        assert [candidate.score for candidate in found] == pytest.approx([1.0, 0.0], abs=PRECISION)

    async def test_nothing_to_store_is_fine(self, desk: Desk) -> None:
        """An empty batch is no error."""
        empty = np.zeros((0, desk.ports.space.dimensions), dtype=np.float32)
        await desk.ports.vectors.upsert(desk.ports.space, [], [], empty)

    async def test_preparing_again_keeps_everything(self, desk: Desk) -> None:
        """`prepare` is idempotent."""
        store = await desk.store()
        chunk_id = await add(desk, store, 1)
        await desk.ports.vectors.prepare(desk.ports.space)
        assert [one.chunk_id for one in await desk.search(axis(desk.ports.space, 1), store)] == [chunk_id]

    async def test_tending_changes_no_answer(self, desk: Desk) -> None:
        """Maintenance may run at any time; what is found stays the same."""
        store = await desk.store()
        for number in range(3):
            await add(desk, store, 1, number)
        before = await desk.search(axis(desk.ports.space, 1), store)
        for idle in (False, True):
            await desk.ports.vectors.tend(desk.ports.space, idle=idle)
        assert await desk.search(axis(desk.ports.space, 1), store) == before

    async def test_moving_changes_no_answer(self, desk: Desk, stranger: Desk) -> None:
        """A tenant with a partition of its own, and one that is put back, finds what it found; so do its neighbours."""
        desks = (desk, stranger)
        stores = [await one.store() for one in desks]
        ids = [[await add(one, store, 1, n) for n in range(4)] for one, store in zip(desks, stores, strict=True)]
        for own_partition in (True, True, False, False):
            await desk.ports.vectors.move(desk.tenant, own_partition=own_partition)
            for one, store, added in zip(desks, stores, ids, strict=True):
                found = await one.search(axis(desk.ports.space, 1), store, limit=3, also=added)
                assert [candidate.chunk_id for candidate in found] == added

    async def test_moving_is_not_noticed(self, desk: Desk) -> None:
        """Searches beside a move find each chunk exactly once, what was just put at once, what was deleted never."""
        store = await desk.store()
        added = [await desk.add(store, "text", vectors=rows(axis(desk.ports.space, 1, n))) for n in range(30)]
        by_chunk = {chunks[0].id: document.id for document, chunks in added}
        live = [*by_chunk]
        moving = asyncio.create_task(_there_and_back(desk))
        try:
            while not moving.done():
                await asyncio.sleep(0)  # a backend without waiting would leave the move no turn
                document, chunks = await desk.add(store, "text", vectors=rows(axis(desk.ports.space, 1, len(live))))
                by_chunk[chunks[0].id] = document.id
                live.append(chunks[0].id)
                assert await _all(desk, store, by_chunk) == sorted(live)
                await desk.ports.documents.delete([by_chunk[live.pop(0)]], scope=desk.scope(store))
                assert await _all(desk, store, by_chunk) == sorted(live)
        finally:
            await moving

    async def test_a_claim_of_before_writes_to_where_the_tenant_is(self, desk: Desk) -> None:
        """A worker that claimed before a move and writes after it loses nothing, and neither does its next version."""
        store, space = await desk.store(), desk.ports.space
        before = await desk.ports.vectors.orphans(space, repair=False)
        claim = await desk.claim(await desk.put(store, "text", external_id="a"))
        await desk.ports.vectors.move(desk.tenant, own_partition=True)
        (chunk,) = await desk.write(claim, rows(axis(space, 1)))
        await desk.ports.ingestion.publish([claim])
        assert [one.chunk_id for one in await desk.search(axis(space, 1), store, also=[chunk.id])] == [chunk.id]
        later = await desk.claim(await desk.put(store, "other", external_id="a"))
        (newer,) = await desk.write(later, rows(axis(space, 1)))
        await desk.ports.vectors.move(desk.tenant, own_partition=False)
        await desk.ports.ingestion.publish([later])
        assert [one.chunk_id for one in await desk.search(axis(space, 1), store, also=[chunk.id, newer.id])] == [
            newer.id
        ]
        assert await desk.ports.vectors.orphans(space, repair=False) == before

    async def test_ping_answers(self, desk: Desk) -> None:
        """A working index answers."""
        await desk.ports.vectors.ping()
