"""The ports that one PostgreSQL fills."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bookwheel.backends.postgres.audit import PostgresAuditLog, PostgresKeyUses
from bookwheel.backends.postgres.batches import PostgresBatches
from bookwheel.backends.postgres.database import Database
from bookwheel.backends.postgres.departures import PostgresDepartures, PostgresReceipts
from bookwheel.backends.postgres.documents import PostgresDocuments
from bookwheel.backends.postgres.expiry import PostgresExpiry
from bookwheel.backends.postgres.exports import PostgresExports
from bookwheel.backends.postgres.files import PostgresFiles
from bookwheel.backends.postgres.idempotency import PostgresIdempotencyKeys
from bookwheel.backends.postgres.ingestion import PostgresIngestion
from bookwheel.backends.postgres.jobs import PostgresJobs
from bookwheel.backends.postgres.keys import PostgresKeys
from bookwheel.backends.postgres.outbox import PostgresOutbox
from bookwheel.backends.postgres.passages import PostgresPassages
from bookwheel.backends.postgres.responses import PostgresResponseRuns, PostgresResponses
from bookwheel.backends.postgres.sources import PostgresSourceRuns, PostgresSources
from bookwheel.backends.postgres.stores import PostgresStores
from bookwheel.backends.postgres.tenants import PostgresAskedQuestions, PostgresTenants
from bookwheel.backends.postgres.vectors import PgVectorIndex
from bookwheel.backends.postgres.webhooks import PostgresWebhookRuns, PostgresWebhooks


@asynccontextmanager
async def open_database(url: str, *, works: bool) -> AsyncIterator[Database]:
    """A pool that is closed at the end, for a worker or for searching. Raises DatabaseUnavailableError."""
    database = Database(url, works=works)
    try:
        await database.open()
        yield database
    finally:
        await database.close()


def postgres_ports(database: Database) -> dict[str, Any]:
    """Arguments of `Ports`, all over one pool."""
    return {
        "tenants": PostgresTenants(database),
        "keys": PostgresKeys(database),
        "audit": PostgresAuditLog(database),
        "key_uses": PostgresKeyUses(database),
        "departures": PostgresDepartures(database),
        "receipts": PostgresReceipts(database),
        "exports": PostgresExports(database),
        "asked": PostgresAskedQuestions(database),
        "stores": PostgresStores(database),
        "files": PostgresFiles(database),
        "documents": PostgresDocuments(database),
        "batches": PostgresBatches(database),
        "expiry": PostgresExpiry(database),
        "idempotency_keys": PostgresIdempotencyKeys(database),
        "ingestion": PostgresIngestion(database),
        "passages": PostgresPassages(database),
        "outbox": PostgresOutbox(database),
        "jobs": PostgresJobs(database),
        "sources": PostgresSources(database),
        "source_runs": PostgresSourceRuns(database),
        "responses": PostgresResponses(database),
        "response_runs": PostgresResponseRuns(database),
        "webhooks": PostgresWebhooks(database),
        "webhook_runs": PostgresWebhookRuns(database),
        "vectors": PgVectorIndex(database),
    }
