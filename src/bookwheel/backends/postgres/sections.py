"""Sections in PostgreSQL: the parents of small chunks."""

from collections.abc import Sequence

from bookwheel.backends.postgres.database import Connection
from bookwheel.types import Chunk

WRITE = """
INSERT INTO sections AS s (document_id, version, ordinal, start_offset, end_offset, text)
SELECT * FROM unnest(%s::uuid[], %s::integer[], %s::integer[], %s::integer[], %s::integer[], %s::text[])
ON CONFLICT (document_id, version, ordinal) DO UPDATE
SET start_offset = excluded.start_offset, end_offset = excluded.end_offset, text = excluded.text
"""


async def write_sections(connection: Connection, chunks: Sequence[Chunk]) -> None:
    """Store the sections of the chunks, each once, in the caller's transaction. The same section again replaces it."""
    rows = {
        (chunk.document_id, chunk.version, section.ordinal): (section.start, section.end, section.text)
        for chunk in chunks
        if (section := chunk.piece.section) is not None
    }
    if rows:
        columns = zip(*((*key, *value) for key, value in sorted(rows.items())), strict=True)
        await connection.execute(WRITE.encode(), [list(column) for column in columns])
