"""Tenants and the questions they ask again and again, in PostgreSQL."""

import builtins
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from psycopg.errors import UniqueViolation
from psycopg.types.json import Json, Jsonb

from bookwheel.backends.postgres.database import Database
from bookwheel.backends.postgres.keys import packed_limits, unpacked_limits
from bookwheel.backends.postgres.shards import shard_of
from bookwheel.errors import ConflictError, NotFoundError
from bookwheel.types import AskedQuestion, Keep, Limits, Scope, Tenant

COLUMNS = "id, name, generator, created_at, suspended, weight, limits"
CREATE = f"""
INSERT INTO tenants (id, name, shard, limits, weight) VALUES (%s, %s, %s, %s, %s) RETURNING {COLUMNS}
"""
PAGE = f"""
SELECT {COLUMNS} FROM tenants WHERE %(after)s::uuid IS NULL
    OR (created_at, id) > (SELECT created_at, id FROM tenants WHERE id = %(after)s)
ORDER BY created_at, id LIMIT %(limit)s
"""
UPDATE = f"""
UPDATE tenants SET name = coalesce(%(name)s, name),
    generator = CASE WHEN %(keep)s THEN generator ELSE %(generator)s END,
    suspended = coalesce(%(suspended)s, suspended), weight = coalesce(%(weight)s, weight),
    limits = coalesce(%(limits)s::jsonb, limits)
WHERE id = %(tenant)s RETURNING {COLUMNS}
"""
HELD = """
SELECT coalesce(sum(in_progress + completed + failed + cancelled), 0)::bigint,
    (coalesce(sum(size), 0) + (SELECT coalesce(sum(size), 0) FROM files WHERE tenant_id = %(tenant)s))::bigint
FROM stores WHERE tenant_id = %(tenant)s
"""
NOTE = """
INSERT INTO asked_questions (key, tenant_id, request, times)
SELECT asked.* FROM unnest(%s::text[], %s::uuid[], %s::json[], %s::bigint[]) AS asked (key, tenant_id, request, times)
JOIN tenants ON tenants.id = asked.tenant_id ORDER BY asked.key
ON CONFLICT (key) DO UPDATE SET times = asked_questions.times + excluded.times, asked_at = now()
"""
POPULAR = """
SELECT tenant_id, key, request, times FROM asked_questions
WHERE times >= %s AND asked_at > now() - %s * interval '1 second' ORDER BY times DESC, key LIMIT %s
"""
REFRESHED = """
UPDATE asked_questions SET refreshed_at = now()
WHERE key = %s AND (refreshed_at IS NULL OR refreshed_at < asked_at) RETURNING 1
"""
FORGET = """
DELETE FROM asked_questions WHERE key IN (
    SELECT key FROM asked_questions WHERE asked_at < now() - %s * interval '1 second' LIMIT %s FOR UPDATE SKIP LOCKED
) RETURNING 1
"""


class PostgresTenants:
    """Fills ports.Tenants."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def create(self, name: str, *, limits: Limits, weight: float = 1.0) -> Tenant:
        """See ports.Tenants."""
        tenant_id = uuid4()
        values = (tenant_id, name, shard_of(tenant_id), Jsonb(packed_limits(limits)), weight)
        return _tenant(await self._changed(CREATE, values, name=name))

    async def get(self, *, scope: Scope) -> Tenant:
        """See ports.Tenants."""
        return _tenant(await self.database.fetch(f"SELECT {COLUMNS} FROM tenants WHERE id = %s", (scope.tenant_id,)))

    async def list(self, *, limit: int, after: UUID | None = None) -> Sequence[Tenant]:
        """See ports.Tenants."""
        found = await self.database.fetch(PAGE, {"after": after, "limit": limit})
        return [_tenant([row]) for row in found]

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
        values = {
            "tenant": scope.tenant_id,
            "name": name,
            "keep": generator == "keep",
            "generator": None if generator == "keep" else generator,
            "suspended": suspended,
            "weight": weight,
            "limits": None if limits is None else Jsonb(packed_limits(limits)),
        }
        return _tenant(await self._changed(UPDATE, values, name=name))

    async def held(self, *, scope: Scope) -> tuple[int, int]:
        """See ports.Tenants."""
        ((documents, size),) = await self.database.fetch(HELD, {"tenant": scope.tenant_id})
        return documents, size

    async def _changed(self, query: str, values: Any, *, name: str | None) -> builtins.list[tuple[Any, ...]]:
        try:
            return await self.database.fetch(query, values)
        except UniqueViolation:
            raise ConflictError(f"There is a tenant with the name {name!r} already. Choose another.") from None


class PostgresAskedQuestions:
    """Fills ports.AskedQuestions."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def note(self, asked: Sequence[AskedQuestion]) -> None:
        """See ports.AskedQuestions."""
        columns = (
            [one.key for one in asked],
            [one.tenant_id for one in asked],
            [Json(one.request) for one in asked],
            [one.times for one in asked],
        )
        async with self.database.connection() as connection:
            await connection.execute(NOTE, columns)

    async def popular(self, *, limit: int, at_least: int, within_seconds: float) -> Sequence[AskedQuestion]:
        """See ports.AskedQuestions."""
        found = await self.database.fetch(POPULAR, (at_least, within_seconds, limit))
        return [AskedQuestion(tenant_id=row[0], key=row[1], request=row[2], times=row[3]) for row in found]

    async def refreshed(self, key: str) -> bool:
        """See ports.AskedQuestions."""
        return bool(await self.database.fetch(REFRESHED, (key,)))

    async def forget(self, *, older_than_seconds: float, limit: int) -> int:
        """See ports.AskedQuestions."""
        return len(await self.database.fetch(FORGET, (older_than_seconds, limit)))


def _tenant(found: list[tuple[Any, ...]]) -> Tenant:
    if not found:
        raise NotFoundError("There is no such tenant.")
    row = found[0]
    return Tenant(
        id=row[0],
        name=row[1],
        generator=row[2],
        created_at=row[3],
        suspended=row[4],
        weight=row[5],
        limits=unpacked_limits(row[6]),
    )
