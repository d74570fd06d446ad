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
    Access,
    Attributes,
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
    Job,
    JobState,
    Keep,
    KeywordEntry,
    Metadata,
    Scope,
    Source,
    SourceChange,
    SourceDraft,
    SourceItem,
    SourceOutcome,
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

    async def update(
        self,
        store_id: UUID,
        *,
        scope: Scope,
        name: str | None = None,
        metadata: Metadata | None = None,
        paused: bool | None = None,
    ) -> Store:
        """Change what is not None. Nothing of a paused store is claimed. Raises NotFoundError."""

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

    async def delete(self, file_id: UUID, *, scope: Scope, unless_used: bool = False) -> bool:
        """Remove the file and the documents made of it, and remember the blob that no other file shares; with
        `unless_used` only when no document is made of it. Returns whether it was removed. Raises NotFoundError."""

    async def dead_blobs(self, *, older_than_seconds: float, limit: int) -> Sequence[bytes]:
        """Hashes whose last file was deleted so long ago and that no file has now."""

    async def forget_blobs(self, hashes: Sequence[bytes]) -> None:
        """These blobs are gone."""

    def hashes(self) -> AsyncIterator[bytes]:
        """Of all files of all tenants, in no promised order."""
        ...

    async def having(self, hashes: Sequence[bytes]) -> set[bytes]:
        """Those of the hashes that any tenant's file has."""


class Documents(Protocol):
    """Documents of a store, from the caller's side."""

    async def put(
        self, drafts: Sequence[DocumentDraft], *, scope: Scope, store: Store, bulk: bool | None = None
    ) -> Sequence[Document]:
        """Upsert by external id or file, in order. Catalog rows and jobs commit together; unchanged content with
        unchanged chunking makes no new version, but attributes and access lists hold at once, and the stores' versions
        grow when they differ. Bulk work waits for single uploads; by default several drafts are bulk. Raises
        NotFoundError for an unknown file or a store that is gone."""

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

    async def update(
        self,
        document_id: UUID,
        *,
        scope: Scope,
        attributes: Attributes | None = None,
        access: Access | Keep | None = "keep",
    ) -> Document:
        """Replace the attributes unless None and the access list unless "keep". Nothing is read or embedded again;
        the next query goes by the new ones, and the store's version grows when they differ. Raises NotFoundError."""

    async def delete(self, document_ids: Sequence[UUID], *, scope: Scope) -> int:
        """Remove documents that exist and are visible; returns how many. The next query does not see them."""


class Ingestion(Protocol):
    """Documents from the worker's side. Every verb is idempotent."""

    async def claim(self, document_ids: Sequence[UUID], *, owner: str, lease_seconds: float) -> Sequence[Claim]:
        """Take those that are unfinished, due, not of a paused store and not held by a live owner."""

    async def claim_next(
        self, *, owner: str, lease_seconds: float, limit: int, max_bytes: int, urgent: bool
    ) -> Sequence[Claim]:
        """Take what has waited longest, single uploads (with `urgent` nothing else) before bulk loads: at most `limit`
        documents whose sources have at most `max_bytes` together, or one larger one."""

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
    """Chunks from the reader's side: of documents without an access list, or with one that names a principal of the
    scope; others are not there."""

    async def hydrate(self, chunk_ids: Sequence[int], *, scope: Scope, filter: Filter | None) -> Sequence[Hit]:
        """Those chunks that are live, visible to the scope and pass the filter, in no promised order; scores are 0.

        The text and offsets of a chunk that has a section are the section's."""

    async def documents_matching(self, filter: Filter, *, scope: Scope, limit: int) -> Sequence[UUID]:
        """Documents with a live chunk that passes the filter, at most `limit`."""

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

    async def restart(self) -> None:
        """Leave a gap that no derived index can cross, so that each rebuilds itself from the catalog."""

    async def live_chunks(self) -> int:
        """Chunks of all live documents: what an index that has caught up holds."""


class Jobs(Protocol):
    """Durable work, one job for each document version that is not finished. The catalog is the truth: what a queue
    loses costs time, not data."""

    async def wake(self) -> bool:
        """See that a worker looks at what waits; forget what dead workers left in the queue. Returns whether anything
        waits."""

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


class Sources(Protocol):
    """Places that stores are kept in step with, from the owner's side. A source goes with its store."""

    async def create(self, draft: SourceDraft, *, scope: Scope, store: Store) -> Source:
        """Record a source; it is due at once. Raises NotFoundError when the store is gone."""

    async def get(self, source_id: UUID, *, scope: Scope) -> Source:
        """One source with the number of its items. Raises NotFoundError, also for another tenant's."""

    async def list(
        self, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True
    ) -> Sequence[Source]:
        """A page of the tenant's sources by creation time."""

    async def update(self, source_id: UUID, change: SourceChange, *, scope: Scope) -> Source:
        """Change what is given. A paused source is not due; one that goes on again is due at once, and so is one with
        a new config or schedule. Raises NotFoundError."""

    async def failures(self, source_id: UUID, *, scope: Scope, limit: int) -> Sequence[SourceItem]:
        """Items whose last try failed, by key. Raises NotFoundError."""

    async def delete(self, source_id: UUID, *, scope: Scope, if_empty: bool = False) -> bool:
        """Remove the source and its items; documents stay. With `if_empty` only a source without items is removed;
        returns whether it was. Raises NotFoundError."""


class SourceRuns(Protocol):
    """Sources from the worker's side. Every verb is idempotent."""

    async def claim(self, *, owner: str, lease_seconds: float, limit: int) -> Sequence[Source]:
        """Take sources that are due and not held by a live owner, this one included; the longest due first."""

    async def renew(self, owner: str, *, lease_seconds: float) -> None:
        """Extend every lease of the owner: it is alive."""

    async def release(self, owner: str) -> None:
        """Give unfinished sources back, so that another worker may take them at once."""

    async def items(self, source_id: UUID, *, limit: int, after: str = "") -> Sequence[SourceItem]:
        """Items by key, beginning behind the key `after`."""

    async def save(self, source_id: UUID, items: Sequence[SourceItem], *, gone: Sequence[str] = ()) -> None:
        """Upsert items by key and forget those of the keys `gone`. Raises NotFoundError when the source is gone."""

    async def finish(self, source: Source, outcome: SourceOutcome, *, owner: str) -> None:
        """Note how a claimed run ended and when the next is due, unless somebody changed that during the run; the
        lease ends. Nothing happens when the source is gone or another owner holds it."""

    async def watched(self) -> Sequence[Source]:
        """Directory sources that are not paused, of all tenants, without numbers of items."""

    async def wake(self, source_ids: Sequence[UUID]) -> None:
        """Make those that are not paused due at once."""


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

    async def delete(self, sha256: bytes, *, older_than_seconds: float = 0.0) -> bool:
        """Remove it unless it was put within the last seconds; False when it stays for that reason. Idempotent."""

    def list(self, *, older_than_seconds: float) -> AsyncIterator[bytes]:
        """Hashes of all blobs that were put longer ago than this, in no promised order."""
        ...

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
    sources: Sources
    source_runs: SourceRuns
    vectors: VectorIndex
    keywords: KeywordIndex
    blobs: Blobs
    embedders: Mapping[int, Embedder]  #: by space id
    space: Space  #: of new stores
    generator: Generator
