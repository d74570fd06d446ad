"""What workers have to do, and what derived indexes follow."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from bookwheel.given import GivenPassages
from bookwheel.types.catalog import Access, Chunking
from bookwheel.types.scopes import Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One document version that a worker holds and must publish or fail."""

    document_id: UUID
    tenant_id: UUID
    store_id: UUID
    shard: int  #: the tenant's index partition
    version: int
    space: Space
    chunking: Chunking
    filename: str
    title: str | None
    text: str | None  #: inline text, or None when the bytes are a blob
    sha256: bytes | None  #: of the blob, or None for inline text
    given: GivenPassages | None = None  #: the passages of `text` with their vectors, where they were given
    owner: str = ""  #: who holds the lease
    attempts: int = 0  #: at this version, ended by something that may pass
    deaths: int = 0  #: workers that died with the document in hand since it was last let go


class JobState(StrEnum):
    """What a document version waits for."""

    WAITING = "waiting"
    RUNNING = "running"
    RETRYING = "retrying"  #: an attempt failed for a reason that may pass; the next one has its time
    PAUSED = "paused"  #: with its store
    FAILED = "failed"  #: a dead letter: it stays until it is retried, dropped or put again
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The work on one document version, as operators see it."""

    document_id: UUID
    store_id: UUID
    file_id: UUID | None
    external_id: str | None
    filename: str
    version: int
    live_version: int | None
    state: JobState
    urgent: bool
    attempts: int  #: that ended with something that may pass
    retry_at: datetime | None
    worker: str | None  #: who holds the document now
    chunks_written: int  #: of the running attempt
    error_code: str | None
    error_message: str | None  #: of the failure, or of the last attempt
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One line of the keyword outbox: what a derived index must do."""

    sequence: int
    operation: Literal["publish", "remove"]
    tenant_id: UUID
    store_id: UUID
    document_id: UUID
    version: int  #: published; or removed with everything below


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordEntry:
    """A chunk as a keyword index stores it."""

    chunk_id: int
    tenant_id: UUID
    store_id: UUID
    document_id: UUID
    version: int
    text: str
    title: str
    language: str
    access: Access | None = None  #: of the document, as its own list says
    denied: Access = ()
