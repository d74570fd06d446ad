"""What callers own: vector stores, files, documents, batches, and when they expire."""

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Protocol
from uuid import UUID

from bookwheel.types import (
    Access,
    Attributes,
    Chunking,
    Document,
    DocumentDraft,
    File,
    FileBatch,
    FileStatus,
    Keep,
    KeptResponse,
    Metadata,
    Scope,
    Space,
    Store,
)


class Stores(Protocol):
    """Vector stores of a tenant. One that was not granted to the caller, or that denies a caller who does not manage,
    is not there; counts and sizes leave out the documents that the caller may not know of (rights.py)."""

    async def create(
        self,
        name: str,
        *,
        scope: Scope,
        space: Space,
        chunking: Chunking,
        metadata: Metadata,
        expires_after_days: int | None = None,
        access: Access | None = None,
        denied: Access = (),
    ) -> Store:
        """Make a store. Names need not be unique. Raises PermissionDeniedError for a caller with granted stores."""

    async def get(self, store_id: UUID, *, scope: Scope) -> Store:
        """One store with its document counts. Raises NotFoundError, also for another tenant's store."""

    async def list(
        self, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True
    ) -> Sequence[Store]:
        """A page of the tenant's stores by creation time, beginning behind the store `after`."""

    async def named(self, names: Sequence[str], *, scope: Scope, limit: int) -> Sequence[Store]:
        """The tenant's stores that have one of these names, oldest first, at most `limit`."""

    async def update(
        self,
        store_id: UUID,
        *,
        scope: Scope,
        name: str | None = None,
        metadata: Metadata | None = None,
        paused: bool | None = None,
        expires_after_days: int | Keep | None = "keep",
        access: Access | Keep | None = "keep",
        denied: Access | Keep = "keep",
        if_match: Collection[str] | None = None,
    ) -> Store:
        """Change what is not None, and the expiry and lists unless "keep"; an expired store is one to be used again.
        Nothing of a paused store is claimed. Lists hold for the next query, however many documents go by them, and the
        version grows when they differ. With `if_match` only while the store's tag (etags.py) is one of these, checked
        and changed in one act. Raises NotFoundError, PreconditionFailedError, and PermissionDeniedError for lists from
        a caller whom the present ones stop and who does not manage."""

    async def delete(self, store_id: UUID, *, scope: Scope, if_match: Collection[str] | None = None) -> None:
        """Remove the store and its documents; queries stop seeing them at once. `if_match` as in `update`. Raises
        NotFoundError, PreconditionFailedError, and ConflictError when it holds what the caller may not know of."""


class Files(Protocol):
    """Uploaded files of a tenant; the bytes are in Blobs. A file is there for callers that may know of some document
    made of it, and for all while none is made of it. Who asks for its bytes asks with a scope that does not manage."""

    async def create(
        self, filename: str, *, scope: Scope, purpose: str, size: int, sha256: bytes, expires_in: int | None = None
    ) -> File:
        """Record an upload whose blob is already durable; `expires_in` seconds it is removed, unless None."""

    async def get(self, file_id: UUID, *, scope: Scope) -> File:
        """Raises NotFoundError, also for another tenant's file."""

    async def list(self, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True) -> Sequence[File]:
        """A page of the tenant's files by creation time."""

    async def delete(self, file_id: UUID, *, scope: Scope, unless_used: bool = False) -> bool:
        """Remove the file and the documents made of it, and remember the blob that no other file shares; with
        `unless_used` only when no document is made of it. Returns whether it was removed. Raises NotFoundError, and
        ConflictError when a document is made of it that the caller may not know of."""

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
    """Documents of a store, from the caller's side: those that the scope may know of; others are not there."""

    async def put(
        self, drafts: Sequence[DocumentDraft], *, scope: Scope, store: Store, bulk: bool | None = None
    ) -> Sequence[Document]:
        """Upsert by external id or file, in order. Catalog rows and jobs commit together; unchanged content with
        unchanged chunking makes no new version, but attributes and access lists hold at once, and the stores' versions
        grow when they differ. Bulk work waits for single uploads; by default several drafts are bulk. Raises
        NotFoundError for an unknown file or a store that is gone, ConflictError where a document stands that the caller
        may not know of, PermissionDeniedError for what does not pass the caller's rule."""

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
        denied: Access | Keep = "keep",
        if_match: Collection[str] | None = None,
    ) -> Document:
        """Replace the attributes unless None and the lists unless "keep". Nothing is read or embedded again; the next
        query goes by the new ones, the store's version grows when they differ, and derived indexes are told of lists.
        With `if_match` only while the document's tag (etags.py) is one of these, checked and changed in one act. Raises
        NotFoundError, PreconditionFailedError, PermissionDeniedError for what does not pass the caller's rule."""

    async def delete(self, document_ids: Sequence[UUID], *, scope: Scope) -> int:
        """Remove documents that exist and are visible; returns how many. The next query does not see them."""


