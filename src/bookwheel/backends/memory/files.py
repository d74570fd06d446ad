"""Files in memory."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from uuid import UUID, uuid4

from bookwheel.backends.memory.database import MemoryDatabase, page
from bookwheel.errors import NotFoundError
from bookwheel.rights import holds_hidden
from bookwheel.types import File, Scope


class MemoryFiles:
    """Fills ports.Files."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def create(
        self, filename: str, *, scope: Scope, purpose: str, size: int, sha256: bytes, expires_in: int | None = None
    ) -> File:
        """See ports.Files."""
        now = self.database.now()
        file = File(
            id=uuid4(),
            tenant_id=scope.tenant_id,
            filename=filename,
            purpose=purpose,
            size=size,
            sha256=sha256,
            created_at=now,
            expires_at=None if expires_in is None else now + timedelta(seconds=expires_in),
        )
        self.database.files[file.id] = file
        return file

    async def get(self, file_id: UUID, *, scope: Scope) -> File:
        """See ports.Files."""
        return visible_file(self.database, file_id, scope)

    async def list(self, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True) -> Sequence[File]:
        """See ports.Files."""
        return page(
            self.database.files,
            lambda file: file_is_there(self.database, file, scope),
            limit=limit,
            after=after,
            newest=newest,
        )

    async def delete(self, file_id: UUID, *, scope: Scope, unless_used: bool = False) -> bool:
        """See ports.Files."""
        file = visible_file(self.database, file_id, scope)
        made = [row for row in self.database.documents.values() if row.document.file_id == file_id]
        if unless_used and made:
            return False
        if not all(self.database.may_know(row, scope) for row in made):
            raise holds_hidden("file")
        remove_file(self.database, file)
        return True

    async def dead_blobs(self, *, older_than_seconds: float, limit: int) -> Sequence[bytes]:
        """See ports.Files."""
        kept, before = self._hashes(), self.database.clock() - older_than_seconds
        dead = [sha256 for sha256, since in self.database.tombstones.items() if since <= before and sha256 not in kept]
        return dead[:limit]

    async def forget_blobs(self, hashes: Sequence[bytes]) -> None:
        """See ports.Files."""
        for sha256 in hashes:
            self.database.tombstones.pop(sha256, None)

    async def hashes(self) -> AsyncIterator[bytes]:
        """See ports.Files."""
        for sha256 in self._hashes():
            yield sha256

    async def having(self, hashes: Sequence[bytes]) -> set[bytes]:
        """See ports.Files."""
        return self._hashes() & set(hashes)

    def _hashes(self) -> set[bytes]:
        return {file.sha256 for file in self.database.files.values()}


def file_is_there(database: MemoryDatabase, file: File, scope: Scope) -> bool:
    """Whether the caller may know of a document made of it, or none is made of it."""
    made = [row for row in database.documents.values() if row.document.file_id == file.id]
    return file.tenant_id == scope.tenant_id and (not made or any(database.may_know(row, scope) for row in made))


def visible_file(database: MemoryDatabase, file_id: UUID, scope: Scope) -> File:
    """The file, where the caller may know of it. Raises NotFoundError."""
    file = database.files.get(file_id)
    if file is None or not file_is_there(database, file, scope):
        raise NotFoundError(f"No file with id file-{file_id.hex}. Upload it with POST /v1/files first.")
    return file


def remove_file(database: MemoryDatabase, file: File) -> None:
    """Delete a file with the documents made of it."""
    rows = database.documents.values()
    database.remove_documents([row.document for row in rows if row.document.file_id == file.id])
    del database.files[file.id]
    database.tombstones[file.sha256] = database.clock()
