"""What an export reads, from memory."""

from collections.abc import Sequence
from uuid import UUID

from bookwheel.backends.memory.database import MemoryDatabase
from bookwheel.types import ModelResponse, Scope


class MemoryExports:
    """Fills ports.Exports."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def text(self, document_id: UUID, *, scope: Scope) -> str | None:
        """See ports.Exports."""
        row = self.database.documents.get(document_id)
        return row.text if row is not None and row.document.tenant_id == scope.tenant_id else None

    async def responses(self, *, scope: Scope, limit: int, after: UUID | None = None) -> Sequence[ModelResponse]:
        """See ports.Exports."""
        own = [one for one in self.database.responses.values() if one.tenant_id == scope.tenant_id]
        own.sort(key=lambda one: one.id)
        return [one for one in own if after is None or one.id > after][:limit]
