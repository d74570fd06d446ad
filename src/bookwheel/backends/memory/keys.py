"""API keys in memory."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from bookwheel.backends.memory.database import MemoryDatabase
from bookwheel.errors import NotFoundError
from bookwheel.types import ApiKey, Scope


class MemoryKeys:
    """Fills ports.Keys."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def create(self, key: ApiKey, *, secret_hash: bytes) -> ApiKey:
        """See ports.Keys."""
        self.database.keys[secret_hash] = key
        return self._told(key)

    async def by_hash(self, secret_hash: bytes) -> ApiKey | None:
        """See ports.Keys."""
        key = self.database.keys.get(secret_hash)
        if key is None or (key.expires_at is not None and key.expires_at <= datetime.now(UTC)):
            return None
        return self._told(key)

    async def get(self, key_id: UUID, *, scope: Scope) -> ApiKey:
        """See ports.Keys."""
        return self._told(self._found(key_id, scope)[1])

    async def list(self, *, scope: Scope, limit: int, after: UUID | None = None) -> Sequence[ApiKey]:
        """See ports.Keys."""
        own = [key for key in self.database.keys.values() if key.tenant_id == scope.tenant_id]
        own.sort(key=lambda key: (key.created_at, key.id), reverse=True)
        ids = [key.id for key in own]
        if after is not None and after not in ids:
            return []
        start = 0 if after is None else ids.index(after) + 1
        return [self._told(key) for key in own[start : start + limit]]

    async def expire(self, key_id: UUID, *, scope: Scope, at: datetime) -> ApiKey:
        """See ports.Keys."""
        secret_hash, key = self._found(key_id, scope)
        ends = at if key.expires_at is None else min(at, key.expires_at)
        self.database.keys[secret_hash] = replace(key, expires_at=ends)
        return self._told(self.database.keys[secret_hash])

    async def revoke(self, key_id: UUID, *, scope: Scope) -> None:
        """See ports.Keys."""
        del self.database.keys[self._found(key_id, scope)[0]]

    async def used(self, key_ids: Sequence[UUID]) -> None:
        """See ports.Keys."""
        for secret_hash, key in self.database.keys.items():
            if key.id in key_ids:
                self.database.keys[secret_hash] = replace(key, last_used_at=datetime.now(UTC))

    async def any(self) -> bool:
        """See ports.Keys."""
        return bool(self.database.keys)

    def _found(self, key_id: UUID, scope: Scope) -> tuple[bytes, ApiKey]:
        for secret_hash, key in self.database.keys.items():
            if key.id == key_id and key.tenant_id == scope.tenant_id:
                return secret_hash, key
        raise NotFoundError(f"No key with id key_{key_id.hex}.")

    def _told(self, key: ApiKey) -> ApiKey:
        tenant = self.database.tenants.get(key.tenant_id)
        if tenant is None:
            return key
        return replace(key, tenant_limits=tenant.limits, suspended=tenant.suspended)
