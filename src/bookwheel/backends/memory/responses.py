"""Kept responses in memory: the caller's side and the worker's."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson

from bookwheel.backends.memory.database import Lease, MemoryDatabase
from bookwheel.errors import NotFoundError
from bookwheel.types import LOCAL_CALLER, ModelResponse, ResponseEvent, Scope


class MemoryResponses:
    """Fills ports.Responses."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def create(self, response: ModelResponse, *, scope: Scope, events: Sequence[ResponseEvent]) -> None:
        """See ports.Responses."""
        self.database.responses[response.id] = replace(
            response, tenant_id=scope.tenant_id, request=_stored(response.request), body=_stored(response.body)
        )
        self.database.response_events[response.id] = [_stored(event) for event in events]

    async def get(self, response_id: UUID, *, scope: Scope, caller_id: str = LOCAL_CALLER) -> ModelResponse:
        """See ports.Responses."""
        response = self._mine(response_id, scope, caller_id)
        if response is None:
            raise NotFoundError(f"No response with id resp_{response_id.hex}.")
        return response

    async def conversation(
        self, response_id: UUID, *, scope: Scope, limit: int, caller_id: str = LOCAL_CALLER
    ) -> Sequence[ModelResponse]:
        """See ports.Responses."""
        chain = [await self.get(response_id, scope=scope, caller_id=caller_id)]
        while len(chain) < limit and (before := chain[-1].previous_id) is not None:
            response = self._mine(before, scope, caller_id)
            if response is None:
                break
            chain.append(response)
        return chain[::-1]

    async def events(
        self, response_id: UUID, *, scope: Scope, after: int = -1, limit: int, caller_id: str = LOCAL_CALLER
    ) -> Sequence[ResponseEvent]:
        """See ports.Responses."""
        if self._mine(response_id, scope, caller_id) is None:
            return []
        told = self.database.response_events[response_id]
        return [event for event in told if event["sequence_number"] > after][:limit]

    async def cancel(self, response_id: UUID, *, scope: Scope, caller_id: str = LOCAL_CALLER) -> ModelResponse:
        """See ports.Responses."""
        response = await self.get(response_id, scope=scope, caller_id=caller_id)
        if not response.has_ended:
            _set_body(self.database, response_id, {**response.body, "status": "cancelled"})
        return self.database.responses[response_id]

    async def delete(self, response_id: UUID, *, scope: Scope, caller_id: str = LOCAL_CALLER) -> None:
        """See ports.Responses."""
        kept = self.database.responses.get(response_id)
        await self.get(response_id, scope=scope, caller_id=kept.caller_id if kept and scope.manages else caller_id)
        _remove(self.database, response_id)

    def _mine(self, response_id: UUID, scope: Scope, caller_id: str) -> ModelResponse | None:
        response = self.database.responses.get(response_id)
        whose = (scope.tenant_id, caller_id)
        return response if response is not None and (response.tenant_id, response.caller_id) == whose else None


class MemoryResponseRuns:
    """Fills ports.ResponseRuns."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def claim(self, *, owner: str, lease_seconds: float, limit: int) -> Sequence[ModelResponse]:
        """See ports.ResponseRuns."""
        waiting = (one for one in self.database.responses.values() if one.background and not one.has_ended)
        due = sorted((one for one in waiting if self._is_free(one.id)), key=lambda one: (one.created_at, one.id))
        for response in due[:limit]:
            self.database.responses[response.id] = replace(response, attempts=response.attempts + 1)
            self._lease(response.id, owner, lease_seconds)
        return [self.database.responses[response.id] for response in due[:limit]]

    async def renew(self, owner: str, *, lease_seconds: float) -> bool:
        """See ports.ResponseRuns."""
        held = self._held(owner)
        for response_id in held:
            self._lease(response_id, owner, lease_seconds)
        return bool(held)

    async def record(
        self, response_id: UUID, events: Sequence[ResponseEvent], *, owner: str, body: Mapping[str, Any] | None = None
    ) -> bool:
        """See ports.ResponseRuns."""
        if response_id not in self._held(owner):
            return False
        self.database.response_events[response_id] += [_stored(event) for event in events]
        if body is not None:
            _set_body(self.database, response_id, body)
        return True

    async def release(self, owner: str, *, retry_in: float = 0.0, uncounted: bool = False) -> None:
        """See ports.ResponseRuns."""
        for response_id in self._held(owner):
            response = self.database.responses[response_id]
            self.database.responses[response_id] = replace(response, attempts=response.attempts - uncounted)
            self._lease(response_id, "", retry_in)

    async def forget(self, *, older_than_seconds: float, limit: int) -> int:
        """See ports.ResponseRuns."""
        now = self.database.now()
        old = [
            one.id
            for one in self.database.responses.values()
            if (now - one.created_at).total_seconds() > older_than_seconds
        ][:limit]
        for response_id in old:
            _remove(self.database, response_id)
        return len(old)

    def _lease(self, response_id: UUID, owner: str, seconds: float) -> None:
        expires_at = self.database.clock() + seconds
        self.database.response_leases[response_id] = Lease(owner=owner, expires_at=expires_at)

    def _held(self, owner: str) -> list[UUID]:
        return [response_id for response_id, lease in self.database.response_leases.items() if lease.owner == owner]

    def _is_free(self, response_id: UUID) -> bool:
        lease = self.database.response_leases.get(response_id)
        return lease is None or lease.expires_at <= self.database.clock()


def _set_body(database: MemoryDatabase, response_id: UUID, body: Mapping[str, Any]) -> None:
    """Replace the body; the lease of one that has ended goes, and webhooks are told."""
    response = replace(database.responses[response_id], body=_stored(body))
    database.responses[response_id] = response
    if response.has_ended:
        database.response_leases.pop(response_id, None)
        database.tell_webhooks(response.tenant_id, f"response.{response.status}", {"id": body["id"]})


def _remove(database: MemoryDatabase, response_id: UUID) -> None:
    del database.responses[response_id]
    del database.response_events[response_id]
    database.response_leases.pop(response_id, None)


def _stored(value: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON storage gives it back."""
    stored: dict[str, Any] = orjson.loads(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
    return stored
