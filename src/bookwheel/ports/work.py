"""What workers do: documents from claimed to live, what the indexes follow, and jobs."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from bookwheel.types import Change, Chunk, Claim, Filter, Hit, Job, JobState, KeywordEntry, Reach, Scope, Space


class Ingestion(Protocol):
    """Documents from the worker's side. Every verb is idempotent."""

    async def claim(self, document_ids: Sequence[UUID], *, owner: str, lease_seconds: float) -> Sequence[Claim]:
        """Take those that are unfinished, due, not of a paused store or a suspended tenant, and not held by a live
        owner."""

    async def claim_next(
        self, *, owner: str, lease_seconds: float, limit: int, max_bytes: int, urgent: bool
    ) -> Sequence[Claim]:
        """Take what is due by weighted fair queueing: while several tenants have something waiting, each gets bytes of
        sources in proportion to its weight, and one alone gets everything. Within a tenant single uploads (with
        `urgent` nothing else) go before bulk loads, and what has waited longest first. Never both at once: at most
        `limit` documents whose sources have at most `max_bytes` together, or one larger one."""

    async def renew(self, owners: Sequence[str], *, lease_seconds: float) -> None:
        """Extend every lease of these owners: they are alive."""

    async def write(self, claims: Sequence[Claim], chunks: Sequence[Chunk]) -> None:
        """Store chunks of claimed versions; invisible until published. The same chunk twice is stored once; chunks of
        a version that is not wanted any more are left out."""

    async def publish(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        """In one transaction: flip the live versions, remove older chunks and vectors, raise the stores' versions,
        append to the outbox. A claim's title is kept where the caller gave none. Returns those published; a claim
        overtaken by a newer version or a delete is left out and its chunks are removed."""

    async def fail(self, claim: Claim, *, code: str, message: str) -> None:
        """Mark the version failed; an older live version stays visible."""

    async def release(
        self, claims: Sequence[Claim], *, retry_in: float = 0.0, reason: str | None = None, parked: bool = False
    ) -> None:
        """Give back unfinished what the claims' owners still hold. With a `reason` the attempt counts and the next one
        waits `retry_in` seconds; `parked` keeps the count of deaths for the next claim."""

    async def known_vectors(
        self, space: Space, text_hashes: Sequence[bytes], *, shard: int
    ) -> dict[bytes, NDArray[np.float32]]:
        """The embedding cache: vectors already stored for these texts in this partition."""

    async def orphans(self, *, repair: bool) -> Mapping[str, int]:
        """What is held of documents or versions that the catalog neither serves nor waits for, and live documents
        that lack some of their chunks, counted by kind; with `repair` the first are removed and the second ingested
        again."""


class Passages(Protocol):
    """Chunks from the reader's side: of documents that the scope's lists and bounds let its caller read (rights.py);
    others are not there, also for callers that manage."""

    async def hydrate(self, chunk_ids: Sequence[int], *, scope: Scope, filter: Filter | None) -> Sequence[Hit]:
        """Those chunks that are live, visible to the scope and pass the filter, in no promised order; scores are 0.

        The text and offsets of a chunk that has a section are the section's."""

    async def documents_matching(self, filter: Filter, *, scope: Scope, limit: int) -> Sequence[UUID]:
        """Documents with a live chunk that passes the filter, at most `limit`."""

    async def live_versions(self, document_ids: Sequence[UUID], *, scope: Scope) -> Mapping[UUID, int]:
        """Those of these documents that are live and readable, with the version that queries see."""

    async def unknown_attributes(self, names: Sequence[str], *, scope: Scope) -> Sequence[str]:
        """Those of these attribute names, in order, that no document has which the scope may read; names that only
        former documents have may count as known. Cheap, however many documents there are, where none is hidden from the
        caller."""

    async def reach(self, *, scope: Scope) -> Reach:
        """In which of the scope's stores the caller may read, as their lists are now; its rule is not looked at."""

    async def of_document(self, document_id: UUID, *, scope: Scope) -> Sequence[Hit]:
        """All live chunks of one document in order. Raises NotFoundError."""


class Outbox(Protocol):
    """The ordered list of changes that derived indexes follow."""

    async def read(self, after: int, *, limit: int) -> Sequence[Change]:
        """Committed changes behind this sequence number, in order; never skips one that commits late."""

    def entries(self, changes: Sequence[Change]) -> AsyncIterator[KeywordEntry]:
        """The chunks of published changes, as they are live now."""
        ...

    async def last(self) -> int:
        """The newest sequence number, 0 when empty."""

    async def reached(self, position: int, *, scope: Scope) -> bool:
        """Whether an index at this position holds every change of the scope's stores that is committed by now."""

    def snapshot(self) -> AsyncIterator[Change]:
        """One publish change for every live document: what a rebuild reads."""
        ...

    async def trim(self, before: int) -> int:
        """Forget changes below this number, never the newest; returns how many."""

    async def restart(self) -> None:
        """Leave a gap that no derived index can cross, so that each rebuilds itself from the catalog."""

    async def live_chunks(self) -> int:
        """Chunks of all live documents: what an index that has caught up holds."""


class Jobs(Protocol):
    """Durable work, one job for each document version that is not finished. The catalog is the truth: what a queue
    loses costs time, not data. Jobs of documents that a scope may not know of are not there for it."""

    async def wake(self) -> bool:
        """See that a worker looks at what waits; forget what dead workers left in the queue, and their leases of
        what is finished. Returns whether anything waits."""

    async def depth(self) -> Mapping[str, int]:
        """Jobs of all tenants by state, without the ended ones."""

    async def list(
        self, *, scope: Scope, state: JobState | None = None, limit: int, after: UUID | None = None
    ) -> Sequence[Job]:
        """A page of the jobs in scope's stores (all stores of the tenant when it names none), longest unchanged
        first."""

    async def retry(self, document_ids: Sequence[UUID], *, scope: Scope) -> int:
        """Do dead, cancelled and waiting-to-retry jobs now, before others; returns how many."""

    async def cancel(self, document_ids: Sequence[UUID], *, scope: Scope) -> int:
        """End unfinished jobs; what was live stays live. Returns how many."""

    async def drop(self, document_ids: Sequence[UUID], *, scope: Scope) -> int:
        """Forget dead and cancelled jobs: the document goes back to what is live of it, or away. Returns how many."""
