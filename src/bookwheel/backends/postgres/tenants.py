"""Tenants and the questions they ask again and again, in PostgreSQL."""

from collections.abc import Sequence
from typing import Any

from psycopg.types.json import Json

from bookwheel.backends.postgres.database import Database
from bookwheel.errors import NotFoundError
from bookwheel.types import AskedQuestion, Keep, Scope, Tenant

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

    async def get(self, *, scope: Scope) -> Tenant:
        """See ports.Tenants."""
        return _tenant(
            await self.database.fetch("SELECT id, name, generator FROM tenants WHERE id = %s", (scope.tenant_id,))
        )

    async def update(self, *, scope: Scope, generator: str | Keep | None = "keep") -> Tenant:
        """See ports.Tenants."""
        if generator == "keep":
            return await self.get(scope=scope)
        return _tenant(
            await self.database.fetch(
                "UPDATE tenants SET generator = %s WHERE id = %s RETURNING id, name, generator",
                (generator, scope.tenant_id),
            )
        )


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
    return Tenant(id=found[0][0], name=found[0][1], generator=found[0][2])
