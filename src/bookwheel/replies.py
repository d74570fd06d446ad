"""What the server replies, typed, where OpenAI's SDK has no type for it. Times are Unix seconds."""

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

JobState = Literal["waiting", "running", "retrying", "paused", "failed", "cancelled"]
DocumentStatus = Literal["in_progress", "completed", "failed", "cancelled"]


class Reason(TypedDict):
    """Why something failed."""

    code: str
    message: str


class LineResult(TypedDict):
    """What became of one line of an upsert: a document, or an error."""

    line: int  #: from 1
    id: str | None  #: yours; None where the line has none
    document_id: NotRequired[str]
    version: NotRequired[int]
    status: NotRequired[Literal["in_progress", "unchanged"]]
    error: NotRequired[Mapping[str, Any]]


class Document(TypedDict):
    """A document of a store under your own id."""

    id: str
    document_id: str
    file_id: str | None
    vector_store_id: str
    filename: str
    title: str | None
    attributes: Mapping[str, Any]
    access: list[str] | None
    status: DocumentStatus
    version: int
    live_version: int | None
    chunk_count: int
    last_error: Reason | None
    created_at: int
    updated_at: int
    chunks: NotRequired[list[Mapping[str, Any]]]


class Passage(TypedDict):
    """A result of a plain search; `document` says what it is from, and where in it."""

    text: str
    score: float
    document: Mapping[str, Any]


class Ranked(TypedDict):
    """A text that was ranked: its place among those given, from 0, and how well it answers, 0 to 1."""

    index: int
    relevance_score: float


class Job(TypedDict):
    """A document that waits, is being ingested or failed; the job's id is the document's."""

    id: str
    vector_store_id: str
    file_id: str | None
    external_id: str | None
    filename: str
    version: int
    live_version: int | None
    state: JobState
    attempts: int
    retry_at: int | None
    chunks_written: int
    last_error: Reason | None
    updated_at: int


class Source(TypedDict):
    """A place that a store is kept in step with."""

    id: str
    kind: Literal["directory", "urls", "sitemap"]
    place: str
    vector_store_id: str
    every_seconds: float
    status: Literal["new", "active", "failing", "paused"]
    runs: int
    last_run_at: int | None
    next_run_at: int | None
    last_run_counts: Mapping[str, int]
    document_counts: Mapping[str, int]
    last_error: Reason | None
    failures: NotRequired[list[Mapping[str, str]]]  #: of one source that is asked for by its id


class Status(TypedDict):
    """Counts, and what runs."""

    version: str
    vector_stores: int
    documents: Mapping[str, int]
    usage_bytes: int
    queues: Mapping[str, int]
    keywords_behind: int | None
    embedding_model: str
    generator: str


class Delivery(TypedDict):
    """A webhook that was or is to be sent."""

    id: str
    event_type: str
    payload: Mapping[str, Any]
    status: Literal["pending", "delivered", "failed"]
    attempts: int
    status_code: int | None
    last_error: str | None
    next_try_at: int | None
