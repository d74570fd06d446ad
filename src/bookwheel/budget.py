"""What may be embedded of a tenant's documents in a day, from the same counters as its requests for embeddings."""

import asyncio
from collections.abc import Mapping
from uuid import UUID

from cachetools import TTLCache

from bookwheel.errors import NotFoundError, QuotaError, RateLimitError
from bookwheel.limits import DAY, Guard
from bookwheel.ports import Tenants
from bookwheel.types import Scope, Tenant

TRUST_SECONDS = 10.0  #: so long a worker may go on with what it read of a tenant
MOST_TENANTS = 10_000  #: that a process remembers


class NoBudget:
    """Fills ports.EmbeddingBudget: nobody has a limit."""

    async def wait(self, tenant_id: UUID) -> float:  # noqa: ARG002 - the port's
        """Now."""
        return 0.0

    async def book(self, tokens: Mapping[UUID, int]) -> None:
        """Not counted."""

    async def limited(self, tenant_id: UUID) -> bool:  # noqa: ARG002 - the port's
        """Nobody is."""
        return False


class DailyBudget:
    """Fills ports.EmbeddingBudget by the limits of tenants and of the settings."""

    def __init__(self, guard: Guard, tenants: Tenants) -> None:
        self._guard = guard
        self._tenants = tenants
        self._known: TTLCache[UUID, Tenant | None] = TTLCache(maxsize=MOST_TENANTS, ttl=TRUST_SECONDS)

    async def wait(self, tenant_id: UUID) -> float:
        """See ports.EmbeddingBudget."""
        tenant = await self._tenant(tenant_id)
        try:
            if tenant is not None:
                await self._guard.ingest(tenant, tokens=0)
        except RateLimitError as error:
            return error.retry_after or TRUST_SECONDS
        except QuotaError:
            return DAY
        return 0.0

    async def book(self, tokens: Mapping[UUID, int]) -> None:
        """See ports.EmbeddingBudget."""
        await asyncio.gather(*(self._guard.book(tenant_id, tokens=count) for tenant_id, count in tokens.items()))

    async def limited(self, tenant_id: UUID) -> bool:
        """See ports.EmbeddingBudget."""
        tenant = await self._tenant(tenant_id)
        return tenant is not None and self._guard.limits_embedding(tenant)

    async def _tenant(self, tenant_id: UUID) -> Tenant | None:
        if tenant_id not in self._known:
            try:
                self._known[tenant_id] = await self._tenants.get(scope=Scope(tenant_id=tenant_id))
            except NotFoundError:  # it was offboarded just now
                self._known[tenant_id] = None
        return self._known[tenant_id]
