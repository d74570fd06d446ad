"""The outbox in PostgreSQL: what derived indexes follow."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from bookwheel.backends.postgres.database import Connection, Database
from bookwheel.types import Change, KeywordEntry, Scope

SIZES = "SELECT id, chunk_count FROM documents WHERE id = ANY(%s) AND live_version IS NOT NULL"
ENTRIES = """
SELECT c.id, d.tenant_id, d.store_id, d.id, c.version, c.text, coalesce(d.title, ''), c.language,
    d.access, d.denied
FROM documents d JOIN chunks c ON c.document_id = d.id AND c.version = d.live_version
WHERE d.id = ANY(%s) AND c.ordinal >= %s AND c.ordinal < %s
"""
# An index whose own line is gone has fallen out of the outbox, and is about to be rebuilt.
REACHED = """
SELECT NOT EXISTS (SELECT FROM outbox WHERE store_id = ANY(%s) AND sequence > %s)
    AND (EXISTS (SELECT FROM outbox WHERE sequence = %s) OR NOT EXISTS (SELECT FROM outbox))
"""
CHUNKS_PER_FETCH = 1000
SNAPSHOT_PAGE = 512


class PostgresOutbox:
    """Fills ports.Outbox."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def read(self, after: int, *, limit: int) -> list[Change]:
        """See ports.Outbox."""
        found = await self.database.fetch(
            "SELECT sequence, operation, tenant_id, store_id, document_id, version FROM outbox"
            " WHERE sequence > %s ORDER BY sequence LIMIT %s",
            (after, limit),
        )
        return [_change(row) for row in found]

    async def entries(self, changes: Sequence[Change]) -> AsyncIterator[KeywordEntry]:
        """See ports.Outbox."""
        wanted = list(dict.fromkeys(change.document_id for change in changes if change.operation == "publish"))
        sizes = {row[0]: row[1] for row in await self.database.fetch(SIZES, (wanted,))} if wanted else {}
        for ids, first, end in _fetches(sizes):
            for row in await self.database.fetch(ENTRIES, (ids, first, end)):
                yield _entry(row)

    async def last(self) -> int:
        """See ports.Outbox."""
        # Committed lines only, unlike the sequence's own counter; trim() therefore always keeps the newest line.
        found = await self.database.fetch("SELECT coalesce(max(sequence), 0) FROM outbox")
        return int(found[0][0])

    async def reached(self, position: int, *, scope: Scope) -> bool:
        """See ports.Outbox."""
        found = await self.database.fetch(REACHED, (list(scope.store_ids), position, position))
        return bool(found[0][0])

    async def snapshot(self) -> AsyncIterator[Change]:
        """See ports.Outbox."""
        last = None
        while True:
            found = await self.database.fetch(
                "SELECT 0, 'publish', tenant_id, store_id, id, live_version FROM documents"
                " WHERE live_version IS NOT NULL AND (%s::uuid IS NULL OR id > %s) ORDER BY id LIMIT %s",
                (last, last, SNAPSHOT_PAGE),
            )
            for row in found:
                yield _change(row)
            if len(found) < SNAPSHOT_PAGE:
                return
            last = found[-1][4]

    async def trim(self, before: int) -> int:
        """See ports.Outbox."""
        return len(
            await self.database.fetch(
                "DELETE FROM outbox WHERE sequence < %s AND sequence < (SELECT max(sequence) FROM outbox) RETURNING 1",
                (before,),
            )
        )

    async def restart(self) -> None:
        """See ports.Outbox."""

        async def work(connection: Connection) -> None:
            nothing = [UUID(int=0)]
            await connection.execute(
                "SELECT append_to_outbox(%s, %s, %s, %s, %s)", (["remove"], nothing, nothing, nothing, [0])
            )
            await connection.execute("DELETE FROM outbox WHERE sequence < (SELECT max(sequence) FROM outbox)")

        await self.database.transact(work)

    async def live_chunks(self) -> int:
        """See ports.Outbox."""
        found = await self.database.fetch("SELECT coalesce(sum(chunk_count), 0)::bigint FROM stores")
        return int(found[0][0])


def _fetches(sizes: Mapping[UUID, int]) -> Iterator[tuple[list[UUID], int, int]]:
    """Documents and ordinals to fetch together: many short documents whole, a long one in pages."""
    together: list[UUID] = []
    held = 0
    for document_id, chunks in sizes.items():
        if chunks > CHUNKS_PER_FETCH:
            for first in range(0, chunks, CHUNKS_PER_FETCH):
                yield [document_id], first, first + CHUNKS_PER_FETCH
            continue
        if held + chunks > CHUNKS_PER_FETCH:
            yield together, 0, CHUNKS_PER_FETCH
            together, held = [], 0
        together.append(document_id)
        held += chunks
    if together:
        yield together, 0, CHUNKS_PER_FETCH


def _entry(row: tuple[Any, ...]) -> KeywordEntry:
    return KeywordEntry(
        chunk_id=row[0],
        tenant_id=row[1],
        store_id=row[2],
        document_id=row[3],
        version=row[4],
        text=row[5],
        title=row[6],
        language=row[7],
        access=None if row[8] is None else tuple(row[8]),
        denied=tuple(row[9] or ()),
    )


def _change(row: tuple[Any, ...]) -> Change:
    return Change(
        sequence=row[0],
        operation=row[1],
        tenant_id=row[2],
        store_id=row[3],
        document_id=row[4],
        version=row[5],
    )
