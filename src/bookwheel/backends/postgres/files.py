"""Uploaded files in PostgreSQL."""

from typing import Any
from uuid import UUID, uuid4

from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.backends.postgres.documents import remove_documents
from bookwheel.backends.postgres.stores import page
from bookwheel.errors import NotFoundError
from bookwheel.types import File, Scope

SELECT = "SELECT f.id, f.tenant_id, f.filename, f.purpose, f.size, f.sha256, f.created_at FROM files f"


class PostgresFiles:
    """Fills ports.Files."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def create(self, filename: str, *, scope: Scope, purpose: str, size: int, sha256: bytes) -> File:
        """See ports.Files."""
        made = await self.database.fetch(
            "INSERT INTO files (id, tenant_id, filename, purpose, size, sha256) VALUES (%s, %s, %s, %s, %s, %s)"
            " RETURNING id, tenant_id, filename, purpose, size, sha256, created_at",
            (uuid4(), scope.tenant_id, filename, purpose, size, sha256),
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

    async def delete(self, file_id: UUID, *, scope: Scope) -> bool:
        """See ports.Files."""

        async def work(connection: Connection) -> bool:
            found = await rows(
                connection,
                "SELECT sha256 FROM files WHERE id = %s AND tenant_id = %s FOR UPDATE",
                (file_id, scope.tenant_id),
            )
            if not found:
                raise NotFoundError(f"No file with id file-{file_id.hex}. List yours with GET /v1/files.")
            await remove_documents(connection, "d.file_id = %s", [file_id])
            await connection.execute("DELETE FROM files WHERE id = %s", (file_id,))
            left = await rows(connection, "SELECT 1 FROM files WHERE sha256 = %s LIMIT 1", (found[0][0],))
            return not left

        return await self.database.transact(work)


def _file(row: tuple[Any, ...]) -> File:
    return File(
        id=row[0], tenant_id=row[1], filename=row[2], purpose=row[3], size=row[4], sha256=row[5], created_at=row[6]
    )
