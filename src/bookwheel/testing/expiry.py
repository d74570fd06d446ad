"""The contract of ports.Expiry."""

from datetime import timedelta

import pytest

from bookwheel.errors import NotFoundError
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import MANY, Desk, axis
from bookwheel.testing.sources import add_source
from bookwheel.types import Chunking, DocumentDraft, File, SourceItem, Store

DAY = 24 * 3600.0
SOON = -1.5 * DAY  # asks for what is over by then: the tests cannot wait


class ExpiryContract(PortsContract):
    """Subclass it for a backend that fills ports.Expiry."""

    async def test_expiry_comes_back(self, desk: Desk) -> None:
        """A store says when it ends if nobody uses it; a change may take that away or set it anew."""
        store = await _store(desk, days=3)
        assert (store.expires_after_days, store.expired) == (3, False)
        assert store.expires_at == store.last_active_at + timedelta(days=3)
        stores, scope = desk.ports.stores, desk.scope()
        assert (await stores.update(store.id, scope=scope, name="other")).expires_after_days == 3
        assert (await stores.update(store.id, scope=scope, expires_after_days=7)).expires_after_days == 7
        never = await stores.update(store.id, scope=scope, expires_after_days=None)
        assert (never.expires_after_days, never.expires_at) == (None, None)

    async def test_stores_that_are_over_lose_their_documents(self, desk: Desk) -> None:
        """The store stays and says so; the next query finds nothing, and when it was used last is still known."""
        store, kept = await _store(desk, days=1), await _store(desk, days=2)
        document, chunks = await desk.add(store, "one")
        other, _ = await desk.add(kept, "two")
        before = await desk.ports.stores.get(store.id, scope=desk.scope())
        await _expire(desk)
        after = await desk.ports.stores.get(store.id, scope=desk.scope())
        assert (after.expired, after.last_active_at, after.chunk_count) == (True, before.last_active_at, 0)
        assert after.version > before.version
        assert await desk.hydrate(chunks, store) == []
        assert [hit.document_id for hit in await desk.search(axis(desk.ports.space, 1), store, kept)] == [other.id]
        with pytest.raises(NotFoundError):
            await desk.ports.documents.get(document.id, scope=desk.scope(store))
        assert not (await desk.ports.stores.get(kept.id, scope=desk.scope())).expired

    async def test_an_expired_store_expires_once(self, desk: Desk) -> None:
        """What is done is not done again."""
        store = await _store(desk, days=1)
        await _expire(desk)
        before = await desk.ports.stores.get(store.id, scope=desk.scope())
        assert await desk.ports.expiry.stores(older_than_seconds=SOON, limit=MANY) == 0
        assert await desk.ports.stores.get(store.id, scope=desk.scope()) == before

    async def test_expired_stores_are_used_again(self, desk: Desk) -> None:
        """A document that is put, and any change, renew them."""
        put, changed = await _store(desk, days=1), await _store(desk, days=1)
        await _expire(desk)
        await desk.put(put, "one")
        await desk.ports.stores.update(changed.id, scope=desk.scope(), name="again")
        for store in (put, changed):
            again = await desk.ports.stores.get(store.id, scope=desk.scope())
            assert not again.expired
            assert again.last_active_at > store.last_active_at

    async def test_sources_begin_anew(self, desk: Desk) -> None:
        """What a source saw is forgotten with the documents, so that it brings them again; others' is not."""
        over, kept = await _store(desk, days=1), await _store(desk, days=2)
        sources = [await add_source(desk, store) for store in (over, kept)]
        for source in sources:
            await desk.ports.source_runs.save(source.id, [SourceItem(key="a", external_id="a")])
        await _expire(desk)
        held = [await desk.ports.source_runs.items(source.id, limit=10) for source in sources]
        assert [len(items) for items in held] == [0, 1]

    async def test_touch_moves_the_end_now_and_then(self, desk: Desk, stranger: Desk) -> None:
        """Not while the last activity is recent, and not for another tenant."""
        store = await _store(desk, days=1)
        expiry, scope = desk.ports.expiry, desk.scope(store)

        async def moved() -> bool:
            return (await desk.ports.stores.get(store.id, scope=scope)).last_active_at > store.last_active_at

        await expiry.touch(scope=scope, every_seconds=60.0)
        await expiry.touch(scope=stranger.scope(store), every_seconds=0.0)
        assert not await moved()
        await expiry.touch(scope=scope, every_seconds=0.0)
        assert await moved()

    async def test_touch_does_not_bring_back_the_dead(self, desk: Desk) -> None:
        """An expired store is renewed by its owner, not by a search."""
        store = await _store(desk, days=1)
        await _expire(desk)
        await desk.ports.expiry.touch(scope=desk.scope(store), every_seconds=0.0)
        assert (await desk.ports.stores.get(store.id, scope=desk.scope())).expired

    async def test_files_that_are_over_go_with_their_documents(self, desk: Desk) -> None:
        """Others stay; the bytes are dead as those of any deleted file."""
        store = await desk.store()
        over, later, forever = [await _file(desk, seconds) for seconds in (3600, 2 * 86400, None)]
        assert over.expires_at == over.created_at + timedelta(seconds=3600)
        drafts = [DocumentDraft(file_id=file.id) for file in (over, later)]
        await desk.ports.documents.put(drafts, scope=desk.scope(store), store=store)
        await desk.ports.expiry.files(older_than_seconds=0.0, limit=MANY)
        assert await desk.ports.files.get(over.id, scope=desk.scope()) == over
        assert await desk.ports.expiry.files(older_than_seconds=SOON, limit=MANY) >= 1
        with pytest.raises(NotFoundError):
            await desk.ports.files.get(over.id, scope=desk.scope())
        for kept in (later, forever):
            assert await desk.ports.files.get(kept.id, scope=desk.scope()) == kept
        left = await desk.ports.documents.list(scope=desk.scope(store), limit=10)
        assert [document.file_id for document in left] == [later.id]
        assert over.sha256 in await desk.ports.files.dead_blobs(older_than_seconds=-1.0, limit=MANY)


async def _store(desk: Desk, *, days: int) -> Store:
    return await desk.ports.stores.create(
        "s", scope=desk.scope(), space=desk.ports.space, chunking=Chunking(), metadata={}, expires_after_days=days
    )


async def _file(desk: Desk, seconds: int | None) -> File:
    sha256 = (await desk.file()).sha256
    return await desk.ports.files.create(
        "a.txt", scope=desk.scope(), purpose="assistants", size=1, sha256=sha256[::-1], expires_in=seconds
    )


async def _expire(desk: Desk) -> None:
    """What is over in a day and a half ends now."""
    assert await desk.ports.expiry.stores(older_than_seconds=SOON, limit=MANY) >= 1
