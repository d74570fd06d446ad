"""Stores, files and documents, as their owners see them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from bookwheel.given import GivenPassages
from bookwheel.types.scopes import Space

Metadata = Mapping[str, str]  # a store's own labels: strings only, as OpenAI's
Attributes = Mapping[str, Any]  # a document's: strings, numbers, booleans, dates as ISO strings, lists of strings
Access = tuple[str, ...]  # an access list: users and groups that may read, or that are denied; see rights.py
Keep = Literal["keep"]  # leaves an access list alone, where None takes it away
Strategy = Literal["structure", "fixed", "sentence", "parent_child", "semantic"]  # of chunking: docs/chunking.md


class FileStatus(StrEnum):
    """OpenAI's names for the state of a document in a store."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunking:
    """How a store cuts its documents, in tokens of its embedder."""

    strategy: Strategy = "structure"
    max_tokens: int = 256  #: 64 to 1,024
    overlap_tokens: int = 32  #: 10-20 % of max_tokens is usual; at most half
    parent_tokens: int = 1024  #: of the section that a hit of parent_child shows; the others have none


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A vector store: a named collection in a tenant."""

    id: UUID
    tenant_id: UUID
    name: str
    space: Space
    chunking: Chunking
    metadata: Metadata
    version: int  #: grows with every publish, delete, change of attributes or of lists, its own too; cache keys hold it
    created_at: datetime
    last_active_at: datetime
    paused: bool = False  #: nothing of it is ingested until it is resumed
    size: int = 0  #: of its documents' sources
    chunk_count: int = 0  #: of its live documents
    counts: Mapping[FileStatus, int] = field(default_factory=dict)  #: documents by status
    expires_after_days: int | None = None  #: of rest, since it was last active; None for never
    expired: bool = False  #: its time is over; a worker removes its documents
    access: Access | None = None  #: who may read documents without a list of their own; None for everybody
    denied: Access = ()  #: who may read none of its documents, whatever their own lists say

    @property
    def expires_at(self) -> datetime | None:
        """When its time is over, unless it is used before."""
        if self.expires_after_days is None:
            return None
        return self.last_active_at + timedelta(days=self.expires_after_days)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """Uploaded bytes; the blob is shared by content."""

    id: UUID
    tenant_id: UUID
    filename: str
    purpose: str
    size: int
    sha256: bytes  #: 32 bytes
    created_at: datetime
    expires_at: datetime | None = None  #: a worker removes it then, with the documents made of it


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentDraft:
    """What a caller hands in: either a stored file or inline text."""

    external_id: str | None = None  #: the caller's own id; putting it again makes a new version
    file_id: UUID | None = None
    text: str | None = None
    title: str | None = None
    attributes: Attributes = field(default_factory=dict)
    access: Access | Keep | None = "keep"  #: None goes by the store's list, as new ones do with "keep"
    denied: Access | Keep = "keep"  #: new ones deny nobody with "keep"
    chunking: Chunking | None = None  #: the store's own when None
    given: GivenPassages | None = None  #: of `text`: vectors of the store's space; nothing is cut or embedded then


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file or source item inside a store, as its owner sees it."""

    id: UUID
    tenant_id: UUID
    store_id: UUID
    file_id: UUID | None
    external_id: str | None
    filename: str  #: the file's name, or the caller's id, for people
    title: str | None
    sha256: bytes  #: 32 bytes, of the file; where it was put as text: see given.source_of
    attributes: Attributes
    access: Access | None  #: who may read it; None for whom the store's list names, everybody where it has none
    denied: Access = ()  #: who may not, though a list names them
    status: FileStatus
    version: int  #: the newest wanted version
    live_version: int | None  #: the version that queries see
    size: int
    chunk_count: int
    error_code: str | None
    error_message: str | None
    created_at: datetime
    updated_at: datetime
    chunking: Chunking


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBatch:
    """Files that were put into a store together."""

    id: UUID
    tenant_id: UUID
    store_id: UUID
    created_at: datetime
    cancelled: bool  #: some of its work was cancelled
    counts: Mapping[FileStatus, int]  #: its documents that are still in the store, by status


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResponse:
    """The answer to a request, kept for the same request coming again."""

    status: int  #: of HTTP
    headers: Mapping[str, str]
    body: bytes
