"""Chunks in PostgreSQL, from the reader's side, with the check that they are live and visible."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from bookwheel.backends.postgres.database import Database
from bookwheel.backends.postgres.filters_sql import condition
from bookwheel.errors import NotFoundError
from bookwheel.types import Filter, Hit, Scope

SELECT = """
SELECT c.id, c.text, c.start_offset, c.end_offset, c.page, c.heading_path, c.ordinal, d.id, d.store_id, d.file_id,
    d.external_id, d.filename, d.title, c.version, d.attributes
FROM chunks c JOIN documents d ON d.id = c.document_id AND d.live_version = c.version
"""
VISIBLE = "d.tenant_id = %s AND d.store_id = ANY(%s)"


class PostgresPassages:
    """Fills ports.Passages."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def hydrate(self, chunk_ids: Sequence[int], *, scope: Scope, filter: Filter | None) -> list[Hit]:
        """See ports.Passages."""
        passes, values = condition(filter)
        found = await self.database.fetch(
            f"{SELECT} WHERE c.id = ANY(%s) AND {VISIBLE} AND {passes}",
            [list(chunk_ids), scope.tenant_id, list(scope.store_ids), *values],
        )
        return [_hit(row) for row in found]

    async def documents_matching(self, filter: Filter, *, scope: Scope, limit: int) -> list[UUID]:
        """See ports.Passages."""
        passes, values = condition(filter)
        found = await self.database.fetch(
            f"SELECT d.id FROM documents d WHERE {VISIBLE} AND d.live_version IS NOT NULL AND {passes} LIMIT %s",
            [scope.tenant_id, list(scope.store_ids), *values, limit],
        )
        return [row[0] for row in found]

    async def of_document(self, document_id: UUID, *, scope: Scope) -> list[Hit]:
        """See ports.Passages."""
        parameters = [document_id, scope.tenant_id, list(scope.store_ids)]
        found = await self.database.fetch(f"{SELECT} WHERE d.id = %s AND {VISIBLE} ORDER BY c.ordinal", parameters)
        if not found:
            known = await self.database.fetch(f"SELECT 1 FROM documents d WHERE d.id = %s AND {VISIBLE}", parameters)
            if not known:
                raise NotFoundError(f"No document with id doc_{document_id.hex} in this store.")
        return [_hit(row) for row in found]


def _hit(row: tuple[Any, ...]) -> Hit:
    return Hit(
        chunk_id=row[0],
        score=0.0,
        dense=None,
        keyword=None,
        text=row[1],
        start=row[2],
        end=row[3],
        page=row[4],
        heading_path=tuple(row[5]),
        ordinal=row[6],
        document_id=row[7],
        store_id=row[8],
        file_id=row[9],
        external_id=row[10],
        filename=row[11],
        title=row[12],
        version=row[13],
        attributes=row[14],
    )
