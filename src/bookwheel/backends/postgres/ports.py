"""The ports that one PostgreSQL fills."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bookwheel.backends.postgres.database import Database
from bookwheel.backends.postgres.documents import PostgresDocuments
from bookwheel.backends.postgres.files import PostgresFiles
from bookwheel.backends.postgres.ingestion import PostgresIngestion
from bookwheel.backends.postgres.jobs import PostgresJobs
from bookwheel.backends.postgres.outbox import PostgresOutbox
from bookwheel.backends.postgres.passages import PostgresPassages
from bookwheel.backends.postgres.sources import PostgresSourceRuns, PostgresSources
from bookwheel.backends.postgres.stores import PostgresStores
from bookwheel.backends.postgres.vectors import PgVectorIndex


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
        "stores": PostgresStores(database),
        "files": PostgresFiles(database),
        "documents": PostgresDocuments(database),
        "ingestion": PostgresIngestion(database),
        "passages": PostgresPassages(database),
        "outbox": PostgresOutbox(database),
        "jobs": PostgresJobs(database),
        "sources": PostgresSources(database),
        "source_runs": PostgresSourceRuns(database),
        "vectors": PgVectorIndex(database),
    }
