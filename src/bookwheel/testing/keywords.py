"""The contract of ports.KeywordIndex."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest

from bookwheel.ports import KeywordIndex
from bookwheel.types import Access, Candidate, Change, KeywordEntry, Reach, Scope

_NUMBERS = count(2**61)  # chunk ids as large as real ones


@dataclass(slots=True, kw_only=True)
class Writer:
    """Publishes and removes documents of one tenant's store as the outbox would tell them."""

    index: KeywordIndex
    tenant: UUID = field(default_factory=uuid4)
    store: UUID = field(default_factory=uuid4)
    sequence: int = 0

    def change(self, document: UUID, *, version: int = 1, remove: bool = False) -> Change:
        """The next line of the outbox."""
        self.sequence += 1
        return Change(
            sequence=self.sequence,
            operation="remove" if remove else "publish",
            tenant_id=self.tenant,
            store_id=self.store,
            document_id=document,
            version=version,
        )

    def entry(
        self,
        text: str,
        document: UUID,
        *,
        version: int = 1,
        title: str = "",
        access: Access | None = None,
        denied: Access = (),
    ) -> KeywordEntry:
        """A chunk of a document."""
        return KeywordEntry(
            chunk_id=next(_NUMBERS),
            tenant_id=self.tenant,
            store_id=self.store,
            document_id=document,
            version=version,
            text=text,
            title=title,
            language="en",
            access=access,
            denied=denied,
        )

    async def publish(
        self, *texts: str, document: UUID | None = None, version: int = 1, title: str = "", **lists: Any
    ) -> list[KeywordEntry]:
        """A document with one chunk for each text, in an apply of its own."""
        owner = document or uuid4()
        entries = [self.entry(text, owner, version=version, title=title, **lists) for text in texts]
        await self.index.apply([self.change(owner, version=version)], streamed(entries))
        return entries

    async def remove(self, document: UUID, *, version: int = 1) -> None:
        """Remove a document, in an apply of its own."""
        await self.index.apply([self.change(document, version=version, remove=True)], streamed([]))

    async def search(
        self, text: str, *, limit: int = 10, documents: Sequence[UUID] | None = None
    ) -> Sequence[Candidate]:
        """Search the store."""
        scope = Scope(tenant_id=self.tenant, store_ids=(self.store,))
        return await self.index.search(text, scope=scope, reach=open_to(scope), limit=limit, documents=documents)

    async def read(
        self, text: str, *principals: str, opened: bool = True, listed: bool = True, limit: int = 10
    ) -> list[int]:
        """The ids of the chunks that a caller with these principals finds, as the store's lists let it."""
        scope = Scope(tenant_id=self.tenant, store_ids=(self.store,), principals=frozenset(principals))
        stores = frozenset({self.store})
        reach = Reach(open=stores if opened else frozenset(), listed=stores if listed else frozenset())
        return [one.chunk_id for one in await self.index.search(text, scope=scope, reach=reach, limit=limit)]

    async def found(self, text: str, *, documents: Sequence[UUID] | None = None) -> list[int]:
        """The ids of the chunks found."""
        return [candidate.chunk_id for candidate in await self.search(text, documents=documents)]


def open_to(scope: Scope) -> Reach:
    """Stores without lists."""
    return Reach(open=frozenset(scope.store_ids), listed=frozenset(scope.store_ids))


async def streamed(entries: Sequence[KeywordEntry]) -> AsyncIterator[KeywordEntry]:
    """The entries as an outbox gives them."""
    for entry in entries:
        yield entry


def ids(entries: Sequence[KeywordEntry]) -> list[int]:
    """The ids of chunks."""
    return [entry.chunk_id for entry in entries]


