"""Documents in PostgreSQL, from the worker's side: claim, write, publish, fail."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from psycopg.errors import UniqueViolation

from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.types import Chunk, Chunking, Claim, Space

LEASE = """
INSERT INTO leases AS l (document_id, owner, expires_at)
SELECT id, %(owner)s, clock_timestamp() + %(seconds)s * interval '1 second' FROM documents
WHERE id = ANY(%(ids)s) AND status = 'in_progress' ORDER BY id
ON CONFLICT (document_id) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at
WHERE l.expires_at < clock_timestamp() OR l.owner = excluded.owner
RETURNING document_id
"""

CLAIMS = """
SELECT d.id, d.tenant_id, d.store_id, t.shard, d.version, p.id, p.model, p.revision, p.dimensions, d.chunking,
    d.filename, d.title, b.text, CASE WHEN d.is_inline THEN NULL ELSE d.sha256 END
FROM documents d JOIN stores s ON s.id = d.store_id JOIN spaces p ON p.id = s.space_id
    JOIN tenants t ON t.id = d.tenant_id
    LEFT JOIN bodies b ON b.document_id = d.id AND b.version = d.version
WHERE d.id = ANY(%s) AND d.status = 'in_progress'
"""

# What is still the wanted version, locked in id order so that two publishers cannot wait for each other.
STILL_WANTED = """
SELECT d.id, d.live_version FROM documents d JOIN unnest(%s::uuid[], %s::integer[]) AS u (id, version)
    ON d.id = u.id AND d.version = u.version
WHERE d.status = 'in_progress' ORDER BY d.id FOR UPDATE OF d
"""

FLIP = """
UPDATE documents d SET live_version = d.version, status = 'completed', updated_at = now(),
    error_code = NULL, error_message = NULL, title = coalesce(d.title, u.title),
    chunk_count = (SELECT count(*) FROM chunks c WHERE c.document_id = d.id AND c.version = d.version)
FROM unnest(%s::uuid[], %s::text[]) AS u (id, title)
WHERE d.id = u.id
"""

UNFINISHED = """
SELECT d.id FROM documents d LEFT JOIN leases l ON l.document_id = d.id
WHERE d.status = 'in_progress' AND d.updated_at < now() - %s * interval '1 second'
    AND (l.document_id IS NULL OR l.expires_at < clock_timestamp())
ORDER BY d.updated_at LIMIT %s
"""


class PostgresIngestion:
    """Fills ports.Ingestion."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def claim(self, document_ids: Sequence[UUID], *, owner: str, lease_seconds: float) -> list[Claim]:
        """See ports.Ingestion."""
        async with self.database.connection() as connection:
            leased = await rows(
                connection, LEASE, {"owner": owner, "seconds": lease_seconds, "ids": list(document_ids)}
            )
            held = {row[0] for row in leased}
            found = await rows(connection, CLAIMS, (list(held),)) if held else []
        claims = {row[0]: _claim(row) for row in found}
        return [claims[document_id] for document_id in dict.fromkeys(document_ids) if document_id in claims]

    async def renew(self, owners: Sequence[str], *, lease_seconds: float) -> None:
        """See ports.Ingestion."""
        async with self.database.connection() as connection:
            await connection.execute(
                "UPDATE leases SET expires_at = clock_timestamp() + %s * interval '1 second' WHERE owner = ANY(%s)",
                (lease_seconds, list(owners)),
            )

    async def write(self, claims: Sequence[Claim], chunks: Sequence[Chunk]) -> None:
        """See ports.Ingestion."""
        held = {(claim.document_id, claim.version) for claim in claims}
        chunks = [chunk for chunk in chunks if (chunk.document_id, chunk.version) in held]
        if not chunks:
            return
        try:
            async with self.database.connection() as connection, connection.transaction():
                await _copy_chunks(connection, chunks)
        except UniqueViolation:  # an earlier try got this far
            async with self.database.connection() as connection, connection.transaction():
                await connection.execute("DELETE FROM chunks WHERE id = ANY(%s)", ([chunk.id for chunk in chunks],))
                await _copy_chunks(connection, chunks)

    async def publish(self, claims: Sequence[Claim]) -> list[Claim]:
        """See ports.Ingestion."""

        async def work(connection: Connection) -> list[Claim]:
            versions = ([claim.document_id for claim in claims], [claim.version for claim in claims])
            wanted: dict[UUID, int | None] = {row[0]: row[1] for row in await rows(connection, STILL_WANTED, versions)}
            published = [claim for claim in claims if claim.document_id in wanted]
            overtaken = [claim for claim in claims if claim.document_id not in wanted]
            await _remove_versions(connection, overtaken, older=False)
            if published:
                titles = [claim.title for claim in published]
                await connection.execute(FLIP.encode(), ([claim.document_id for claim in published], titles))
                replaced = [claim for claim in published if wanted[claim.document_id] is not None]
                await _remove_versions(connection, replaced, older=True)
                await connection.execute(
                    "DELETE FROM bodies b USING documents d WHERE d.id = b.document_id AND b.version < d.version"
                    " AND d.id = ANY(%s)",
                    ([claim.document_id for claim in replaced],),
                )
                await _announce(connection, published)
            await _unlease(connection, claims)
            return published

        if not claims:
            return []
        return await self.database.transact(work)

    async def fail(self, claim: Claim, *, code: str, message: str) -> None:
        """See ports.Ingestion."""

        async def work(connection: Connection) -> None:
            await connection.execute(
                "UPDATE documents SET status = 'failed', error_code = %s, error_message = %s, updated_at = now()"
                " WHERE id = %s AND version = %s AND status = 'in_progress'",
                (code, message, claim.document_id, claim.version),
            )
            await _remove_versions(connection, [claim], older=False)
            await _unlease(connection, [claim])

        await self.database.transact(work)

    async def release(self, claims: Sequence[Claim]) -> None:
        """See ports.Ingestion."""
        async with self.database.connection() as connection:
            await _unlease(connection, claims)

    async def unfinished(self, *, older_than_seconds: float, limit: int) -> list[UUID]:
        """See ports.Ingestion."""
        return [row[0] for row in await self.database.fetch(UNFINISHED, (older_than_seconds, limit))]

    async def known_vectors(
        self, space: Space, text_hashes: Sequence[bytes], *, shard: int
    ) -> dict[bytes, NDArray[np.float32]]:
        """See ports.Ingestion."""
        found = await self.database.fetch(
            f"SELECT DISTINCT ON (text_hash) text_hash, embedding FROM vectors_{space.id}"
            " WHERE shard = %s AND text_hash = ANY(%s)",
            (shard, [UUID(bytes=text_hash) for text_hash in text_hashes]),
        )
        return {row[0].bytes: row[1].to_numpy().astype(np.float32) for row in found}


