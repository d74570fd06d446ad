"""Kept responses in PostgreSQL: the caller's side and the worker's."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from psycopg.types.json import Jsonb

from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.errors import NotFoundError
from bookwheel.types import LOCAL_CALLER, ModelResponse, ResponseEvent, Scope

COLUMNS = (
    "r.id, r.tenant_id, r.principals, r.previous_id, r.request, r.body, r.background, r.created_at, r.attempts,"
    " r.caller_id, r.granted, r.rule"
)
MINE = "r.id = %s AND r.tenant_id = %s AND r.caller_id = %s"
ONE = f"SELECT {COLUMNS} FROM responses r WHERE {MINE}"
CREATE = """
INSERT INTO responses (id, tenant_id, principals, previous_id, request, body, status, background, created_at,
    caller_id, granted, rule)
VALUES (%s, %s, %s, %s, %s::json, %s::json, %s, %s, %s, %s, %s, %s)
"""
CHAIN = f"""
WITH RECURSIVE chain AS (
    SELECT {COLUMNS}, 1 AS place FROM responses r
    WHERE r.id = %(id)s AND r.tenant_id = %(tenant)s AND r.caller_id = %(caller)s
    UNION ALL
    SELECT {COLUMNS}, c.place + 1 FROM chain c JOIN responses r ON r.id = c.previous_id
    WHERE r.tenant_id = %(tenant)s AND r.caller_id = %(caller)s AND c.place < %(limit)s
)
SELECT r.* FROM chain r ORDER BY r.place DESC
"""
EVENTS = f"""
SELECT e.event FROM response_events e JOIN responses r ON r.id = e.response_id
WHERE {MINE} AND e.number > %s ORDER BY e.number LIMIT %s
"""
APPEND = """
INSERT INTO response_events (response_id, number, event)
SELECT %s, u.number, u.event::json FROM unnest(%s::integer[], %s::text[]) AS u (number, event)
"""
UNFINISHED = "r.status IN ('queued', 'in_progress')"
CLAIM = f"""
UPDATE responses r SET owner = %(owner)s, attempts = r.attempts + 1,
    expires_at = clock_timestamp() + %(seconds)s * interval '1 second'
FROM (SELECT r.id FROM responses r WHERE {UNFINISHED} AND r.background
        AND (r.expires_at IS NULL OR r.expires_at < clock_timestamp())
      ORDER BY r.created_at, r.id LIMIT %(limit)s FOR UPDATE SKIP LOCKED) AS due
WHERE r.id = due.id RETURNING {COLUMNS}
"""
RENEW = f"""
UPDATE responses r SET expires_at = clock_timestamp() + %s * interval '1 second'
WHERE r.owner = %s AND {UNFINISHED} RETURNING r.id
"""
HELD = f"SELECT r.tenant_id FROM responses r WHERE r.id = %s AND r.owner = %s AND {UNFINISHED} FOR UPDATE"
REPLACE = """
UPDATE responses SET body = %(body)s::json, status = %(status)s, owner = CASE WHEN %(ended)s THEN NULL ELSE owner END,
    expires_at = CASE WHEN %(ended)s THEN NULL ELSE expires_at END
WHERE id = %(id)s
"""
RELEASE = """
UPDATE responses SET owner = NULL, expires_at = clock_timestamp() + %s * interval '1 second',
    attempts = attempts - %s::integer
WHERE owner = %s
"""
FORGET = """
DELETE FROM responses WHERE id IN (
    SELECT id FROM responses WHERE created_at < now() - %s * interval '1 second' LIMIT %s
    FOR UPDATE SKIP LOCKED) RETURNING id
