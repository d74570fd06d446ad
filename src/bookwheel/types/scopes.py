"""Who asks, what they may see and do, and where vectors live."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

DEFAULT_TENANT = UUID("00000000-0000-7000-8000-000000000001")


class Role(StrEnum):
    """What a caller may do; each role may do what the ones before it may."""

    READER = "reader"  #: search, ask, read what the lists permit
    WRITER = "writer"  #: bring, change and remove documents, files, stores and sources
    ADMIN = "admin"  #: of its tenant: keys, lists of others' documents, settings, limits, the audit log
    OPERATOR = "operator"  #: of the server: tenants, the state of processes, orphans, metrics

    def covers(self, needed: "Role") -> bool:
        """Whether this role may do what the other one may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What one request may see. Required by everything that reads."""

    tenant_id: UUID
    store_ids: tuple[UUID, ...] = ()  #: the stores in question; the tenant's others stay invisible
    principals: frozenset[str] = frozenset()  #: users and groups the caller stands for
    granted: frozenset[UUID] | None = None  #: the only stores that it may ever look at; None for all of the tenant
    rule: Mapping[str, Any] | None = field(default=None, hash=False)  #: a filter that every document must pass too
    manages: bool = False  #: sees that documents exist, and changes them, whose content their lists keep from it


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a key or a tenant may use; None where the default holds, 0 for no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    documents: int | None = None  #: that a tenant may hold
    bytes: int | None = None  #: of its documents' sources and files
    embedding_tokens_per_day: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A credential of one tenant; the secret itself is nowhere."""

    id: UUID
    tenant_id: UUID
    name: str
    prefix: str  #: the part of the secret that is shown: enough to tell keys apart
    role: Role
    principals: frozenset[str]
    store_ids: frozenset[UUID] | None  #: it may look at these only; None for all of the tenant
    rule: Mapping[str, Any] | None  #: a filter that every document must pass
    limits: Limits
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    tenant_limits: Limits = field(default_factory=Limits)
    suspended: bool = False  #: its tenant is


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sends a request, as a key or a token proves it."""

    id: str  #: `key_...`, `user_...` of a token, or `local` without either
    role: Role
    scope: Scope
    limits: Limits = field(default_factory=Limits)  #: of the key or user
    tenant_limits: Limits = field(default_factory=Limits)
    limited: bool = True  #: the machine's own user without a key is not


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """An embedding space. Vectors of different spaces never meet."""

    id: int
    model: str
    revision: str
    dimensions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """The unit of isolation."""

    id: UUID
    name: str
    generator: str | None  #: who writes its answers by default; None for the server's own default
    created_at: datetime | None = None
    suspended: bool = False  #: its keys are refused and nothing of it is ingested
    weight: float = 1.0  #: its share of ingestion, against the others'
    limits: Limits = field(default_factory=Limits)
