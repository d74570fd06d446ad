"""Idempotency keys in PostgreSQL."""

from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from bookwheel.backends.postgres.database import Database
from bookwheel.errors import IdempotencyKeyBusyError, IdempotencyKeyReusedError
from bookwheel.types import KeptResponse, Scope

# Over an existing key only when it is forgotten by its age, or when its try died and this is the same request.
TAKE = """
INSERT INTO idempotency_keys AS k (tenant_id, key, fingerprint, owner, busy_until)
VALUES (%(tenant)s, %(key)s, %(fingerprint)s, %(owner)s, clock_timestamp() + %(lease)s * interval '1 second')
ON CONFLICT (tenant_id, key) DO UPDATE SET fingerprint = excluded.fingerprint, owner = excluded.owner,
    busy_until = excluded.busy_until, created_at = clock_timestamp(), status = NULL, headers = NULL, body = NULL
WHERE (k.status IS NULL AND k.busy_until < clock_timestamp() AND k.fingerprint = excluded.fingerprint)
    OR (k.created_at < clock_timestamp() - %(keep)s * interval '1 second'
        AND (k.status IS NOT NULL OR k.busy_until < clock_timestamp()))
RETURNING owner
"""
HELD = "SELECT fingerprint, status, headers, body FROM idempotency_keys WHERE tenant_id = %s AND key = %s"

MINE = "tenant_id = %(tenant)s AND key = %(key)s AND owner = %(owner)s AND status IS NULL"
RENEW = f"""
UPDATE idempotency_keys SET busy_until = clock_timestamp() + %(lease)s * interval '1 second' WHERE {MINE} RETURNING 1
"""
FINISH = f"""
UPDATE idempotency_keys SET status = %(status)s, headers = %(headers)s, body = %(body)s WHERE {MINE} RETURNING 1
"""
FORGET = f"DELETE FROM idempotency_keys WHERE {MINE} RETURNING 1"
CLEAN = """
DELETE FROM idempotency_keys WHERE (tenant_id, key) IN (SELECT tenant_id, key FROM idempotency_keys
    WHERE created_at < now() - %s * interval '1 second'
        AND (status IS NOT NULL OR busy_until < clock_timestamp()) LIMIT %s FOR UPDATE SKIP LOCKED)
RETURNING 1
"""


class PostgresIdempotencyKeys:
    """Fills ports.IdempotencyKeys."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def begin(
        self, key: str, fingerprint: bytes, *, scope: Scope, owner: UUID, lease_seconds: float, keep_seconds: float
    ) -> KeptResponse | None:
        """See ports.IdempotencyKeys."""
        wanted = {**_mine(key, scope, owner), "fingerprint": fingerprint, "lease": lease_seconds, "keep": keep_seconds}
        if await self.database.fetch(TAKE, wanted):
            return None
        held = await self.database.fetch(HELD, (scope.tenant_id, key))
        if held and held[0][0] != fingerprint:
            raise IdempotencyKeyReusedError(
                f"The Idempotency-Key {key!r} was used for another request. Send each new request with a new key."
            )
        if not held or held[0][1] is None:  # forgotten between the two statements, or running
            raise IdempotencyKeyBusyError(
                f"A request with the Idempotency-Key {key!r} is still running. Send it again in a moment."
            )
        _, status, headers, body = held[0]
        return KeptResponse(status=status, headers=headers, body=body)

    async def renew(self, key: str, *, scope: Scope, owner: UUID, lease_seconds: float) -> None:
        """See ports.IdempotencyKeys."""
        await self.database.fetch(RENEW, {**_mine(key, scope, owner), "lease": lease_seconds})

    async def finish(self, key: str, response: KeptResponse, *, scope: Scope, owner: UUID) -> None:
        """See ports.IdempotencyKeys."""
        answer = {"status": response.status, "headers": Jsonb(dict(response.headers)), "body": response.body}
        await self.database.fetch(FINISH, {**_mine(key, scope, owner), **answer})

    async def forget(self, key: str, *, scope: Scope, owner: UUID) -> None:
        """See ports.IdempotencyKeys."""
        await self.database.fetch(FORGET, _mine(key, scope, owner))

    async def clean(self, *, older_than_seconds: float, limit: int) -> int:
        """See ports.IdempotencyKeys."""
        return len(await self.database.fetch(CLEAN, (older_than_seconds, limit)))


def _mine(key: str, scope: Scope, owner: UUID) -> dict[str, Any]:
    return {"tenant": scope.tenant_id, "key": key, "owner": owner}
