"""The contract of ports.Documents."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from uuid import uuid4

import pytest

from bookwheel.errors import InvalidDocumentError, NotFoundError, PreconditionFailedError
from bookwheel.etags import document_tag
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import MANY, Desk, axis, walked
from bookwheel.types import Access, Chunking, Document, DocumentDraft, FileStatus, Keep, Store

RIVALS, TURNS = 8, 12  #: changes at once, and how often: enough to meet between a check and its change


async def put(desk: Desk, store: Store, *drafts: DocumentDraft) -> Sequence[Document]:
    """Put drafts into a store."""
    return await desk.ports.documents.put(drafts, scope=desk.scope(store), store=store)


async def stored(desk: Desk, store: Store) -> Sequence[Document]:
    """All documents of a store, oldest first."""
    return await desk.ports.documents.list(scope=desk.scope(store), limit=MANY, newest=False)


class DocumentsContract(PortsContract):
    """Subclass it for a backend that fills ports.Documents."""

    async def test_new_document_waits_for_a_worker(self, desk: Desk) -> None:
        """A new document is version 1, in progress, not yet live, and a job waits for it."""
        store = await desk.store()
        before = sum((await desk.ports.jobs.depth()).values())
        draft = DocumentDraft(external_id="a", text="Ünï", title="T", attributes={"year": 2024, "tags": ["x", "y"]})
        (document,) = await put(desk, store, draft)
        assert (document.version, document.live_version, document.status) == (1, None, FileStatus.IN_PROGRESS)
        assert (document.external_id, document.title, document.size) == ("a", "T", len("Ünï".encode()))
        assert document.attributes == {"year": 2024, "tags": ["x", "y"]}
        assert document.chunking == store.chunking
        assert await desk.ports.documents.get(document.id, scope=desk.scope(store)) == document
        assert sum((await desk.ports.jobs.depth()).values()) > before

    async def test_answers_keep_the_order(self, desk: Desk) -> None:
        """Documents come back in the order of their drafts, new and known ones mixed."""
        store = await desk.store()
        await desk.put(store, "known", external_id="m")
        names = ["z", "m", "a", "k", "b"]
        documents = await put(desk, store, *(DocumentDraft(external_id=name, text=name) for name in names))
        assert [document.external_id for document in documents] == names

    async def test_new_content_is_a_new_version(self, desk: Desk) -> None:
        """The same external id with other text is version 2 of one document; version 1 stays live until then."""
        store = await desk.store()
        first, chunks = await desk.add(store, "old", external_id="a")
        (second,) = await put(desk, store, DocumentDraft(external_id="a", text="new"))
        assert (second.id, second.version, second.live_version) == (first.id, 2, 1)
        assert second.status is FileStatus.IN_PROGRESS
        assert [hit.text for hit in await desk.hydrate(chunks, store)] == ["old"]

    async def test_unchanged_content_makes_no_version(self, desk: Desk) -> None:
        """What is known is not done again: the status stays completed; new attributes hold at once."""
        store = await desk.store()
        draft = DocumentDraft(external_id="a", text="same", title="T")
        (document,) = await put(desk, store, draft)
        chunks = await desk.publish(document)
        (again,) = await put(desk, store, replace(draft, attributes={"year": 2025}))
        assert (again.id, again.version, again.live_version) == (document.id, 1, 1)
        assert again.status is FileStatus.COMPLETED
        assert await desk.claims(again) == []
        assert [hit.attributes for hit in await desk.hydrate(chunks, store)] == [{"year": 2025}]

    async def test_numbers_come_back_as_they_were(self, desk: Desk) -> None:
        """Also those that are larger than any whole number of 64 bits, and the largest of these."""
        numbers = {"a": 1e300, "b": -1e19, "c": 2**63 - 1, "d": -(2**63), "e": 0.1, "f": 5e-324, "g": 1.5e308}
        store = await desk.store()
        document = await desk.put(store, "text", attributes=numbers)
        kept = await desk.ports.documents.get(document.id, scope=desk.scope(store))
        assert kept.attributes == numbers
        assert [type(kept.attributes[name]) for name in "abcdefg"] == [float, float, int, int, float, float, float]

    async def test_update_changes_attributes_and_access_alone(self, desk: Desk) -> None:
        """Both hold at once, for texts and files alike, without a new version; what is not given stays."""
        store, file = await desk.store(), await desk.file()
        text, _ = await desk.add(store, "text", attributes={"year": 2023})
        (of_file,) = await put(desk, store, DocumentDraft(file_id=file.id, title="T", attributes={"year": 2023}))
        await desk.publish(of_file)
        documents, scope = desk.ports.documents, desk.scope(store)
        for document in (text, await documents.get(of_file.id, scope=scope)):
            changed = await documents.update(document.id, scope=scope, attributes={"year": 2024}, access=("a", "b"))
            assert changed == replace(
                document, attributes={"year": 2024}, access=("a", "b"), updated_at=changed.updated_at
            )
            assert changed.updated_at >= document.updated_at
            assert await documents.get(document.id, scope=scope) == changed
            assert await desk.claims(changed) == []
            assert await documents.update(document.id, scope=scope) == changed
            assert (await documents.update(document.id, scope=scope, access=None)).attributes == {"year": 2024}
            emptied = await documents.update(document.id, scope=scope, attributes={})
            assert (emptied.attributes, emptied.access, emptied.version) == ({}, None, document.version)

    async def test_update_waits_for_what_was_read(self, desk: Desk) -> None:
        """With `if_match` nothing is changed that somebody else edited; a publish is no edit."""
        store = await desk.store()
        document = await desk.put(store, "one")
        await desk.publish(document)
        documents, scope, made = desk.ports.documents, desk.scope(store), document
        for turn in range(TURNS):
            changes = [
                documents.update(document.id, scope=scope, attributes={"n": [f"{turn}/{number}"]}, if_match=[read])
                for read in [document_tag(made)]
                for number in range(RIVALS)
            ]
            done = await asyncio.gather(*changes, return_exceptions=True)
            made = await documents.get(document.id, scope=scope)
            assert [one for one in done if not isinstance(one, PreconditionFailedError)] == [made]
        await documents.update(document.id, scope=scope, access=("staff",), if_match=[document_tag(made)])
        with pytest.raises(PreconditionFailedError):
            await documents.update(document.id, scope=scope, attributes={}, if_match=[document_tag(made)])

    async def test_update_stays_inside_the_scope(self, desk: Desk, stranger: Desk) -> None:
        """Another tenant and another store change nothing and are told nothing."""
        store, other = await desk.store(), await desk.store()
        document = await desk.put(store, "mine")
        for scope in (desk.scope(other), stranger.scope(store), desk.scope()):
            with pytest.raises(NotFoundError):
                await desk.ports.documents.update(document.id, scope=scope, attributes={"x": 1}, access=("thief",))
        assert await desk.ports.documents.get(document.id, scope=desk.scope(store)) == document

    async def test_putting_again_keeps_the_access_list(self, desk: Desk) -> None:
        """Who knows nothing of access lists opens no document; None does, and a list replaces the old one."""
        store = await desk.store()
        draft = DocumentDraft(external_id="a", text="one", access=("staff",))
        seen = [(await put(desk, store, draft))[0].access]
        steps: list[tuple[str, Access | Keep | None]] = [
            ("one", "keep"),
            ("two", "keep"),
            ("two", ("b", "a")),
            ("two", None),
            ("three", "keep"),
        ]
        for text, access in steps:
            (document,) = await put(desk, store, replace(draft, text=text, access=access))
            seen.append(document.access)
        assert seen == [("staff",), ("staff",), ("staff",), ("b", "a"), None, None]
        (fresh,) = await put(desk, store, DocumentDraft(external_id="b", text="one"))
        assert fresh.access is None

    async def test_owner_sees_restricted_documents(self, desk: Desk) -> None:
        """Access lists are for readers: the tenant manages what it has put, whoever may read it."""
        store = await desk.store()
        (document,) = await put(desk, store, DocumentDraft(external_id="a", text="one", access=("staff",)))
        documents, scope = desk.ports.documents, desk.scope(store)
        assert await documents.get(document.id, scope=scope) == document
        assert await documents.find(scope=scope, external_id="a") == document
        assert await documents.list(scope=scope, limit=10) == [document]
        assert await documents.delete([document.id], scope=scope) == 1

    async def test_hash_is_that_of_the_source(self, desk: Desk) -> None:
        """Of the file's bytes; of text, of the text, a NUL and the title."""
        store, file = await desk.store(), await desk.file()
        (of_file,) = await put(desk, store, DocumentDraft(file_id=file.id))
        (of_text,) = await put(desk, store, DocumentDraft(external_id="a", text="Ü", title="T"))
        assert (of_file.sha256, of_text.sha256) == (file.sha256, sha256("Ü\0T".encode()).digest())

    async def test_title_found_in_the_text_stays_with_it(self, desk: Desk) -> None:
        """Putting the same content again without a title forgets none; other content is read for its own."""
        store, file = await desk.store(), await desk.file()
        (document,) = await put(desk, store, DocumentDraft(file_id=file.id))
        claim = await desk.claim(document)
        await desk.write(claim)
        await desk.ports.ingestion.publish([replace(claim, title="Found")])
        (again,) = await put(desk, store, DocumentDraft(file_id=file.id))
        (named,) = await put(desk, store, DocumentDraft(file_id=file.id, title="Given"))
        chunking = Chunking(max_tokens=100, overlap_tokens=10)
        (cut_anew,) = await put(desk, store, DocumentDraft(file_id=file.id, chunking=chunking))
        assert [one.title for one in (again, named, cut_anew)] == ["Found", "Given", None]

    async def test_other_chunking_is_a_new_version(self, desk: Desk) -> None:
        """The same text cut otherwise must be cut again."""
        store = await desk.store()
        first, _ = await desk.add(store, "same", external_id="a")
        chunking = Chunking(max_tokens=100, overlap_tokens=10)
        (second,) = await put(desk, store, DocumentDraft(external_id="a", text="same", chunking=chunking))
        assert (second.id, second.version, second.chunking) == (first.id, 2, chunking)
        assert (await desk.claim(second)).chunking == chunking

    async def test_failed_document_is_tried_again(self, desk: Desk) -> None:
        """Putting the same content again after a failure makes a new version without the old error."""
        store = await desk.store()
        document = await desk.put(store, "same", external_id="a")
        await desk.ports.ingestion.fail(await desk.claim(document), code="broken_file", message="It is broken.")
        again = await desk.put(store, "same", external_id="a")
        assert (again.id, again.version, again.status) == (document.id, 2, FileStatus.IN_PROGRESS)
        assert (again.error_code, again.error_message) == (None, None)

    async def test_the_same_id_twice_in_one_call(self, desk: Desk) -> None:
        """Order decides: the later draft is the newer version."""
        store = await desk.store()
        await put(desk, store, DocumentDraft(external_id="a", text="one"), DocumentDraft(external_id="a", text="two"))
        (document,) = await stored(desk, store)
        assert document.version == 2
        assert (await desk.claim(document)).text == "two"

    async def test_the_same_id_at_the_same_time(self, desk: Desk) -> None:
        """Callers who race with one external id meet in one document."""
        store = await desk.store()
        racing = [desk.put(store, f"text {number}", external_id="a") for number in range(4)]
        documents = await asyncio.gather(*racing)
        assert len({document.id for document in documents}) == 1
        assert [document.version for document in await stored(desk, store)] == [4]

    async def test_texts_without_an_id_never_meet(self, desk: Desk) -> None:
        """Inline text without an external id is always a new document."""
        store = await desk.store()
        one, other = await put(desk, store, DocumentDraft(text="same"), DocumentDraft(text="same"))
        assert one.id != other.id

    async def test_file_is_one_document_of_a_store(self, desk: Desk) -> None:
        """A file put again into its store is the same document; in another store it is another."""
        file, store, elsewhere = await desk.file(filename="b.pdf"), await desk.store(), await desk.store()
        (one,) = await put(desk, store, DocumentDraft(file_id=file.id))
        (same,) = await put(desk, store, DocumentDraft(file_id=file.id))
        (other,) = await put(desk, elsewhere, DocumentDraft(file_id=file.id))
        assert (one.filename, one.size, one.file_id) == ("b.pdf", file.size, file.id)
        assert (same.id, same.version) == (one.id, 1)
        assert other.id != one.id
        claim = await desk.claim(one)
        assert (claim.sha256, claim.text) == (file.sha256, None)

    async def test_unknown_file_stores_nothing(self, desk: Desk, stranger: Desk) -> None:
        """A file that does not exist, or is another tenant's, is NotFoundError, and the whole call is undone."""
        store = await desk.store()
        for file_id in (uuid4(), (await stranger.file()).id):
            drafts = [DocumentDraft(external_id="a", text="fine"), DocumentDraft(file_id=file_id)]
            with pytest.raises(NotFoundError):
                await put(desk, store, *drafts)
        assert await stored(desk, store) == []

    async def test_empty_draft_is_refused(self, desk: Desk) -> None:
        """A draft needs a file or a text."""
        store = await desk.store()
        with pytest.raises(InvalidDocumentError):
            await put(desk, store, DocumentDraft(external_id="a"))
        assert await stored(desk, store) == []

    async def test_store_that_is_gone(self, desk: Desk) -> None:
        """Putting into a store that was deleted meanwhile is NotFoundError."""
        store = await desk.store()
        await desk.ports.stores.delete(store.id, scope=desk.scope())
        with pytest.raises(NotFoundError):
            await desk.put(store, "late")

    async def test_two_tenants_with_the_same_external_id_do_not_meet(self, desk: Desk, stranger: Desk) -> None:
        """An external id belongs to its store alone."""
        mine = await desk.put(await desk.store(), "mine", external_id="a")
        theirs = await stranger.put(await stranger.store(), "theirs", external_id="a")
        elsewhere = await desk.put(await desk.store(), "elsewhere", external_id="a")
        assert len({mine.id, theirs.id, elsewhere.id}) == 3
        assert {mine.version, theirs.version, elsewhere.version} == {1}

    async def test_only_the_scope_sees_a_document(self, desk: Desk, stranger: Desk) -> None:
        """Another tenant and another store of the same tenant find, list and delete nothing."""
        store, other = await desk.store(), await desk.store()
        document = await desk.put(store, "mine", external_id="a")
        documents = desk.ports.documents
        for scope in (desk.scope(other), stranger.scope(store)):
            with pytest.raises(NotFoundError):
                await documents.get(document.id, scope=scope)
            with pytest.raises(NotFoundError):
                await documents.find(scope=scope, external_id="a")
            assert await documents.list(scope=scope, limit=10) == []
            assert await documents.delete([document.id], scope=scope) == 0
        assert await documents.list(scope=desk.scope(), limit=10) == []
        assert await documents.get(document.id, scope=desk.scope(store)) == document

    async def test_find_by_external_id_or_file(self, desk: Desk) -> None:
        """A document is found by the caller's own id or by its file."""
        store, file = await desk.store(), await desk.file()
        await put(desk, store, DocumentDraft(external_id="a/ß", text="one"), DocumentDraft(file_id=file.id))
        documents, scope = desk.ports.documents, desk.scope(store)
        assert (await documents.find(scope=scope, external_id="a/ß")).file_id is None
        assert (await documents.find(scope=scope, file_id=file.id)).external_id is None
        with pytest.raises(NotFoundError):
            await documents.find(scope=scope, external_id="b")

    async def test_list_walks_in_pages(self, desk: Desk) -> None:
        """Pages follow creation over all stores of the scope, in either order, none twice or left out."""
        stores = [await desk.store(), await desk.store()]
        made = [(await desk.put(stores[number % 2], "text")).id for number in range(5)]
        documents, scope = desk.ports.documents, desk.scope(*stores)
        for newest, order in ((False, made), (True, made[::-1])):
            page = partial(documents.list, scope=scope, limit=2, newest=newest)
            assert len(await page(after=None)) == 2
            assert [one.id for one in await walked(page)] == order

    async def test_list_by_status(self, desk: Desk) -> None:
        """Only documents of the wanted status; a page goes on behind one that has changed its status."""
        store = await desk.store()
        waiting = [await desk.put(store, "text") for _ in range(4)]
        documents, scope, status = desk.ports.documents, desk.scope(store), FileStatus.IN_PROGRESS
        first = await documents.list(scope=scope, limit=2, newest=False, status=status)
        await desk.publish(waiting[1])
        rest = await documents.list(scope=scope, limit=2, after=first[-1].id, newest=False, status=status)
        assert [one.id for one in (*first, *rest)] == [one.id for one in waiting]
        done = await documents.list(scope=scope, limit=9, status=FileStatus.COMPLETED)
        assert [one.id for one in done] == [waiting[1].id]

    async def test_deleted_document_is_gone_at_once(self, desk: Desk) -> None:
        """The very next query does not see it; deleting counts only what was there."""
        store = await desk.store()
        document, chunks = await desk.add(store, "one\ntwo")
        kept, others = await desk.add(store, "three")
        deleted = await desk.ports.documents.delete([document.id, document.id, uuid4()], scope=desk.scope(store))
        assert deleted == 1
        found = await desk.search(axis(desk.ports.space, 1), store, also=[chunk.id for chunk in chunks])
        assert [candidate.chunk_id for candidate in found] == [others[0].id]
        assert [hit.document_id for hit in await desk.hydrate([*chunks, *others], store)] == [kept.id]
        with pytest.raises(NotFoundError):
            await desk.ports.documents.get(document.id, scope=desk.scope(store))
        assert await desk.ports.documents.delete([document.id], scope=desk.scope(store)) == 0

    async def test_an_id_is_free_after_its_delete(self, desk: Desk) -> None:
        """The same external id after a delete is a new document."""
        store = await desk.store()
        old, _ = await desk.add(store, "one", external_id="a")
        await desk.ports.documents.delete([old.id], scope=desk.scope(store))
        new = await desk.put(store, "one", external_id="a")
        assert new.id != old.id
        assert (new.version, new.status) == (1, FileStatus.IN_PROGRESS)
