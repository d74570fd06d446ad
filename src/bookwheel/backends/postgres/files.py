"""Uploaded files in PostgreSQL."""

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID, uuid4

from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.backends.postgres.removal import remove_documents
from bookwheel.backends.postgres.stores import page
from bookwheel.errors import NotFoundError
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
        made = await self.database.fetch(
            INSERT, (uuid4(), scope.tenant_id, filename, purpose, size, sha256, expires_in)
        )
        return _file(made[0])

    async def get(self, file_id: UUID, *, scope: Scope) -> File:
        """See ports.Files."""
        found = await self.database.fetch(f"{SELECT} WHERE f.id = %s AND f.tenant_id = %s", (file_id, scope.tenant_id))
        if not found:
            raise NotFoundError(f"No file with id file-{file_id.hex}. List yours with GET /v1/files.")
        return _file(found[0])

    async def list(self, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True) -> "list[File]":
        """See ports.Files."""
        query, parameters = page(
            SELECT, "f.tenant_id = %s", [scope.tenant_id], alias="f", table="files", after=after, newest=newest
        )
        return [_file(row) for row in await self.database.fetch(query, [*parameters, limit])]

    async def delete(self, file_id: UUID, *, scope: Scope, unless_used: bool = False) -> bool:
        """See ports.Files."""

        async def work(connection: Connection) -> bool:
            found = await rows(
                connection,
                "SELECT sha256 FROM files WHERE id = %s AND tenant_id = %s FOR UPDATE",
                (file_id, scope.tenant_id),
            )
            if not found:
                raise NotFoundError(f"No file with id file-{file_id.hex}. List yours with GET /v1/files.")
            if unless_used and await rows(connection, "SELECT 1 FROM documents WHERE file_id = %s LIMIT 1", (file_id,)):
                return False
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
