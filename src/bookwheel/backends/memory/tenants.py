"""Tenants and the questions they ask again and again, in memory."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from bookwheel.backends.memory.database import AskedRow, MemoryDatabase
from bookwheel.errors import ConflictError, NotFoundError
from bookwheel.types import AskedQuestion, Keep, Limits, Scope, Tenant


class MemoryTenants:
    """Fills ports.Tenants. Every tenant exists that was not removed; those that were made or changed are listed."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def create(self, name: str, *, limits: Limits, weight: float = 1.0) -> Tenant:
        """See ports.Tenants."""
        self._free(name)
        tenant = Tenant(id=uuid4(), name=name, generator=None, created_at=_now(), weight=weight, limits=limits)
        self.database.tenants[tenant.id] = tenant
        return tenant

    async def get(self, *, scope: Scope) -> Tenant:
        """See ports.Tenants."""
        tenant_id = scope.tenant_id
        if tenant_id in self.database.gone:
            raise NotFoundError("There is no such tenant.")
        return self.database.tenants.get(tenant_id) or Tenant(
            id=tenant_id, name=tenant_id.hex, generator=None, created_at=_now()
        )

    async def list(self, *, limit: int, after: UUID | None = None) -> Sequence[Tenant]:
        """See ports.Tenants."""
        ids = [*self.database.tenants]
        start = ids.index(after) + 1 if after in ids else 0
        return [self.database.tenants[one] for one in ids[start : start + limit]] if after is None or start else []

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
        """See ports.Tenants."""
        tenant = await self.get(scope=scope)
        if name not in (None, tenant.name):
            self._free(str(name))
        given = {"name": name, "suspended": suspended, "weight": weight, "limits": limits}
        changes: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
        if generator != "keep":
            changes["generator"] = generator
        if changes:
            tenant = self.database.tenants[tenant.id] = replace(tenant, **changes)
        return tenant

    async def held(self, *, scope: Scope) -> tuple[int, int]:
        """See ports.Tenants."""
        rows = [row.document for row in self.database.documents.values()]
        documents = [one for one in rows if one.tenant_id == scope.tenant_id]
        files = [one.size for one in self.database.files.values() if one.tenant_id == scope.tenant_id]
        return len(documents), sum(one.size for one in documents) + sum(files)

    def _free(self, name: str) -> None:
        if any(tenant.name == name for tenant in self.database.tenants.values()):
            raise ConflictError(f"There is a tenant with the name {name!r} already. Choose another.")


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


def _now() -> datetime:
    return datetime.now(UTC)
