"""The ports: what can be swapped, each a page of verbs with its contract in words.

Every read takes a `Scope` by keyword and must not see past it. Every verb raises only `BookwheelError`s. A backend
passes the contract test of each port it fills (`bookwheel.testing`).
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bookwheel.types import (
    Candidate,
    Change,
    Chunk,
    Chunking,
    Claim,
    Document,
    DocumentDraft,
    File,
    FileStatus,
    Filter,
    Hit,
    KeywordEntry,
    Metadata,
    Scope,
    Space,
    Store,
)

Vectors = NDArray[np.float32]  # (count, dimensions), rows of length 1


class Stores(Protocol):
    """Vector stores of a tenant."""

    async def create(self, name: str, *, scope: Scope, space: Space, chunking: Chunking, metadata: Metadata) -> Store:
        """Make a store. Names need not be unique."""

    async def get(self, store_id: UUID, *, scope: Scope) -> Store:
        """One store with its document counts. Raises NotFoundError, also for another tenant's store."""

    async def list(
        self, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True
    ) -> Sequence[Store]:
        """A page of the tenant's stores by creation time, beginning behind the store `after`."""

    async def update(self, store_id: UUID, *, scope: Scope, name: str | None, metadata: Metadata | None) -> Store:
        """Change what is not None. Raises NotFoundError."""

    async def delete(self, store_id: UUID, *, scope: Scope) -> None:
        """Remove the store and its documents; queries stop seeing them at once. Raises NotFoundError."""


class Files(Protocol):
    """Uploaded files of a tenant; the bytes are in Blobs."""

    async def create(self, filename: str, *, scope: Scope, purpose: str, size: int, sha256: bytes) -> File:
        """Record an upload whose blob is already durable."""

    async def get(self, file_id: UUID, *, scope: Scope) -> File:
        """Raises NotFoundError, also for another tenant's file."""

    async def list(self, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True) -> Sequence[File]:
        """A page of the tenant's files by creation time."""

    async def delete(self, file_id: UUID, *, scope: Scope) -> bool:
        """Remove the file and the documents made of it; True when no other file shares the blob.

        Raises NotFoundError."""


class Documents(Protocol):
    """Documents of a store, from the caller's side."""

    async def put(self, drafts: Sequence[DocumentDraft], *, scope: Scope, store: Store) -> Sequence[Document]:
        """Upsert by external id or file, in order. Catalog rows and jobs commit together; unchanged content with
        unchanged chunking makes no new version. Raises NotFoundError for an unknown file or a store that is gone."""

    async def get(self, document_id: UUID, *, scope: Scope) -> Document:
        """Raises NotFoundError."""

    async def find(self, *, scope: Scope, external_id: str | None = None, file_id: UUID | None = None) -> Document:
        """The one document of scope's one store with this external id, or made of this file. Raises NotFoundError."""

    async def list(
        self,
        *,
        scope: Scope,
        limit: int,
        after: UUID | None = None,
        newest: bool = True,
        status: FileStatus | None = None,
    ) -> Sequence[Document]:
        """A page of the documents of scope's stores by creation time."""

    async def delete(self, document_ids: Sequence[UUID], *, scope: Scope) -> int:
        """Remove documents that exist and are visible; returns how many. The next query does not see them."""


