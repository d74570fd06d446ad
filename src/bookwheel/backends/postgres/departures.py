"""Tenants on their way out, in PostgreSQL, and the receipts of those that are gone."""

import builtins
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.errors import NotFoundError
from bookwheel.types import NO_HASH, Counts, Departure, Head, Receipt, Scope

DEPARTURE: Final = "id, tenant_id, tenant_name, begun_at, held, audit_sequence, audit_hash"
BEGIN: Final = "INSERT INTO receipts (id, tenant_id, tenant_name) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
BEGUN: Final = f"SELECT {DEPARTURE} FROM receipts WHERE tenant_id = %s AND NOT complete"
COUNT: Final = """
UPDATE receipts SET held = coalesce(held, %s) WHERE tenant_id = %s AND NOT complete
"""
OWN_ACTOR: Final = "'key_' || replace(id::text, '-', '')"  # as api/ids.py writes a key's id
NOTES: Final = (
    "INSERT INTO departing_documents SELECT tenant_id, id, store_id FROM documents WHERE tenant_id = %s",
    "INSERT INTO departing_blobs SELECT DISTINCT tenant_id, sha256 FROM files WHERE tenant_id = %s",
    f"INSERT INTO departing_actors SELECT tenant_id, {OWN_ACTOR} FROM api_keys WHERE tenant_id = %s",
    "INSERT INTO departing_actors SELECT DISTINCT tenant_id, actor FROM audit_events"
    " WHERE tenant_id = %s AND actor LIKE 'key\\_%%'",
)

DOCUMENTS: Final = "x.document_id IN (SELECT document_id FROM departing_documents WHERE tenant_id = %(tenant)s)"
OWN: Final = "x.tenant_id = %(tenant)s"
#: What is counted of each kind, of rows x. Every table that names a tenant, or hangs on one that does, is here.
HELD: Final[Mapping[str, str]] = {
    "tenants": "tenants x WHERE x.id = %(tenant)s",
    "stores": f"stores x WHERE {OWN}",
    "attribute_names": f"attribute_names x JOIN stores s ON s.id = x.store_id WHERE {OWN.replace('x.', 's.')}",
    "documents": f"documents x WHERE {OWN}",
    "texts": f"bodies x WHERE {DOCUMENTS}",
    "chunks": f"chunks x WHERE {DOCUMENTS}",
    "sections": f"sections x WHERE {DOCUMENTS}",
    "leases": f"leases x WHERE {DOCUMENTS}",
    "files": f"files x WHERE {OWN}",
    "blobs": f"departing_blobs x WHERE {OWN}"
    " AND NOT EXISTS (SELECT FROM files f WHERE f.sha256 = x.sha256 AND f.tenant_id <> x.tenant_id)",
    "file_batches": f"file_batches x WHERE {OWN}",
    "file_batch_documents": f"file_batch_documents x WHERE {DOCUMENTS}",
    "sources": f"sources x WHERE {OWN}",
    "source_items": f"source_items x JOIN sources s ON s.id = x.source_id WHERE {OWN.replace('x.', 's.')}",
    "responses": f"responses x WHERE {OWN}",
    "response_events": f"response_events x JOIN responses r ON r.id = x.response_id WHERE {OWN.replace('x.', 'r.')}",
    "webhooks": f"webhook_endpoints x WHERE {OWN}",
    "deliveries": "webhook_deliveries x JOIN webhook_endpoints e ON e.id = x.endpoint_id"
    f" WHERE {OWN.replace('x.', 'e.')}",
    "idempotency_keys": f"idempotency_keys x WHERE {OWN}",
    "asked_questions": f"asked_questions x WHERE {OWN}",
    "keys": f"api_keys x WHERE {OWN}",
    "key_uses": "key_uses x WHERE x.actor IN (SELECT actor FROM departing_actors WHERE tenant_id = %(tenant)s)",
    "audit_events": f"audit_events x WHERE {OWN}",
    "keyword_changes": f"outbox x WHERE {OWN}",
    "turns": f"turns x WHERE {OWN}",
    "moves": f"moves x WHERE {OWN}",
    "partitions": f"own_partitions x WHERE {OWN}",
}
VECTORS: Final = (
    "vectors_{space} x JOIN departing_documents d ON d.store_id = x.store_id AND d.document_id = x.document_id"
    " WHERE d.tenant_id = %(tenant)s"
)

