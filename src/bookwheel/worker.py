"""The worker process: runs jobs, keeps leases alive, re-queues what was lost, follows the outbox."""

import asyncio
import logging
import os
import signal
import socket
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from bookwheel.app import answering_ports, open_ports, worker_calls
from bookwheel.background import patience, waited
from bookwheel.deliver import deliver_webhooks
from bookwheel.errors import UnavailableError
from bookwheel.expiry import remove_expired
from bookwheel.follow import follow
from bookwheel.heap import give_back, share_arenas
from bookwheel.ingest import ingest_waiting
from bookwheel.orphans import remove_dead_blobs
from bookwheel.popular import refresh_popular
from bookwheel.ports import Ports
from bookwheel.respond import Narrator, run_responses
from bookwheel.sandbox import ParserPool
from bookwheel.settings import Settings
from bookwheel.sources.running import run_sources
from bookwheel.telemetry import ERRORS, QUEUE_DEPTH

if TYPE_CHECKING:
    from bookwheel.backends.postgres.jobs import Calls

SWEEP_SECONDS = 1.0
TEND_SECONDS = 2.0
CLEAN_SECONDS = 10.0
CACHE_SECONDS = 60.0  # between sweeps of the shared cache, which look at all of it
PAUSE_SECONDS = 0.5  # after the database was away

log = structlog.get_logger()


class Worker:
    """Everything that one worker process does, sharing one set of ports."""

    def __init__(self, settings: Settings, ports: Ports, answering: Ports, parser: ParserPool) -> None:
        self.settings = settings
        self.ports = ports
        self.answering = answering
        self.parser = parser
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}"
        self.owners: set[str] = set()
        self.stop = asyncio.Event()

    async def run(self) -> None:
        """Work until `stop` is set; then finish what runs, within bounds."""
        async with worker_calls(self.settings, self.run_job) as calls, asyncio.TaskGroup() as tasks:
            jobs = [tasks.create_task(self._take(calls, urgent=urgent, slots=slots)) for urgent, slots in self._slots()]
            tasks.create_task(self._beat())
            tasks.create_task(self._sweep())
            tasks.create_task(self._tend())
            tasks.create_task(self._clean())
            tasks.create_task(follow(self.ports, self.stop))
            tasks.create_task(run_sources(self.ports, self.settings, self.stop, self.name))
            tasks.create_task(deliver_webhooks(self.ports, self.settings, self.stop))
            jobs.append(tasks.create_task(refresh_popular(self.answering, self.stop)))
            tasks.create_task(self._sweep_cache())
            tasks.create_task(run_responses(self.answering, self.settings, self.stop, self.name, narrator=_narrator))
            await self.stop.wait()
            for job in jobs:
                job.cancel()

    def _slots(self) -> list[tuple[bool, int]]:
        """Which calls are taken and how many at once: a slot of their own keeps single uploads from waiting."""
        return [(True, 1), (False, max(1, self.settings.ingest_concurrency - 1))]

    async def _take(self, calls: "Calls", *, urgent: bool, slots: int) -> None:
        while not self.stop.is_set():
            with patience("jobs"):
                await calls.take(name=self.name, urgent=urgent, slots=slots)
            await waited(PAUSE_SECONDS, self.stop)

    async def run_job(self, *, urgent: bool) -> None:
        """Ingest what waits; the documents in hand are leased to this job alone, and the lease is renewed meanwhile."""
        owner = f"{self.name}-{uuid4().hex[:8]}"
        self.owners.add(owner)
        try:
            await ingest_waiting(
                owner=owner,
                lease_seconds=self.settings.lease_seconds,
                urgent=urgent,
                ports=self.ports,
                parser=self.parser,
                stop=self.stop,
            )
        except UnavailableError as error:  # the leases run out, and the sweep finds the documents
            ERRORS.labels("ingest", type(error).__name__).inc()
            log.warning("job ended early", reason=error.message)
        finally:
            self.owners.discard(owner)

    async def _beat(self) -> None:
        while await waited(self.settings.lease_seconds / 4, self.stop):
            with patience("lease"):
                await self.ports.ingestion.renew(tuple(self.owners), lease_seconds=self.settings.lease_seconds)

    async def _sweep(self) -> None:
        """The catalog is the truth: what it says is waiting is called for again, whatever became of the queue."""
        while await waited(SWEEP_SECONDS, self.stop):
            with patience("sweep"):
                await self.ports.jobs.wake()

    async def _tend(self) -> None:
        while await waited(TEND_SECONDS, self.stop):
            with patience("tend"):
                depth = await self.ports.jobs.depth()
                for state, count in depth.items():
                    QUEUE_DEPTH.labels(state).set(count)
                idle = depth["waiting"] + depth["running"] == 0
                for done in await self.ports.vectors.tend(self.ports.space, idle=idle):
                    log.info("vector index tended", done=done)

    async def _sweep_cache(self) -> None:
        while await waited(CACHE_SECONDS, self.stop):
            with patience("cache"):
                await self.ports.caches.cache.sweep()
            with patience("limits"):
                await self.ports.limiter.sweep()

    async def _clean(self) -> None:
        while await waited(CLEAN_SECONDS, self.stop):
            await asyncio.to_thread(give_back)
            with patience("expiry"):
                for kind, count in (await remove_expired(self.ports)).items():
                    log.info("expired", kind=kind, count=count)
            with patience("clean"):
                removed = await remove_dead_blobs(self.ports)
                if removed:
                    log.info("bytes of deleted files removed", files=removed)


def _narrator() -> Narrator:
    """Loaded when it is needed: the HTTP door, which comes with it, costs 36 MiB and seconds on a busy machine."""
    from bookwheel.api import response_events

    return response_events


async def work(settings: Settings) -> None:
    """Run one worker until SIGTERM or SIGINT."""
    logging.getLogger("procrastinate").setLevel(logging.WARNING)  # it would print every job's arguments
    share_arenas()
    parser = ParserPool(settings)
    async with open_ports(settings, writes_keywords=True) as ports, answering_ports(settings, ports) as answering:
        worker = Worker(settings, ports, answering, parser)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop.set)
        await parser.start()
        try:
            await worker.run()
        finally:
            await parser.stop()
