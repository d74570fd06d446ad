"""Chunks in PostgreSQL, from the reader's side, with the check that they are live and visible."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from bookwheel.backends.postgres.access_sql import (
    LISTED,
    passing,
    readable,
    store_open,
    store_undenied,
)
from bookwheel.backends.postgres.database import Database
from bookwheel.errors import NotFoundError
from bookwheel.types import Filter, Hit, Reach, Scope

SELECT = """
SELECT c.id, {text}, {start}, {end}, c.page, c.heading_path, c.ordinal, d.id, d.store_id, d.file_id,
    d.external_id, d.filename, d.title, c.version, d.attributes, c.language, d.sha256, d.access, d.created_at,
    d.updated_at, c.section, d.denied
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

# Where some documents are hidden from the caller: no name may tell of them, so the others are looked at.
UNKNOWN_TO_SOME = """
SELECT u.name FROM unnest(%s::text[]) WITH ORDINALITY AS u (name, place) WHERE NOT EXISTS (
    SELECT FROM documents d WHERE {readable} AND jsonb_exists(d.attributes, u.name))
ORDER BY u.place
"""


class PostgresPassages:
    """Fills ports.Passages."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def hydrate(self, chunk_ids: Sequence[int], *, scope: Scope, filter: Filter | None) -> list[Hit]:
        """See ports.Passages."""
        passes = passing(scope, filter).whole
        found = await self.database.fetch(
            f"{SECTIONS} WHERE c.id = ANY(%s) AND {passes.sql}", [list(chunk_ids), *passes.values]
        )
        return [_hit(row) for row in found]

    async def documents_matching(self, filter: Filter, *, scope: Scope, limit: int) -> list[UUID]:
        """See ports.Passages."""
        passes = passing(scope, filter)
        live = "d.live_version IS NOT NULL" if passes.chunk is None else A_CHUNK.format(passes=passes.chunk.sql)
        found = await self.database.fetch(
            f"SELECT d.id FROM documents d WHERE {passes.document.sql} AND {live} LIMIT %s",
            [*passes.whole.values, limit],
        )
        return [row[0] for row in found]

    async def live_versions(self, document_ids: Sequence[UUID], *, scope: Scope) -> dict[UUID, int]:
        """See ports.Passages."""
        may = readable(scope)
        found = await self.database.fetch(
            "SELECT d.id, d.live_version FROM documents d"
            f" WHERE d.id = ANY(%s) AND d.live_version IS NOT NULL AND {may.sql}",
            [list(document_ids), *may.values],
        )
        return {row[0]: row[1] for row in found}

    async def unknown_attributes(self, names: Sequence[str], *, scope: Scope) -> list[str]:
        """See ports.Passages."""
        may = readable(scope)
        if scope.rule is not None or await self._hides(scope):  # then what nobody tells must be found out
            query, values = UNKNOWN_TO_SOME.format(readable=may.sql), [list(names), *may.values]
        else:
            query, values = UNKNOWN, [list(names), scope.tenant_id, list(scope.store_ids)]
        return [row[0] for row in await self.database.fetch(query, values)]

    async def reach(self, *, scope: Scope) -> Reach:
        """See ports.Passages."""
        there, opened = store_undenied(scope), store_open(scope)
        found = await self.database.fetch(
            f"SELECT s.id, ({opened.sql}) FROM stores s WHERE s.id = ANY(%s) AND {there.sql}",
            [*opened.values, list(scope.store_ids), *there.values],
        )
        return Reach(open=frozenset(row[0] for row in found if row[1]), listed=frozenset(row[0] for row in found))

    async def _hides(self, scope: Scope) -> bool:
        """Whether the lists of some store or document in the scope stop its caller."""
        reach, may, stores = await self.reach(scope=scope), readable(scope), list(scope.store_ids)
        if reach.open != frozenset(stores):
            return True
        found = await self.database.fetch(
            f"SELECT 1 FROM documents d WHERE d.store_id = ANY(%s) AND {LISTED} AND NOT ({may.sql}) LIMIT 1",
            [stores, *may.values],
        )
        return bool(found)

    async def of_document(self, document_id: UUID, *, scope: Scope) -> list[Hit]:
        """See ports.Passages."""
        may = readable(scope)
        parameters = [document_id, *may.values]
        found = await self.database.fetch(f"{CHUNKS} WHERE d.id = %s AND {may.sql} ORDER BY c.ordinal", parameters)
        if not found:
            known = await self.database.fetch(f"SELECT 1 FROM documents d WHERE d.id = %s AND {may.sql}", parameters)
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
        denied=tuple(row[21] or ()),
    )
