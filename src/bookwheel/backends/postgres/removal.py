"""What goes with a document or a version that is not wanted any more, in the caller's transaction."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from bookwheel.backends.postgres.database import Connection, rows
from bookwheel.backends.postgres.shards import hold_shards

Parameters = Sequence[Any] | Mapping[str, Any]

# Of a stored row x: a version has a reason to be there when queries see it or a worker is to finish it.
WANTED = """
EXISTS (SELECT FROM documents d WHERE d.id = x.document_id
    AND (d.live_version = x.version OR (d.version = x.version AND d.status = 'in_progress')))
"""
# The text of a failed version stays, so that it can be tried again.
WANTED_BODY = """
EXISTS (SELECT FROM documents d WHERE d.id = x.document_id AND (d.live_version = x.version OR d.version = x.version))
"""


HOLD = "SELECT count(*) FROM (SELECT FROM documents WHERE store_id = %s ORDER BY id FOR UPDATE) AS held"


class Written(NamedTuple):
    """A document version and whose it is."""

    document_id: UUID
    version: int
    store_id: UUID
    space_id: int


async def remove_dead_versions(connection: Connection, versions: Sequence[Written]) -> None:
    """Remove chunks, vectors and bodies of these versions and older ones, except what is live or wanted."""
    if not versions:
        return
    older = (
        " x USING unnest(%s::uuid[], %s::integer[]) AS u (id, version)"
        " WHERE x.document_id = u.id AND x.version <= u.version AND NOT "
    )
    dead = older + WANTED
    pairs = [one.document_id for one in versions], [one.version for one in versions]
    await connection.execute(f"DELETE FROM chunks{dead}".encode(), pairs)
    await connection.execute(f"DELETE FROM sections{dead}".encode(), pairs)
    await connection.execute(f"DELETE FROM bodies{older}{WANTED_BODY}".encode(), pairs)
    shards = await hold_shards(connection, {one.store_id for one in versions})
    for space_id in {one.space_id for one in versions}:
        group = [one for one in versions if one.space_id == space_id and one.store_id in shards]
        stores = {one.store_id for one in group}
        await connection.execute(
            f"DELETE FROM vectors_{int(space_id)}{dead} AND x.shard = ANY(%s) AND x.store_id = ANY(%s)".encode(),
            (
                [one.document_id for one in group],
                [one.version for one in group],
                list({shard for store in stores for shard in shards[store].held}),
                list(stores),
            ),
        )


async def remove_documents(connection: Connection, condition: str, parameters: Parameters) -> int:
    """Delete documents with their chunks, vectors and bodies, and tell the outbox; returns how many."""
    doomed = await rows(
        connection,
        "SELECT d.id, d.tenant_id, d.store_id, d.version, s.space_id FROM documents d"
        " JOIN stores s ON s.id = d.store_id"
        f" WHERE {condition} ORDER BY d.id FOR UPDATE OF d",
        parameters,
    )
    if not doomed:
        return 0
    ids = [row[0] for row in doomed]
    await connection.execute("DELETE FROM chunks WHERE document_id = ANY(%s)", (ids,))
    await connection.execute("DELETE FROM sections WHERE document_id = ANY(%s)", (ids,))
    shards = await hold_shards(connection, {row[2] for row in doomed})
    for space_id in {row[4] for row in doomed}:
        stores = {row[2] for row in doomed if row[4] == space_id}
        await connection.execute(
            f"DELETE FROM vectors_{int(space_id)}"
            " WHERE shard = ANY(%s) AND store_id = ANY(%s) AND document_id = ANY(%s)".encode(),
            (list({shard for store in stores for shard in shards[store].held}), list(stores), ids),
        )
    await connection.execute("DELETE FROM documents WHERE id = ANY(%s)", (ids,))
    await connection.execute(
        "UPDATE stores SET version = version + 1 WHERE id = ANY(%s)", (sorted({row[2] for row in doomed}),)
    )
    await connection.execute(
        "SELECT append_to_outbox(%s, %s, %s, %s, %s)",
        (
            ["remove"] * len(ids),
            [row[1] for row in doomed],
            [row[2] for row in doomed],
            ids,
            [row[3] for row in doomed],
        ),
    )
    return len(ids)


async def remove_contents(connection: Connection, store_id: UUID, *, space_id: int) -> None:
    """Delete what hangs on the documents of a store and tell the outbox; the documents go next, however many.

    They are held first: a worker that is writing chunks of one is waited for, so that none are left behind."""
    await rows(connection, HOLD, (store_id,))
    shards = (await hold_shards(connection, [store_id]))[store_id]
    for statement in (
        "DELETE FROM chunks c USING documents d WHERE d.store_id = %s AND c.document_id = d.id",
        "DELETE FROM sections c USING documents d WHERE d.store_id = %s AND c.document_id = d.id",
        f"DELETE FROM vectors_{int(space_id)} WHERE store_id = %s AND shard IN ({', '.join(map(str, shards.held))})",
    ):
        await connection.execute(statement.encode(), (store_id,))
    # Last, for the outbox is everybody's: its lock must not be held while much is deleted.
    await rows(
        connection,
        "SELECT append_to_outbox(array_agg('remove'::text), array_agg(tenant_id), array_agg(store_id),"
        " array_agg(id), array_agg(version)) FROM documents WHERE store_id = %s HAVING count(*) > 0",
        (store_id,),
    )
