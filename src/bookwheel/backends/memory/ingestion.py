"""Ingestion, jobs and the outbox in memory: the worker's side."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from operator import ne
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from bookwheel.backends.memory.database import DocumentRow, Lease, MemoryDatabase
from bookwheel.turns import Offer, Queue, Turn, costs, next_turn, share_out
from bookwheel.types import Change, Chunk, Claim, FileStatus, Job, JobState, KeywordEntry, Scope, Space

SHARD = 0  # there are no partitions here


class MemoryIngestion:
    """Fills ports.Ingestion."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def claim(self, document_ids: Sequence[UUID], *, owner: str, lease_seconds: float) -> Sequence[Claim]:
        """See ports.Ingestion."""
        rows = [self.database.documents.get(document_id) for document_id in dict.fromkeys(document_ids)]
        free = [row for row in rows if row is not None and self._is_free(row, owner)]
        return [self._lease(row, owner, lease_seconds) for row in free]

    async def claim_next(
        self, *, owner: str, lease_seconds: float, limit: int, max_bytes: int, urgent: bool
    ) -> Sequence[Claim]:
        """See ports.Ingestion."""
        free = [row for row in self.database.documents.values() if self._is_free(row, owner)]
        turn = next_turn(self._queues(free), clock=self.database.turn_clock, limit=limit, urgent=urgent)
        if turn is None:
            return []
        taken = share_out(turn, _offers(turn, free), limit=limit, max_bytes=max_bytes)
        for tenant_id, cost in costs(turn, taken).items():
            begins = max(self.database.turns.get(tenant_id, 0.0), turn.clock)
            self.database.turns[tenant_id] = begins + cost
        self.database.turn_clock = max(self.database.turn_clock, turn.clock)
        return [self._lease(self.database.documents[one.document_id], owner, lease_seconds) for one in taken]

    async def renew(self, owners: Sequence[str], *, lease_seconds: float) -> None:
        """See ports.Ingestion."""
        expires_at = self.database.clock() + lease_seconds
        for document_id, lease in self.database.leases.items():
            if lease.owner in owners:
                self.database.leases[document_id] = replace(lease, expires_at=expires_at)

    async def write(self, claims: Sequence[Claim], chunks: Sequence[Chunk]) -> None:
        """See ports.Ingestion."""
        held = {(claim.document_id, claim.version) for claim in claims if self._wanted(claim) is not None}
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
                row.attempts, row.retry_at, row.trouble = 0, None, None
                self.database.tell_webhooks_of(row.document, "vector_store.file.completed")
                published.append(claim)
            self._unlease(claim)
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
            self.database.tell_webhooks_of(row.document, "vector_store.file.failed")
        self._discard(claim)
        self._unlease(claim)

    async def release(
        self, claims: Sequence[Claim], *, retry_in: float = 0.0, reason: str | None = None, parked: bool = False
    ) -> None:
        """See ports.Ingestion."""
        for claim in claims:
            row, lease = self._wanted(claim), self.database.leases.get(claim.document_id)
            if row is not None and reason is not None:
                row.attempts, row.trouble, row.retry_at = row.attempts + 1, reason, self.database.clock() + retry_in
                row.document = replace(row.document, updated_at=self.database.now())
            if parked and lease is not None and lease.owner == claim.owner:
                self.database.leases[claim.document_id] = replace(lease, parked=True, expires_at=0.0)
            elif not parked:
                self._unlease(claim)

    async def orphans(self, *, repair: bool) -> dict[str, int]:
        """See ports.Ingestion: the tables of this backend change together, so only chunks can be missing."""
        orphans = [chunk.id for chunk in self.database.chunks.values() if not self._has_reason(chunk)]
        incomplete = [row for row in self.database.documents.values() if self._is_incomplete(row)]
        if repair:
            for chunk_id in orphans:
                del self.database.chunks[chunk_id]
            for row in incomplete:
                document = row.document
                row.document = replace(document, status=FileStatus.IN_PROGRESS, version=document.version + 1)
        return {"chunks": len(orphans), "incomplete_documents": len(incomplete)}

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

    def _queues(self, free: Sequence[DocumentRow]) -> list[Queue]:
        kinds: dict[UUID, set[bool]] = {}
        for row in free:
            kinds.setdefault(row.document.tenant_id, set()).add(row.urgent)
        return [
            Queue(
                tenant_id=tenant_id,
                weight=tenant.weight if (tenant := self.database.tenants.get(tenant_id)) else 1.0,
                ends=self.database.turns.get(tenant_id, 0.0),
                urgent=True in of_kind,
                bulk=False in of_kind,
            )
            for tenant_id, of_kind in kinds.items()
        ]

    def _is_suspended(self, tenant_id: UUID) -> bool:
        tenant = self.database.tenants.get(tenant_id)
        return tenant is not None and tenant.suspended

    def _is_free(self, row: DocumentRow, owner: str) -> bool:
        now, lease = self.database.clock(), self.database.leases.get(row.document.id)
        if row.document.status is not FileStatus.IN_PROGRESS or self.database.stores[row.document.store_id].paused:
            return False
        if self._is_suspended(row.document.tenant_id) or (row.retry_at is not None and row.retry_at > now):
            return False
        return lease is None or lease.expires_at <= now or lease.owner == owner

    def _lease(self, row: DocumentRow, owner: str, seconds: float) -> Claim:
        old = self.database.leases.get(row.document.id)
        died = old is not None and not old.parked and old.owner != owner
        deaths = (old.deaths if old is not None else 0) + died
        expires_at = self.database.clock() + seconds
        self.database.leases[row.document.id] = Lease(owner=owner, expires_at=expires_at, deaths=deaths)
        return replace(self._claim(row), owner=owner, attempts=row.attempts, deaths=deaths)

    def _unlease(self, claim: Claim) -> None:
        lease = self.database.leases.get(claim.document_id)
        if lease is not None and lease.owner == claim.owner:
            del self.database.leases[claim.document_id]

    def _has_reason(self, chunk: Chunk) -> bool:
        row = self.database.documents.get(chunk.document_id)
        if row is None:
            return False
        wanted = row.document.version if row.document.status is FileStatus.IN_PROGRESS else None
        return chunk.version in (row.document.live_version, wanted)

    def _is_incomplete(self, row: DocumentRow) -> bool:
        live = self.database.live_chunks(row.document)
        return row.document.status is FileStatus.COMPLETED and row.document.chunk_count != len(live)

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
            given=row.given,
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
        self.database.append("publish", row.document)

    def _discard(self, claim: Claim) -> None:
        """Remove what was written for the claim, unless it is live by now."""
        row = self.database.documents.get(claim.document_id)
        live = None if row is None else row.document.live_version
        self.database.remove_chunks(claim.document_id, lambda version: version == claim.version != live)


