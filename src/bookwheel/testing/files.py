"""The contract of ports.Files."""

import os
from collections.abc import Sequence
from functools import partial
from uuid import UUID

import pytest

from bookwheel.errors import NotFoundError
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import MANY, Desk, axis, walked
from bookwheel.types import Document, DocumentDraft, Store


class FilesContract(PortsContract):
    """Subclass it for a backend that fills ports.Files."""

    async def test_file_comes_back_as_it_was_recorded(self, desk: Desk) -> None:
        """A file keeps its name, purpose, size and hash."""
        sha256 = os.urandom(32)
        made = await desk.ports.files.create(
            "Über uns.pdf", scope=desk.scope(), purpose="user_data", size=2**40, sha256=sha256
        )
        assert (made.filename, made.purpose, made.size, made.sha256) == ("Über uns.pdf", "user_data", 2**40, sha256)
        assert await desk.ports.files.get(made.id, scope=desk.scope()) == made

    async def test_another_tenants_file_is_not_there(self, desk: Desk, stranger: Desk) -> None:
        """No verb finds, lists or deletes a file of another tenant."""
        file = await desk.file()
        with pytest.raises(NotFoundError):
            await stranger.ports.files.get(file.id, scope=stranger.scope())
        with pytest.raises(NotFoundError):
            await stranger.ports.files.delete(file.id, scope=stranger.scope())
        assert await stranger.ports.files.list(scope=stranger.scope(), limit=10) == []
        assert await desk.ports.files.get(file.id, scope=desk.scope()) == file

    async def test_list_walks_in_pages(self, desk: Desk) -> None:
        """Pages follow creation, in either order, with no file twice or left out."""
        made = [(await desk.file()).id for _ in range(5)]
        for newest, order in ((False, made), (True, made[::-1])):
            page = partial(desk.ports.files.list, scope=desk.scope(), limit=2, newest=newest)
            assert len(await page(after=None)) == 2
            assert [one.id for one in await walked(page)] == order

    async def test_a_blob_is_dead_when_its_last_file_was_deleted(self, desk: Desk, stranger: Desk) -> None:
        """Not while another file, whoever's, has the same bytes; and not before the time asked for."""
        one = await desk.file()
        other = await stranger.file(sha256=one.sha256)
        await desk.ports.files.delete(one.id, scope=desk.scope())
        assert one.sha256 not in await self._dead(desk)
        await stranger.ports.files.delete(other.id, scope=stranger.scope())
        assert one.sha256 in await self._dead(desk)
        assert one.sha256 not in await self._dead(desk, seconds=3600.0)

    async def test_bytes_that_come_again_are_not_dead(self, desk: Desk) -> None:
        """A new upload of the same bytes keeps the blob; what is forgotten is not named again."""
        one = await desk.file()
        await desk.ports.files.delete(one.id, scope=desk.scope())
        again = await desk.file(sha256=one.sha256)
        assert one.sha256 not in await self._dead(desk)
        await desk.ports.files.delete(again.id, scope=desk.scope())
        await desk.ports.files.forget_blobs([one.sha256])
        assert one.sha256 not in await self._dead(desk)

    async def test_a_file_in_use_can_be_kept(self, desk: Desk) -> None:
        """With `unless_used` it goes only when no document is made of it."""
        store, file = await desk.store(), await desk.file()
        (document,) = await desk.ports.documents.put(
            [DocumentDraft(file_id=file.id)], scope=desk.scope(store), store=store
        )
        assert not await desk.ports.files.delete(file.id, scope=desk.scope(), unless_used=True)
        await desk.ports.documents.delete([document.id], scope=desk.scope(store))
        assert await desk.ports.files.delete(file.id, scope=desk.scope(), unless_used=True)

    async def test_hashes_of_all_files(self, desk: Desk, stranger: Desk) -> None:
        """Whatever tenant has them, each once."""
        one, other = await desk.file(), await stranger.file()
        hashes = [sha256 async for sha256 in desk.ports.files.hashes()]
        assert {one.sha256, other.sha256} <= set(hashes)
        assert len(hashes) == len(set(hashes))
        assert await desk.ports.files.having([one.sha256, b"x" * 32]) == {one.sha256}

    async def _dead(self, desk: Desk, *, seconds: float = -1.0) -> Sequence[bytes]:
        return await desk.ports.files.dead_blobs(older_than_seconds=seconds, limit=MANY)

    async def test_deleted_file_is_gone(self, desk: Desk) -> None:
        """A file is deleted once; after that there is no such file."""
        file = await desk.file()
        await desk.ports.files.delete(file.id, scope=desk.scope())
        with pytest.raises(NotFoundError):
            await desk.ports.files.get(file.id, scope=desk.scope())
        with pytest.raises(NotFoundError):
            await desk.ports.files.delete(file.id, scope=desk.scope())

    async def test_documents_go_with_their_file(self, desk: Desk) -> None:
        """Deleting a file removes the documents made of it from every store, and the next query sees none."""
        file, stores = await desk.file(), [await desk.store(), await desk.store()]
        documents = [await self._document_of(desk, file.id, store) for store in stores]
        chunks = [chunk for document in documents for chunk in await desk.publish(document)]
        assert len(await desk.hydrate(chunks, *stores)) == 2
        await desk.ports.files.delete(file.id, scope=desk.scope())
        assert await desk.search(axis(desk.ports.space, 1), *stores) == []
        assert await desk.hydrate(chunks, *stores) == []
        assert await desk.ports.documents.list(scope=desk.scope(*stores), limit=10) == []

    async def _document_of(self, desk: Desk, file_id: UUID, store: Store) -> Document:
        drafts = [DocumentDraft(file_id=file_id)]
        (document,) = await desk.ports.documents.put(drafts, scope=desk.scope(store), store=store)
        return document
