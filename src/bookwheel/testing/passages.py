"""The contract of ports.Passages."""

from dataclasses import replace
from uuid import uuid4

import pytest

from bookwheel.errors import InvalidFilterError, NotFoundError
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import MANY, Desk, chunks_of
from bookwheel.testing.metadata import BOARD, STAFF, filters, shelf
from bookwheel.types import Chunk, Claim, DocumentDraft, Section


async def written_in_sections(desk: Desk, claim: Claim) -> list[Chunk]:
    """Live chunks, one for each line, the first two in one section; written twice, as after a crash."""
    chunks = chunks_of(claim)
    first, second = chunks[0].piece, chunks[1].piece
    section = Section(ordinal=0, start=first.start, end=second.end, text=f"{first.text}\n{second.text}")
    chunks[:2] = [replace(chunk, piece=replace(chunk.piece, section=section)) for chunk in chunks[:2]]
    vectors = await desk.ports.embedders[claim.space.id].embed([chunk.piece.text for chunk in chunks])
    for _ in range(2):
        await desk.ports.ingestion.write([claim], chunks)
    await desk.ports.vectors.upsert(claim.space, [claim], chunks, vectors)
    assert await desk.ports.ingestion.publish([claim]) == [claim]
    return chunks


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
        assert (hit.language, hit.sha256, hit.access) == ("en", document.sha256, None)
        assert (hit.created_at, hit.updated_at) == (document.created_at, document.updated_at)

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
            assert not await reader.ports.passages.live_versions([document.id], scope=reader.scope(*stores))

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

    async def test_every_key_filters_with_every_operator(self, desk: Desk) -> None:
        """Hits are exactly the chunks that pass by the reference, and documents match that have one of them."""
        made = await shelf(desk)
        for asked in filters(made):
            expected = made.passing(asked)
            hits = await desk.ports.passages.hydrate(list(made.chunks), scope=made.reader, filter=asked)
            assert {hit.chunk_id for hit in hits} == expected, asked
            matching = await desk.ports.passages.documents_matching(asked, scope=made.reader, limit=MANY)
            assert len(matching) == len(set(matching))
            assert set(matching) == {made.documents[chunk_id] for chunk_id in expected}, asked

    async def test_unknown_attributes_are_told(self, desk: Desk, stranger: Desk) -> None:
        """Names that a document of these stores has are known, however it got them; another store's or tenant's do not
        count."""
        store, other, foreign = await desk.store(), await desk.store(), await stranger.store()
        document = await desk.put(store, "one", external_id="a", attributes={"year": 1, "a.b": None})
        await desk.put(other, "two", attributes={"elsewhere": 1})
        await stranger.put(foreign, "three", attributes={"foreign": 1})
        passages, asked = desk.ports.passages, ["zebra", "year", "foreign", "a.b", "later", "elsewhere", "again"]
        scope = desk.scope(store, foreign)
        assert await passages.unknown_attributes(asked, scope=scope) == [
            "zebra",
            "foreign",
            "later",
            "elsewhere",
            "again",
        ]
        await desk.ports.documents.update(document.id, scope=scope, attributes={"year": 1, "a.b": 2, "later": [1]})
        await desk.put(store, "one", external_id="a", attributes={"year": 1, "a.b": 2, "later": [1], "again": True})
        assert await passages.unknown_attributes(asked, scope=scope) == ["zebra", "foreign", "elsewhere"]
        both = desk.scope(store, other)
        assert await passages.unknown_attributes(asked, scope=both) == ["zebra", "foreign"]
        assert await passages.unknown_attributes([], scope=both) == []

    async def test_one_chunk_must_pass_alone(self, desk: Desk) -> None:
        """A document matches when one of its chunks passes as a whole, not when two pass half each."""
        made = await shelf(desk)
        for page, found in ((1, 1), (2, 0)):
            asked = {"chunk.page": page, "chunk.language": "de"}
            matching = await desk.ports.passages.documents_matching(asked, scope=made.reader, limit=MANY)
            assert len(matching) == found

    async def test_access_list_decides_who_reads(self, desk: Desk) -> None:
        """A restricted document is there for those it names, by any of their principals, and for nobody else."""
        store = await desk.store()
        draft = DocumentDraft(external_id="a", text="secret", access=(STAFF, BOARD))
        (document,) = await desk.ports.documents.put([draft], scope=desk.scope(store), store=store)
        chunks = await desk.publish(document)
        passages, ids = desk.ports.passages, [chunk.id for chunk in chunks]
        for principals, may in (((), False), (("group:other",), False), ((BOARD, "group:other"), True)):
            scope = replace(desk.scope(store), principals=frozenset(principals))
            hits = await passages.hydrate(ids, scope=scope, filter=None)
            assert [hit.access for hit in hits] == [(STAFF, BOARD)] * may
            assert await passages.documents_matching({}, scope=scope, limit=MANY) == [document.id] * may
            assert dict(await passages.live_versions([document.id], scope=scope)) == ({document.id: 1} if may else {})
            probe = {"document.access": STAFF}
            assert await passages.documents_matching(probe, scope=scope, limit=MANY) == [document.id] * may
            if may:
                assert len(await passages.of_document(document.id, scope=scope)) == 1
            else:
                with pytest.raises(NotFoundError):
                    await passages.of_document(document.id, scope=scope)

    async def test_an_empty_access_list_names_nobody(self, desk: Desk) -> None:
        """Only None opens a document."""
        store = await desk.store()
        document, chunks = await desk.add(store, "text")
        await desk.ports.documents.update(document.id, scope=desk.scope(store), access=())
        scope = replace(desk.scope(store), principals=frozenset({STAFF}))
        assert await desk.ports.passages.hydrate([chunks[0].id], scope=scope, filter=None) == []

    async def test_principals_open_no_other_tenant(self, desk: Desk, stranger: Desk) -> None:
        """A name on an access list is a name in its own tenant."""
        made = await shelf(desk)
        scope = replace(stranger.scope(made.store), principals=frozenset({STAFF, BOARD}))
        assert await stranger.ports.passages.hydrate(list(made.chunks), scope=scope, filter=None) == []
        assert await stranger.ports.passages.documents_matching({}, scope=scope, limit=MANY) == []

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

    async def test_a_hit_of_a_section_shows_the_section(self, desk: Desk) -> None:
        """A small chunk brings its section's text and offsets; reading the document gives each chunk as it is."""
        store = await desk.store()
        document = await desk.put(store, "one\ntwo\nthree")
        chunks = await written_in_sections(desk, await desk.claim(document))
        hits = await desk.hydrate(chunks, store)
        assert [(hit.text, hit.start, hit.end, hit.section) for hit in hits] == [
            ("one\ntwo", 0, 7, 0),
            ("one\ntwo", 0, 7, 0),
            ("three", 8, 13, None),
        ]
        whole = await desk.ports.passages.of_document(document.id, scope=desk.scope(store))
        assert [(hit.text, hit.start, hit.section) for hit in whole] == [
            ("one", 0, 0),
            ("two", 4, 0),
            ("three", 8, None),
        ]

    async def test_sections_go_with_their_version(self, desk: Desk) -> None:
        """Neither a new version, nor a deleted document, nor a deleted store leaves sections behind."""
        store = await desk.store()
        document = await desk.put(store, "one\ntwo\nthree", external_id="a")
        before = await desk.ports.ingestion.orphans(repair=False)
        await written_in_sections(desk, await desk.claim(document))
        again = await desk.put(store, "four\nfive\nsix", external_id="a")
        chunks = await written_in_sections(desk, await desk.claim(again))
        assert {hit.text for hit in await desk.hydrate(chunks, store)} == {"four\nfive", "six"}
        other = await desk.put(store, "seven\neight")
        await written_in_sections(desk, await desk.claim(other))
        await desk.ports.documents.delete([other.id], scope=desk.scope(store))
        await desk.ports.stores.delete(store.id, scope=desk.scope())
        assert await desk.ports.ingestion.orphans(repair=False) == before

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