class KeywordIndexContract:
    """Subclass it for a backend that fills ports.KeywordIndex. Override `keywords` and `reopen`."""

    @pytest.fixture
    def keywords(self) -> KeywordIndex:
        """An index of the test's own: empty, position 0, writable."""
        raise NotImplementedError

    async def reopen(self, keywords: KeywordIndex) -> KeywordIndex:
        """The same index as a process would find it that starts after this one has ended."""
        raise NotImplementedError

    @pytest.fixture
    def writer(self, keywords: KeywordIndex) -> Writer:
        """A store to publish into."""
        return Writer(index=keywords)

    async def test_words_find_their_chunks(self, writer: Writer) -> None:
        """A chunk is found by its words, whatever their case, and not by others."""
        whale, sea = await writer.publish("The whale is white.", "The sea is wide.")
        assert await writer.found("WHALE") == [whale.chunk_id]
        assert await writer.found("wide sea") == [sea.chunk_id]
        assert await writer.found("elephant") == []

    async def test_titles_find_their_chunks(self, writer: Writer) -> None:
        """The words of a title find the chunks of the document."""
        entries = await writer.publish("Call me Ishmael.", title="Moby Dick")
        assert await writer.found("moby") == ids(entries)

    async def test_best_come_first(self, writer: Writer) -> None:
        """More and rarer words of the question in fewer words of text are better; scores fall."""
        await writer.publish(*(f"harpoon number {number} is of common iron" for number in range(20)))
        both, rare = await writer.publish("harpoon of ambergris", "ambergris lies about in the long grey morning hours")
        found = await writer.search("harpoon ambergris")
        assert [candidate.chunk_id for candidate in found[:2]] == [both.chunk_id, rare.chunk_id]
        scores = [candidate.score for candidate in found]
        assert scores == sorted(scores, reverse=True)
        assert scores[-1] > 0

    async def test_limit_holds(self, writer: Writer) -> None:
        """No more than `limit` candidates, each once."""
        await writer.publish(*(f"whale {number}" for number in range(20)))
        found = await writer.search("whale", limit=7)
        assert len({candidate.chunk_id for candidate in found}) == len(found) == 7

    async def test_scope_is_inside_the_search(self, writer: Writer, keywords: KeywordIndex) -> None:
        """Better chunks of other tenants and other stores neither show up nor take places."""
        mine = await writer.publish("one whale among a great many other words about the sea")
        strangers = [Writer(index=keywords, store=writer.store), Writer(index=keywords, tenant=writer.tenant)]
        for stranger in strangers:
            await stranger.publish(*("whale" for _ in range(20)))
        assert [one.chunk_id for one in await writer.search("whale", limit=5)] == ids(mine)
        both = Scope(tenant_id=writer.tenant, store_ids=(writer.store, strangers[1].store))
        assert len(await keywords.search("whale", scope=both, reach=open_to(both), limit=50)) == 21
        foreign = Reach(open=frozenset({strangers[1].store}), listed=frozenset({strangers[1].store}))
        assert len(await keywords.search("whale", scope=both, reach=foreign, limit=50)) == 20
        alone = replace(both, store_ids=(writer.store,))  # what can be reached is not asked for
        assert await keywords.search("whale", scope=alone, reach=foreign, limit=50) == []
        nowhere = Scope(tenant_id=writer.tenant, store_ids=())
        assert await keywords.search("whale", scope=nowhere, reach=open_to(both), limit=5) == []

    async def test_lists_are_inside_the_search(self, writer: Writer) -> None:
        """Better chunks that the caller may not read take no places: neither those whose document lists others, nor
        those that deny the caller, nor those without a list where the store's list does not name it."""
        best = ["whale"] * 20
        await writer.publish(*best, access=("board",))
        await writer.publish(*best, denied=("eve", "mallory"))
        plain = ids(await writer.publish("one whale among a great many other words about the sea"))
        mine = ids(await writer.publish("one whale of the staff among many other words", access=("staff", "board")))
        assert sorted(await writer.read("whale", "staff", "eve", limit=3)) == sorted(plain + mine)
        assert await writer.read("whale", "staff", "eve", opened=False, limit=3) == mine
        assert await writer.read("whale", "staff", "eve", opened=False, listed=False) == []
        assert await writer.read("whale", "eve", limit=3) == plain
        assert len(await writer.read("whale", "board", limit=100)) == 42
        assert len(await writer.read("whale", limit=100)) == 21

    async def test_names_on_lists_are_taken_as_they_are(self, writer: Writer) -> None:
        """Whatever characters they hold, and however long they are; a part of a name is no name."""
        names = ("group:Ä b*", "a:b", "(x OR y)", "n" * 512, "\u202ea")
        for name in names:
            (entry,) = await writer.publish("whale", access=(name,))
            (other,) = await writer.publish("sea", denied=(name,))
            assert await writer.read("whale", name) == [entry.chunk_id]
            assert other.chunk_id not in await writer.read("sea", name)
            assert await writer.read("whale", name[:1]) == []
            await writer.remove(entry.document_id)

    async def test_an_empty_list_names_nobody(self, writer: Writer) -> None:
        """Only None is no list."""
        await writer.publish("whale", access=())
        assert await writer.read("whale", "staff") == await writer.read("whale") == []

    async def test_changed_lists_come_with_a_publish(self, writer: Writer) -> None:
        """A document that is published again goes by its new lists alone."""
        document = uuid4()
        await writer.publish("whale", document=document, access=("staff",), denied=("eve",))
        await writer.publish("whale", document=document, access=("board",))
        assert await writer.read("whale", "staff") == []
        assert len(await writer.read("whale", "board", "eve")) == 1

    async def test_search_in_these_documents(self, writer: Writer) -> None:
        """Given documents, only their chunks are found, however many better ones there are; none means none."""
        await writer.publish(*("whale" for _ in range(20)))
        (rare,) = await writer.publish("one whale among a great many other words about the sea")
        assert await writer.found("whale", documents=[rare.document_id, uuid4()]) == [rare.chunk_id]
        assert await writer.found("whale", documents=[]) == []

    async def test_documents_of_another_scope_stay_hidden(self, writer: Writer, keywords: KeywordIndex) -> None:
        """Naming another tenant's document does not open it."""
        (theirs,) = await Writer(index=keywords).publish("whale")
        assert await writer.found("whale", documents=[theirs.document_id]) == []

    async def test_many_documents_are_no_problem(self, writer: Writer) -> None:
        """Thousands of documents may be named at once: the retrieve walk does."""
        (entry,) = await writer.publish("whale")
        documents = [uuid4() for _ in range(2000)]
        assert await writer.found("whale", documents=[*documents, entry.document_id]) == [entry.chunk_id]

    async def test_publish_replaces_the_document(self, writer: Writer) -> None:
        """A new version takes the place of all chunks of the old one."""
        document = uuid4()
        await writer.publish("old whale", "old sea", document=document)
        new = await writer.publish("new whale", document=document, version=2)
        assert await writer.found("whale") == ids(new)
        assert await writer.found("old sea") == []

    async def test_removed_document_is_not_found(self, writer: Writer) -> None:
        """A remove takes the named version and everything below, and no other document."""
        document = uuid4()
        await writer.publish("whale", document=document)
        kept = await writer.publish("whale")
        await writer.remove(document, version=2)
        assert await writer.found("whale") == ids(kept)

    async def test_changes_of_one_call_apply_in_order(self, writer: Writer) -> None:
        """Published and removed in one call is removed; published twice holds each chunk once."""
        gone, stays = uuid4(), uuid4()
        entries = [writer.entry("whale", stays, version=2)]
        changes = [
            writer.change(gone),
            writer.change(stays),
            writer.change(stays, version=2),
            writer.change(gone, remove=True),
        ]
        await writer.index.apply(changes, streamed([*entries, writer.entry("whale", gone)]))
        assert await writer.found("whale") == ids(entries)

    async def test_applying_again_is_harmless(self, writer: Writer) -> None:
        """A writer that died before it heard the answer applies the same changes again: nothing doubles or returns."""
        document, other = uuid4(), uuid4()
        entries = [writer.entry("whale", document), writer.entry("white whale", document)]
        changes = [writer.change(document), writer.change(other), writer.change(other, remove=True)]
        for _ in range(3):
            await writer.index.apply(changes, streamed(entries))
        assert sorted(await writer.found("whale")) == sorted(ids(entries))
        assert await writer.index.position() == changes[-1].sequence

    async def test_position_is_that_of_the_last_change(self, writer: Writer, keywords: KeywordIndex) -> None:
        """A new index stands at 0; after an apply it stands at the last sequence of the call."""
        assert await keywords.position() == 0
        writer.sequence = 2**40
        await writer.publish("whale")
        assert await keywords.position() == 2**40 + 1
        await writer.remove(uuid4())
        assert await keywords.position() == 2**40 + 2

    async def test_empty_documents_move_the_position(self, writer: Writer, keywords: KeywordIndex) -> None:
        """A publish whose document is gone by now brings no entries, yet counts as applied."""
        await writer.publish()
        assert await keywords.position() == 1

    async def test_position_and_content_survive_together(self, writer: Writer, keywords: KeywordIndex) -> None:
        """After a restart the index stands where it stood and finds what it found."""
        entries = await writer.publish("whale")
        reopened = await self.reopen(keywords)
        assert await reopened.position() == 1
        assert await Writer(index=reopened, tenant=writer.tenant, store=writer.store).found("whale") == ids(entries)

    async def test_reset_empties(self, writer: Writer, keywords: KeywordIndex) -> None:
        """A rebuild begins with nothing, at the position it is told, which is durable too."""
        await writer.publish("whale")
        await keywords.reset(41)
        assert await writer.found("whale") == []
        assert await keywords.position() == 41
        reopened = await self.reopen(keywords)
        assert await reopened.position() == 41

    async def test_index_goes_on_after_a_reset(self, writer: Writer, keywords: KeywordIndex) -> None:
        """What is applied after a reset is found; resetting to 0 makes the index count as empty."""
        await writer.publish("whale")
        await keywords.reset(0)
        assert await keywords.position() == 0
        entries = await writer.publish("white whale")
        assert await writer.found("whale") == ids(entries)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "   ",
            "?!",
            '"',
            "(whale",
            "whale AND",
            "title:whale^9",
            "-whale",
            "whale~ [a TO b]",
            "*",
            "\\",
            "NOT",
            "whale\0sea",
            "🐳",
            "whale " * 5000,
            "x" * 70_000,
        ],
    )
    async def test_any_text_is_a_question(self, writer: Writer, text: str) -> None:
        """A question is words, not a query language: none raises, and punctuation does not hide a word."""
        (entry,) = await writer.publish("whale")
        found = await writer.found(text)
        assert found == ([entry.chunk_id] if "whale" in text else [])

    @pytest.mark.parametrize(
        ("text", "question"),
        [
            ("Die Straße über den Fluß", "über"),
            ("Кит белый", "кит"),
            ("白鯨は海にいる", "白鯨"),
            ("error E1234-x in foo_bar.py", "E1234"),
        ],
    )
    async def test_words_of_any_script(self, writer: Writer, text: str, question: str) -> None:
        """Words are found in any script, also where no spaces part them."""
        entries = await writer.publish(text)
        assert await writer.found(question) == ids(entries)

    async def test_long_chunk_is_indexed(self, writer: Writer) -> None:
        """A chunk with a word of any length is stored, and its other words find it."""
        entries = await writer.publish("x" * 100_000 + " whale")
        assert await writer.found("whale") == ids(entries)

    async def test_ping_answers(self, keywords: KeywordIndex) -> None:
        """A working index answers, also an empty one."""
        await keywords.ping()
