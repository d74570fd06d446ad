"""The worker process: runs jobs, keeps leases alive, re-queues what was lost, follows the outbox."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from uuid import UUID, uuid4

import structlog

from bookwheel.app import job_app, open_ports
from bookwheel.errors import BookwheelError, UnavailableError
from bookwheel.follow import follow
from bookwheel.ingest import give_up, ingest
from bookwheel.ports import Ports
from bookwheel.sandbox import ParserPool
from bookwheel.settings import Settings
from bookwheel.telemetry import ERRORS, QUEUE_DEPTH

SWEEP_SECONDS = 2.0
SWEEP_LIMIT = 1_000
STOP_SECONDS = 10.0  # that running jobs get to finish when the worker is asked to stop
POLL_SECONDS = 1.0  # for jobs, when a notification was lost

log = structlog.get_logger()


class Worker:
    """Everything that one worker process does, sharing one set of ports."""

    def __init__(self, settings: Settings, ports: Ports, parser: ParserPool) -> None:
        self.settings = settings
        self.ports = ports
        self.parser = parser
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}"
        self.owners: set[str] = set()
        self.stop = asyncio.Event()

    async def run(self) -> None:
        """Work until `stop` is set; then finish what runs, within bounds."""
        app = job_app(self.settings, self.run_job)
        async with app.open_async(), asyncio.TaskGroup() as tasks:
            jobs = tasks.create_task(
                app.run_worker_async(
                    name=self.name,
                    concurrency=self.settings.ingest_concurrency,
                    fetch_job_polling_interval=POLL_SECONDS,
                    delete_jobs="successful",
                    install_signal_handlers=False,
                    shutdown_graceful_timeout=STOP_SECONDS,
                )
            )
            tasks.create_task(self._beat())
            tasks.create_task(self._sweep())
            tasks.create_task(follow(self.ports, self.stop))
            await self.stop.wait()
            jobs.cancel()

    async def run_job(self, document_ids: Sequence[UUID]) -> None:
        """One job: its documents are leased to it alone, and the lease is renewed while it runs."""
        owner = f"{self.name}-{uuid4().hex[:8]}"
        self.owners.add(owner)
        try:
            await ingest(
                document_ids,
                owner=owner,
                lease_seconds=self.settings.lease_seconds,
                ports=self.ports,
                parser=self.parser,
            )
        except BookwheelError as error:
            ERRORS.labels("ingest", type(error).__name__).inc()
            log.warning("job will be tried again", reason=error.message, documents=len(document_ids))
            raise
        except Exception as error:
            ERRORS.labels("ingest", type(error).__name__).inc()
            log.exception("job failed", documents=[str(document_id) for document_id in document_ids])
            await give_up(document_ids, error, owner=owner, ports=self.ports)
        finally:
            self.owners.discard(owner)

    async def _beat(self) -> None:
        while await self._wait(self.settings.lease_seconds / 3):
            with _patience("lease"):
                await self.ports.ingestion.renew(tuple(self.owners), lease_seconds=self.settings.lease_seconds)

    async def _sweep(self) -> None:
        """The catalog is the truth: what it says is unfinished, and no job holds or awaits, is queued again."""
        while await self._wait(SWEEP_SECONDS):
            with _patience("sweep"):
                depth = await self.ports.jobs.depth()
                for queue, count in depth.items():
                    QUEUE_DEPTH.labels(queue).set(count)
                idle = sum(depth.values()) == 0
                if idle:
                    await self._requeue()
                for done in await self.ports.vectors.tend(self.ports.space, idle=idle):
                    log.info("vector index tended", done=done)

    async def _requeue(self) -> None:
        lost = await self.ports.ingestion.unfinished(older_than_seconds=SWEEP_SECONDS, limit=SWEEP_LIMIT)
        if lost:
            log.warning("documents without a job are queued again", documents=len(lost))
            await self.ports.jobs.enqueue(lost)

    async def _wait(self, seconds: float) -> bool:
        """Wait; False when it is time to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stop.wait()
        return not self.stop.is_set()


@contextlib.contextmanager
def _patience(part: str) -> Iterator[None]:
    """A background task outlives a database that is away for a while."""
    try:
        yield
    except UnavailableError as error:
        ERRORS.labels(part, type(error).__name__).inc()
        log.warning("background task waits", part=part, reason=error.message)


async def work(settings: Settings) -> None:
    """Run one worker until SIGTERM or SIGINT."""
    logging.getLogger("procrastinate").setLevel(logging.WARNING)  # it would print every job's arguments
    parser = ParserPool(settings)
    async with open_ports(settings, writes_keywords=True) as ports:
        worker = Worker(settings, ports, parser)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop.set)
        await parser.start()
        try:
            await worker.run()
        finally:
            await parser.stop()