class Ingestion(Protocol):
    """Documents from the worker's side. Every verb is idempotent."""

    async def claim(self, document_ids: Sequence[UUID], *, owner: str, lease_seconds: float) -> Sequence[Claim]:
        """Take those that are unfinished and not held by a live owner. Another call may take the rest later."""

    async def renew(self, owners: Sequence[str], *, lease_seconds: float) -> None:
        """Extend every lease of these owners: they are alive."""

    async def write(self, claims: Sequence[Claim], chunks: Sequence[Chunk]) -> None:
        """Store chunks of claimed versions; invisible until published. The same chunk twice is stored once."""

    async def publish(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        """In one transaction: flip the live versions, remove older chunks and vectors, raise the stores' versions,
        append to the outbox. A claim's title is kept where the caller gave none. Returns those published; a claim
        overtaken by a newer version or a delete is left out and its chunks are removed."""

    async def fail(self, claim: Claim, *, code: str, message: str) -> None:
        """Mark the version failed; an older live version stays visible."""

    async def release(self, claims: Sequence[Claim]) -> None:
        """Give claims back unfinished, so that another worker may take them at once."""

    async def unfinished(self, *, older_than_seconds: float, limit: int) -> Sequence[UUID]:
        """Documents that should be worked on but have no live owner: what the sweep re-queues."""

    async def known_vectors(
        self, space: Space, text_hashes: Sequence[bytes], *, shard: int
    ) -> dict[bytes, NDArray[np.float32]]:
        """The embedding cache: vectors already stored for these texts in this partition."""


class Passages(Protocol):
    """Chunks from the reader's side."""

    async def hydrate(self, chunk_ids: Sequence[int], *, scope: Scope, filter: Filter | None) -> Sequence[Hit]:
        """Those chunks that are live, visible to the scope and pass the filter, in no promised order; scores are 0."""

    async def documents_matching(self, filter: Filter, *, scope: Scope, limit: int) -> Sequence[UUID]:
        """Live documents that pass the filter, at most `limit`."""

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

    def snapshot(self) -> AsyncIterator[Change]:
        """One publish change for every live document: what a rebuild reads."""
        ...

    async def trim(self, before: int) -> int:
        """Forget changes below this number, never the newest; returns how many."""


class Jobs(Protocol):
    """Durable work. The catalog is the truth; a lost job is found again by the sweep."""

    async def enqueue(self, document_ids: Sequence[UUID]) -> None:
        """Queue unfinished documents again."""

    async def depth(self) -> dict[str, int]:
        """Waiting and running jobs by queue."""


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
        """The nearest live chunks inside scope and filter, and exact cosines of the chunks in `also` that are inside
        both; each once, best first, with its document and ordinal."""

    async def tend(self, space: Space, *, idle: bool) -> Sequence[str]:
        """Maintenance by one worker, now and then: build what searches have outgrown; returns what was done, in words.
        `idle` says that nothing is being ingested, so that work may take longer."""

    async def ping(self) -> None:
        """Raises IndexUnavailableError when it cannot answer."""


class KeywordIndex(Protocol):
    """BM25 search, derived from the catalog through the outbox. One writer, any number of readers."""

    async def apply(self, changes: Sequence[Change], entries: Sequence[KeywordEntry]) -> None:
        """Apply changes in order and remember the last sequence durably with them. Repeating is harmless."""

    async def position(self) -> int:
        """The last applied sequence, 0 for an empty or unreadable index."""

    async def reset(self, position: int) -> None:
        """Empty the index and set its position: the start of a rebuild."""

    async def search(
        self, text: str, *, scope: Scope, limit: int, documents: Sequence[UUID] | None = None
    ) -> Sequence[Candidate]:
        """The best chunks by BM25 inside the scope (and these documents, when given), best first."""

    async def ping(self) -> None:
        """Raises IndexUnavailableError when it cannot answer."""


class Blobs(Protocol):
    """Bytes by their SHA-256."""

    async def put(self, data: AsyncIterator[bytes], *, max_bytes: int) -> tuple[bytes, int]:
        """Store a stream durably; returns (sha256, size). Raises TooLargeError and leaves nothing behind."""

    async def path(self, sha256: bytes) -> str:
        """A local file to read the blob from. Raises NotFoundError."""

    async def delete(self, sha256: bytes) -> None:
        """Idempotent."""

    async def ping(self) -> None:
        """Raises StorageFullError or UnavailableError when a put would fail."""


class Embedder(Protocol):
    """Texts to vectors of one embedding space."""

    model: str
    revision: str
    dimensions: int
    window: int  #: tokens the model reads at once, special tokens included
    tokenizer: Tokenizer  #: what chunk sizes are counted with; neither truncates nor pads

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit vector for each text, in order; a text longer than the window is pooled over windows."""

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text without special tokens."""

    def coverage(self, text: str) -> float:
        """The share of the text, 0 to 1, that the model's vocabulary knows."""

    async def ping(self) -> None:
        """Raises EmbedderUnavailableError when it cannot answer."""


class Generator(Protocol):
    """Writes the answer to a question from hits."""

    model: str

    def generate(
        self, question: str, hits: Sequence[Hit], *, history: Sequence[dict[str, Any]] = ()
    ) -> AsyncIterator[str]:
        """The answer as a stream of text with [n] after each sentence, n counting the hits from 1. An empty stream
        means that the hits do not support an answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Everything a walk may use, wired by app.py."""

    stores: Stores
    files: Files
    documents: Documents
    ingestion: Ingestion
    passages: Passages
    outbox: Outbox
    jobs: Jobs
    vectors: VectorIndex
    keywords: KeywordIndex
    blobs: Blobs
    embedders: Mapping[int, Embedder]  #: by space id
    space: Space  #: of new stores
    generator: Generator
