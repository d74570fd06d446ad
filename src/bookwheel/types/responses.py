"""Kept responses, and who is told of events."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

ResponseEvent = Mapping[str, Any]  # of a streamed response, with `type` and `sequence_number`
LOCAL_CALLER = "local"  # the id of the machine's own user, who needs no key
UNFINISHED_RESPONSE = frozenset({"queued", "in_progress"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResponse:
    """An answer as the Responses API keeps it, perhaps not yet written."""

    id: UUID
    tenant_id: UUID
    caller_id: str  #: whose it is: types.Caller.id
    principals: tuple[str, ...]  #: for whom it searches
    previous_id: UUID | None  #: the response that it continues
    request: Mapping[str, Any]  #: what was asked
    body: Mapping[str, Any]  #: the response as callers see it
    background: bool  #: written by a worker
    created_at: datetime
    attempts: int = 0  #: workers that took it
    granted: tuple[UUID, ...] | None = None  #: as of its caller's scope
    rule: Mapping[str, Any] | None = None  #: as of its caller's scope

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