def _offers(turn: Turn, free: Sequence[DocumentRow]) -> list[Offer]:
    """The next documents of each of the turn's tenants, as many as it is to offer."""
    ready = sorted((row for row in free if row.urgent is turn.urgent), key=_ready_at)
    offers: list[Offer] = []
    for queue, offered in zip(turn.queues, turn.slices, strict=True):
        mine = [row.document for row in ready if row.document.tenant_id == queue.tenant_id][:offered]
        offers += [Offer(document_id=one.id, tenant_id=one.tenant_id, size=one.size) for one in mine]
    return offers


def _ready_at(row: DocumentRow) -> tuple[float, UUID]:
    since = row.document.updated_at.timestamp() if row.retry_at is None else row.retry_at
    return since, row.document.id


class MemoryJobs:
    """Fills ports.Jobs. There are no workers to wake: tests claim what they like."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def wake(self) -> bool:
        """See ports.Jobs."""
        now, leases = self.database.clock(), self.database.leases
        for document_id in [one for one, lease in leases.items() if lease.expires_at < now]:
            row = self.database.documents.get(document_id)
            if row is None or row.document.status is not FileStatus.IN_PROGRESS:
                del leases[document_id]
        return (await self.depth())[JobState.WAITING] > 0

    async def depth(self) -> dict[str, int]:
        """See ports.Jobs."""
        counts = {state.value: 0 for state in (JobState.WAITING, JobState.RUNNING, JobState.RETRYING, JobState.PAUSED)}
        for row in self.database.documents.values():
            if row.document.status is FileStatus.IN_PROGRESS:
                counts[self._state(row)] += 1
        return counts

    async def list(
        self, *, scope: Scope, state: JobState | None = None, limit: int, after: UUID | None = None
    ) -> Sequence[Job]:
        """See ports.Jobs."""
        jobs = [self._job(row) for row in self._mine(scope) if row.document.status is not FileStatus.COMPLETED]
        jobs = sorted((job for job in jobs if state in (None, job.state)), key=_place)
        start = self.database.documents.get(after) if after else None
        return [job for job in jobs if start is None or _place(job) > _place(self._job(start))][:limit]

    async def retry(self, document_ids: Sequence[UUID], *, scope: Scope) -> int:
        """See ports.Jobs."""
        states = (JobState.FAILED, JobState.CANCELLED, JobState.RETRYING)
        again = self._those(document_ids, scope, states)
        for row in again:
            row.urgent, row.attempts, row.retry_at, row.trouble = True, 0, None, None
            self._change(row, FileStatus.IN_PROGRESS)
            self.database.leases.pop(row.document.id, None)
        return len(again)

    async def cancel(self, document_ids: Sequence[UUID], *, scope: Scope) -> int:
        """See ports.Jobs."""
        states = (JobState.WAITING, JobState.RUNNING, JobState.RETRYING, JobState.PAUSED)
        ended = self._those(document_ids, scope, states)
        for row in ended:
            message = "Cancelled before it was finished. Retry the job, or put the document again."
            self._change(row, FileStatus.CANCELLED, code="cancelled", message=message)
            self.database.remove_chunks(row.document.id, partial(ne, row.document.live_version))
        return len(ended)

    async def drop(self, document_ids: Sequence[UUID], *, scope: Scope) -> int:
        """See ports.Jobs."""
        dropped = self._those(document_ids, scope, (JobState.FAILED, JobState.CANCELLED))
        for row in dropped:
            if row.document.live_version is not None:
                row.digest = b""
                self._change(row, FileStatus.COMPLETED)
        self.database.remove_documents([row.document for row in dropped if row.document.live_version is None])
        return len(dropped)

    def _mine(self, scope: Scope) -> Sequence[DocumentRow]:
        rows = self.database.visible_anywhere(scope)
        return [row for row in rows if not scope.store_ids or row.document.store_id in scope.store_ids]

    def _those(self, document_ids: Sequence[UUID], scope: Scope, states: Sequence[JobState]) -> Sequence[DocumentRow]:
        wanted = set(document_ids)
        rows = [row for row in self._mine(scope) if row.document.status is not FileStatus.COMPLETED]
        return [row for row in rows if row.document.id in wanted and self._state(row) in states]

    def _change(
        self, row: DocumentRow, status: FileStatus, *, code: str | None = None, message: str | None = None
    ) -> None:
        now = self.database.now()
        row.document = replace(row.document, status=status, error_code=code, error_message=message, updated_at=now)

    def _state(self, row: DocumentRow) -> JobState:
        now, lease = self.database.clock(), self.database.leases.get(row.document.id)
        if row.document.status is not FileStatus.IN_PROGRESS:
            return JobState(row.document.status.value)
        if lease is not None and lease.expires_at > now:
            return JobState.RUNNING
        tenant = self.database.tenants.get(row.document.tenant_id)
        if self.database.stores[row.document.store_id].paused or (tenant is not None and tenant.suspended):
            return JobState.PAUSED
        return JobState.RETRYING if row.retry_at is not None and row.retry_at > now else JobState.WAITING

    def _job(self, row: DocumentRow) -> Job:
        document, state = row.document, self._state(row)
        written = [chunk for chunk in self.database.chunks.values() if chunk.document_id == document.id]
        return Job(
            document_id=document.id,
            store_id=document.store_id,
            file_id=document.file_id,
            external_id=document.external_id,
            filename=document.filename,
            version=document.version,
            live_version=document.live_version,
            state=state,
            urgent=row.urgent,
            attempts=row.attempts,
            retry_at=None if row.retry_at is None else datetime.fromtimestamp(row.retry_at, UTC),
            worker=self.database.leases[document.id].owner if state is JobState.RUNNING else None,
            chunks_written=sum(chunk.version == document.version for chunk in written),
            error_code=document.error_code,
            error_message=document.error_message or row.trouble,
            updated_at=document.updated_at,
        )


def _place(job: Job) -> tuple[datetime, UUID]:
    return job.updated_at, job.document_id


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

    async def reached(self, position: int, *, scope: Scope) -> bool:
        """See ports.Outbox."""
        lines = self.database.outbox
        waits = any(line.store_id in scope.store_ids and line.sequence > position for line in lines)
        return not waits and (not lines or any(line.sequence == position for line in lines))

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

    async def restart(self) -> None:
        """See ports.Outbox."""
        last = self.database.outbox[-1].sequence if self.database.outbox else 0
        nothing = UUID(int=0)
        gap = Change(
            sequence=last + 2, operation="remove", tenant_id=nothing, store_id=nothing, document_id=nothing, version=0
        )
        self.database.outbox = [gap]

    async def live_chunks(self) -> int:
        """See ports.Outbox."""
        return sum(row.document.chunk_count for row in self.database.documents.values())

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
                access=document.access,
                denied=document.denied,
            )
            for chunk in self.database.live_chunks(document)
        ]
