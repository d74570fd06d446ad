"""The contract of ports.Batches."""

from functools import partial

import pytest

from bookwheel.errors import NotFoundError
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import Desk, walked
from bookwheel.types import Document, DocumentDraft, FileBatch, FileStatus, Store


class BatchesContract(PortsContract):
    """Subclass it for a backend that fills ports.Batches."""

    async def test_batch_comes_back_with_its_counts(self, desk: Desk) -> None:
        """Its documents are counted as their states change."""
        store = await desk.store()
        batch = await _batch(desk, store, "a", "b", "c")
        assert (batch.tenant_id, batch.store_id, batch.cancelled) == (desk.tenant, store.id, False)
        assert _counts(batch) == {FileStatus.IN_PROGRESS: 3}
        assert await _again(desk, store, batch) == batch
        first, second, _ = await _documents(desk, store, batch)
        await desk.publish(first)
        await desk.ports.ingestion.fail(await desk.claim(second), code="broken_file", message="It is broken.")
        counts = {FileStatus.COMPLETED: 1, FileStatus.FAILED: 1, FileStatus.IN_PROGRESS: 1}
        assert _counts(await _again(desk, store, batch)) == counts

    async def test_single_uploads_go_before_a_batch(self, desk: Desk) -> None:
        """A batch is bulk work, even one of a single file."""
        store = await desk.store()
        (bulk,) = await _documents(desk, store, await _batch(desk, store, "a"))
        single = await desk.put(store, "one")
        urgent = [claim.document_id for claim in await desk.next(urgent=True)]  # other tests' may be among them
        assert (single.id in urgent, bulk.id in urgent) == (True, False)

    async def test_one_unknown_file_stores_nothing(self, desk: Desk, stranger: Desk) -> None:
        """A batch is put whole or not at all; another tenant's file is unknown."""
        store = await desk.store()
        own, foreign = await desk.file(), await stranger.file()
        drafts = [DocumentDraft(file_id=own.id), DocumentDraft(file_id=foreign.id)]
        with pytest.raises(NotFoundError):
            await desk.ports.batches.create(drafts, scope=desk.scope(store), store=store)
        assert await desk.ports.documents.list(scope=desk.scope(store), limit=10) == []

    async def test_batches_are_seen_from_their_own_store_only(self, desk: Desk, stranger: Desk) -> None:
        """No verb finds a batch of another store, or of another tenant."""
        store, other = await desk.store(), await desk.store()
        batch = await _batch(desk, store, "a")
        for scope in (desk.scope(other), stranger.scope(store)):
            with pytest.raises(NotFoundError):
                await desk.ports.batches.get(batch.id, scope=scope)
            with pytest.raises(NotFoundError):
                await desk.ports.batches.cancel(batch.id, scope=scope)
            with pytest.raises(NotFoundError):
                await desk.ports.batches.documents(batch.id, scope=scope, limit=10)
        assert await _again(desk, store, batch) == batch

    async def test_documents_walk_in_pages(self, desk: Desk) -> None:
        """Pages follow creation, in either order, with the batch's documents only, and by status."""
        store = await desk.store()
        await desk.put(store, "not of the batch")
        batch = await _batch(desk, store, *"abcde")
        made = [document.id for document in await _documents(desk, store, batch)]
        assert len(made) == 5
        page = partial(desk.ports.batches.documents, batch.id, scope=desk.scope(store), limit=2)
        assert [one.id for one in await walked(page)] == made[::-1]
        await desk.publish((await _documents(desk, store, batch))[1])
        completed = await page(status=FileStatus.COMPLETED)
        assert [one.id for one in completed] == [made[1]]

    async def test_cancel_ends_what_is_unfinished(self, desk: Desk) -> None:
        """What is completed stays; nothing else of the batch is left to do, and other work goes on."""
        store = await desk.store()
        other = await desk.put(store, "not of the batch")
        batch = await _batch(desk, store, "a", "b")
        first, second = await _documents(desk, store, batch)
        await desk.publish(first)
        cancelled = await desk.ports.batches.cancel(batch.id, scope=desk.scope(store))
        assert cancelled.cancelled
        assert _counts(cancelled) == {FileStatus.COMPLETED: 1, FileStatus.CANCELLED: 1}
        assert await desk.claims(second) == []
        assert len(await desk.claims(other)) == 1
        assert await _again(desk, store, batch) == cancelled

    async def test_cancel_of_a_finished_batch_changes_nothing(self, desk: Desk) -> None:
        """There is nothing to end."""
        store = await desk.store()
        batch = await _batch(desk, store, "a")
        (only,) = await _documents(desk, store, batch)
        await desk.publish(only)
        assert not (await desk.ports.batches.cancel(batch.id, scope=desk.scope(store))).cancelled

    async def test_a_document_put_again_stays_and_is_not_cancelled(self, desk: Desk) -> None:
        """The batch counts it, but its newer version is somebody else's work."""
        store = await desk.store()
        batch = await _batch(desk, store, "a")
        newer = await desk.file()
        drafts = [DocumentDraft(file_id=newer.id, external_id="a")]
        (again,) = await desk.ports.documents.put(drafts, scope=desk.scope(store), store=store)
        cancelled = await desk.ports.batches.cancel(batch.id, scope=desk.scope(store))
        assert (cancelled.cancelled, _counts(cancelled)) == (False, {FileStatus.IN_PROGRESS: 1})
        assert [document.id for document in await _documents(desk, store, batch)] == [again.id]

    async def test_two_batches_may_hold_one_document(self, desk: Desk) -> None:
        """Each counts it."""
        store, file = await desk.store(), await desk.file()
        drafts = [DocumentDraft(file_id=file.id)]
        batches = [await desk.ports.batches.create(drafts, scope=desk.scope(store), store=store) for _ in range(2)]
        for batch in batches:
            assert _counts(await _again(desk, store, batch)) == {FileStatus.IN_PROGRESS: 1}

    async def test_one_file_twice_is_one_document(self, desk: Desk) -> None:
        """The last mention decides."""
        store, file = await desk.store(), await desk.file()
        drafts = [DocumentDraft(file_id=file.id, attributes={"n": number}) for number in range(2)]
        batch = await desk.ports.batches.create(drafts, scope=desk.scope(store), store=store)
        assert [one.attributes for one in await _documents(desk, store, batch)] == [{"n": 1}]

    async def test_removed_documents_and_stores_leave(self, desk: Desk) -> None:
        """A document that is taken out is not counted any more; a batch goes with its store."""
        store = await desk.store()
        batch = await _batch(desk, store, "a", "b")
        first, _ = await _documents(desk, store, batch)
        await desk.ports.documents.delete([first.id], scope=desk.scope(store))
        assert _counts(await _again(desk, store, batch)) == {FileStatus.IN_PROGRESS: 1}
        await desk.ports.stores.delete(store.id, scope=desk.scope())
        with pytest.raises(NotFoundError):
            await _again(desk, store, batch)


async def _batch(desk: Desk, store: Store, *names: str) -> FileBatch:
    """A batch of new files under these ids."""
    drafts = [DocumentDraft(file_id=(await desk.file()).id, external_id=name) for name in names]
    return await desk.ports.batches.create(drafts, scope=desk.scope(store), store=store)


async def _again(desk: Desk, store: Store, batch: FileBatch) -> FileBatch:
    return await desk.ports.batches.get(batch.id, scope=desk.scope(store))


async def _documents(desk: Desk, store: Store, batch: FileBatch) -> list[Document]:
    """The oldest first."""
    return list(await desk.ports.batches.documents(batch.id, scope=desk.scope(store), limit=100, newest=False))


def _counts(batch: FileBatch) -> dict[FileStatus, int]:
    return {status: count for status, count in batch.counts.items() if count}
