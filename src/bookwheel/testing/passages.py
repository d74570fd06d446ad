"""The contract of ports.Passages."""

from uuid import uuid4

import pytest

from bookwheel.errors import InvalidFilterError, NotFoundError
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import MANY, Desk


class PassagesContract(PortsContract):
    """Subclass it for a backend that fills ports.Passages."""

    async def test_hit_says_where_it_stands(self, desk: Desk) -> None:
        """A hit holds its text, offsets, headings and its document as the owner knows it."""
        store = await desk.store()
        document, chunks = await desk.add(store, "first\nsecond", external_id="a", attributes={"tags": ["x"]})
        hit = (await desk.hydrate(chunks, store))[1]
        assert (hit.text, hit.start, hit.end, hit.ordinal) == ("second", 6, 12, 1)
        assert (hit.page, hit.heading_path, hit.version) == (None, ("Part", "Section"), 1)
        assert (hit.document_id, hit.store_id, hit.file_id) == (document.id, store.id, None)
        assert (hit.external_id, hit.filename, hit.attributes) == ("a", document.filename, {"tags": ["x"]})
        assert (hit.score, hit.dense, hit.keyword) == (0.0, None, None)

    async def test_unknown_chunks_are_left_out(self, desk: Desk) -> None:
        """An index that lags may name chunks that no longer exist; a chunk named twice is one hit."""
        store = await desk.store()
        _, chunks = await desk.add(store, "one")
        hits = await desk.ports.passages.hydrate(
            [2**62, chunks[0].id, chunks[0].id], scope=desk.scope(store), filter=None
        )
        assert [hit.chunk_id for hit in hits] == [chunks[0].id]
        assert await desk.ports.passages.hydrate([], scope=desk.scope(store), filter=None) == []

    async def test_other_scopes_see_nothing(self, desk: Desk, stranger: Desk) -> None:
        """Chunk ids that leaked open nothing: not to another tenant, not through another store, not without one."""
        store, other = await desk.store(), await desk.store()
        document, chunks = await desk.add(store, "mine")
        for reader, stores in ((stranger, [store]), (desk, [other]), (desk, [])):
            assert await reader.hydrate(chunks, *stores) == []
            with pytest.raises(NotFoundError):
                await reader.ports.passages.of_document(document.id, scope=reader.scope(*stores))
            matching = await reader.ports.passages.documents_matching({}, scope=reader.scope(*stores), limit=10)
            assert matching == []

    async def test_deleted_and_old_chunks_are_dropped(self, desk: Desk) -> None:
        """Only chunks of live versions of existing documents are hits."""
        store = await desk.store()
        _, old = await desk.add(store, "old", external_id="a")
        _, new = await desk.add(store, "new", external_id="a")
        gone, deleted = await desk.add(store, "gone")
        await desk.ports.documents.delete([gone.id], scope=desk.scope(store))
        assert [hit.text for hit in await desk.hydrate([*old, *new, *deleted], store)] == ["new"]

    async def test_a_written_version_is_not_shown_before_it_is_live(self, desk: Desk) -> None:
        """A worker has written the next version; readers still get the live one only."""
        store = await desk.store()
        _, live = await desk.add(store, "old words", external_id="note")
        document = await desk.put(store, "new words", external_id="note")
        written = await desk.write(await desk.claim(document))
        assert [hit.text for hit in await desk.hydrate([*live, *written], store)] == ["old words"]

    async def test_filter_holds_again(self, desk: Desk) -> None:
        """Hydration checks the filter on the attributes as they are now, whatever an index said."""
        store = await desk.store()
        _, one = await desk.add(store, "one", attributes={"year": 2023})
        _, two = await desk.add(store, "two", attributes={"year": 2024})
        hits = await desk.hydrate([*one, *two], store, filter={"year": {"$gte": 2024}})
        assert [hit.text for hit in hits] == ["two"]
        with pytest.raises(InvalidFilterError):
            await desk.hydrate(one, store, filter={"year": {"$near": 2024}})

    async def test_documents_matching_a_filter(self, desk: Desk) -> None:
        """Live documents of the scope that pass, at most `limit`."""
        store = await desk.store()
        even = [(await desk.add(store, str(n), attributes={"n": n}))[0].id for n in range(0, 8, 2)]
        await desk.add(store, "odd", attributes={"n": 1})
        await desk.put(store, "not live", attributes={"n": 2})
        even_ones = {"n": {"$in": [0, 2, 4, 6]}}
        matching = await desk.ports.passages.documents_matching(even_ones, scope=desk.scope(store), limit=MANY)
        assert sorted(matching) == sorted(even)
        some = await desk.ports.passages.documents_matching(even_ones, scope=desk.scope(store), limit=3)
        assert len(set(some) & set(even)) == 3

    async def test_document_in_order(self, desk: Desk) -> None:
        """The chunks of a document come in the order of its text; one that is not live yet has none."""
        store = await desk.store()
        document, _ = await desk.add(store, "\n".join(f"line {number}" for number in range(20)))
        hits = await desk.ports.passages.of_document(document.id, scope=desk.scope(store))
        assert [hit.ordinal for hit in hits] == list(range(20))
        waiting = await desk.put(store, "not live")
        assert await desk.ports.passages.of_document(waiting.id, scope=desk.scope(store)) == []
        with pytest.raises(NotFoundError):
            await desk.ports.passages.of_document(uuid4(), scope=desk.scope(store))
