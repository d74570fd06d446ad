"""Uploaded files in PostgreSQL."""

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID, uuid4

from bookwheel.backends.postgres.access_sql import file_visible, visible_anywhere
from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.backends.postgres.removal import remove_documents
from bookwheel.backends.postgres.stores import page
from bookwheel.errors import NotFoundError
from bookwheel.rights import holds_hidden, sees_all
from bookwheel.types import File, Scope

SELECT = """
SELECT f.id, f.tenant_id, f.filename, f.purpose, f.size, f.sha256, f.created_at, f.expires_at FROM files f
"""

INSERT = """
INSERT INTO files (id, tenant_id, filename, purpose, size, sha256, created_at, expires_at)
SELECT %s, %s, %s, %s, %s, %s, t.now, t.now + %s * interval '1 second' FROM clock_timestamp() AS t (now)
RETURNING id, tenant_id, filename, purpose, size, sha256, created_at, expires_at
"""

HASHES = "SELECT DISTINCT sha256 FROM files WHERE sha256 > %s ORDER BY sha256 LIMIT 1000"
BURY = "INSERT INTO blob_tombstones (sha256) VALUES (%s) ON CONFLICT (sha256) DO UPDATE SET since = now()"
DEAD = """
SELECT t.sha256 FROM blob_tombstones t WHERE t.since < now() - %s * interval '1 second'
    AND NOT EXISTS (SELECT FROM files f WHERE f.sha256 = t.sha256) LIMIT %s
"""


class PostgresFiles:
    """Fills ports.Files."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def create(
        self, filename: str, *, scope: Scope, purpose: str, size: int, sha256: bytes, expires_in: int | None = None
    ) -> File:
        """See ports.Files."""
        values = uuid4(), scope.tenant_id, filename, purpose, size, sha256, expires_in
        try:
            return _file((await self.database.fetch(INSERT, values))[0])
        except NotFoundError:  # the tenant has gone meanwhile: its bytes must not stay
            async with self.database.connection() as connection:
                await connection.execute(BURY.encode(), (sha256,))
            raise

    async def get(self, file_id: UUID, *, scope: Scope) -> File:
        """See ports.Files."""
        there = file_visible(scope)
        found = await self.database.fetch(f"{SELECT} WHERE f.id = %s AND {there.sql}", [file_id, *there.values])
        if not found:
            raise _unknown(file_id)
        return _file(found[0])

    async def list(self, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True) -> "list[File]":
        """See ports.Files."""
        there = file_visible(scope)
        query, parameters = page(SELECT, there.sql, there.values, alias="f", table="files", after=after, newest=newest)
        return [_file(row) for row in await self.database.fetch(query, [*parameters, limit])]

    async def delete(self, file_id: UUID, *, scope: Scope, unless_used: bool = False) -> bool:
        """See ports.Files."""

        async def work(connection: Connection) -> bool:
            there, shown = file_visible(scope), visible_anywhere(scope)
            found = await rows(
                connection,
                f"SELECT f.sha256 FROM files f WHERE f.id = %s AND {there.sql} FOR UPDATE",
                [file_id, *there.values],
            )
            if not found:
                raise _unknown(file_id)
            if unless_used and await rows(connection, "SELECT 1 FROM documents WHERE file_id = %s LIMIT 1", (file_id,)):
                return False
            hidden = f"SELECT 1 FROM documents d WHERE d.file_id = %s AND NOT ({shown.sql}) LIMIT 1"
            if not sees_all(scope) and await rows(connection, hidden, [file_id, *shown.values]):
                raise holds_hidden("file")
            await remove_file(connection, file_id, found[0][0])
            return True

        return await self.database.transact(work)

    async def dead_blobs(self, *, older_than_seconds: float, limit: int) -> Sequence[bytes]:
        """See ports.Files."""
        return [row[0] for row in await self.database.fetch(DEAD, (older_than_seconds, limit))]

    async def forget_blobs(self, hashes: Sequence[bytes]) -> None:
        """See ports.Files."""
        await self.database.fetch("DELETE FROM blob_tombstones WHERE sha256 = ANY(%s) RETURNING 1", (list(hashes),))

    async def hashes(self) -> AsyncIterator[bytes]:
        """See ports.Files."""
        last = b""
        while found := await self.database.fetch(HASHES, (last,)):
            for (sha256,) in found:
                yield sha256
            last = found[-1][0]

    async def having(self, hashes: Sequence[bytes]) -> set[bytes]:
        """See ports.Files."""
        found = await self.database.fetch("SELECT DISTINCT sha256 FROM files WHERE sha256 = ANY(%s)", (list(hashes),))
        return {row[0] for row in found}


async def remove_file(connection: Connection, file_id: UUID, sha256: bytes) -> None:
    """Delete a file that the caller's transaction holds, and the documents made of it."""
    await remove_documents(connection, "d.file_id = %s", [file_id])
    await connection.execute("DELETE FROM files WHERE id = %s", (file_id,))
    await connection.execute(BURY.encode(), (sha256,))


def _unknown(file_id: UUID) -> NotFoundError:
    return NotFoundError(f"No file with id file-{file_id.hex}. List yours with GET /v1/files.")


def _file(row: tuple[Any, ...]) -> File:
    return File(
        id=row[0],
        tenant_id=row[1],
        filename=row[2],
        purpose=row[3],
        size=row[4],
        sha256=row[5],
        created_at=row[6],
        expires_at=row[7],
    )