async def _copy_chunks(connection: Connection, chunks: Sequence[Chunk]) -> None:
    statement = (
        "COPY chunks (id, document_id, version, ordinal, start_offset, end_offset, page, heading_path, language, text)"
        " FROM STDIN WITH (FORMAT BINARY)"
    )
    types = ("int8", "uuid", "int4", "int4", "int4", "int4", "int4", "text[]", "text", "text")
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        for chunk in chunks:
            piece = chunk.piece
            where = (chunk.id, chunk.document_id, chunk.version, chunk.ordinal, piece.start, piece.end, piece.page)
            await copy.write_row((*where, list(piece.heading_path), piece.language, piece.text))


async def _remove_versions(connection: Connection, claims: Sequence[Claim], *, older: bool) -> None:
    """Remove chunks and vectors below the claimed versions, or exactly of them when they are not live."""
    comparison = "<" if older else "="
    for space_id, shard in {(claim.space.id, claim.shard) for claim in claims}:
        group = [claim for claim in claims if (claim.space.id, claim.shard) == (space_id, shard)]
        stores = list({claim.store_id for claim in group})
        ids, versions = [claim.document_id for claim in group], [claim.version for claim in group]
        not_live = (
            f"x.document_id = u.id AND x.version {comparison} u.version AND NOT EXISTS"
            " (SELECT FROM documents d WHERE d.id = u.id AND d.live_version = x.version)"
        )
        await connection.execute(
            "DELETE FROM chunks x USING unnest(%s::uuid[], %s::integer[]) AS u (id, version)"
            f" WHERE {not_live}".encode(),
            (ids, versions),
        )
        await connection.execute(
            f"DELETE FROM vectors_{space_id} x USING unnest(%s::uuid[], %s::integer[]) AS u (id, version)"
            f" WHERE x.shard = %s AND x.store_id = ANY(%s) AND {not_live}".encode(),
            (ids, versions, shard, stores),
        )


async def _announce(connection: Connection, published: Sequence[Claim]) -> None:
    """Raise the stores' versions and append to the outbox, last in the transaction."""
    await connection.execute(
        "UPDATE stores SET version = version + 1 WHERE id = ANY(%s)",
        (sorted({claim.store_id for claim in published}),),
    )
    columns = [(claim.tenant_id, claim.store_id, claim.document_id, claim.version) for claim in published]
    await connection.execute(
        "SELECT append_to_outbox(%s, %s, %s, %s, %s)",
        (["publish"] * len(columns), *map(list, zip(*columns, strict=True))),
    )


async def _unlease(connection: Connection, claims: Sequence[Claim]) -> None:
    await connection.execute(
        "DELETE FROM leases WHERE document_id = ANY(%s)", ([claim.document_id for claim in claims],)
    )


def _claim(row: tuple[Any, ...]) -> Claim:
    return Claim(
        document_id=row[0],
        tenant_id=row[1],
        store_id=row[2],
        shard=row[3],
        version=row[4],
        space=Space(id=row[5], model=row[6], revision=row[7], dimensions=row[8]),
        chunking=Chunking(**row[9]),
        filename=row[10],
        title=row[11],
        text=row[12],
        sha256=row[13],
    )
