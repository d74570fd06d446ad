"""Documents in PostgreSQL, from the worker's side: claim, write, publish, fail."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from psycopg.errors import UniqueViolation

from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.backends.postgres.orphans import sweep_orphans
from bookwheel.backends.postgres.removal import Written, remove_dead_versions
from bookwheel.backends.postgres.sections import write_sections
from bookwheel.backends.postgres.turns import FREE, SINCE, charge, offers, ready
from bookwheel.given import passages_of
from bookwheel.turns import costs, next_turn, share_out
from bookwheel.types import Chunk, Chunking, Claim, Space

CLAIM_TRIES = 8  # while others take away what is ready

# Not the condition of the index of unfinished documents: where ids are given, reading all that waits would take longer.
UNFINISHED = "d.status || '' = 'in_progress'"

NAMED = f"""
SELECT d.id FROM documents d JOIN tenants t ON t.id = d.tenant_id
WHERE d.id = ANY(%(ids)s) AND {UNFINISHED} AND NOT t.suspended
    AND {SINCE} <= clock_timestamp() AND {FREE}
ORDER BY d.id FOR UPDATE OF d
"""

# A lease that ran out, and was not only set aside, is a death: its worker ended with the document in hand.
LEASE = """
INSERT INTO leases AS l (document_id, owner, expires_at)
SELECT id, %(owner)s, clock_timestamp() + %(seconds)s * interval '1 second' FROM unnest(%(ids)s::uuid[]) AS u (id)
ON CONFLICT (document_id) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at, parked = false,
    deaths = l.deaths + (NOT l.parked AND l.owner <> excluded.owner)::integer, chunks_written = 0
WHERE l.expires_at < clock_timestamp() OR l.owner = excluded.owner
RETURNING document_id, deaths
"""

CLAIMS = """
SELECT d.id, d.tenant_id, d.store_id, t.shard, d.version, p.id, p.model, p.revision, p.dimensions, d.chunking,
    d.filename, d.title, b.text, CASE WHEN d.is_inline THEN NULL ELSE d.sha256 END,
    d.attempts, b.passages, b.vectors
FROM documents d JOIN stores s ON s.id = d.store_id JOIN spaces p ON p.id = s.space_id
    JOIN tenants t ON t.id = d.tenant_id
    LEFT JOIN bodies b ON b.document_id = d.id AND b.version = d.version
WHERE d.id = ANY(%s)
"""

# Kept from going until our chunks are written, so that no chunk outlives its document.
STILL_WRITABLE = f"SELECT id, version FROM documents d WHERE id = ANY(%s) AND {UNFINISHED} ORDER BY id FOR KEY SHARE"

# What is still the wanted version, locked in id order so that two publishers cannot wait for each other.
STILL_WANTED = f"SELECT id, version FROM documents d WHERE id = ANY(%s) AND {UNFINISHED} ORDER BY id FOR UPDATE"

FLIP = """
UPDATE documents d SET live_version = d.version, status = 'completed', updated_at = now(), attempts = 0,
    error_code = NULL, error_message = NULL, retry_at = NULL, trouble = NULL, title = coalesce(d.title, u.title),
    chunk_count = (SELECT count(*) FROM chunks c WHERE c.document_id = d.id AND c.version = d.version)
FROM unnest(%s::uuid[], %s::text[]) AS u (id, title)
WHERE d.id = u.id
"""

FAIL = """
UPDATE documents SET status = 'failed', error_code = %s, error_message = %s, retry_at = NULL, updated_at = now()
WHERE id = %s AND version = %s AND status = 'in_progress'
"""

PARK = """
UPDATE leases l SET parked = true, expires_at = clock_timestamp() - interval '1 second'
FROM unnest(%s::uuid[], %s::text[]) AS u (id, owner) WHERE l.document_id = u.id AND l.owner = u.owner
"""

POSTPONE = f"""
UPDATE documents d SET attempts = d.attempts + 1, trouble = %s, updated_at = now(),
    retry_at = clock_timestamp() + %s * interval '1 second'
