"""Jobs on procrastinate, in the same database and, where it matters, in the same transaction as the catalog."""

import json
from collections.abc import Sequence
from uuid import UUID

from bookwheel.backends.postgres.database import Connection, Database

QUEUE = "ingest"
TASK = "ingest"
DOCUMENTS_PER_JOB = 64
URGENT, BULK = 10, 0  # a user's single upload goes before a bulk load

DEFER = """
SELECT procrastinate_defer_jobs_v1(array_agg(
    ROW(%s, %s, %s, NULL, NULL, args, NULL)::procrastinate_job_to_defer_v1))
FROM unnest(%s::jsonb[]) AS args
"""


async def defer(connection: Connection, document_ids: Sequence[UUID]) -> None:
    """Queue documents inside the caller's transaction: the job exists exactly when the catalog rows do."""
    if not document_ids:
        return
    batches = [
        json.dumps({"document_ids": [str(document_id) for document_id in document_ids[at : at + DOCUMENTS_PER_JOB]]})
        for at in range(0, len(document_ids), DOCUMENTS_PER_JOB)
    ]
    priority = URGENT if len(document_ids) == 1 else BULK
    await connection.execute(DEFER.encode(), (QUEUE, TASK, priority, batches))


class PostgresJobs:
    """Fills ports.Jobs."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def enqueue(self, document_ids: Sequence[UUID]) -> None:
        """See ports.Jobs."""

        async def work(connection: Connection) -> None:
            await defer(connection, document_ids)

        await self.database.transact(work)

    async def depth(self) -> dict[str, int]:
        """See ports.Jobs."""
        found = await self.database.fetch(
            "SELECT queue_name, count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing') GROUP BY queue_name"
        )
        return {QUEUE: 0} | dict(found)
