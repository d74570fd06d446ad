"""File batches in memory."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid4

from bookwheel.backends.memory.catalog import MemoryDocuments
from bookwheel.backends.memory.database import BatchRow, MemoryDatabase, page
from bookwheel.backends.memory.ingestion import MemoryJobs
from bookwheel.errors import NotFoundError
from bookwheel.rights import store_is_there
from bookwheel.types import Document, DocumentDraft, FileBatch, FileStatus, Scope, Store


class MemoryBatches:
    """Fills ports.Batches."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def create(self, drafts: Sequence[DocumentDraft], *, scope: Scope, store: Store) -> FileBatch:
        """See ports.Batches."""
        placed = await MemoryDocuments(self.database).put(drafts, scope=scope, store=store, bulk=True)
        batch = FileBatch(
            id=uuid4(),
            tenant_id=scope.tenant_id,
            store_id=store.id,
            created_at=self.database.now(),
            cancelled=False,
            counts={},
        )
        versions = {document.id: document.version for document in placed}
        self.database.batches[batch.id] = BatchRow(batch=batch, versions=versions)
        return self._counted(self.database.batches[batch.id], scope)

    async def get(self, batch_id: UUID, *, scope: Scope) -> FileBatch:
        """See ports.Batches."""
        return self._counted(self._one(batch_id, scope), scope)

    async def documents(
        self,
        batch_id: UUID,
        *,
        scope: Scope,
        limit: int,
        after: UUID | None = None,
        newest: bool = True,
        status: FileStatus | None = None,
    ) -> Sequence[Document]:
        """See ports.Batches."""
        members = self._members(self._one(batch_id, scope), scope)
        return page(
            {row.document.id: row.document for row in self.database.documents.values()},
            lambda document: document in members and status in (None, document.status),
            limit=limit,
            after=after,
            newest=newest,
        )

    async def cancel(self, batch_id: UUID, *, scope: Scope) -> FileBatch:
        """See ports.Batches."""
        row = self._one(batch_id, scope)
        own = [document.id for document in self._members(row, scope) if document.version == row.versions[document.id]]
        if await MemoryJobs(self.database).cancel(own, scope=scope):
            self.database.batches[batch_id] = replace(row, batch=replace(row.batch, cancelled=True))
        return await self.get(batch_id, scope=scope)

    def _one(self, batch_id: UUID, scope: Scope) -> BatchRow:
        row = self.database.batches.get(batch_id)
        known = row is not None and store_is_there(self.database.stores[row.batch.store_id], scope)
        if row is None or not known or row.batch.store_id not in scope.store_ids:
            raise NotFoundError(f"No file batch with id vsfb_{batch_id.hex} in this store.")
        return row

    def _members(self, row: BatchRow, scope: Scope) -> list[Document]:
        inside = replace(scope, store_ids=(row.batch.store_id,))
        rows = [self.database.visible_one(document_id, inside) for document_id in row.versions]
        return [row.document for row in rows if row is not None]

    def _counted(self, row: BatchRow, scope: Scope) -> FileBatch:
        members = self._members(row, scope)
        return replace(row.batch, counts=dict(Counter(document.status for document in members)))
