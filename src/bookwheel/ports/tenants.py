"""Whom the service serves, their keys, and what they ask again and again."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from bookwheel.types import ApiKey, AskedQuestion, Keep, Limits, Scope, Tenant


class Tenants(Protocol):
    """The tenants and what they chose."""

    async def create(self, name: str, *, limits: Limits, weight: float = 1.0) -> Tenant:
        """Make a tenant. Raises ConflictError for a name that another one has."""

    async def get(self, *, scope: Scope) -> Tenant:
        """The scope's tenant. Raises NotFoundError."""

    async def list(self, *, limit: int, after: UUID | None = None) -> Sequence[Tenant]:
        """A page of all tenants, oldest first."""

    async def update(
        self,
        *,
        scope: Scope,
        name: str | None = None,
        generator: str | Keep | None = "keep",
        suspended: bool | None = None,
        weight: float | None = None,
        limits: Limits | None = None,
    ) -> Tenant:
        """Change what is given. Raises NotFoundError, ConflictError for a name that another one has."""

    async def held(self, *, scope: Scope) -> tuple[int, int]:
        """Documents of the tenant, and bytes of their sources and of its files: a file that a document is made of
        counts as both."""


class Keys(Protocol):
    """API keys: who may come in. Secrets are never stored, only their hashes."""

    async def create(self, key: ApiKey, *, secret_hash: bytes) -> ApiKey:
        """Keep a new key; its hash is 32 bytes. Raises NotFoundError when its tenant is gone."""

    async def by_hash(self, secret_hash: bytes) -> ApiKey | None:
        """The key of this secret with what its tenant allows; None when there is none, or when it has expired."""

    async def get(self, key_id: UUID, *, scope: Scope) -> ApiKey:
        """Raises NotFoundError, also for another tenant's key and one that was revoked."""

    async def list(self, *, scope: Scope, limit: int, after: UUID | None = None) -> Sequence[ApiKey]:
        """A page of the tenant's keys, newest first, with those that have expired."""

    async def expire(self, key_id: UUID, *, scope: Scope, at: datetime) -> ApiKey:
        """End it then, unless it ends earlier. Raises NotFoundError."""

    async def revoke(self, key_id: UUID, *, scope: Scope) -> None:
        """Remove it: it is refused from now on. Raises NotFoundError."""

    async def used(self, key_ids: Sequence[UUID]) -> None:
        """Note that these were used just now."""

    async def any(self) -> bool:
        """Whether there is a key at all, of any tenant."""


class AskedQuestions(Protocol):
    """How often each question is asked. A count may be lost with its process; nothing rests on it."""

    async def note(self, asked: Sequence[AskedQuestion]) -> None:
        """Add to the counts; those of tenants that are gone are left out."""

    async def popular(self, *, limit: int, at_least: int, within_seconds: float) -> Sequence[AskedQuestion]:
        """Questions of all tenants that were asked so often, and the last time so lately, most often first."""

    async def refreshed(self, key: str) -> bool:
        """Note that a question was answered anew ahead of time; False, and nothing is noted, when nobody has asked it
        since that was done last: what nobody asks is not worth an answer."""

    async def forget(self, *, older_than_seconds: float, limit: int) -> int:
        """Forget questions that were asked longer ago; returns how many."""