FROM unnest(%s::uuid[], %s::integer[]) AS u (id, version)
WHERE d.id = u.id AND d.version = u.version AND {UNFINISHED}
"""


class PostgresIngestion:
    """Fills ports.Ingestion."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def claim(self, document_ids: Sequence[UUID], *, owner: str, lease_seconds: float) -> list[Claim]:
        """See ports.Ingestion."""

        async def work(connection: Connection) -> list[Claim]:
            free = await rows(connection, NAMED, {"ids": list(document_ids), "owner": owner})
            return await _lease(connection, [row[0] for row in free], owner, lease_seconds)

        return await self.database.transact(work)

    async def claim_next(
        self, *, owner: str, lease_seconds: float, limit: int, max_bytes: int, urgent: bool
    ) -> list[Claim]:
        """See ports.Ingestion."""

        async def work(connection: Connection) -> list[Claim] | None:
            found = await ready(connection, owner=owner)
            turn = next_turn(found.queues, clock=found.clock, limit=limit, urgent=urgent)
            if turn is None:
                return None
            offered = await offers(connection, turn, found.since, owner=owner)
            wanted = share_out(turn, offered, limit=limit, max_bytes=max_bytes)
            claims = await _lease(connection, [offer.document_id for offer in wanted], owner, lease_seconds)
            leased = {claim.document_id for claim in claims}
            await charge(connection, turn, costs(turn, [one for one in wanted if one.document_id in leased]))
            return claims

        for _ in range(CLAIM_TRIES):
            claims = await self.database.transact(work)
            if claims is None or claims:
                return claims or []
        return []

    async def renew(self, owners: Sequence[str], *, lease_seconds: float) -> None:
        """See ports.Ingestion."""

        async def work(connection: Connection) -> None:
            await connection.execute(
                "UPDATE leases SET expires_at = clock_timestamp() + %s * interval '1 second' WHERE owner = ANY(%s)",
                (lease_seconds, list(owners)),
            )

        await self.database.transact(work)  # it may meet another one that takes the same leases in another order

    async def write(self, claims: Sequence[Claim], chunks: Sequence[Chunk]) -> None:
        """See ports.Ingestion."""
        held = {(claim.document_id, claim.version) for claim in claims}
        chunks = [chunk for chunk in chunks if (chunk.document_id, chunk.version) in held]
        if not chunks:
            return
        try:
            async with self.database.connection() as connection, connection.transaction():
                await _copy_chunks(connection, await still_writable(connection, claims, chunks))
                await _note_progress(connection, chunks)
        except UniqueViolation:  # an earlier try got this far
            async with self.database.connection() as connection, connection.transaction():
                chunks = await still_writable(connection, claims, chunks)
                await connection.execute("DELETE FROM chunks WHERE id = ANY(%s)", ([chunk.id for chunk in chunks],))
                await _copy_chunks(connection, chunks)

    async def publish(self, claims: Sequence[Claim]) -> list[Claim]:
        """See ports.Ingestion."""

        async def work(connection: Connection) -> list[Claim]:
            wanted = await _still(connection, STILL_WANTED, claims)
            published = [claim for claim in claims if claim.document_id in wanted]
            overtaken = [claim for claim in claims if claim.document_id not in wanted]
            await remove_dead_versions(connection, [written(claim) for claim in overtaken])
            if published:
                titles = [claim.title for claim in published]
                await connection.execute(FLIP.encode(), ([claim.document_id for claim in published], titles))
                await remove_dead_versions(connection, [written(claim) for claim in published if claim.version > 1])
                await _tell_webhooks(connection, "completed", published)
                await _announce(connection, published)
            await _unlease(connection, claims)
            return published

        if not claims:
            return []
        return await self.database.transact(work)

    async def fail(self, claim: Claim, *, code: str, message: str) -> None:
        """See ports.Ingestion."""

        async def work(connection: Connection) -> None:
            failed = await connection.execute(FAIL.encode(), (code, message, claim.document_id, claim.version))
            if failed.rowcount:
                await _tell_webhooks(connection, "failed", [claim])
            await remove_dead_versions(connection, [written(claim)])
            await _unlease(connection, [claim])

        await self.database.transact(work)

    async def release(
        self, claims: Sequence[Claim], *, retry_in: float = 0.0, reason: str | None = None, parked: bool = False
    ) -> None:
        """See ports.Ingestion."""

        async def work(connection: Connection) -> None:
            if reason is not None:
                ids, versions = [claim.document_id for claim in claims], [claim.version for claim in claims]
                await connection.execute(POSTPONE.encode(), (reason, retry_in, ids, versions))
            if parked:
                await connection.execute(PARK.encode(), _holders(claims))
            else:
                await _unlease(connection, claims)

        if claims:
            await self.database.transact(work)

    async def orphans(self, *, repair: bool) -> dict[str, int]:
        """See ports.Ingestion."""
        return await self.database.transact(lambda connection: sweep_orphans(connection, repair=repair))

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
        "COPY chunks (id, document_id, version, ordinal, start_offset, end_offset, page, section, heading_path,"
        " language, text) FROM STDIN WITH (FORMAT BINARY)"
    )
    types = ("int8", "uuid", "int4", "int4", "int4", "int4", "int4", "int4", "text[]", "text", "text")
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        for chunk in chunks:
            piece = chunk.piece
            where = (chunk.id, chunk.document_id, chunk.version, chunk.ordinal, piece.start, piece.end, piece.page)
            section = piece.section.ordinal if piece.section else None
            await copy.write_row((*where, section, list(piece.heading_path), piece.language, piece.text))
    await write_sections(connection, chunks)


