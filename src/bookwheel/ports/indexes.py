"""Where vectors, words and bytes are."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from bookwheel.ports.models import Vectors
from bookwheel.types import Candidate, Change, Chunk, Claim, Filter, KeywordEntry, Reach, Scope, Space


class VectorIndex(Protocol):
    """Dense search. Vectors of version n may be written before n is live."""

    async def prepare(self, space: Space) -> None:
        """Make what the space needs. Idempotent."""

    async def upsert(self, space: Space, claims: Sequence[Claim], chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Store one vector for each chunk. The same chunk again replaces it."""

    async def search(
        self,
        space: Space,
        vector: NDArray[np.float32],
        *,
        scope: Scope,
        filter: Filter | None,
        limit: int,
        also: Sequence[int] = (),
    ) -> Sequence[Candidate]:
        """The nearest live chunks inside scope and filter that the caller may read (see Passages), and exact cosines of
        such chunks in `also`; each once, best first, with its document and ordinal."""

    async def orphans(self, space: Space, *, repair: bool) -> Mapping[str, int]:
        """Vectors of documents or versions that the catalog neither serves nor waits for, by kind, and live chunks
        without a vector; with `repair` the first are removed and the second made again."""

    async def tend(self, space: Space, *, idle: bool) -> Sequence[str]:
        """Maintenance by one worker, now and then: build what searches have outgrown; returns what was done, in words.
        `idle` says that nothing is being ingested, so that work may take longer."""

    async def move(self, tenant_id: UUID, *, own_partition: bool) -> None:
        """Give a tenant a part of the index of its own, or put it back among the others, while it is searched and
        written to: each search meanwhile finds each chunk exactly once. It may take long; one that broke off goes on
        when it is called again. Where there are no parts, nothing happens. Raises NotFoundError, and ConflictError
        while another call moves the tenant, or until a move that broke off on another way has been ended."""

    async def ping(self) -> None:
        """Raises IndexUnavailableError when it cannot answer."""


class KeywordIndex(Protocol):
    """BM25 search, derived from the catalog through the outbox. One writer, any number of readers."""

    async def apply(self, changes: Sequence[Change], entries: AsyncIterator[KeywordEntry]) -> None:
        """Apply changes in order and remember the last sequence durably with them. Repeating is harmless. The entries
        are read a few at a time: a document may have more than memory holds."""

    async def position(self) -> int:
        """The last applied sequence, 0 for an empty or unreadable index."""

    async def reset(self, position: int) -> None:
        """Empty the index and set its position: the start of a rebuild."""

    async def size(self) -> int:
        """Chunks in the index, of all tenants."""

    async def search(
        self, text: str, *, scope: Scope, reach: Reach, limit: int, documents: Sequence[UUID] | None = None
    ) -> Sequence[Candidate]:
        """The best chunks by BM25 that the scope's caller may read in its stores (and of these documents, when given),
        best first. Documents' lists are those of their entries, stores' those of the reach; the rule is not known
        here: give the documents that pass it."""

    async def ping(self) -> None:
        """Raises IndexUnavailableError when it cannot answer."""


class Blobs(Protocol):
    """Bytes by their SHA-256."""

    async def put(self, data: AsyncIterator[bytes], *, max_bytes: int) -> tuple[bytes, int]:
        """Store a stream durably; returns (sha256, size). Raises TooLargeError and leaves nothing behind."""

    async def path(self, sha256: bytes) -> str:
        """A local file to read the blob from. Raises NotFoundError."""

    async def delete(self, sha256: bytes, *, older_than_seconds: float = 0.0) -> bool:
        """Remove it unless it was put within the last seconds; False when it stays for that reason. Idempotent."""

    def list(self, *, older_than_seconds: float) -> AsyncIterator[bytes]:
        """Hashes of all blobs that were put longer ago than this, in no promised order."""
        ...

    async def ping(self) -> None:
        """Raises StorageFullError or UnavailableError when a put would fail."""