#: What goes in batches, what feeds others first: a source brings documents, an endpoint is told of them.
SHRUNK: Final = (
    f"api_keys x WHERE {OWN}",
    "source_items x WHERE x.source_id IN (SELECT id FROM sources WHERE tenant_id = %(tenant)s)",
    f"sources x WHERE {OWN}",
    "webhook_deliveries x WHERE x.endpoint_id IN (SELECT id FROM webhook_endpoints WHERE tenant_id = %(tenant)s)",
    f"webhook_endpoints x WHERE {OWN}",
    f"responses x WHERE {OWN}",
    f"idempotency_keys x WHERE {OWN}",
    f"asked_questions x WHERE {OWN}",
    HELD["key_uses"],
)
BLOBS: Final = """
SELECT x.sha256 FROM departing_blobs x WHERE x.tenant_id = %s
    AND NOT EXISTS (SELECT FROM files f WHERE f.sha256 = x.sha256)
"""
SEAL: Final = """
UPDATE receipts r SET audit_sequence = coalesce(head.sequence, 0), audit_hash = coalesce(head.hash, %(none)s)
FROM (SELECT) AS one LEFT JOIN (SELECT sequence, hash FROM audit_events WHERE tenant_id = %(tenant)s
    ORDER BY sequence DESC LIMIT 1) AS head ON true
WHERE r.tenant_id = %(tenant)s AND r.audit_hash IS NULL
"""
# The lines stay: whoever follows the outbox must find no gap in it.
NAMELESS: Final = """
UPDATE outbox SET operation = 'remove', tenant_id = %(nobody)s, store_id = %(nobody)s, document_id = %(nobody)s,
    version = 0 WHERE tenant_id = %(tenant)s AND sequence <= %(position)s
"""
RECEIPT: Final = "id, tenant_id, made_at, statement, signature, complete"
KEEP: Final = """
UPDATE receipts SET made_at = %s, statement = %s, signature = %s, complete = %s WHERE id = %s AND NOT complete
"""
PAGE: Final = f"""
SELECT {RECEIPT} FROM receipts WHERE statement IS NOT NULL AND (%(after)s::uuid IS NULL
    OR (made_at, id) < (SELECT made_at, id FROM receipts WHERE id = %(after)s))
ORDER BY made_at DESC, id DESC LIMIT %(limit)s
"""
NOBODY: Final = UUID(int=0)


