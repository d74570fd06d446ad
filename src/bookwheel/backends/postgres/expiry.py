"""Stores that nobody uses and files whose time is over, in PostgreSQL."""

from collections.abc import Awaitable, Callable
from typing import Any

from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.backends.postgres.files import remove_file
from bookwheel.backends.postgres.removal import remove_contents
from bookwheel.types import Scope

# A store that is locked is being written to: that is activity enough, and a search must not wait for it.
TOUCH = """
UPDATE stores SET last_active_at = now() WHERE id IN (
    SELECT id FROM stores WHERE id = ANY(%s) AND tenant_id = %s AND expired_at IS NULL
        AND last_active_at < now() - %s * interval '1 second'
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id
"""

OVER = """
SELECT s.id, s.last_active_at, s.space_id FROM stores s
WHERE s.expires_after_days IS NOT NULL AND s.expired_at IS NULL
    AND s.last_active_at + s.expires_after_days * interval '1 day' <= now() - %s * interval '1 second'
LIMIT 1 FOR UPDATE OF s SKIP LOCKED
"""
# What a source saw is forgotten, or it would take the documents for being there when the store is used again.
FORGET_SEEN = "DELETE FROM source_items i USING sources s WHERE s.store_id = %s AND i.source_id = s.id"
# Removing its documents counted as activity.
EXPIRE = "UPDATE stores SET expired_at = now(), last_active_at = %s, version = version + 1 WHERE id = %s"

OLD_FILES = """
SELECT id, sha256 FROM files WHERE expires_at <= now() - %s * interval '1 second'
ORDER BY expires_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""


class PostgresExpiry:
    """Fills ports.Expiry."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def touch(self, *, scope: Scope, every_seconds: float) -> None:
        """See ports.Expiry."""
        await self.database.fetch(TOUCH, (list(scope.store_ids), scope.tenant_id, every_seconds))

    async def stores(self, *, older_than_seconds: float, limit: int) -> int:
        """See ports.Expiry."""

        async def expire_one(connection: Connection) -> bool:
            over: list[tuple[Any, ...]] = await rows(connection, OVER, (older_than_seconds,))
            for store_id, last_active_at, space_id in over:
                await remove_contents(connection, store_id, space_id=space_id)
                await connection.execute("DELETE FROM documents WHERE store_id = %s", (store_id,))
                await connection.execute(FORGET_SEEN.encode(), (store_id,))
                await connection.execute(EXPIRE.encode(), (last_active_at, store_id))
            return bool(over)

        return await self._repeat(expire_one, limit)

    async def files(self, *, older_than_seconds: float, limit: int) -> int:
        """See ports.Expiry."""

        async def expire_one(connection: Connection) -> bool:
            over = await rows(connection, OLD_FILES, (older_than_seconds,))
            for file_id, sha256 in over:
                await remove_file(connection, file_id, sha256)
            return bool(over)

        return await self._repeat(expire_one, limit)

    async def _repeat(self, expire_one: Callable[[Connection], Awaitable[bool]], limit: int) -> int:
        """One transaction each, so that a failure or a crash undoes only the last."""
        done = 0
        while done < limit and await self.database.transact(expire_one):
            done += 1
        return done
