"""Answers, what they rest on, and how they are kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from bookwheel.types.scopes import Space
from bookwheel.types.searching import Cached, Found, Freshness, Hit, Question


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
LinkPolicy = Literal["neutralise", "keep", "documents"]  # what becomes of links and images in an answer


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
    links: LinkPolicy = "neutralise"
    answer_seconds: float = 86_400.0
    search_seconds: float = 1_800.0
    embedding_seconds: float = 3_600.0
    fresh_seconds: float = 60.0
    similarity: float = 0.9
    popular: int = 100  #: questions that are kept ready
    manner: str = ""  #: stands for the settings that decide how answers are written and searches ranked
