"""Tenants and the questions they ask again and again, in memory."""

from collections.abc import Sequence
from dataclasses import replace

from bookwheel.backends.memory.database import AskedRow, MemoryDatabase
from bookwheel.types import AskedQuestion, Keep, Scope, Tenant


class MemoryTenants:
    """Fills ports.Tenants. Every tenant exists."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def get(self, *, scope: Scope) -> Tenant:
        """See ports.Tenants."""
        tenant_id = scope.tenant_id
        return self.database.tenants.get(tenant_id) or Tenant(id=tenant_id, name=tenant_id.hex, generator=None)

    async def update(self, *, scope: Scope, generator: str | Keep | None = "keep") -> Tenant:
        """See ports.Tenants."""
        tenant = await self.get(scope=scope)
        if generator != "keep":
            tenant = self.database.tenants[tenant.id] = replace(tenant, generator=generator)
        return tenant


class MemoryAskedQuestions:
    """Fills ports.AskedQuestions."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def note(self, asked: Sequence[AskedQuestion]) -> None:
        """See ports.AskedQuestions."""
        now = self.database.clock()
        for one in asked:
            before = self.database.asked.get(one.key)
            times = one.times + (before.asked.times if before else 0)
            refreshed_at = before.refreshed_at if before else None
            self.database.asked[one.key] = AskedRow(
                asked=replace(one, times=times), asked_at=now, refreshed_at=refreshed_at
            )

    async def popular(self, *, limit: int, at_least: int, within_seconds: float) -> Sequence[AskedQuestion]:
        """See ports.AskedQuestions."""
        since = self.database.clock() - within_seconds
        rows = [row.asked for row in self.database.asked.values() if row.asked_at > since]
        return sorted((one for one in rows if one.times >= at_least), key=lambda one: (-one.times, one.key))[:limit]

    async def refreshed(self, key: str) -> bool:
        """See ports.AskedQuestions."""
        row = self.database.asked.get(key)
        if row is None or (row.refreshed_at is not None and row.refreshed_at >= row.asked_at):
            return False
        self.database.asked[key] = replace(row, refreshed_at=self.database.clock())
        return True

    async def forget(self, *, older_than_seconds: float, limit: int) -> int:
        """See ports.AskedQuestions."""
        before = self.database.clock() - older_than_seconds
        old = [key for key, row in self.database.asked.items() if row.asked_at < before][:limit]
        for key in old:
            del self.database.asked[key]
        return len(old)
