"""Files, stores, documents, and what is found in them."""

from typing import Any, Generic, Literal, NotRequired, TypeVar

from typing_extensions import TypedDict

from bookwheel.types import FileStatus

T = TypeVar("T")


class Problem(TypedDict):
    """What was wrong and what to do."""

    message: str
    type: str
    param: str | None
    code: str


class Failure(TypedDict):
    """Every error, in OpenAI's shape."""

    error: Problem


class Page(TypedDict, Generic[T]):
    """A page of a list; `last_id` is the `after` of the next."""

    object: Literal["list"]
    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(TypedDict):
    """What was removed."""

    id: str
    object: str
    deleted: bool


class File(TypedDict):
    """An uploaded file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"]
    expires_at: int | None
    status_details: None


class Counts(TypedDict):
    """Documents by state."""

    in_progress: int
    completed: int
    failed: int
    cancelled: int
    total: int


class Expiry(TypedDict):
    """When an unused store expires."""

    anchor: Literal["last_active_at"]
    days: int


class Store(TypedDict):
    """A vector store."""

    id: str
    object: Literal["vector_store"]
    created_at: int
    name: str
    usage_bytes: int
    file_counts: Counts
    status: Literal["expired", "in_progress", "completed"]
    paused: bool
    chunk_count: int
    percent: float
    expires_after: Expiry | None
    expires_at: int | None
    last_active_at: int
    metadata: dict[str, str]
    access: list[str] | None
    denied: list[str]
    chunking_strategy: dict[str, Any]


class Batch(TypedDict):
    """A batch of files on their way into a store."""

    id: str
    object: Literal["vector_store.files_batch"]
    created_at: int
    vector_store_id: str
    status: Literal["in_progress", "completed", "cancelled", "failed"]
    file_counts: Counts
    percent: float


class DocumentError(TypedDict):
    """Why a document failed: OpenAI's code, and our own as the reason."""

    code: Literal["unsupported_file", "invalid_file", "server_error"]
    message: str
    reason: str


class StoreFile(TypedDict):
    """A document of a store as OpenAI's clients see it."""

    id: str
    object: Literal["vector_store.file"]
    created_at: int
    usage_bytes: int
    vector_store_id: str
    status: FileStatus
    last_error: DocumentError | None
    chunking_strategy: dict[str, Any]
    attributes: dict[str, Any]
    access: list[str] | None
    denied: list[str]
    document_id: str
    external_id: str | None
    filename: str
    version: int


class ContentPart(TypedDict):
    """A part of a text."""

    type: Literal["text"]
    text: str


class StoreFileContent(TypedDict):
    """The text that was read from a file."""

    object: Literal["vector_store.file_content.page"]
    data: list[ContentPart]
    has_more: bool
    next_page: None
    file_id: str
    filename: str
    attributes: dict[str, Any]


class Chunk(TypedDict):
    """A passage of a document."""

    text: str
    ordinal: int
    page: int | None
    start: int
    end: int
    heading_path: list[str]
    language: str


class Document(TypedDict):
    """A document under the caller's own id; `chunks` with `include=content`."""

    id: str
    object: Literal["vector_store.document"]
    document_id: str
    file_id: str | None
    vector_store_id: str
    filename: str
    title: str | None
    attributes: dict[str, Any]
    access: list[str] | None
    denied: list[str]
    hash: str
    status: FileStatus
    version: int
    live_version: int | None
    chunk_count: int
    usage_bytes: int
    last_error: DocumentError | None
    created_at: int
    updated_at: int
    chunking_strategy: dict[str, Any]
    chunks: NotRequired[list[Chunk]]


class DocumentDeleted(Deleted):
    """The document that was removed."""

    document_id: str


class DocumentPut(TypedDict):
    """What became of one document."""

    id: str
    document_id: str
    version: int
    status: str


class LineResult(TypedDict):
    """What became of one line of an upsert: a document, or an error."""

    line: int  #: from 1
    id: str | None  #: the caller's; None where the line has none
    document_id: NotRequired[str]
    version: NotRequired[int]
    status: NotRequired[str]
    error: NotRequired[Problem]


class Origin(TypedDict):
    """Where a passage stands."""

    id: str
    external_id: str | None
    vector_store_id: str
    title: str | None
    version: int
    page: int | None
    start: int
    end: int
    heading_path: list[str]
    ordinal: int
    language: str
    hash: str
    access: list[str] | None
    created_at: int
    updated_at: int


class NamedOrigin(Origin):
    """The same with its file."""

    file_id: str
    filename: str
    attributes: dict[str, Any]


class Hit(TypedDict):
    """A passage that was found."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, Any]
    content: list[ContentPart]
    document: Origin


class Passage(TypedDict):
    """A passage that was found by a plain search; `document` says what it is from, and where in it."""

    text: str
    score: float
    document: NamedOrigin


class Cached(TypedDict):
    """Where a kept result came from: the same search or question, or one that asks the same in other words."""

    kind: Literal["search", "exact", "semantic"]
    age_seconds: float
    question: str
    similarity: float


class FoundDetails(TypedDict):
    """What stands beside the passages: why there are fewer than expected, what failed, milliseconds by stage, and where
    the whole was kept, null when it was made anew."""

    warnings: list[str]
    degraded: list[str]
    timings: dict[str, float]
    cache: Cached | None


class SearchPage(FoundDetails):
    """What a search found, best first."""

    object: Literal["vector_store.search_results.page"]
    search_query: list[str]
    data: list[Hit]
    has_more: bool
    next_page: None


class SearchResults(FoundDetails):
    """What a plain search found, best first."""

    object: Literal["search.results"]
    results: list[Passage]
