"""The words of the glossary as data: plain frozen values that every layer may pass on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from bookwheel.given import GivenPassages

Metadata = Mapping[str, str]  # a store's own labels: strings only, as OpenAI's
Attributes = Mapping[str, Any]  # a document's: strings, numbers, booleans, dates as ISO strings, lists of strings
Access = tuple[str, ...]  # an access list: the users and groups that may read a document
Keep = Literal["keep"]  # leaves an access list alone, where None opens the document to everybody
Filter = Mapping[str, Any]  # OpenAI's grammar or the $ shorthand, checked in filters.py

Strategy = Literal["structure", "fixed", "sentence", "parent_child", "semantic"]  # of chunking: docs/chunking.md

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
    version: int  #: grows with every publish, delete and change of attributes or access; cache keys hold it
    created_at: datetime
    last_active_at: datetime
    paused: bool = False  #: nothing of it is ingested until it is resumed
    size: int = 0  #: of its documents' sources
    chunk_count: int = 0  #: of its live documents
    counts: Mapping[FileStatus, int] = field(default_factory=dict)  #: documents by status
    expires_after_days: int | None = None  #: of rest, since it was last active; None for never
    expired: bool = False  #: its time is over; a worker removes its documents

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
    access: Access | Keep | None = "keep"  #: None opens it to everybody in the tenant, as new ones are with "keep"
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
    access: Access | None  #: who may read it; None for everybody in the tenant
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
    given: GivenPassages | None = None  #: the passages of `text` with their vectors, where they were given
    owner: str = ""  #: who holds the lease
    attempts: int = 0  #: at this version, ended by something that may pass
    deaths: int = 0  #: workers that died with the document in hand since it was last let go


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
    base: int = 0  #: where `text` begins in the document, when it is one segment of a huge one


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The part of a document that a hit shows in place of the small chunk that was found."""

    ordinal: int  #: from 0 within the document version
    start: int
    end: int
    text: str  #: exactly text[start:end] of the parsed text


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
    section: Section | None = None  #: that it is a child of


@dataclass(frozen=True, slots=True, kw_only=True)
class CutText:
    """What is known of a document's text, with the next of its pieces."""

    media_type: str
    title: str | None
    warnings: tuple[str, ...]  #: what was left out, for the owner
    pieces: Sequence[Piece]  #: in order; those of all batches together are the document


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A passage of one document version."""

    id: int  #: 63-bit hash of (document, version, ordinal)
    document_id: UUID
    version: int
    ordinal: int  #: from 0 within the document version
    piece: Piece
    text_hash: bytes  #: 16 bytes: the embedding cache key beside the space. Of the embedded text; of a given vector too
    vector: bytes | None = None  #: packed, where it was given; None where the text is to be embedded


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
    language: str
    ordinal: int
    document_id: UUID
    store_id: UUID
    file_id: UUID | None
    external_id: str | None
    filename: str
    title: str | None
    version: int
    sha256: bytes  #: as the document's
    attributes: Attributes
    access: Access | None
    created_at: datetime  #: of the document
    updated_at: datetime
    section: int | None = None  #: whose text and offsets these are, in place of the small chunk that was found


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
    vector: bytes | None = None  #: packed, in place of the text's own; keywords are those of the text
    rerank: bool = False  #: let the reranker judge the best hits
    diversity: float | None = None  #: balance of relevance and novelty, 1 for relevance alone; None: copies may come


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """What of a request may come from a cache, and what of it may be kept there."""

    versions: Mapping[UUID, int]  #: of the scope's stores, read when the request came
    as_of: float  #: Unix time before they were read
    read: bool = True
    write: bool = True
    max_age_seconds: float | None = None  #: of what is read


@dataclass(frozen=True, slots=True, kw_only=True)
class Cached:
    """Where a kept result came from."""

    kind: Literal["search", "exact", "semantic"]
    age_seconds: float
    question: str  #: as it was asked then
    similarity: float = 1.0  #: cosine of the two questions


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The result of the retrieve walk."""

    hits: Sequence[Hit]
    degraded: tuple[str, ...] = ()  #: stages that were left out because they failed
    warnings: tuple[str, ...] = ()  #: why there may be less than the caller expects, in words
    timings: Mapping[str, float] = field(default_factory=dict)  #: seconds by stage
    cached: Cached | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request for an answer."""

    question: Question
    space: Space
    history: Sequence[Mapping[str, Any]] = ()  #: earlier turns, oldest first: role and content
    instructions: str = ""  #: of the caller, for a generator that takes some
    schema: Mapping[str, Any] | None = None  #: the answer is to be one JSON value that this JSON schema accepts
    max_tokens: int | None = None  #: of the answer
    model: str | None = None  #: of the generators; None for the tenant's own
    freshness: Freshness | None = None  #: None: nothing is cached
    in_pieces: bool = True  #: what is written is sent at once, and cannot be taken back


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a generator is asked: a question, and the passages that it may answer from."""

    question: str
    hits: Sequence[Hit]  #: numbered from 1 in this order, best first
    history: Sequence[Mapping[str, Any]] = ()  #: earlier turns, oldest first: role and content
    instructions: str = ""  #: of the caller, beside our own
    schema: Mapping[str, Any] | None = None  #: a JSON schema: the answer is to be one JSON value that it accepts
    max_tokens: int | None = None  #: of the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """Where a sentence of an answer stands."""

    index: int  #: the number shown in the answer, from 1
    quote: str  #: verbatim in the source
    start: int  #: characters of the document's text
    end: int
    answer_offset: int  #: where in the answer the cited sentence ends
    hit: Hit


