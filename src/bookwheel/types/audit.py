"""What was done, by whom, and how it is chained."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

SERVER_CHAIN = UUID(int=0)  #: the chain of the server itself: operators' acts, and callers that nobody knows
NO_HASH = bytes(32)  #: what the first event of a chain follows

Details = Mapping[str, str | int | bool]


class Outcome(StrEnum):
    """How an act ended."""

    SUCCESS = "success"
    DENIED = "denied"  #: the caller is not known, or its role does not allow it
    FAILURE = "failure"  #: anything else, also what is not there: a log must not tell whose it is


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """An act, before it has its place in a chain. Never with the text of a document, a question or a secret."""

    tenant_id: UUID  #: whose chain; SERVER_CHAIN for the server's
    at: datetime  #: UTC, by the clock of the process that served it
    actor: str  #: `key_...`, `user_...`, `local`, or `unknown`
    actor_role: str | None
    action: str  #: such as `file.create`
    object_type: str
    object_id: str | None = None
    object_hash: str | None = None  #: SHA-256 of the content, in hex
    outcome: Outcome
    request_id: str
    address: str | None = None  #: of the client
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent(AuditEntry):
    """A link of a chain."""

    sequence: int  #: from 1, without gaps
    previous_hash: bytes
    hash: bytes  #: SHA-256 over all the other fields, see docs/audit.md


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which events of a chain are wanted; None for any."""

    since: datetime | None = None
    until: datetime | None = None  #: not this moment itself
    action: str | None = None
    actor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a chain ends. Whoever keeps it elsewhere can tell later that nothing before it was changed."""

    tenant_id: UUID
    sequence: int = 0  #: how many events there are
    hash: bytes = NO_HASH


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a walk over a whole chain found."""

    count: int
    head: bytes
    broken: int | None = None  #: the first sequence at which the chain does not hold
    reason: str | None = None
