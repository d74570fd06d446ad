"""The contract of row-level access: every port of a backend goes by the rules of rights.py, which are the reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from bookwheel.errors import ConflictError, InvalidFilterError, NotFoundError, PermissionDeniedError
from bookwheel.ports import Ports
from bookwheel.rights import readable, store_is_open, store_is_there, visible
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import MANY, Desk, axis
from bookwheel.types import Access, Chunking, Document, DocumentDraft, Scope, SourceDraft, SourceKind, Store

PEOPLE = ("user:ada", "user:eve", "group:staff", "group:board", "group:ü")
DEPARTMENTS = ("sales", "law", "it")
STORES, DOCUMENTS, CALLERS, ROUNDS = 4, 5, 14, 2
STAFF, EVE = "group:staff", "user:eve"


def a_list(random: Random, *, odds: float) -> Access | None:
    """A list of some people with these odds, else none."""
    return tuple(random.sample(PEOPLE, random.randint(0, 3))) if random.random() < odds else None


@dataclass(slots=True, kw_only=True)
class Library:
    """Random stores and documents of a tenant, as their owner sees them."""

    desk: Desk
    random: Random
    stores: dict[UUID, Store] = field(default_factory=dict)
    documents: dict[UUID, Document] = field(default_factory=dict)
    chunks: dict[UUID, int] = field(default_factory=dict)  #: by live document

    @property
    def all(self) -> Scope:
        """The owner's scope."""
        return self.desk.scope(*self.stores.values())

    async def fill(self) -> None:
        """Stores with live and waiting documents, with lists and without."""
        for number in range(STORES):
            store = await self.desk.ports.stores.create(
                f"s{number}",
                scope=self.desk.scope(),
                space=self.desk.ports.space,
                chunking=Chunking(),
                metadata={},
                **self._lists(0.5),
            )
            self.stores[store.id] = store
            for _ in range(self.random.randint(0, DOCUMENTS)):
                await self._add(store)
        await self.read()

    async def _add(self, store: Store) -> None:
        draft = DocumentDraft(
            external_id=uuid4().hex,
            text="x" * self.random.randint(1, 9),
            attributes={"department": self.random.choice(DEPARTMENTS)} if self.random.random() < 0.8 else {},
            **self._lists(0.4),
        )
        scope = self.desk.scope(store)
        (document,) = await self.desk.ports.documents.put([draft], scope=scope, store=store)
        if self.random.random() < 0.7:
            (chunk,) = await self.desk.publish(document)
            self.chunks[document.id] = chunk.id

    def _lists(self, odds: float) -> dict[str, Any]:
        return {"access": a_list(self.random, odds=odds), "denied": a_list(self.random, odds=0.3) or ()}

    async def change(self) -> None:
        """Other lists for half of what there is."""
        for store in list(self.stores.values()):
            if self.random.random() < 0.5:
                await self.desk.ports.stores.update(store.id, scope=self.all, **self._lists(0.5))
        for document in list(self.documents.values()):
            if self.random.random() < 0.5:
                await self.desk.ports.documents.update(document.id, scope=self.all, **self._lists(0.5))
        await self.read()

    async def read(self) -> None:
        """What its owner sees now."""
        self.stores = {one.id: one for one in await self.desk.ports.stores.list(scope=self.all, limit=MANY)}
        self.documents = {one.id: one for one in await self.desk.ports.documents.list(scope=self.all, limit=MANY)}

    def caller(self) -> Scope:
        """Somebody, looking at some stores."""
        ids, random = list(self.stores), self.random
        rule: Mapping[str, Any] | None = random.choice(
            [None, None, {"department": random.choice(DEPARTMENTS)}, {"department": {"$ne": "law"}}, {}, {"$not": {}}]
        )
        return Scope(
            tenant_id=self.desk.tenant,
            store_ids=tuple(random.sample(ids, random.randint(1, len(ids)))),
            principals=frozenset(random.sample(PEOPLE, random.randint(0, 3))),
            granted=frozenset(random.sample(ids, random.randint(0, len(ids)))) if random.random() < 0.3 else None,
            rule=rule,
            manages=random.random() < 0.3,
        )


