"""API keys in PostgreSQL."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.errors import ForeignKeyViolation
from psycopg.types.json import Jsonb

from bookwheel.backends.postgres.database import Database
from bookwheel.errors import NotFoundError
from bookwheel.types import ApiKey, Limits, Role, Scope

COLUMNS = (
    "k.id, k.tenant_id, k.name, k.prefix, k.role, k.principals, k.store_ids, k.rule, k.limits, k.created_at,"
    " k.expires_at, k.last_used_at, t.limits, t.suspended"
)
SELECT = f"SELECT {COLUMNS} FROM api_keys k JOIN tenants t ON t.id = k.tenant_id"
CREATE = """
INSERT INTO api_keys (id, tenant_id, name, prefix, secret_hash, role, principals, store_ids, rule, limits, expires_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
PAGE = """
WHERE k.tenant_id = %(tenant)s AND (%(after)s::uuid IS NULL OR (k.created_at, k.id) <
    (SELECT created_at, id FROM api_keys WHERE id = %(after)s AND tenant_id = %(tenant)s))
ORDER BY k.created_at DESC, k.id DESC LIMIT %(limit)s
"""
EXPIRE = """
UPDATE api_keys SET expires_at = least(coalesce(expires_at, 'infinity'), %s) WHERE id = %s AND tenant_id = %s
"""


class PostgresKeys:
    """Fills ports.Keys."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def create(self, key: ApiKey, *, secret_hash: bytes) -> ApiKey:
        """See ports.Keys."""
        who = (key.id, key.tenant_id, key.name, key.prefix, secret_hash, key.role)
        sees = (
            sorted(key.principals),
            None if key.store_ids is None else sorted(key.store_ids),
            None if key.rule is None else Jsonb(dict(key.rule)),
        )
        try:
            async with self.database.connection() as connection:
                await connection.execute(CREATE, (*who, *sees, Jsonb(packed_limits(key.limits)), key.expires_at))
        except ForeignKeyViolation:
            raise NotFoundError("There is no such tenant.") from None
        return await self.get(key.id, scope=Scope(tenant_id=key.tenant_id))

    async def by_hash(self, secret_hash: bytes) -> ApiKey | None:
        """See ports.Keys."""
        found = await self.database.fetch(
            f"{SELECT} WHERE k.secret_hash = %s AND (k.expires_at IS NULL OR k.expires_at > now())",
            (secret_hash,),
            walled=True,
        )
        return _key(found[0]) if found else None

    async def get(self, key_id: UUID, *, scope: Scope) -> ApiKey:
        """See ports.Keys."""
        found = await self.database.fetch(f"{SELECT} WHERE k.id = %s AND k.tenant_id = %s", (key_id, scope.tenant_id))
        if not found:
            raise _missing(key_id)
        return _key(found[0])

    async def list(self, *, scope: Scope, limit: int, after: UUID | None = None) -> Sequence[ApiKey]:
        """See ports.Keys."""
        asked = {"tenant": scope.tenant_id, "after": after, "limit": limit}
        return [_key(row) for row in await self.database.fetch(SELECT + PAGE, asked)]

    async def expire(self, key_id: UUID, *, scope: Scope, at: datetime) -> ApiKey:
        """See ports.Keys."""
        async with self.database.connection() as connection:
            await connection.execute(EXPIRE, (at, key_id, scope.tenant_id))
        return await self.get(key_id, scope=scope)

    async def revoke(self, key_id: UUID, *, scope: Scope) -> None:
        """See ports.Keys."""
        if not await self.database.fetch(
            "DELETE FROM api_keys WHERE id = %s AND tenant_id = %s RETURNING 1", (key_id, scope.tenant_id)
        ):
            raise _missing(key_id)

    async def used(self, key_ids: Sequence[UUID]) -> None:
        """See ports.Keys."""
        async with self.database.connection() as connection:
            await connection.execute(
                "UPDATE api_keys SET last_used_at = now() WHERE id IN"
                " (SELECT id FROM api_keys WHERE id = ANY(%s) ORDER BY id FOR UPDATE SKIP LOCKED)",
                (list(key_ids),),
            )

    async def any(self) -> bool:
        """See ports.Keys."""
        return bool(await self.database.fetch("SELECT 1 FROM api_keys LIMIT 1"))


def packed_limits(limits: Limits) -> dict[str, int]:
    """Those that are set, as they are stored."""
    return {name: value for name, value in asdict(limits).items() if value is not None}


def unpacked_limits(packed: Mapping[str, Any]) -> Limits:
    """The opposite; names of a newer release are left out."""
    return Limits(**{name: packed[name] for name in Limits.__slots__ if name in packed})


def _key(row: tuple[Any, ...]) -> ApiKey:
    return ApiKey(
        id=row[0],
        tenant_id=row[1],
        name=row[2],
        prefix=row[3],
        role=Role(row[4]),
        principals=frozenset(row[5]),
        store_ids=None if row[6] is None else frozenset(row[6]),
        rule=row[7],
        limits=unpacked_limits(row[8]),
        created_at=row[9],
        expires_at=row[10],
        last_used_at=row[11],
        tenant_limits=unpacked_limits(row[12]),
        suspended=row[13],
    )


def _missing(key_id: UUID) -> NotFoundError:
    return NotFoundError(f"No key with id key_{key_id.hex}.")