UnsupportedPolicy = Literal["mark", "drop", "keep"]  # what becomes of a sentence that no passage supports


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSentence:
    """A sentence of an answer and whether the passages support it."""

    start: int  #: characters of the answer
    end: int
    claims: bool  #: it says something that can be supported
    supported: bool
    score: float  #: 0 to 1
    citations: tuple[int, ...] = ()  #: the numbers shown behind it
    reason: str = ""  #: why it is not supported: numbers, names, words, meaning


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Text with citations; `supported` is False when the documents do not say."""

    text: str
    citations: tuple[Citation, ...]
    supported: bool
    found: Found
    model: str
    cut_short: bool = False  #: more was to come than the caller wanted to have
    search_query: str = ""  #: what was searched for: the question, made self-contained
    timings: Mapping[str, float] = field(default_factory=dict)
    degraded: tuple[str, ...] = ()  #: stages of writing that were replaced or left out because they failed
    grounding: float | None = None  #: the share, 0 to 1, of what is claimed that the passages support; None: no claims
    sentences: tuple[CheckedSentence, ...] = ()  #: in order, with their support
    cached: Cached | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """The unit of isolation."""

    id: UUID
    name: str
    generator: str | None  #: who writes its answers by default; None for the server's own default


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedQuestion:
    """A question as it was asked, so that it can be asked again."""

    tenant_id: UUID
    key: str  #: of its kept answer
    request: Mapping[str, Any]  #: JSON: all that `answer.py` needs
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPolicy:
    """How answers are made and kept: docs/settings.md."""

    unsupported: UnsupportedPolicy = "mark"
    answer_seconds: float = 86_400.0
    search_seconds: float = 1_800.0
    embedding_seconds: float = 3_600.0
    fresh_seconds: float = 60.0
    similarity: float = 0.9
    popular: int = 100  #: questions that are kept ready


class SourceKind(StrEnum):
    """What a source is."""

    DIRECTORY = "directory"
    URLS = "urls"
    SITEMAP = "sitemap"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDraft:
    """A source as its owner asks for it."""

    kind: SourceKind
    config: Mapping[str, Any]  #: directory: path, include, exclude; urls: urls; sitemap: url, limit
    every_seconds: float  #: from the end of one run to the next


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceChange:
    """What to change of a source; None leaves a thing as it is."""

    config: Mapping[str, Any] | None = None
    every_seconds: float | None = None
    paused: bool | None = None
    due: bool = False  #: run once, now, even when paused; items that wait after an error are tried again


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A place that a store is kept in step with."""

    id: UUID
    tenant_id: UUID
    store_id: UUID
    kind: SourceKind
    config: Mapping[str, Any]
    every_seconds: float
    paused: bool
    created_at: datetime
    next_run_at: datetime | None  #: None while paused
    last_run_at: datetime | None = None
    last_error: str | None = None  #: of the last run
    failures: int = 0  #: runs in a row that failed as a whole
    runs: int = 0  #: finished
    counts: Mapping[str, int] = field(default_factory=dict)  #: of the last run: added, changed, unchanged, ...
    state: Mapping[str, Any] = field(default_factory=dict)  #: what a run leaves for the next
    items: int = 0  #: that became documents
    failed: int = 0  #: that could not be read, or whose document failed


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceItem:
    """One file or page of a source."""

    key: str  #: the path below the root, or the URL
    validator: Mapping[str, Any] = field(default_factory=dict)  #: what tells that nothing changed
    external_id: str | None = None  #: of its document, None before the first success
    last_seen_run: int = 0
    last_error: str | None = None
    retry_at: datetime | None = None  #: not tried before, after an error


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOutcome:
    """How a run ended."""

    next_in_seconds: float
    counts: Mapping[str, int]
    state: Mapping[str, Any]
    error: str | None = None
    failed: bool = False  #: as a whole: the place could not be read


ResponseEvent = Mapping[str, Any]  # of a streamed response, with `type` and `sequence_number`

UNFINISHED_RESPONSE = frozenset({"queued", "in_progress"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResponse:
    """An answer as the Responses API keeps it, perhaps not yet written."""

    id: UUID
    tenant_id: UUID
    principals: tuple[str, ...]  #: for whom it searches
    previous_id: UUID | None  #: the response that it continues
    request: Mapping[str, Any]  #: what was asked
    body: Mapping[str, Any]  #: the response as callers see it
    background: bool  #: written by a worker
    created_at: datetime
    attempts: int = 0  #: workers that took it

    @property
    def status(self) -> str:
        """OpenAI's word for how far it is."""
        return str(self.body["status"])

    @property
    def has_ended(self) -> bool:
        """Nothing of it changes any more."""
        return self.status not in UNFINISHED_RESPONSE


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEndpoint:
    """A place that is told of events."""

    id: UUID
    tenant_id: UUID
    name: str
    url: str
    event_types: tuple[str, ...]
    secret: bytes  #: that signs what is sent
    created_at: datetime
    updated_at: datetime


class DeliveryStatus(StrEnum):
    """How far a delivery is."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"  #: given up


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event on its way to one endpoint."""

    id: UUID  #: the same at every attempt
    endpoint_id: UUID
    event_type: str
    payload: str  #: exactly what is sent
    status: DeliveryStatus
    attempts: int
    next_try_at: datetime | None  #: None when it has ended
    http_status: int | None  #: of the last attempt, None when there was no answer
    error: str | None  #: of the last attempt
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOutcome:
    """How an attempt ended."""

    status: DeliveryStatus
    http_status: int | None = None
    error: str | None = None
    retry_in: float | None = None  #: seconds, while it is pending
