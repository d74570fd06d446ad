"""Places that stores are kept in step with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


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
