"""Jobs on procrastinate, in the same database and, where it matters, in the same transaction as the catalog."""

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from uuid import UUID

from procrastinate import App, PsycopgConnector
from procrastinate.retry import RetryStrategy

from bookwheel.backends.postgres.database import Connection, Database, rows

QUEUE = "ingest"
TASK = "ingest"
DOCUMENTS_PER_JOB = 256  # enough to sort by length and fill the embedder's batches
BYTES_PER_JOB = 4 << 20
WORKER_SILENCE_SECONDS = 30  # after which a worker counts as dead
RETRY = RetryStrategy(max_attempts=8, exponential_wait=2)  # seconds to the power of the attempt; then the sweep
URGENT, BULK = 10, 0  # a user's single upload goes before a bulk load

DEFER = """
SELECT procrastinate_defer_jobs_v1(array_agg(
    ROW(%s, %s, %s, NULL, NULL, args, NULL)::procrastinate_job_to_defer_v1))
FROM unnest(%s::jsonb[]) AS args
"""


async def defer(connection: Connection, documents: Sequence[tuple[UUID, int]]) -> None:
    """Queue (id, bytes) inside the caller's transaction: the job exists exactly when the catalog rows do."""
    if not documents:
        return
    batches = [json.dumps({"document_ids": batch}) for batch in _batches(documents)]
    priority = URGENT if len(documents) == 1 else BULK
    await connection.execute(DEFER.encode(), (QUEUE, TASK, priority, batches))


def _batches(documents: Sequence[tuple[UUID, int]]) -> Iterator[list[str]]:
    """Cut by count and by bytes: what one job holds in memory is bounded."""
    batch: list[str] = []
    held = 0
    for document_id, size in documents:
        if batch and (len(batch) == DOCUMENTS_PER_JOB or held + size > BYTES_PER_JOB):
            yield batch
            batch, held = [], 0
        batch.append(str(document_id))
        held += size
    yield batch


DEPTH = """
SELECT j.queue_name, count(*) FROM procrastinate_jobs j LEFT JOIN procrastinate_workers w ON w.id = j.worker_id
WHERE j.status = 'todo' OR (j.status = 'doing' AND w.last_heartbeat > now() - %s * interval '1 second')
GROUP BY j.queue_name
"""


class PostgresJobs:
    """Fills ports.Jobs."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def enqueue(self, document_ids: Sequence[UUID]) -> None:
        """See ports.Jobs."""

        async def work(connection: Connection) -> None:
            sizes = await rows(connection, "SELECT id, size FROM documents WHERE id = ANY(%s)", (list(document_ids),))
            await defer(connection, [(row[0], row[1]) for row in sizes])

        await self.database.transact(work)

    async def depth(self) -> dict[str, int]:
        """See ports.Jobs."""
        found = await self.database.fetch(DEPTH, (WORKER_SILENCE_SECONDS,))
        return {QUEUE: 0} | {row[0]: row[1] for row in found}


def job_app(url: str, run: Callable[[Sequence[UUID]], Awaitable[None]]) -> App:
    """Procrastinate's app with our one task: `run` is called with the documents of a job."""
    app = App(connector=PsycopgConnector(conninfo=url, min_size=1, max_size=4))

    @app.task(name=TASK, queue=QUEUE, retry=RETRY)
    async def ingest(document_ids: list[str]) -> None:
        await run([UUID(document_id) for document_id in document_ids])

    return app
