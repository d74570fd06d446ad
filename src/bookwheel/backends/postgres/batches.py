"""File batches in PostgreSQL."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from bookwheel.backends.postgres.access_sql import Where, store_visible, visible
from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.backends.postgres.document_puts import call_for, put_documents
from bookwheel.backends.postgres.document_rows import SELECT, document_of
from bookwheel.backends.postgres.jobs import cancel_documents
from bookwheel.backends.postgres.stores import page
from bookwheel.errors import NotFoundError
from bookwheel.types import Document, DocumentDraft, FileBatch, FileStatus, Scope, Store

INSERT = "INSERT INTO file_batches (id, tenant_id, store_id) VALUES (%s, %s, %s)"
LINK = """
INSERT INTO file_batch_documents (batch_id, document_id, version)
SELECT %s, u.id, u.version FROM unnest(%s::uuid[], %s::integer[]) AS u (id, version)
"""

# As an array: a join could be planned as a walk through all that waits.
MEMBERS = "d.id = ANY(ARRAY(SELECT document_id FROM file_batch_documents WHERE batch_id = %s))"

BATCH = """
SELECT b.id, b.tenant_id, b.store_id, b.created_at, b.cancelled_at IS NOT NULL
FROM file_batches b JOIN stores s ON s.id = b.store_id WHERE b.id = %s AND s.id = ANY(%s) AND {visible}
"""
COUNTS = f"SELECT d.status, count(*) FROM documents d WHERE {MEMBERS} AND {{visible}} GROUP BY d.status"

# Only what is still at the version that the batch put: a newer one is somebody else's work.
OWN_WORK = """
SELECT d.id FROM file_batch_documents l JOIN documents d ON d.id = l.document_id AND d.version = l.version
WHERE l.batch_id = %s
"""


class PostgresBatches:
    """Fills ports.Batches."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def create(self, drafts: Sequence[DocumentDraft], *, scope: Scope, store: Store) -> FileBatch:
        """See ports.Batches."""
        batch_id = uuid4()

        async def work(connection: Connection) -> FileBatch:
            placed = await put_documents(connection, drafts, scope=scope, store=store, urgent=False)
            versions = {document.id: document.version for document in placed}  # the last one of a document put twice
            await connection.execute(INSERT.encode(), (batch_id, scope.tenant_id, store.id))
            await connection.execute(LINK.encode(), (batch_id, list(versions), list(versions.values())))
            made = await _batch(connection, batch_id, scope=replace(scope, store_ids=(store.id,)))
            await call_for(connection, placed, urgent=False)
            return made

        return await self.database.transact(work)

    async def get(self, batch_id: UUID, *, scope: Scope) -> FileBatch:
        """See ports.Batches."""
        async with self.database.connection() as connection:
            return await _batch(connection, batch_id, scope=scope)

    async def documents(
        self,
        batch_id: UUID,
        *,
        scope: Scope,
        limit: int,
        after: UUID | None = None,
        newest: bool = True,
        status: FileStatus | None = None,
    ) -> list[Document]:
        """See ports.Batches."""
        await self.get(batch_id, scope=scope)
        wanted = Where(MEMBERS, [batch_id]) & visible(scope)
        if status is not None:  # not the condition of an index: the ids are given
            wanted &= Where("d.status || '' = %s", [status.value])
        query, parameters = page(
            SELECT, wanted.sql, wanted.values, alias="d", table="documents", after=after, newest=newest
        )
        return [document_of(row) for row in await self.database.fetch(query, [*parameters, limit])]

    async def cancel(self, batch_id: UUID, *, scope: Scope) -> FileBatch:
        """See ports.Batches."""

        async def work(connection: Connection) -> FileBatch:
            await _batch(connection, batch_id, scope=scope)
            unfinished = [row[0] for row in await rows(connection, OWN_WORK, (batch_id,))]
            if await cancel_documents(connection, unfinished, scope=scope):
                await connection.execute("UPDATE file_batches SET cancelled_at = now() WHERE id = %s", (batch_id,))
            return await _batch(connection, batch_id, scope=scope)

        return await self.database.transact(work)


async def _batch(connection: Connection, batch_id: UUID, *, scope: Scope) -> FileBatch:
    there, shown = store_visible(scope), visible(scope)
    inside = [batch_id, list(scope.store_ids), *there.values]
    found: list[tuple[Any, ...]] = await rows(connection, BATCH.format(visible=there.sql), inside)
    if not found:
        raise NotFoundError(f"No file batch with id vsfb_{batch_id.hex} in this store.")
    counted = await rows(connection, COUNTS.format(visible=shown.sql), [batch_id, *shown.values])
    counts = {FileStatus(status): count for status, count in counted}
    _, tenant_id, store_id, created_at, cancelled = found[0]
    return FileBatch(
        id=batch_id, tenant_id=tenant_id, store_id=store_id, created_at=created_at, cancelled=cancelled, counts=counts
    )