class AccessContract(PortsContract):
    """Subclass it for a backend that fills the ports of the catalog, Passages and VectorIndex."""

    @pytest.fixture(params=range(4))
    async def library(self, request: pytest.FixtureRequest, desk: Desk) -> Library:
        """Some stores and documents."""
        library = Library(desk=desk, random=Random(request.param))  # noqa: S311 - the same at every run
        await library.fill()
        return library

    async def test_whoever_asks_sees_what_the_rules_let(self, library: Library, ports: Ports) -> None:
        """Content, metadata, stores and counts, before lists change and at once after."""
        for _ in range(ROUNDS):
            for _ in range(CALLERS):
                await self._content(library, library.caller(), ports)
                await self._metadata(library, library.caller(), ports)
                await self._stores(library, library.caller(), ports)
            await library.change()

    async def _content(self, library: Library, scope: Scope, ports: Ports) -> None:
        may = {
            one.id
            for one in library.documents.values()
            if one.store_id in scope.store_ids and readable(one, library.stores[one.store_id], scope)
        }
        live = {document_id: chunk for document_id, chunk in library.chunks.items() if document_id in may}
        chunks, ids = list(library.chunks.values()), list(library.documents)
        hits = await ports.passages.hydrate(chunks, scope=scope, filter=None)
        assert {hit.chunk_id for hit in hits} == set(live.values())
        assert set(await ports.passages.live_versions(ids, scope=scope)) == set(live)
        assert set(await ports.passages.documents_matching({}, scope=scope, limit=MANY)) == set(live)
        sales = {"department": "sales"}
        matching = {one for one in live if library.documents[one].attributes == sales}
        assert set(await ports.passages.documents_matching(sales, scope=scope, limit=MANY)) == matching
        for asked, wanted in ((None, set(live)), (sales, matching)):
            found = await ports.vectors.search(
                ports.space, axis(ports.space, 1), scope=scope, filter=asked, limit=50, also=chunks
            )
            assert {one.chunk_id for one in found} == {live[one] for one in wanted}
        for document_id in library.documents:
            if document_id in may:
                assert len(await ports.passages.of_document(document_id, scope=scope)) == (document_id in live)
            else:
                with pytest.raises(NotFoundError):
                    await ports.passages.of_document(document_id, scope=scope)
        known = any(library.documents[one].attributes for one in may)
        assert list(await ports.passages.unknown_attributes(["department"], scope=scope)) == ["department"] * (
            not known
        )

    async def _metadata(self, library: Library, scope: Scope, ports: Ports) -> None:
        may = {one.id for one in library.documents.values() if visible(one, library.stores[one.store_id], scope)}
        inside = {one for one in may if library.documents[one].store_id in scope.store_ids}
        assert {one.id for one in await ports.documents.list(scope=scope, limit=MANY)} == inside
        waiting = {one for one in inside if library.documents[one].live_version is None}
        assert {one.document_id for one in await ports.jobs.list(scope=scope, limit=MANY)} == waiting
        anywhere = {one for one in may if library.documents[one].live_version is None}
        everywhere = replace(scope, store_ids=())
        assert {one.document_id for one in await ports.jobs.list(scope=everywhere, limit=MANY)} == anywhere
        for document in library.documents.values():
            alone = replace(scope, store_ids=(document.store_id,))
            for found in (
                ports.documents.get(document.id, scope=alone),
                ports.documents.find(scope=alone, external_id=document.external_id),
            ):
                if document.id in may:
                    assert (await found).id == document.id
                else:
                    with pytest.raises(NotFoundError):
                        await found
        hidden = [one for one in library.documents if one not in inside]
        assert await ports.documents.delete(hidden, scope=scope) == 0
        assert await ports.jobs.cancel(hidden, scope=scope) == 0
        for document_id in hidden[:3]:
            with pytest.raises(NotFoundError):
                await ports.documents.update(document_id, scope=scope, access=None)

    async def _stores(self, library: Library, scope: Scope, ports: Ports) -> None:
        there = {one.id for one in library.stores.values() if store_is_there(one, scope)}
        shown = {one.id: one for one in await ports.stores.list(scope=scope, limit=MANY)}
        named = await ports.stores.named([one.name for one in library.stores.values()], scope=scope, limit=MANY)
        assert set(shown) == {one.id for one in named} == there
        for store in library.stores.values():
            if store.id not in there:
                with pytest.raises(NotFoundError):
                    await ports.stores.get(store.id, scope=scope)
                continue
            held = [
                one for one in library.documents.values() if one.store_id == store.id and visible(one, store, scope)
            ]
            for one in (shown[store.id], await ports.stores.get(store.id, scope=scope)):
                assert sum(one.counts.values()) == len(held)
                assert (one.size, one.chunk_count) == (
                    sum(document.size for document in held),
                    sum(document.chunk_count for document in held),
                )
        reach = await ports.passages.reach(scope=scope)
        reader = replace(scope, manages=False)
        inside = [one for one in library.stores.values() if one.id in scope.store_ids and store_is_there(one, reader)]
        assert reach.listed == {one.id for one in inside}
        assert reach.open == {one.id for one in inside if store_is_open(one, scope)}

    async def test_a_stores_lists_hold_at_once(self, desk: Desk) -> None:
        """For documents without a list of their own; the version grows where a list differs, and only there."""
        store = await desk.store()
        plain, plain_chunks = await desk.add(store, "plain")
        own, own_chunks = await desk.add(store, "own")
        await desk.ports.documents.update(own.id, scope=desk.scope(store), access=(EVE,))
        stores, ids = desk.ports.stores, [chunk.id for chunk in (*plain_chunks, *own_chunks)]

        async def read(*principals: str) -> set[UUID]:
            scope = replace(desk.scope(store), principals=frozenset(principals), manages=False)
            return {hit.document_id for hit in await desk.ports.passages.hydrate(ids, scope=scope, filter=None)}

        version = (await stores.get(store.id, scope=desk.scope())).version
        for lists, seen_by_eve, seen_by_staff in (
            ({"access": (STAFF,)}, {own.id}, {plain.id}),
            ({"denied": (EVE,)}, set(), {plain.id}),
            ({"access": None}, set(), {plain.id}),
            ({"denied": ()}, {plain.id, own.id}, {plain.id}),
        ):
            changed = await stores.update(store.id, scope=desk.scope(), **lists)
            assert changed.version == version + 1
            assert (await stores.update(store.id, scope=desk.scope(), **lists)).version == version + 1
            version = changed.version
            assert (await read(EVE), await read(STAFF)) == (seen_by_eve, seen_by_staff)

    async def test_changed_lists_reach_derived_indexes(self, desk: Desk) -> None:
        """A live document whose lists change is published again, with its lists; one that waits is not, nor one whose
        lists stay."""
        store = await desk.store()
        scope = desk.scope(store)
        document, _ = await desk.add(store, "text", external_id="a")
        waiting = await desk.put(store, "later")
        before = await desk.ports.outbox.last()
        documents = desk.ports.documents
        await documents.update(document.id, scope=scope, attributes={"a": 1}, access=None, denied=())
        await documents.update(waiting.id, scope=scope, access=(STAFF,))
        assert await desk.changes(before) == []
        await documents.update(document.id, scope=scope, access=(STAFF,), denied=(EVE,))
        (change,) = await desk.changes(before)
        assert (change.operation, change.document_id, change.version) == ("publish", document.id, 1)
        (entry,) = [one async for one in desk.ports.outbox.entries([change])]
        assert (entry.access, entry.denied) == ((STAFF,), (EVE,))
        draft = DocumentDraft(external_id="a", text="text", denied=(STAFF,))
        await documents.put([draft, replace(draft, denied="keep")], scope=scope, store=store)
        assert [one.document_id for one in (await desk.changes(before))[1:]] == [document.id]
        assert (await documents.get(document.id, scope=scope)).denied == (STAFF,)

    async def test_nothing_is_put_over_what_is_hidden(self, desk: Desk) -> None:
        """The caller learns that the id cannot be used, and nothing of what stands there; nothing of the put stays."""
        store = await desk.store()
        hidden, _ = await desk.add(store, "secret", external_id="a")
        await desk.ports.documents.update(hidden.id, scope=desk.scope(store), access=(STAFF,))
        kept = await desk.ports.documents.get(hidden.id, scope=desk.scope(store))
        scope = replace(desk.scope(store), principals=frozenset({EVE}), manages=False)
        drafts = [DocumentDraft(external_id=name, text="mine", access=None) for name in ("b", "a")]
        with pytest.raises(ConflictError) as refused:
            await desk.ports.documents.put(drafts, scope=scope, store=store)
        assert "secret" not in refused.value.message
        assert STAFF not in refused.value.message
        assert list(await desk.ports.documents.list(scope=desk.scope(store), limit=MANY)) == [kept]

    async def test_nothing_leaves_the_callers_own_rule(self, desk: Desk) -> None:
        """Neither a new document, nor a changed one, nor new attributes; a rule holds for those who manage too."""
        store = await desk.store()
        owner = desk.scope(store)
        for manages in (False, True):
            scope = replace(owner, rule={"department": "sales"}, manages=manages)
            name = f"a{manages}"
            draft = DocumentDraft(external_id=name, text="one", attributes={"department": "sales"})
            (made,) = await desk.ports.documents.put([draft], scope=scope, store=store)
            outside = {"department": "law"}
            for refused in (
                desk.ports.documents.put([replace(draft, attributes=outside)], scope=scope, store=store),
                desk.ports.documents.put([DocumentDraft(external_id="b", text="two")], scope=scope, store=store),
                desk.ports.documents.update(made.id, scope=scope, attributes=outside),
            ):
                with pytest.raises(PermissionDeniedError):
                    await refused
            assert (await desk.ports.documents.get(made.id, scope=scope)).attributes == {"department": "sales"}
        assert len(await desk.ports.documents.list(scope=owner, limit=MANY)) == 2

    async def test_a_rule_is_on_documents(self, desk: Desk) -> None:
        """What asks about chunks, or cannot be read, lets nothing through."""
        store = await desk.store()
        document, chunks = await desk.add(store, "one")
        for rule in ({"chunk.page": 1}, {"a": {"$what": 1}}):
            scope: Any = replace(desk.scope(store), rule=rule)
            for refused in (
                desk.ports.passages.hydrate([chunks[0].id], scope=scope, filter=None),
                desk.ports.documents.get(document.id, scope=scope),
                desk.ports.documents.list(scope=scope, limit=MANY),
            ):
                with pytest.raises(InvalidFilterError):
                    await refused

    async def test_lists_of_a_store_are_for_whom_they_let_read(self, desk: Desk) -> None:
        """Nobody opens what is closed to him; who manages may change any."""
        store = await desk.store()
        stores = desk.ports.stores
        await stores.update(store.id, scope=desk.scope(), access=(STAFF,))
        eve = replace(desk.scope(), principals=frozenset({EVE}), manages=False)
        for lists in ({"access": None}, {"access": (EVE,)}, {"denied": ()}):
            with pytest.raises(PermissionDeniedError):
                await stores.update(store.id, scope=eve, **lists)
        staff = replace(eve, principals=frozenset({STAFF}))
        assert (await stores.update(store.id, scope=staff, denied=(EVE,))).denied == (EVE,)
        with pytest.raises(NotFoundError):
            await stores.update(store.id, scope=eve, name="mine")
        assert (await stores.update(store.id, scope=desk.scope(), access=None, denied=())).access is None

    async def test_nobody_deletes_what_is_hidden(self, desk: Desk) -> None:
        """A store or file with documents that the caller may not know of stays; those without go."""
        store, other, file = await desk.store(), await desk.store(), await desk.file()
        secret = DocumentDraft(file_id=file.id, access=(STAFF,))
        await desk.ports.documents.put([secret], scope=desk.scope(store), store=store)
        await desk.ports.documents.put([DocumentDraft(file_id=file.id)], scope=desk.scope(other), store=other)
        eve = replace(desk.scope(), principals=frozenset({EVE}), manages=False)
        with pytest.raises(ConflictError):
            await desk.ports.stores.delete(store.id, scope=eve)
        with pytest.raises(ConflictError):
            await desk.ports.files.delete(file.id, scope=eve)
        await desk.ports.stores.delete(other.id, scope=eve)
        with pytest.raises(NotFoundError):  # now all that is made of it is hidden
            await desk.ports.files.delete(file.id, scope=eve)
        await desk.ports.stores.delete(store.id, scope=replace(eve, principals=frozenset({STAFF})))
        assert await desk.ports.files.delete(file.id, scope=eve)

    async def test_files_are_there_with_their_documents(self, desk: Desk) -> None:
        """One that no document is made of is there for all; else a document that the caller may know of shows it."""
        store, file = await desk.store(), await desk.file()
        files = desk.ports.files

        async def seen(scope: Scope) -> bool:
            listed = file.id in {one.id for one in await files.list(scope=scope, limit=MANY)}
            try:
                await files.get(file.id, scope=scope)
            except NotFoundError:
                assert not listed
                return False
            assert listed
            return True

        staff = replace(desk.scope(), principals=frozenset({STAFF}), manages=False)
        eve, away = replace(staff, principals=frozenset({EVE})), replace(desk.scope(), granted=frozenset({uuid4()}))
        assert [await seen(scope) for scope in (desk.scope(), staff, eve, away)] == [True] * 4
        draft = DocumentDraft(file_id=file.id, access=(STAFF,), attributes={"department": "law"})
        await desk.ports.documents.put([draft], scope=desk.scope(store), store=store)
        assert [await seen(scope) for scope in (desk.scope(), staff, eve, away)] == [True, True, False, False]
        assert not await seen(replace(desk.scope(), manages=False))  # as one asks for its bytes
        assert not await seen(replace(staff, rule={"department": "sales"}))
        with pytest.raises(NotFoundError):
            await desk.ports.documents.put(
                [DocumentDraft(file_id=file.id)], scope=replace(eve, store_ids=(store.id,)), store=store
            )

    async def test_batches_leave_out_what_is_hidden(self, desk: Desk) -> None:
        """In counts and lists, and it is not cancelled."""
        store, files = await desk.store(), [await desk.file() for _ in range(3)]
        drafts = [DocumentDraft(file_id=one.id, access=(STAFF,) if one is files[0] else None) for one in files]
        batch = await desk.ports.batches.create(drafts, scope=desk.scope(store), store=store)
        eve = replace(desk.scope(store), principals=frozenset({EVE}), manages=False)
        batches = desk.ports.batches
        assert sum((await batches.get(batch.id, scope=eve)).counts.values()) == 2
        assert {one.file_id for one in await batches.documents(batch.id, scope=eve, limit=MANY)} == {
            one.id for one in files[1:]
        }
        await batches.cancel(batch.id, scope=eve)
        (waiting,) = await desk.ports.jobs.list(scope=desk.scope(store), state=None, limit=1)
        states = {one.document_id: one.state for one in await desk.ports.jobs.list(scope=desk.scope(store), limit=MANY)}
        assert sorted(states.values()) == ["cancelled", "cancelled", "waiting"]
        assert waiting.document_id in states

    async def test_granted_stores_are_all_there_is(self, desk: Desk) -> None:
        """Other stores, their sources and batches are not there, also for who manages; and none can be made."""
        mine, other = await desk.store(), await desk.store()
        scope = replace(desk.scope(mine, other), granted=frozenset({mine.id}))
        draft = SourceDraft(kind=SourceKind.DIRECTORY, config={"path": "/none"}, every_seconds=3600)
        sources: Sequence[Any] = [
            await desk.ports.sources.create(draft, scope=desk.scope(), store=store) for store in (mine, other)
        ]
        assert [one.id for one in await desk.ports.sources.list(scope=scope, limit=MANY)] == [sources[0].id]
        with pytest.raises(NotFoundError):
            await desk.ports.sources.get(sources[1].id, scope=scope)
        with pytest.raises(NotFoundError):
            await desk.ports.sources.delete(sources[1].id, scope=scope)
        with pytest.raises(NotFoundError):
            await desk.ports.sources.create(draft, scope=scope, store=other)
        with pytest.raises(NotFoundError):
            await desk.ports.documents.put([DocumentDraft(text="a", external_id="a")], scope=scope, store=other)
        with pytest.raises(PermissionDeniedError):
            await desk.ports.stores.create("new", scope=scope, space=desk.ports.space, chunking=Chunking(), metadata={})
