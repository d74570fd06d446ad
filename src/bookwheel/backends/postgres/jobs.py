"""Jobs: the catalog says what is to be done, procrastinate wakes a worker that does it.

A job in procrastinate's table is a wake-up call without content, at most one waiting in each queue, made in the same
transaction as the catalog's rows. A worker that is woken takes documents from the catalog until none is left. So
losing the table loses nothing, and a lost call is made again by `wake`.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self
from uuid import UUID

from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import ConnectorException

from bookwheel.backends.postgres.access_sql import visible_anywhere
from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.backends.postgres.removal import Written, remove_dead_versions, remove_documents
from bookwheel.backends.postgres.turns import any_ready
from bookwheel.errors import DatabaseUnavailableError
from bookwheel.types import Job, JobState, Scope

SINGLE, BULK = "single", "bulk"  # queues: a user's single upload has workers of its own
TASK = "ingest"
POLL_SECONDS = 1.0  # for calls, when a notification was lost
STOP_SECONDS = 10.0  # that running jobs get to finish
WORKER_SILENCE_SECONDS = 30  # after which procrastinate counts a worker as dead

CALL = """
INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, args)
SELECT q, %s, q, jsonb_build_object('urgent', q = 'single') FROM unnest(%s::text[]) AS q
WHERE NOT EXISTS (SELECT FROM procrastinate_jobs j WHERE j.queueing_lock = q AND j.status = 'todo')
ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING
"""

FORGET_DEAD = """
DELETE FROM procrastinate_jobs j WHERE j.status <> 'todo' AND NOT EXISTS (SELECT FROM procrastinate_workers w
    WHERE w.id = j.worker_id AND w.last_heartbeat > now() - %s * interval '1 second')
"""

# Of a document that is finished or gone: a worker that died with it in hand, after another one had finished it.
FORGET_LEASES = """
DELETE FROM leases WHERE document_id IN (
    SELECT l.document_id FROM leases l WHERE l.expires_at < clock_timestamp()
        AND NOT EXISTS (SELECT FROM documents d WHERE d.id = l.document_id AND d.status || '' = 'in_progress')
    FOR UPDATE SKIP LOCKED)
"""

# A suspended tenant's documents wait like those of a paused store s.
HALTED = "(s.paused OR (SELECT t.suspended FROM tenants t WHERE t.id = s.tenant_id))"
STATE = f"""
CASE WHEN d.status <> 'in_progress' THEN d.status WHEN l.expires_at >= clock_timestamp() THEN 'running'
    WHEN {HALTED} THEN 'paused' WHEN d.retry_at > clock_timestamp() THEN 'retrying' ELSE 'waiting' END
"""
UNFINISHED = """
FROM documents d JOIN stores s ON s.id = d.store_id LEFT JOIN leases l ON l.document_id = d.id
WHERE d.status = 'in_progress'
"""
# From the stores' counters: counting the documents of a large load takes too long.
DEPTH = f"""
WITH busy AS (
    SELECT {STATE} AS state, {HALTED} AS paused FROM leases l JOIN documents d ON d.id = l.document_id
        JOIN stores s ON s.id = d.store_id WHERE d.status = 'in_progress' AND l.expires_at >= clock_timestamp()
    UNION ALL
    SELECT 'retrying', false {UNFINISHED} AND d.retry_at > clock_timestamp() AND ({STATE}) = 'retrying'
)
SELECT (SELECT coalesce(sum(in_progress), 0)::bigint FROM stores s WHERE NOT {HALTED}),
    (SELECT coalesce(sum(in_progress), 0)::bigint FROM stores s WHERE {HALTED}),
    count(*) FILTER (WHERE state = 'running'), count(*) FILTER (WHERE state = 'running' AND paused),
    count(*) FILTER (WHERE state = 'retrying') FROM busy
"""

JOBS = f"""
SELECT d.id, d.store_id, d.file_id, d.external_id, d.filename, d.version, d.live_version, {STATE}, d.urgent, d.attempts,
    d.retry_at, CASE WHEN l.expires_at >= clock_timestamp() THEN l.owner END, coalesce(l.chunks_written, 0),
    d.error_code, coalesce(d.error_message, d.trouble), d.updated_at
FROM documents d JOIN stores s ON s.id = d.store_id LEFT JOIN leases l ON l.document_id = d.id
WHERE d.status <> 'completed' AND (%(every)s OR d.store_id = ANY(%(stores)s)) AND {{visible}}
    AND (%(after)s::uuid IS NULL OR (d.updated_at, d.id) > (SELECT updated_at, id FROM documents WHERE id = %(after)s))
    AND (%(state)s::text IS NULL OR ({STATE}) = %(state)s)
ORDER BY d.updated_at, d.id LIMIT %(limit)s
"""

MINE = "d.id = ANY(%(ids)s) AND (%(every)s OR d.store_id = ANY(%(stores)s)) AND {visible}"

RETRY = f"""
UPDATE documents d SET status = 'in_progress', urgent = true, attempts = 0, retry_at = NULL, trouble = NULL,
    error_code = NULL, error_message = NULL, updated_at = now()
WHERE {MINE} AND (d.status IN ('failed', 'cancelled') OR (d.status = 'in_progress' AND d.retry_at IS NOT NULL))
RETURNING d.id
"""

CANCEL = f"""
UPDATE documents d SET status = 'cancelled', retry_at = NULL, error_code = 'cancelled',
    error_message = 'Cancelled before it was finished. Retry the job, or put the document again.', updated_at = now()
