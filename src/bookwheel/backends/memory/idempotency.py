"""Idempotency keys in memory."""

from dataclasses import replace
from uuid import UUID

from bookwheel.backends.memory.database import KeyRow, MemoryDatabase
from bookwheel.errors import IdempotencyKeyBusyError, IdempotencyKeyReusedError
from bookwheel.types import KeptResponse, Scope


class MemoryIdempotencyKeys:
    """Fills ports.IdempotencyKeys."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def begin(
        self, key: str, fingerprint: bytes, *, scope: Scope, owner: UUID, lease_seconds: float, keep_seconds: float
    ) -> KeptResponse | None:
        """See ports.IdempotencyKeys."""
        now = self.database.clock()
        row = self.database.idempotency_keys.get((scope.tenant_id, key))
        if row is not None and not (self._is_over(row, keep_seconds) or self._is_dead(row, fingerprint)):
            return _answer(key, row, fingerprint)
        self.database.idempotency_keys[scope.tenant_id, key] = KeyRow(
            fingerprint=fingerprint, owner=owner, busy_until=now + lease_seconds, created_at=now
        )
        return None

    async def renew(self, key: str, *, scope: Scope, owner: UUID, lease_seconds: float) -> None:
        """See ports.IdempotencyKeys."""
        row = self._mine(key, scope, owner)
        if row is not None:
            until = self.database.clock() + lease_seconds
            self.database.idempotency_keys[scope.tenant_id, key] = replace(row, busy_until=until)

    async def finish(self, key: str, response: KeptResponse, *, scope: Scope, owner: UUID) -> None:
        """See ports.IdempotencyKeys."""
        row = self._mine(key, scope, owner)
        if row is not None:
            self.database.idempotency_keys[scope.tenant_id, key] = replace(row, response=response)

    async def forget(self, key: str, *, scope: Scope, owner: UUID) -> None:
        """See ports.IdempotencyKeys."""
        if self._mine(key, scope, owner) is not None:
            del self.database.idempotency_keys[scope.tenant_id, key]

    async def clean(self, *, older_than_seconds: float, limit: int) -> int:
        """See ports.IdempotencyKeys."""
        keys = self.database.idempotency_keys
        over = [name for name, row in keys.items() if self._is_over(row, older_than_seconds)][:limit]
        for name in over:
            del keys[name]
        return len(over)

    def _mine(self, key: str, scope: Scope, owner: UUID) -> KeyRow | None:
        row = self.database.idempotency_keys.get((scope.tenant_id, key))
        return row if row is not None and row.owner == owner and row.response is None else None

    def _runs(self, row: KeyRow) -> bool:
        return row.response is None and row.busy_until >= self.database.clock()

    def _is_over(self, row: KeyRow, keep_seconds: float) -> bool:
        return not self._runs(row) and row.created_at < self.database.clock() - keep_seconds

    def _is_dead(self, row: KeyRow, fingerprint: bytes) -> bool:
        """Whether the same request's try ended without an answer."""
        return row.response is None and not self._runs(row) and row.fingerprint == fingerprint


def _answer(key: str, row: KeyRow, fingerprint: bytes) -> KeptResponse:
    if row.fingerprint != fingerprint:
        raise IdempotencyKeyReusedError(
            f"The Idempotency-Key {key!r} was used for another request. Send each new request with a new key."
        )
    if row.response is None:
        raise IdempotencyKeyBusyError(
            f"A request with the Idempotency-Key {key!r} is still running. Send it again in a moment."
        )
    return row.response
