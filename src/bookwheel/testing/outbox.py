"""The contract of ports.Outbox."""

import asyncio

from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import MANY, Desk
from bookwheel.types import Change, KeywordEntry


async def entries(desk: Desk, *changes: Change) -> list[KeywordEntry]:
    """What a keyword index is to hold for these changes."""
    return [entry async for entry in desk.ports.outbox.entries(changes)]


class OutboxContract(PortsContract):
    """Subclass it for a backend that fills ports.Outbox. Nobody may trim it meanwhile."""

    async def test_changes_come_in_order(self, desk: Desk) -> None:
        """Every publish and every delete is one line, in the order in which they happened."""
        store = await desk.store()
        before = await desk.ports.outbox.last()
        one, _ = await desk.add(store, "one", external_id="a")
        two, _ = await desk.add(store, "two")
        await desk.add(store, "one again", external_id="a")
        await desk.ports.documents.delete([two.id], scope=desk.scope(store))
        changes = await desk.changes(before)
        assert [(change.operation, change.document_id, change.version) for change in changes] == [
            ("publish", one.id, 1),
            ("publish", two.id, 1),
            ("publish", one.id, 2),
            ("remove", two.id, 1),
        ]
        assert {(change.tenant_id, change.store_id) for change in changes} == {(desk.tenant, store.id)}
        sequences = [change.sequence for change in changes]
        assert sequences == sorted(set(sequences))
        assert before < sequences[0]
        assert sequences[-1] <= await desk.ports.outbox.last()

    async def test_reading_goes_on_where_it_stopped(self, desk: Desk) -> None:
        """`after` and `limit` walk all changes, none twice or left out."""
        store = await desk.store()
        start = before = await desk.ports.outbox.last()
        for number in range(5):
            await desk.add(store, str(number))
        walked: list[Change] = []
        while part := await desk.ports.outbox.read(before, limit=2):
            assert len(part) <= 2
            assert part[0].sequence > before
            walked += part
            before = part[-1].sequence
        assert [one for one in walked if one.tenant_id == desk.tenant] == await desk.changes(start)
        assert len(await desk.changes(start)) == 5

    async def test_an_index_has_reached_the_changes_of_some_stores(self, desk: Desk) -> None:
        """What waits for other stores is no matter; an index whose own line is gone has reached nothing."""
        busy, quiet = await desk.store(), await desk.store()
        await desk.add(quiet, "one")
        position = await desk.ports.outbox.last()
        assert await desk.ports.outbox.reached(position, scope=desk.scope(quiet))
        await desk.add(busy, "two")
        assert await desk.ports.outbox.reached(position, scope=desk.scope(quiet))
        assert not await desk.ports.outbox.reached(position, scope=desk.scope(quiet, busy))
        assert not await desk.ports.outbox.reached(position - 1, scope=desk.scope(quiet))
        newest = await desk.ports.outbox.last()
        assert await desk.ports.outbox.reached(newest, scope=desk.scope(quiet, busy))
        assert not await desk.ports.outbox.reached(newest + 1, scope=desk.scope(quiet, busy))

    async def test_nothing_is_skipped_while_many_write(self, desk: Desk) -> None:
        """A reader that follows at full speed sees every change of writers that commit in any order."""
        store = await desk.store()
        position = await desk.ports.outbox.last()
        waiting = [await desk.put(store, "text") for _ in range(12)]
        writers = asyncio.gather(*(desk.publish(document) for document in waiting))
        seen = []
        while not writers.done():
            for change in await desk.ports.outbox.read(position, limit=3):
                seen.append(change.document_id)
                position = change.sequence
            await asyncio.sleep(0)
        await writers
        seen += [change.document_id for change in await desk.ports.outbox.read(position, limit=MANY)]
        assert {document.id for document in waiting} <= set(seen)

    async def test_entries_are_the_live_chunks(self, desk: Desk) -> None:
        """A change that is out of date brings the chunks as they are now, once; a deleted document brings none."""
        store = await desk.store()
        before = await desk.ports.outbox.last()
        await desk.add(store, "old", external_id="a")
        document, chunks = await desk.add(store, "new one\nnew two", external_id="a")
        gone, _ = await desk.add(store, "gone")
        await desk.ports.documents.delete([gone.id], scope=desk.scope(store))
        found = await entries(desk, *await desk.changes(before))
        assert sorted(entry.chunk_id for entry in found) == sorted(chunk.id for chunk in chunks)
        assert {(entry.tenant_id, entry.store_id) for entry in found} == {(desk.tenant, store.id)}
        assert {(entry.document_id, entry.version) for entry in found} == {(document.id, 2)}
        assert sorted(entry.text for entry in found) == ["new one", "new two"]
        assert {entry.language for entry in found} == {"en"}

    async def test_snapshot_covers_all_live_documents(self, desk: Desk) -> None:
        """A rebuild reads one publish for every live document, and nothing for the others."""
        store = await desk.store()
        live = [(await desk.add(store, "live"))[0].id for _ in range(3)]
        await desk.put(store, "waiting")
        gone, _ = await desk.add(store, "gone")
        await desk.ports.documents.delete([gone.id], scope=desk.scope(store))
        mine = [change async for change in desk.ports.outbox.snapshot() if change.tenant_id == desk.tenant]
        assert sorted(change.document_id for change in mine) == sorted(live)
        assert {(change.operation, change.store_id) for change in mine} == {("publish", store.id)}
        assert len(await entries(desk, *mine)) == 3

    async def test_trimming_keeps_the_newest(self, desk: Desk) -> None:
        """Lines below the number go; the number itself and the newest line stay, so that positions keep meaning."""
        store = await desk.store()
        before = await desk.ports.outbox.last()
        for number in range(4):
            await desk.add(store, str(number))
        lines = await desk.changes(before)
        assert await desk.ports.outbox.trim(lines[2].sequence) >= 2
        assert await desk.changes(before) == lines[2:]
        last = await desk.ports.outbox.last()
        await desk.ports.outbox.trim(last + 1000)
        assert await desk.ports.outbox.last() == last
        assert [change.sequence for change in await desk.ports.outbox.read(0, limit=MANY)] == [last]
        assert await desk.ports.outbox.trim(last + 1000) == 0
