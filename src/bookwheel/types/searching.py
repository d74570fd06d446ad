"""Questions and what is found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from bookwheel.types.catalog import Access, Attributes

Filter = Mapping[str, Any]  # OpenAI's grammar or the $ shorthand, checked in filters.py


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
    denied: Access = ()  #: of the document, as its access
    section: int | None = None  #: whose text and offsets these are, in place of the small chunk that was found


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Where in a scope its caller may read, as the stores' lists are now."""

    open: frozenset[UUID]  #: stores whose documents without a list of their own it may read
    listed: frozenset[UUID]  #: stores where it may read those whose own list names it; all of `open` are among them


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
