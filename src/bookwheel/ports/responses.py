"""Kept responses and webhooks, from the caller's side and the worker's."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from bookwheel.types import (
    LOCAL_CALLER,
    Delivery,
    DeliveryOutcome,
    ModelResponse,
    ResponseEvent,
    Scope,
    WebhookEndpoint,
)


class Responses(Protocol):
    """Answers of the Responses API that are kept, with the events by which they were told, from the caller's side. A
    response is its caller's alone: for others of the tenant it is not there; those who manage may delete it."""

    async def create(self, response: ModelResponse, *, scope: Scope, events: Sequence[ResponseEvent]) -> None:
        """Keep a response that has ended, or one that waits for a worker, with its events so far."""

    async def get(self, response_id: UUID, *, scope: Scope, caller_id: str = LOCAL_CALLER) -> ModelResponse:
        """Raises NotFoundError, also for another caller's."""

    async def conversation(
        self, response_id: UUID, *, scope: Scope, limit: int, caller_id: str = LOCAL_CALLER
    ) -> Sequence[ModelResponse]:
        """The response and at most `limit` - 1 before it, each the one that the next continues, oldest first; it ends
        where one is gone or another caller's. Raises NotFoundError."""

    async def events(
        self, response_id: UUID, *, scope: Scope, after: int = -1, limit: int, caller_id: str = LOCAL_CALLER
    ) -> Sequence[ResponseEvent]:
        """Events behind this sequence number, in order, none left out. Nothing for a response that is not there."""

    async def cancel(self, response_id: UUID, *, scope: Scope, caller_id: str = LOCAL_CALLER) -> ModelResponse:
        """End it, unless it has ended; returns it as it is. Its worker's next record fails. Raises NotFoundError."""

    async def delete(self, response_id: UUID, *, scope: Scope, caller_id: str = LOCAL_CALLER) -> None:
        """Forget it with its events, also while a worker has it in hand; with a scope that manages whosever it is.
        Raises NotFoundError."""


class ResponseRuns(Protocol):
    """Background responses from the worker's side."""

    async def claim(self, *, owner: str, lease_seconds: float, limit: int) -> Sequence[ModelResponse]:
        """Take those that have not ended and that no live owner holds, oldest first; each claim is an attempt."""

    async def renew(self, owner: str, *, lease_seconds: float) -> bool:
        """Extend the leases of the owner: it is alive. False when it holds nothing, or nothing any more."""

    async def record(
        self, response_id: UUID, events: Sequence[ResponseEvent], *, owner: str, body: Mapping[str, Any] | None = None
    ) -> bool:
        """Append events and replace the body unless None, in one transaction; a body that has ended ends the lease and
        is told to webhooks. False, and nothing is written, when the owner does not hold it any more."""

    async def release(self, owner: str, *, retry_in: float = 0.0, uncounted: bool = False) -> None:
        """Give back what the owner holds, not to be taken for `retry_in` seconds; `uncounted` was no attempt."""

    async def forget(self, *, older_than_seconds: float, limit: int) -> int:
        """Remove responses that were made longer ago than this; returns how many."""


class Webhooks(Protocol):
    """Endpoints that are told of events, from the caller's side."""

    async def create(
        self, name: str, *, scope: Scope, url: str, event_types: Sequence[str], secret: bytes
    ) -> WebhookEndpoint:
        """Tell this endpoint of such events from now on."""

    async def get(self, endpoint_id: UUID, *, scope: Scope) -> WebhookEndpoint:
        """Raises NotFoundError, also for another tenant's."""

    async def list(
        self, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True
    ) -> Sequence[WebhookEndpoint]:
        """A page of the tenant's endpoints by creation time."""

    async def update(
        self,
        endpoint_id: UUID,
        *,
        scope: Scope,
        name: str | None = None,
        url: str | None = None,
        event_types: Sequence[str] | None = None,
        secret: bytes | None = None,
    ) -> WebhookEndpoint:
        """Change what is not None; deliveries on their way go by it at their next attempt. Raises NotFoundError."""

    async def delete(self, endpoint_id: UUID, *, scope: Scope) -> None:
        """Remove it with its deliveries; nothing more is sent. Raises NotFoundError."""

    async def deliveries(
        self, endpoint_id: UUID, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True
    ) -> Sequence[Delivery]:
        """A page of what was or is to be sent there, by creation time. Raises NotFoundError."""


class WebhookRuns(Protocol):
    """Deliveries from the worker's side. They come from the ports that end something, in the transaction that ends it:
    ResponseRuns, Responses and Ingestion."""

    async def claim(
        self, *, lease_seconds: float, limit: int, without: Collection[UUID] = ()
    ) -> Sequence[tuple[Delivery, WebhookEndpoint]]:
        """Take those that are due, longest due first, for so long, none of the endpoints `without`; each claim is an
        attempt."""

    async def finish(self, delivery: Delivery, outcome: DeliveryOutcome) -> None:
        """Note how a claimed attempt ended. Nothing happens when another attempt began meanwhile, or it is gone."""

    async def forget(self, *, older_than_seconds: float, limit: int) -> int:
        """Remove deliveries that were made longer ago than this; returns how many."""
