"""What the tables hold that the catalog neither serves nor waits for, and the other way round."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from bookwheel.backends.postgres.database import Connection, rows
from bookwheel.backends.postgres.removal import WANTED, WANTED_BODY

HELD = {
    "chunks": f"FROM chunks x WHERE NOT {WANTED}",
    "sections": f"FROM sections x WHERE NOT {WANTED}",
    "bodies": f"FROM bodies x WHERE NOT {WANTED_BODY}",
    "leases": "FROM leases x WHERE NOT EXISTS (SELECT FROM documents d WHERE d.id = x.document_id)",
}
INCOMPLETE = """
SELECT d.id FROM documents d WHERE d.status = 'completed' AND d.chunk_count <>
    (SELECT count(*) FROM chunks c WHERE c.document_id = d.id AND c.version = d.live_version)
"""


async def sweep_orphans(connection: Connection, *, repair: bool) -> dict[str, int]:
    """Counts by kind; with `repair` what is held for nothing goes and what is incomplete is ingested again."""
    counts = {kind: await count_or_remove(connection, held, repair=repair) for kind, held in HELD.items()}
    incomplete = [row[0] for row in await rows(connection, INCOMPLETE)]
    if repair:
        await ingest_again(connection, incomplete)
    return {**counts, "incomplete_documents": len(incomplete)}


async def count_or_remove(connection: Connection, held: str, *, repair: bool, parameters: Any = ()) -> int:
    """How many rows of `held`, which begins with FROM, there are; with `repair` there are none afterwards."""
    if not repair:
        return int((await rows(connection, f"SELECT count(*) {held}", parameters))[0][0])
    return (await connection.execute(f"DELETE {held}".encode(), parameters)).rowcount


async def ingest_again(connection: Connection, document_ids: Sequence[UUID]) -> None:
    """A new version of each document from the source of its newest one; the live one is served meanwhile."""
    again = await rows(
        connection,
        "UPDATE documents SET status = 'in_progress', version = version + 1, urgent = false, attempts = 0,"
        " retry_at = NULL, updated_at = now() WHERE id = ANY(%s) AND status = 'completed' RETURNING id, version",
        (list(document_ids),),
    )
    await connection.execute(
        "UPDATE bodies b SET version = u.version FROM unnest(%s::uuid[], %s::integer[]) AS u (id, version)"
        " WHERE b.document_id = u.id AND b.version = u.version - 1",
        ([row[0] for row in again], [row[1] for row in again]),
    )
