"""The words of the glossary as data: plain frozen values that every layer may pass on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

Metadata = Mapping[str, str]  # a store's own labels: strings only, as OpenAI's
Attributes = Mapping[str, Any]  # a document's: strings, numbers, booleans, dates as ISO strings, lists of strings
Filter = Mapping[str, Any]  # OpenAI's grammar or the $ shorthand, checked in filters.py

DEFAULT_TENANT = UUID("00000000-0000-7000-8000-000000000001")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What one request may see. Required by everything that reads."""

    tenant_id: UUID
    store_ids: tuple[UUID, ...] = ()  #: the stores in question; the tenant's others stay invisible
    principals: frozenset[str] = frozenset()  #: users and groups the caller stands for


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """An embedding space. Vectors of different spaces never meet."""

    id: int
    model: str
    revision: str
    dimensions: int


class FileStatus(StrEnum):
    """OpenAI's names for the state of a document in a store."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunking:
    """How a store cuts its documents, in tokens of its embedder."""

    strategy: Literal["structure"] = "structure"
    max_tokens: int = 256  #: 64 to 1,024
    overlap_tokens: int = 32  #: 10-20 % of max_tokens is usual; at most half


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A vector store: a named collection in a tenant."""

    id: UUID
    tenant_id: UUID
    name: str
    space: Space
    chunking: Chunking
    metadata: Metadata
    version: int  #: grows with every publish and delete; cache keys hold it
    created_at: datetime
    last_active_at: datetime
    size: int = 0  #: of its documents' sources
    counts: Mapping[FileStatus, int] = field(default_factory=dict)  #: documents by status


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


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentDraft:
    """What a caller hands in: either a stored file or inline text."""

    external_id: str | None = None  #: the caller's own id; putting it again makes a new version
    file_id: UUID | None = None
    text: str | None = None
    title: str | None = None
    attributes: Attributes = field(default_factory=dict)
    chunking: Chunking | None = None  #: the store's own when None


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
    attributes: Attributes
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of a parsed document: offsets into its text."""

    number: int  #: from 1
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedText:
    """A document as text. All offsets are characters of `text`."""

    text: str
    media_type: str
    format: Literal["markdown", "plain"]  #: how `text` is to be read by the splitter
    title: str | None = None
    pages: tuple[Page, ...] = ()  #: empty where the format has none
    warnings: tuple[str, ...] = ()  #: what was left out, for the owner


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A passage cut from a text, not yet a chunk of a document."""

    text: str  #: exactly text[start:end] of the parsed text
    start: int
    end: int
    page: int | None
    heading_path: tuple[str, ...]
    language: str  #: ISO 639-1, or "und"
    embed_text: str  #: what the embedder reads: title and headings before the text


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A passage of one document version."""

    id: int  #: 63-bit hash of (document, version, ordinal)
    document_id: UUID
    version: int
    ordinal: int  #: from 0 within the document version
    piece: Piece
    text_hash: bytes  #: 16 bytes of the embedded text's hash: the embedding cache key beside the space


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A chunk id with a raw score, as an index returns it."""

    chunk_id: int
    score: float  #: cosine for a vector index, BM25 for a keyword index: higher is better
    document_id: UUID | None = None  #: a vector index says where the chunk stands
    ordinal: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A live, visible chunk with its scores, ready to be shown."""

    chunk_id: int
    score: float  #: fused, 0 to 1
    dense: float | None  #: cosine, when known
    keyword: float | None  #: BM25, when the keyword index found it
    text: str
    start: int
    end: int
    page: int | None
    heading_path: tuple[str, ...]
    ordinal: int
    document_id: UUID
    store_id: UUID
    file_id: UUID | None
    external_id: str | None
    filename: str
    title: str | None
    version: int
    attributes: Attributes


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A search as the retrieve walk takes it."""

    text: str
    limit: int = 10  #: hits wanted, 1 to 50
    filter: Filter | None = None
    score_threshold: float = 0.0  #: hits below are dropped
    fusion: Literal["convex", "rrf"] = "convex"
    dense_weight: float | None = None  #: of the convex fusion; None lets the language decide


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The result of the retrieve walk."""

    hits: Sequence[Hit]
    degraded: tuple[str, ...] = ()  #: stages that were left out because they failed
    timings: Mapping[str, float] = field(default_factory=dict)  #: seconds by stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """Where a sentence of an answer stands."""

    index: int  #: the number shown in the answer, from 1
    quote: str  #: verbatim in the source
    start: int  #: characters of the document's text
    end: int
    answer_offset: int  #: where in the answer the cited sentence ends
    hit: Hit


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Text with citations; `supported` is False when the documents do not say."""

    text: str
    citations: tuple[Citation, ...]
    supported: bool
    found: Found
    model: str
    timings: Mapping[str, float] = field(default_factory=dict)