class PostgresDepartures:
    """Fills ports.Departures."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def begin(self, name: str, *, scope: Scope) -> Departure:
        """See ports.Departures."""
        async with self.database.connection() as connection:
            await connection.execute(BEGIN, (uuid4(), scope.tenant_id, name))
        return await self._open(scope)

    async def begun(self, *, scope: Scope) -> Departure | None:
        """See ports.Departures."""
        found = await self.database.fetch(BEGUN, (scope.tenant_id,))
        return _departure(found[0]) if found else None

    async def note(self, *, scope: Scope) -> None:
        """See ports.Departures."""

        async def work(connection: Connection) -> None:
            for statement in NOTES:
                await connection.execute(f"{statement} ON CONFLICT DO NOTHING".encode(), (scope.tenant_id,))
            await connection.execute("ANALYZE departing_documents")  # joins with it are planned anew by its size

        await self.database.transact(work)

    async def holdings(self, *, scope: Scope) -> Counts:
        """See ports.Departures."""
        spaces = [row[0] for row in await self.database.fetch("SELECT id FROM spaces ORDER BY id")]
        counted = [(kind, held) for kind, held in HELD.items()]
        counted += [("vectors", VECTORS.format(space=int(space))) for space in spaces]
        counts = dict.fromkeys([*HELD, "vectors"], 0)
        for kind, held in counted:
            ((count,),) = await self.database.fetch(f"SELECT count(*) FROM {held}", {"tenant": scope.tenant_id})
            counts[kind] += int(count)
        return counts

    async def count(self, held: Counts, *, scope: Scope) -> Departure:
        """See ports.Departures."""
        async with self.database.connection() as connection:
            await connection.execute(COUNT, (Jsonb(dict(held)), scope.tenant_id))
        return await self._open(scope)

    async def shrink(self, *, scope: Scope, limit: int) -> int:
        """See ports.Departures."""
        asked, removed = {"tenant": scope.tenant_id, "limit": limit}, 0
        for held in SHRUNK:
            table, _, condition = held.partition(" x WHERE ")
            doomed = f"SELECT x.ctid FROM {table} x WHERE {condition} LIMIT %(limit)s FOR UPDATE"
            statement = f"DELETE FROM {table} WHERE ctid = ANY(ARRAY({doomed}))"
            async with self.database.connection() as connection:
                removed += (await connection.execute(statement.encode(), asked)).rowcount
        return removed

    async def remove(self, *, scope: Scope) -> bool:
        """See ports.Departures."""
        tenant = (scope.tenant_id,)

        async def work(connection: Connection) -> bool:
            # Whoever is making something for it is waited for; who comes later finds no tenant.
            await rows(connection, "SELECT FROM tenants WHERE id = %s FOR UPDATE", tenant)
            for table in ("stores", "files"):
                if await rows(connection, f"SELECT FROM {table} WHERE tenant_id = %s LIMIT 1", tenant):
                    return False
            await connection.execute("DELETE FROM tenants WHERE id = %s", tenant)
            return True

        return await self.database.transact(work)

    async def seal(self, *, scope: Scope) -> Head:
        """See ports.Departures."""

        async def work(connection: Connection) -> None:
            await connection.execute("SELECT lock_audit_chain(%s)", (scope.tenant_id,))
            await connection.execute(SEAL, {"tenant": scope.tenant_id, "none": NO_HASH})

        await self.database.transact(work)
        return (await self._open(scope)).audit or Head(tenant_id=scope.tenant_id)

    async def blobs(self, *, scope: Scope) -> Sequence[bytes]:
        """See ports.Departures."""
        return [row[0] for row in await self.database.fetch(BLOBS, (scope.tenant_id,))]

    async def forget(self, *, scope: Scope, blobs: Sequence[bytes] = (), position: int = 0) -> None:
        """See ports.Departures."""
        given = {"tenant": scope.tenant_id, "nobody": NOBODY, "position": position, "blobs": list(blobs)}
        async with self.database.connection() as connection:
            await connection.execute(
                "DELETE FROM departing_blobs WHERE tenant_id = %(tenant)s AND sha256 = ANY(%(blobs)s)", given
            )
            await connection.execute(NAMELESS, given)

    async def _open(self, scope: Scope) -> Departure:
        found = await self.begun(scope=scope)
        if found is None:
            raise NotFoundError("There is no such tenant.")
        return found


class PostgresReceipts:
    """Fills ports.Receipts."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def keep(self, receipt: Receipt) -> None:
        """See ports.Receipts."""
        values = receipt.made_at, receipt.statement, receipt.signature, receipt.complete, receipt.id

        async def work(connection: Connection) -> None:
            await connection.execute(KEEP, values)
            for table in ("documents", "blobs", "actors") if receipt.complete else ():
                statement = f"DELETE FROM departing_{table} WHERE tenant_id = %s"
                await connection.execute(statement.encode(), (receipt.tenant_id,))

        await self.database.transact(work)

    async def get(self, receipt_id: UUID) -> Receipt:
        """See ports.Receipts."""
        query = f"SELECT {RECEIPT} FROM receipts WHERE id = %s AND statement IS NOT NULL"
        found = await self.database.fetch(query, (receipt_id,))
        if not found:
            raise NotFoundError(f"No receipt with id receipt_{receipt_id.hex}. List them with GET /v1/receipts.")
        return _receipt(found[0])

    async def list(self, *, limit: int, after: UUID | None = None) -> "builtins.list[Receipt]":
        """See ports.Receipts."""
        return [_receipt(row) for row in await self.database.fetch(PAGE, {"limit": limit, "after": after})]

    async def signing_key(self, made: bytes) -> bytes:
        """See ports.Receipts."""
        async with self.database.connection() as connection:
            await connection.execute(
                "INSERT INTO signing_key (private_key) VALUES (%s) ON CONFLICT DO NOTHING", (made,)
            )
        return bytes((await self.database.fetch("SELECT private_key FROM signing_key"))[0][0])


def _departure(row: tuple[Any, ...]) -> Departure:
    departure_id, tenant_id, name, begun_at, held, sequence, last = row
    audit = None if last is None else Head(tenant_id=tenant_id, sequence=sequence, hash=last)
    return Departure(id=departure_id, tenant_id=tenant_id, name=name, begun_at=begun_at, held=held, audit=audit)


def _receipt(row: tuple[Any, ...]) -> Receipt:
    return Receipt(id=row[0], tenant_id=row[1], made_at=row[2], statement=row[3], signature=row[4], complete=row[5])