class Batches(Protocol):
    """Files put into a store together, from the caller's side. A batch goes with its store, and a document that is
    removed leaves its batches; one that is put again stays in them. Those that the scope may not know of are neither
    counted nor listed nor cancelled."""

    async def create(self, drafts: Sequence[DocumentDraft], *, scope: Scope, store: Store) -> FileBatch:
        """Upsert the documents as bulk work (see Documents.put) and record them as a batch, in one transaction. Raises
        NotFoundError for an unknown file or a store that is gone."""

    async def get(self, batch_id: UUID, *, scope: Scope) -> FileBatch:
        """A batch of scope's stores with the counts of its documents. Raises NotFoundError."""

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
        """A page of its documents by creation time. Raises NotFoundError."""

    async def cancel(self, batch_id: UUID, *, scope: Scope) -> FileBatch:
        """End what is unfinished of the versions that the batch put, as Jobs.cancel does; a finished batch stays as it
        is. Raises NotFoundError."""


class Expiry(Protocol):
    """Stores that nobody uses and files whose time is over. Every verb is idempotent."""

    async def touch(self, *, scope: Scope, every_seconds: float) -> None:
        """Note that scope's stores were used just now, unless that was noted so recently or somebody is writing to
        them: never waits for a writer."""

    async def stores(self, *, older_than_seconds: float, limit: int) -> int:
        """Remove the documents of stores, at most `limit`, whose time was over so long ago, with what sources saw of
        them, and mark these expired until they are used again; returns how many. A store that is used at the same time
        keeps its documents."""

    async def files(self, *, older_than_seconds: float, limit: int) -> int:
        """Remove files, at most `limit`, whose time was over so long ago, as Files.delete does; returns how many."""


class IdempotencyKeys(Protocol):
    """Callers' keys for requests that may come twice, with their answers. A key is of one tenant."""

    async def begin(
        self, key: str, fingerprint: bytes, *, scope: Scope, owner: UUID, lease_seconds: float, keep_seconds: float
    ) -> KeptResponse | None:
        """Take the key for a try, `owner`, of the request with this fingerprint: None says to go on. The answer comes
        back when there is one, not older than `keep_seconds`. A try whose lease ran out is taken over. Raises
        IdempotencyKeyReusedError for another fingerprint, IdempotencyKeyBusyError while another try runs."""

    async def renew(self, key: str, *, scope: Scope, owner: UUID, lease_seconds: float) -> None:
        """Extend the lease: the try still runs."""

    async def finish(self, key: str, response: KeptResponse, *, scope: Scope, owner: UUID) -> None:
        """Keep the answer, unless another try took over."""

    async def forget(self, key: str, *, scope: Scope, owner: UUID) -> None:
        """Give the key back unanswered: the next try may run."""

    async def clean(self, *, older_than_seconds: float, limit: int) -> int:
        """Forget keys first used so long ago; returns how many."""
