"""Ingestion, jobs and the outbox in memory: the worker's side."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from bookwheel.backends.memory.database import DocumentRow, Lease, MemoryDatabase
from bookwheel.types import Change, Chunk, Claim, FileStatus, KeywordEntry, Space

QUEUE = "ingest"
SHARD = 0  # there are no partitions here


class MemoryIngestion:
    """Fills ports.Ingestion."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def claim(self, document_ids: Sequence[UUID], *, owner: str, lease_seconds: float) -> Sequence[Claim]:
        """See ports.Ingestion."""
        lease = Lease(owner=owner, expires_at=self.database.clock() + lease_seconds)
        claims = []
        for document_id in dict.fromkeys(document_ids):
            row = self.database.documents.get(document_id)
            if row is None or row.document.status is not FileStatus.IN_PROGRESS:
                continue
            if self._holder(document_id) in (None, owner):
                self.database.leases[document_id] = lease
                claims.append(self._claim(row))
        return claims

    async def renew(self, owners: Sequence[str], *, lease_seconds: float) -> None:
        """See ports.Ingestion."""
        expires_at = self.database.clock() + lease_seconds
        for document_id, lease in self.database.leases.items():
            if lease.owner in owners:
                self.database.leases[document_id] = replace(lease, expires_at=expires_at)

    async def write(self, claims: Sequence[Claim], chunks: Sequence[Chunk]) -> None:
        """See ports.Ingestion."""
        held = {(claim.document_id, claim.version) for claim in claims}
        for chunk in chunks:
            if (chunk.document_id, chunk.version) in held:
                self.database.chunks[chunk.id] = chunk

    async def publish(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        """See ports.Ingestion."""
        published = []
        for claim in claims:
            row = self._wanted(claim)
            if row is None:
                self._discard(claim)
            else:
                self._flip(row)
                row.document = replace(row.document, title=row.document.title or claim.title)
                published.append(claim)
            self.database.leases.pop(claim.document_id, None)
        for store_id in {claim.store_id for claim in published}:
            self.database.touch_store(store_id, version=1)
        return published

    async def fail(self, claim: Claim, *, code: str, message: str) -> None:
        """See ports.Ingestion."""
        row = self._wanted(claim)
        if row is not None:
            row.document = replace(
                row.document,
                status=FileStatus.FAILED,
                error_code=code,
                error_message=message,
                updated_at=self.database.now(),
            )
            self.database.queue.pop(claim.document_id, None)
        self._discard(claim)
        self.database.leases.pop(claim.document_id, None)

    async def release(self, claims: Sequence[Claim]) -> None:
        """See ports.Ingestion."""
        for claim in claims:
            self.database.leases.pop(claim.document_id, None)

    async def unfinished(self, *, older_than_seconds: float, limit: int) -> Sequence[UUID]:
        """See ports.Ingestion."""
        latest = self.database.clock() - older_than_seconds
        waiting = [
            row.document
            for row in self.database.documents.values()
            if row.document.status is FileStatus.IN_PROGRESS
            and row.document.updated_at.timestamp() <= latest
            and self._holder(row.document.id) is None
        ]
        return [document.id for document in sorted(waiting, key=lambda document: document.updated_at)[:limit]]

    async def known_vectors(
        self, space: Space, text_hashes: Sequence[bytes], *, shard: int
    ) -> dict[bytes, NDArray[np.float32]]:
        """See ports.Ingestion."""
        wanted = set(text_hashes) if shard == SHARD else set()
        return {
            row.text_hash: row.vector
            for (space_id, _), row in self.database.vectors.items()
            if space_id == space.id and row.text_hash in wanted
        }

    def _holder(self, document_id: UUID) -> str | None:
        lease = self.database.leases.get(document_id)
        return lease.owner if lease is not None and lease.expires_at > self.database.clock() else None

    def _claim(self, row: DocumentRow) -> Claim:
        document = row.document
        return Claim(
            document_id=document.id,
            tenant_id=document.tenant_id,
            store_id=document.store_id,
            shard=SHARD,
            version=document.version,
            space=self.database.stores[document.store_id].space,
            chunking=document.chunking,
            filename=document.filename,
            title=document.title,
            text=row.text,
            sha256=row.sha256,
        )

    def _wanted(self, claim: Claim) -> DocumentRow | None:
        row = self.database.documents.get(claim.document_id)
        if row is None or (row.document.version, row.document.status) != (claim.version, FileStatus.IN_PROGRESS):
            return None
        return row

    def _flip(self, row: DocumentRow) -> None:
        version = row.document.version
        self.database.remove_chunks(row.document.id, lambda other: other < version)
        live = replace(row.document, live_version=version)
        row.document = replace(
            live,
            status=FileStatus.COMPLETED,
            chunk_count=len(self.database.live_chunks(live)),
            updated_at=self.database.now(),
        )
        self.database.queue.pop(live.id, None)
        self.database.append("publish", row.document)

    def _discard(self, claim: Claim) -> None:
        """Remove what was written for the claim, unless it is live by now."""
        row = self.database.documents.get(claim.document_id)
        live = None if row is None else row.document.live_version
        self.database.remove_chunks(claim.document_id, lambda version: version == claim.version != live)


class MemoryJobs:
    """Fills ports.Jobs. Nobody takes from the queue: tests claim what they like, and finished documents leave it."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def enqueue(self, document_ids: Sequence[UUID]) -> None:
        """See ports.Jobs."""
        for document_id in document_ids:
            row = self.database.documents.get(document_id)
            if row is not None and row.document.status is FileStatus.IN_PROGRESS:
                self.database.queue[document_id] = None

    async def depth(self) -> dict[str, int]:
        """See ports.Jobs."""
        return {QUEUE: len(self.database.queue)}


class MemoryOutbox:
    """Fills ports.Outbox."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def read(self, after: int, *, limit: int) -> Sequence[Change]:
        """See ports.Outbox."""
        return [change for change in self.database.outbox if change.sequence > after][:limit]

    async def entries(self, changes: Sequence[Change]) -> AsyncIterator[KeywordEntry]:
        """See ports.Outbox."""
        wanted = dict.fromkeys(change.document_id for change in changes if change.operation == "publish")
        for document_id in wanted:
            row = self.database.documents.get(document_id)
            if row is not None:
                for entry in self._entries(row):
                    yield entry

    async def last(self) -> int:
        """See ports.Outbox."""
        return self.database.outbox[-1].sequence if self.database.outbox else 0

    async def snapshot(self) -> AsyncIterator[Change]:
        """See ports.Outbox."""
        for row in list(self.database.documents.values()):
            document = row.document
            if document.live_version is not None and document.id in self.database.documents:
                yield Change(
                    sequence=0,
                    operation="publish",
                    tenant_id=document.tenant_id,
                    store_id=document.store_id,
                    document_id=document.id,
                    version=document.live_version,
                )

    async def trim(self, before: int) -> int:
        """See ports.Outbox."""
        kept = [change for change in self.database.outbox[:-1] if change.sequence >= before]
        kept += self.database.outbox[-1:]
        forgotten = len(self.database.outbox) - len(kept)
        self.database.outbox = kept
        return forgotten

    def _entries(self, row: DocumentRow) -> list[KeywordEntry]:
        document = row.document
        return [
            KeywordEntry(
                chunk_id=chunk.id,
                tenant_id=document.tenant_id,
                store_id=document.store_id,
                document_id=document.id,
                version=chunk.version,
                text=chunk.piece.text,
                title=document.title or "",
                language=chunk.piece.language,
            )
            for chunk in self.database.live_chunks(document)
        ]