"""


class PostgresResponses:
    """Fills ports.Responses."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def create(self, response: ModelResponse, *, scope: Scope, events: Sequence[ResponseEvent]) -> None:
        """See ports.Responses."""
        values = (
            response.id,
            scope.tenant_id,
            list(response.principals),
            response.previous_id,
            _json(response.request),
            _json(response.body),
            response.status,
            response.background,
            response.created_at,
            response.caller_id,
            None if response.granted is None else list(response.granted),
            None if response.rule is None else Jsonb(dict(response.rule)),
        )

        async def work(connection: Connection) -> None:
            await connection.execute(CREATE.encode(), values)
            await _append(connection, response.id, events)

        await self.database.transact(work)

    async def get(self, response_id: UUID, *, scope: Scope, caller_id: str = LOCAL_CALLER) -> ModelResponse:
        """See ports.Responses."""
        found = await self.database.fetch(ONE, (response_id, scope.tenant_id, caller_id))
        if not found:
            raise _unknown(response_id)
        return read_response(found[0])

    async def conversation(
        self, response_id: UUID, *, scope: Scope, limit: int, caller_id: str = LOCAL_CALLER
    ) -> list[ModelResponse]:
        """See ports.Responses."""
        begin = {"id": response_id, "tenant": scope.tenant_id, "caller": caller_id, "limit": limit}
        found = await self.database.fetch(CHAIN, begin)
        if not found:
            raise _unknown(response_id)
        return [read_response(row) for row in found]

    async def events(
        self, response_id: UUID, *, scope: Scope, after: int = -1, limit: int, caller_id: str = LOCAL_CALLER
    ) -> list[ResponseEvent]:
        """See ports.Responses."""
        found = await self.database.fetch(EVENTS, (response_id, scope.tenant_id, caller_id, after, limit))
        return [row[0] for row in found]

    async def cancel(self, response_id: UUID, *, scope: Scope, caller_id: str = LOCAL_CALLER) -> ModelResponse:
        """See ports.Responses."""
        mine = (response_id, scope.tenant_id, caller_id)

        async def work(connection: Connection) -> ModelResponse:
            found = await rows(connection, f"{ONE} FOR UPDATE", mine)
            if not found:
                raise _unknown(response_id)
            response = read_response(found[0])
            if not response.has_ended:
                await _replace(connection, response_id, scope.tenant_id, {**response.body, "status": "cancelled"})
            return read_response((await rows(connection, ONE, mine))[0])

        return await self.database.transact(work)

    async def delete(self, response_id: UUID, *, scope: Scope, caller_id: str = LOCAL_CALLER) -> None:
        """See ports.Responses."""
        gone = await self.database.fetch(
            "DELETE FROM responses WHERE id = %s AND tenant_id = %s AND (caller_id = %s OR %s) RETURNING id",
            (response_id, scope.tenant_id, caller_id, scope.manages),
        )
        if not gone:
            raise _unknown(response_id)


class PostgresResponseRuns:
    """Fills ports.ResponseRuns."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def claim(self, *, owner: str, lease_seconds: float, limit: int) -> list[ModelResponse]:
        """See ports.ResponseRuns."""
        found = await self.database.fetch(CLAIM, {"owner": owner, "seconds": lease_seconds, "limit": limit})
        return sorted((read_response(row) for row in found), key=lambda response: (response.created_at, response.id))

    async def renew(self, owner: str, *, lease_seconds: float) -> bool:
        """See ports.ResponseRuns."""
        return bool(await self.database.fetch(RENEW, (lease_seconds, owner)))

    async def record(
        self, response_id: UUID, events: Sequence[ResponseEvent], *, owner: str, body: Mapping[str, Any] | None = None
    ) -> bool:
        """See ports.ResponseRuns."""

        async def work(connection: Connection) -> bool:
            held = await rows(connection, HELD, (response_id, owner))
            if not held:
                return False
            await _append(connection, response_id, events)
            if body is not None:
                await _replace(connection, response_id, held[0][0], body)
            return True

        return await self.database.transact(work)

    async def release(self, owner: str, *, retry_in: float = 0.0, uncounted: bool = False) -> None:
        """See ports.ResponseRuns."""
        async with self.database.connection() as connection:
            await connection.execute(RELEASE.encode(), (retry_in, uncounted, owner))

    async def forget(self, *, older_than_seconds: float, limit: int) -> int:
        """See ports.ResponseRuns."""
        return len(await self.database.fetch(FORGET, (older_than_seconds, limit)))


async def _append(connection: Connection, response_id: UUID, events: Sequence[ResponseEvent]) -> None:
    if events:
        numbers = [event["sequence_number"] for event in events]
        await connection.execute(APPEND.encode(), (response_id, numbers, [_json(event) for event in events]))


async def _replace(connection: Connection, response_id: UUID, tenant_id: UUID, body: Mapping[str, Any]) -> None:
    """Set the body; one that has ended is told to webhooks."""
    ended = body["status"] not in ("queued", "in_progress")
    await connection.execute(
        REPLACE.encode(), {"id": response_id, "body": _json(body), "status": body["status"], "ended": ended}
    )
    if ended:
        await connection.execute(
            "SELECT tell_webhooks(ARRAY[%s]::uuid[], %s, ARRAY[%s]::json[])",
            (tenant_id, f"response.{body['status']}", _json({"id": body["id"]})),
        )


def _json(value: Mapping[str, Any]) -> str:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _unknown(response_id: UUID) -> NotFoundError:
    return NotFoundError(f"No response with id resp_{response_id.hex}. It may have been deleted, or never stored.")


def read_response(row: Sequence[Any]) -> ModelResponse:
    """A row of COLUMNS."""
    return ModelResponse(
        id=row[0],
        tenant_id=row[1],
        principals=tuple(row[2]),
        previous_id=row[3],
        request=row[4],
        body=row[5],
        background=row[6],
        created_at=row[7],
        attempts=row[8],
        caller_id=row[9],
        granted=None if row[10] is None else tuple(row[10]),
        rule=row[11],
    )
