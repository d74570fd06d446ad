"""Chunks in PostgreSQL, from the reader's side, with the check that they are live and visible."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from bookwheel.backends.postgres.database import Database
from bookwheel.backends.postgres.filters_sql import READABLE, condition, readable_values
from bookwheel.errors import NotFoundError
from bookwheel.types import Filter, Hit, Scope

SELECT = """
SELECT c.id, {text}, {start}, {end}, c.page, c.heading_path, c.ordinal, d.id, d.store_id, d.file_id,
    d.external_id, d.filename, d.title, c.version, d.attributes, c.language, d.sha256, d.access, d.created_at,
    d.updated_at, c.section
FROM chunks c JOIN documents d ON d.id = c.document_id AND d.live_version = c.version {sections}
"""
CHUNKS = SELECT.format(text="c.text", start="c.start_offset", end="c.end_offset", sections="")
SECTIONS = SELECT.format(
    text="coalesce(s.text, c.text)",
    start="coalesce(s.start_offset, c.start_offset)",
    end="coalesce(s.end_offset, c.end_offset)",
    sections="LEFT JOIN sections s ON (s.document_id, s.version, s.ordinal) = (c.document_id, c.version, c.section)",
)
A_CHUNK = "EXISTS (SELECT FROM chunks c WHERE c.document_id = d.id AND c.version = d.live_version AND {passes})"

UNKNOWN = """
SELECT u.name FROM unnest(%s::text[]) WITH ORDINALITY AS u (name, place) WHERE NOT EXISTS (
    SELECT FROM attribute_names a JOIN stores s ON s.id = a.store_id
    WHERE s.tenant_id = %s AND s.id = ANY(%s) AND a.name = u.name)
ORDER BY u.place
"""


class PostgresPassages:
    """Fills ports.Passages."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def hydrate(self, chunk_ids: Sequence[int], *, scope: Scope, filter: Filter | None) -> list[Hit]:
        """See ports.Passages."""
        passes = condition(filter)
        found = await self.database.fetch(
            f"{SECTIONS} WHERE c.id = ANY(%s) AND {READABLE} AND {passes.whole}",
            [list(chunk_ids), *readable_values(scope), *passes.values],
        )
        return [_hit(row) for row in found]

    async def documents_matching(self, filter: Filter, *, scope: Scope, limit: int) -> list[UUID]:
        """See ports.Passages."""
        passes = condition(filter)
        a_chunk = "d.live_version IS NOT NULL" if passes.chunk is None else A_CHUNK.format(passes=passes.chunk)
        found = await self.database.fetch(
            f"SELECT d.id FROM documents d WHERE {READABLE} AND {passes.document} AND {a_chunk} LIMIT %s",
            [*readable_values(scope), *passes.values, limit],
        )
        return [row[0] for row in found]

    async def live_versions(self, document_ids: Sequence[UUID], *, scope: Scope) -> dict[UUID, int]:
        """See ports.Passages."""
        found = await self.database.fetch(
            "SELECT d.id, d.live_version FROM documents d"
            f" WHERE d.id = ANY(%s) AND d.live_version IS NOT NULL AND {READABLE}",
            [list(document_ids), *readable_values(scope)],
        )
        return {row[0]: row[1] for row in found}

    async def unknown_attributes(self, names: Sequence[str], *, scope: Scope) -> list[str]:
        """See ports.Passages."""
        found = await self.database.fetch(UNKNOWN, (list(names), scope.tenant_id, list(scope.store_ids)))
        return [row[0] for row in found]

    async def of_document(self, document_id: UUID, *, scope: Scope) -> list[Hit]:
        """See ports.Passages."""
        parameters = [document_id, *readable_values(scope)]
        found = await self.database.fetch(f"{CHUNKS} WHERE d.id = %s AND {READABLE} ORDER BY c.ordinal", parameters)
        if not found:
            known = await self.database.fetch(f"SELECT 1 FROM documents d WHERE d.id = %s AND {READABLE}", parameters)
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
        language=row[15],
        sha256=row[16],
        access=None if row[17] is None else tuple(row[17]),
        created_at=row[18],
        updated_at=row[19],
        section=row[20],
    )
