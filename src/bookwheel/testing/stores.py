"""The contract of ports.Stores."""

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from bookwheel.errors import NotFoundError, PreconditionFailedError
from bookwheel.etags import store_tag
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import Desk, axis, walked
from bookwheel.types import Chunking, DocumentDraft, FileStatus

RIVALS, TURNS = 8, 12  #: changes at once, and how often: enough to meet between a check and its change


class StoresContract(PortsContract):
    """Subclass it for a backend that fills ports.Stores."""

    async def test_store_comes_back_as_it_was_made(self, desk: Desk) -> None:
        """A store keeps its name, space, chunking and metadata, and starts empty."""
        chunking = Chunking(max_tokens=128, overlap_tokens=16)
        made = await desk.ports.stores.create(
            "Bücher", scope=desk.scope(), space=desk.ports.space, chunking=chunking, metadata={"owner": "me"}
        )
        assert (made.name, made.chunking, made.space, made.metadata) == (
            "Bücher",
            chunking,
            desk.ports.space,
            {"owner": "me"},
        )
        assert (made.tenant_id, made.size, sum(made.counts.values())) == (desk.tenant, 0, 0)
        assert await desk.ports.stores.get(made.id, scope=desk.scope()) == made

    async def test_names_need_not_be_unique(self, desk: Desk) -> None:
        """Two stores of one name are two stores."""
        one, other = await desk.store("same"), await desk.store("same")
        assert one.id != other.id

    async def test_stores_are_found_by_name(self, desk: Desk, stranger: Desk) -> None:
        """All of a name, oldest first and at most `limit`; never another tenant's."""
        one, _, same, other = [await desk.store(name) for name in ("a", "b", "a", "Ü")]
        await stranger.store("a")
        named = partial(desk.ports.stores.named, scope=desk.scope())
        assert [store.id for store in await named(["Ü", "a", "none"], limit=10)] == [one.id, same.id, other.id]
        assert [store.id for store in await named(["a"], limit=1)] == [one.id]
        assert list(await named([], limit=10)) == []

    async def test_list_walks_in_pages(self, desk: Desk) -> None:
        """Pages follow creation, in either order, with no store twice or left out."""
        made = [(await desk.store(str(number))).id for number in range(5)]
        for newest, order in ((False, made), (True, made[::-1])):
            page = partial(desk.ports.stores.list, scope=desk.scope(), limit=2, newest=newest)
            assert len(await page(after=None)) == 2
            assert [one.id for one in await walked(page)] == order

    async def test_another_tenants_store_is_not_there(self, desk: Desk, stranger: Desk) -> None:
        """No verb finds, lists, changes or deletes a store of another tenant, and none tells that it exists."""
        store = await desk.store()
        stores, scope = stranger.ports.stores, stranger.scope(store)
        with pytest.raises(NotFoundError):
            await stores.get(store.id, scope=scope)
        with pytest.raises(NotFoundError):
            await stores.update(store.id, scope=scope, name="mine now", metadata=None)
        with pytest.raises(NotFoundError):
            await stores.delete(store.id, scope=scope)
        assert await stores.list(scope=scope, limit=10) == []
        assert await desk.ports.stores.get(store.id, scope=desk.scope()) == store

    async def test_update_changes_what_is_given(self, desk: Desk) -> None:
        """None leaves a field alone; an empty mapping empties the metadata."""
        store = await desk.store("before")
        stores, scope = desk.ports.stores, desk.scope()
        await stores.update(store.id, scope=scope, name=None, metadata={"a": "1"})
        renamed = await stores.update(store.id, scope=scope, name="after", metadata=None)
        assert (renamed.name, renamed.metadata) == ("after", {"a": "1"})
        emptied = await stores.update(store.id, scope=scope, name=None, metadata={})
        assert (emptied.name, emptied.metadata) == ("after", {})
        assert await stores.get(store.id, scope=scope) == emptied

    async def test_counts_follow_the_documents(self, desk: Desk) -> None:
        """Counts by status and the size are those of the documents that the store holds now."""
        store = await desk.store()
        live, _ = await desk.add(store, "one")
        failing, waiting = await desk.put(store, "four"), await desk.put(store, "seventh")
        await desk.ports.ingestion.fail(await desk.claim(failing), code="broken_file", message="It is broken.")
        counted = await desk.ports.stores.get(store.id, scope=desk.scope())
        assert {status: count for status, count in counted.counts.items() if count} == {
            FileStatus.COMPLETED: 1,
            FileStatus.FAILED: 1,
            FileStatus.IN_PROGRESS: 1,
        }
        assert counted.size == len("one" + "four" + "seventh")
        await desk.ports.documents.delete([live.id, waiting.id], scope=desk.scope(store))
        counted = await desk.ports.stores.get(store.id, scope=desk.scope())
        assert (sum(counted.counts.values()), counted.size) == (1, len("four"))

    async def test_version_grows_with_publish_and_delete(self, desk: Desk) -> None:
        """Whatever changes what a query finds changes the store's version: caches rest on it."""
        store = await desk.store()
        versions = [store.version]
        document, _ = await desk.add(store, "one")
        versions.append((await desk.ports.stores.get(store.id, scope=desk.scope())).version)
        await desk.ports.documents.delete([document.id], scope=desk.scope(store))
        versions.append((await desk.ports.stores.get(store.id, scope=desk.scope())).version)
        assert versions == sorted(set(versions))

    async def test_version_grows_with_what_searches_show(self, desk: Desk) -> None:
        """Attributes, titles and access lists of live documents are seen by the next query, so caches must end; where
        nothing differs they may live on."""
        store, scope = await desk.store(), desk.scope()
        draft = DocumentDraft(external_id="a", text="one", attributes={"x": 1, "y": [True]})
        (document,) = await desk.ports.documents.put([draft], scope=desk.scope(store), store=store)
        await desk.publish(document)

        async def raised(draft: DocumentDraft | None = None, **update: Any) -> bool:
            before = (await desk.ports.stores.get(store.id, scope=scope)).version
            if draft is not None:
                await desk.ports.documents.put([draft], scope=desk.scope(store), store=store)
            else:
                await desk.ports.documents.update(document.id, scope=desk.scope(store), **update)
            return (await desk.ports.stores.get(store.id, scope=scope)).version > before

        assert not await raised(draft)
        assert not await raised(replace(draft, external_id="b"))  # waits for a worker
        assert await raised(replace(draft, attributes={"x": True, "y": [True]}))
        assert not await raised(attributes={"y": [True], "x": True})
        assert not await raised()
        assert await raised(attributes={"x": 1, "y": [1]})
        assert await raised(access=("staff",))
        assert not await raised(access=("staff",))
        assert not await raised(replace(draft, attributes={"x": 1, "y": [1]}))
        assert await raised(replace(draft, attributes={"x": 1, "y": [1]}, access=None))
        assert await raised(replace(draft, attributes={}, text="two"))  # attributes hold before the text does

    async def test_changes_wait_for_what_was_read(self, desk: Desk) -> None:
        """With `if_match` nothing is changed or deleted that somebody else edited; documents are no edit."""
        store = await desk.store()
        await desk.add(store, "one")
        stores, scope, read = desk.ports.stores, desk.scope(), store_tag(store)
        changed = await stores.update(store.id, scope=scope, name="mine", if_match=["another", read])
        for refused in (
            stores.update(store.id, scope=scope, name="theirs", if_match=[read]),
            stores.delete(store.id, scope=scope, if_match=[read]),
        ):
            with pytest.raises(PreconditionFailedError):
                await refused
        assert (await stores.get(store.id, scope=scope)).name == "mine"
        await stores.delete(store.id, scope=scope, if_match=[store_tag(changed)])
        with pytest.raises(NotFoundError):
            await stores.update(store.id, scope=scope, name="theirs", if_match=[read])

    async def test_one_of_two_changes_wins(self, desk: Desk) -> None:
        """Of changes that rest on the same reading one is made, however close they come."""
        store, stores, scope = await desk.store(), desk.ports.stores, desk.scope()
        for turn in range(TURNS):
            read = store_tag(await stores.get(store.id, scope=scope))
            changes = [
                stores.update(store.id, scope=scope, name=f"{turn}/{number}", if_match=[read])
                for number in range(RIVALS)
            ]
            done = await asyncio.gather(*changes, return_exceptions=True)
            made = [one for one in done if not isinstance(one, PreconditionFailedError)]
            assert made == [await stores.get(store.id, scope=scope)]

    async def test_deleted_store_is_gone_at_once(self, desk: Desk) -> None:
        """With the store go its documents, and the very next query sees nothing of them."""
        store, kept = await desk.store(), await desk.store()
        document, chunks = await desk.add(store, "one\ntwo")
        _, others = await desk.add(kept, "three")
        before = await desk.ports.outbox.last()
        await desk.ports.stores.delete(store.id, scope=desk.scope())
        assert await desk.search(axis(desk.ports.space, 1), store) == []
        assert await desk.hydrate(chunks, store) == []
        with pytest.raises(NotFoundError):
            await desk.ports.stores.get(store.id, scope=desk.scope())
        with pytest.raises(NotFoundError):
            await desk.ports.documents.get(document.id, scope=desk.scope(store))
        removed = [(change.operation, change.document_id) for change in await desk.changes(before)]
        assert removed == [("remove", document.id)]
        assert len(await desk.hydrate(others, kept)) == 1