async def still_writable(connection: Connection, claims: Sequence[Claim], chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    """Chunks whose document still wants their version; it cannot go before this transaction ends."""
    wanted = await _still(connection, STILL_WRITABLE, claims)
    return chunks if len(wanted) == len(claims) else [chunk for chunk in chunks if chunk.document_id in wanted]


async def _still(connection: Connection, query: str, claims: Sequence[Claim]) -> set[UUID]:
    """Documents that still want the version claimed, locked. A join would be planned as a loop over all that waits."""
    versions = {claim.document_id: claim.version for claim in claims}
    return {row[0] for row in await rows(connection, query, (list(versions),)) if versions[row[0]] == row[1]}


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


async def _tell_webhooks(connection: Connection, event: str, claims: Sequence[Claim]) -> None:
    """Nobody pays for what nobody asked for: the ids are only sent where an endpoint waits for such an event."""
    name = f"vector_store.file.{event}"
    if await rows(connection, "SELECT 1 FROM webhook_endpoints WHERE %s = ANY(event_types) LIMIT 1", (name,)):
        ids = [claim.document_id for claim in claims]
        await connection.execute("SELECT tell_webhooks_of_documents(%s, %s)", (ids, name))


async def _unlease(connection: Connection, claims: Sequence[Claim]) -> None:
    """Drop leases that the claims' owners still hold; another owner's stay."""
    await connection.execute(
        "DELETE FROM leases l USING unnest(%s::uuid[], %s::text[]) AS u (id, owner)"
        " WHERE l.document_id = u.id AND l.owner = u.owner",
        _holders(claims),
    )


def written(claim: Claim) -> Written:
    """What a claim may have stored."""
    return Written(claim.document_id, claim.version, claim.store_id, claim.space.id)


async def _note_progress(connection: Connection, chunks: Sequence[Chunk]) -> None:
    """Tell how far a long document is; short ones are done before anybody looks."""
    if chunks[0].document_id == chunks[-1].document_id:
        await connection.execute(
            "UPDATE leases SET chunks_written = %s WHERE document_id = %s",
            (chunks[-1].ordinal + 1, chunks[-1].document_id),
        )


def _holders(claims: Sequence[Claim]) -> tuple[list[UUID], list[str]]:
    return [claim.document_id for claim in claims], [claim.owner for claim in claims]


async def _lease(connection: Connection, wanted: Sequence[UUID], owner: str, seconds: float) -> list[Claim]:
    """Claims of those that nobody leased meanwhile, in the order given."""
    if not wanted:
        return []
    leased = await rows(connection, LEASE, {"owner": owner, "seconds": seconds, "ids": list(wanted)})
    deaths: dict[UUID, int] = {row[0]: row[1] for row in leased}
    found = {row[0]: row for row in await rows(connection, CLAIMS, (list(deaths),))}
    return [_claim(found[one], owner, deaths[one]) for one in wanted if one in found]


def _claim(row: tuple[Any, ...], owner: str, deaths: int) -> Claim:
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
        given=None if row[15] is None else passages_of(row[15], row[16]),
        owner=owner,
        attempts=row[14],
        deaths=deaths,
    )