FROM stores s
WHERE s.id = d.store_id AND {MINE} AND d.status || '' = 'in_progress'
RETURNING d.id, d.version, d.store_id, s.space_id
"""

# An empty hash: whatever is put next is a change, since the newest version's bytes never went live.
GO_BACK = f"""
UPDATE documents d SET status = 'completed', sha256 = '', error_code = NULL, error_message = NULL, updated_at = now()
WHERE {MINE} AND d.status IN ('failed', 'cancelled') AND d.live_version IS NOT NULL RETURNING d.id
"""


async def call_workers(connection: Connection, *, urgent: bool) -> None:
    """Wake a worker when the caller's transaction commits. Last in it: a call that is being made holds others up."""
    await connection.execute(CALL.encode(), (TASK, [SINGLE if urgent else BULK]))


async def cancel_documents(connection: Connection, document_ids: Sequence[UUID], *, scope: Scope) -> int:
    """End unfinished jobs in the caller's transaction; returns how many."""
    ended = await rows(connection, *_mine(CANCEL, document_ids, scope))
    await remove_dead_versions(connection, [Written(*row) for row in ended])
    return len(ended)


class PostgresJobs:
    """Fills ports.Jobs."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def wake(self) -> bool:
        """See ports.Jobs."""

        async def work(connection: Connection) -> bool:
            await connection.execute(FORGET_DEAD.encode(), (WORKER_SILENCE_SECONDS,))
            await connection.execute(FORGET_LEASES.encode())
            waiting = [urgent for urgent in (True, False) if await any_ready(connection, urgent=urgent)]
            for urgent in waiting:
                await call_workers(connection, urgent=urgent)
            return bool(waiting)

        return await self.database.transact(work)

    async def depth(self) -> dict[str, int]:
        """See ports.Jobs."""
        active, paused, running, running_paused, retrying = (await self.database.fetch(DEPTH))[0]
        waiting = max(0, active - (running - running_paused) - retrying)
        return {
            JobState.WAITING.value: waiting,
            JobState.RUNNING.value: running,
            JobState.RETRYING.value: retrying,
            JobState.PAUSED.value: max(0, paused - running_paused),
        }

    async def list(
        self, *, scope: Scope, state: JobState | None = None, limit: int, after: UUID | None = None
    ) -> "list[Job]":
        """See ports.Jobs."""
        query, parameters = _mine(JOBS, (), scope)
        wanted = {"state": state, "limit": limit, "after": after}
        return [_job(row) for row in await self.database.fetch(query, {**parameters, **wanted})]

    async def retry(self, document_ids: Sequence[UUID], *, scope: Scope) -> int:
        """See ports.Jobs."""

        async def work(connection: Connection) -> int:
            again = await rows(connection, *_mine(RETRY, document_ids, scope))
            await connection.execute("DELETE FROM leases WHERE document_id = ANY(%s)", ([row[0] for row in again],))
            await call_workers(connection, urgent=True)
            return len(again)

        return await self.database.transact(work)

    async def cancel(self, document_ids: Sequence[UUID], *, scope: Scope) -> int:
        """See ports.Jobs."""

        async def work(connection: Connection) -> int:
            return await cancel_documents(connection, document_ids, scope=scope)

        return await self.database.transact(work)

    async def drop(self, document_ids: Sequence[UUID], *, scope: Scope) -> int:
        """See ports.Jobs."""

        async def work(connection: Connection) -> int:
            back = await rows(connection, *_mine(GO_BACK, document_ids, scope))
            doomed = _mine(f"{MINE} AND d.status IN ('failed', 'cancelled')", document_ids, scope)
            return len(back) + await remove_documents(connection, *doomed)

        return await self.database.transact(work)


class Calls:
    """What wakes this worker: `run(urgent=...)` is called when documents wait. Use it as a context manager."""

    def __init__(self, url: str, run: Callable[..., Awaitable[None]]) -> None:
        self.app = App(connector=PsycopgConnector(conninfo=url, min_size=1, max_size=4))

        @self.app.task(name=TASK)
        async def ingest(*, urgent: bool) -> None:
            await run(urgent=urgent)

    async def __aenter__(self) -> Self:
        with _translated():
            await self.app.open_async()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.app.close_async()

    async def take(self, *, name: str, urgent: bool, slots: int) -> None:
        """Answer calls, with `urgent` only those for single uploads, until cancelled; then what runs gets some seconds
        to finish. Raises DatabaseUnavailableError."""
        with _translated():
            await self.app.run_worker_async(
                name=name,
                queues=[SINGLE] if urgent else [SINGLE, BULK],
                concurrency=slots,
                fetch_job_polling_interval=POLL_SECONDS,
                delete_jobs="always",
                install_signal_handlers=False,
                shutdown_graceful_timeout=STOP_SECONDS,
            )


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ConnectorException as error:
        raise DatabaseUnavailableError from error


def _mine(query: str, document_ids: Sequence[UUID], scope: Scope) -> tuple[str, dict[str, Any]]:
    """The query on documents that the scope may know of, and its values."""
    visible, values = visible_anywhere(scope).named()
    inside = {"ids": sorted(document_ids), "every": not scope.store_ids, "stores": list(scope.store_ids)}
    return query.format(visible=visible), {**values, **inside}


def _job(row: tuple[Any, ...]) -> Job:
    return Job(
        document_id=row[0],
        store_id=row[1],
        file_id=row[2],
        external_id=row[3],
        filename=row[4],
        version=row[5],
        live_version=row[6],
        state=JobState(row[7]),
        urgent=row[8],
        attempts=row[9],
        retry_at=row[10],
        worker=row[11],
        chunks_written=row[12],
        error_code=row[13],
        error_message=row[14],
        updated_at=row[15],
    )
