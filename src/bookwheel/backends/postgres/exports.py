"""What an export reads, from PostgreSQL."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from bookwheel.backends.postgres.database import Database
from bookwheel.backends.postgres.responses import COLUMNS, read_response
from bookwheel.types import ModelResponse, Scope

TEXT: Final = """
SELECT b.text FROM documents d JOIN bodies b ON b.document_id = d.id WHERE d.id = %s AND d.tenant_id = %s
ORDER BY b.version DESC LIMIT 1
"""
RESPONSES: Final = f"""
SELECT {COLUMNS} FROM responses r WHERE r.tenant_id = %(tenant)s AND (%(after)s::uuid IS NULL OR r.id > %(after)s)
ORDER BY r.id LIMIT %(limit)s
"""


class PostgresExports:
    """Fills ports.Exports."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def text(self, document_id: UUID, *, scope: Scope) -> str | None:
        """See ports.Exports."""
        found = await self.database.fetch(TEXT, (document_id, scope.tenant_id))
        return str(found[0][0]) if found else None

    async def responses(self, *, scope: Scope, limit: int, after: UUID | None = None) -> Sequence[ModelResponse]:
        """See ports.Exports."""
        asked = {"tenant": scope.tenant_id, "after": after, "limit": limit}
        return [read_response(row) for row in await self.database.fetch(RESPONSES, asked)]
