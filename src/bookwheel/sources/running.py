"""Running sources: due ones by lease, a few at once, and directories as soon as something happens in them."""

import asyncio
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import structlog
from watchfiles import Change, awatch

from bookwheel.background import patience, waited
from bookwheel.errors import BookwheelError, NotFoundError, UnavailableError
from bookwheel.expiry import ACTIVE_SECONDS
from bookwheel.fetching import Fetcher
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.sources.directory import run_directory
from bookwheel.sources.hidden import is_skipped
from bookwheel.sources.keeping import Run, backoff_seconds
from bookwheel.sources.pages import run_sitemap, run_urls
from bookwheel.telemetry import ERRORS, SOURCE_ITEMS, SOURCE_RUNS
from bookwheel.types import Scope, Source, SourceKind, SourceOutcome

AT_ONCE = 4  #: sources that one worker runs together
POLL_SECONDS = 1.0  #: between looks for due sources
WATCH_SECONDS = 2.0  #: between looks for new directories
UNSETTLED_SECONDS = 0.6  #: until the next look at a directory with half-written files
DEBOUNCE_MS, STEP_MS, TIMEOUT_MS = 400, 50, 1_000  #: of the watcher
SHARE = 5.0  #: a directory rests so many times as long as its run took, before events make it run again
LONGEST_REST_SECONDS = 30.0

log = structlog.get_logger()


async def run_sources(ports: Ports, settings: Settings, stop: asyncio.Event, owner: str) -> None:
    """Keep stores in step with their sources until `stop` is set; what runs then is given back."""
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it would tell of every change
    async with Fetcher(settings) as fetcher:
        runner = _Runner(ports, settings, fetcher, stop, owner)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(runner.run_due())
            tasks.create_task(runner.beat())
            tasks.create_task(runner.watch())


async def run_once(source: Source, *, ports: Ports, settings: Settings, fetcher: Fetcher) -> SourceOutcome:
    """One run of a claimed source: how it went, and when it is due again. Raises NotFoundError when its store is gone
    and UnavailableError when a part of ours does not answer."""
    scope = Scope(tenant_id=source.tenant_id, store_ids=(source.store_id,), manages=True)
    store = await ports.stores.get(source.store_id, scope=scope)
    await ports.expiry.touch(scope=scope, every_seconds=ACTIVE_SECONDS)
    run = Run(source=source, store=store, ports=ports, settings=settings, state=dict(source.state))
    await run.load()
    failed = False
    try:
        if source.kind is SourceKind.DIRECTORY:
            await run_directory(run)
        elif source.kind is SourceKind.URLS:
            await run_urls(run, fetcher)
        else:
            await run_sitemap(run, fetcher)
    except (NotFoundError, UnavailableError):
        raise
    except BookwheelError as error:
        run.error, failed = error.message, True
    except Exception as error:
        log.exception("source run failed", source=source.id.hex)
        ERRORS.labels("sources", type(error).__name__).inc()
        run.error, failed = f"{type(error).__name__}. The worker's log has it.", True
    return _outcome(run, failed=failed)


def _outcome(run: Run, *, failed: bool) -> SourceOutcome:
    source = run.source
    for result, count in run.counts.items():
        SOURCE_ITEMS.labels(source.kind.value, result).inc(count)
    SOURCE_RUNS.labels(source.kind.value, "failed" if failed else "completed").inc()
    wait = backoff_seconds(source.every_seconds, source.failures + 1) if failed else source.every_seconds
    if run.counts["waiting"]:
        wait = min(wait, UNSETTLED_SECONDS)
    return SourceOutcome(
        next_in_seconds=wait, counts=dict(run.counts), state=run.state, error=run.error or run.summary(), failed=failed
    )


class _Runner:
    """What one worker process does for sources."""

    def __init__(self, ports: Ports, settings: Settings, fetcher: Fetcher, stop: asyncio.Event, owner: str) -> None:
        self.ports = ports
        self.settings = settings
        self.fetcher = fetcher
        self.stop = stop
        self.owner = owner
        self.running: dict[str, asyncio.Task[None]] = {}  #: by the owner that the lease of the run names
        self.watchers: dict[UUID, tuple[str, asyncio.Task[None]]] = {}  #: with the root that is watched
        self.took: dict[UUID, float] = {}  #: seconds of the last run

    async def run_due(self) -> None:
        """Start due sources; at the end cancel what runs."""
        while await waited(POLL_SECONDS, self.stop):
            with patience("sources"):
                while len(self.running) < AT_ONCE and await self._start():
                    pass
        await _cancel(self.running.values())

    async def beat(self) -> None:
        """Tell that the runs are alive."""
        while await waited(self.settings.lease_seconds / 3, self.stop):
            with patience("sources"):
                for owner in list(self.running):
                    await self.ports.source_runs.renew(owner, lease_seconds=self.settings.lease_seconds)

    async def watch(self) -> None:
        """Have one watcher for each directory that is not paused."""
        while await waited(WATCH_SECONDS, self.stop):
            with patience("sources"):
                wanted = {source.id: str(source.config["path"]) for source in await self.ports.source_runs.watched()}
                await self._adjust_watchers(wanted)
        await _cancel(task for _, task in self.watchers.values())

    async def _start(self) -> bool:
        """Begin one run; False when nothing is due."""
        owner = f"{self.owner}-{uuid4().hex[:8]}"
        seconds = self.settings.lease_seconds
        for source in await self.ports.source_runs.claim(owner=owner, lease_seconds=seconds, limit=1):
            self.running[owner] = task = asyncio.create_task(self._run(source, owner))
            task.add_done_callback(lambda _: self.running.pop(owner))
            return True
        return False

    async def _run(self, source: Source, owner: str) -> None:
        began = time.monotonic()
        try:
            outcome = await run_once(source, ports=self.ports, settings=self.settings, fetcher=self.fetcher)
            await self.ports.source_runs.finish(source, outcome, owner=owner)
        except NotFoundError:
            log.info("source ends: it or its store is gone", source=source.id.hex)
        except UnavailableError as error:  # the lease runs out, and the run begins again
            log.warning("source waits", source=source.id.hex, reason=error.message)
        except asyncio.CancelledError:
            with patience("sources"):
                await self.ports.source_runs.release(owner)
            raise
        else:
            self.took[source.id] = time.monotonic() - began
            _tell(source, outcome, self.took[source.id])

    async def _adjust_watchers(self, wanted: dict[UUID, str]) -> None:
        stale = [source_id for source_id, (root, _) in self.watchers.items() if wanted.get(source_id) != root]
        await _cancel([self.watchers.pop(source_id)[1] for source_id in stale])
        for source_id in wanted.keys() - self.watchers.keys():
            root = wanted[source_id]
            self.watchers[source_id] = (root, asyncio.create_task(self._watch(source_id, root)))

    async def _watch(self, source_id: UUID, root: str) -> None:
        """Wake the source on every change, until cancelled; a root that comes, goes or is replaced is a change too."""
        was_there: bool | None = None
        while True:
            standing = await asyncio.to_thread(_Standing.of, root)
            if was_there is None or was_there or standing is not None:
                await self._wake(source_id)
            was_there = standing is not None
            if standing is not None:
                await self._watch_while(source_id, root, standing)
            await asyncio.sleep(WATCH_SECONDS / 2)

    async def _watch_while(self, source_id: UUID, root: str, standing: "_Standing") -> None:
        """Until another directory, or none, stands at the root, or the system can watch no more."""
        noticed = _Filter(root, without=str(self.settings.directory))
        try:
            async for changes in awatch(
                noticed.root,
                watch_filter=noticed,
                debounce=DEBOUNCE_MS,
                step=STEP_MS,
                rust_timeout=TIMEOUT_MS,
                yield_on_timeout=True,
                ignore_permission_denied=True,
                recursive=True,
            ):
                before, now = standing, await asyncio.to_thread(_Standing.of, root)
                if now is None or now.identity != before.identity:
                    return
                standing = now
                if changes or now.changed_ns != before.changed_ns:  # moved away and back, it has no event
                    await self._wake(source_id)
        except OSError as error:
            log.warning("directory cannot be watched: its schedule alone counts", root=root, reason=str(error))
            while await waited(WATCH_SECONDS, self.stop) and await asyncio.to_thread(_Standing.of, root) is not None:
                pass

    async def _wake(self, source_id: UUID) -> None:
        await asyncio.sleep(min(LONGEST_REST_SECONDS, SHARE * max(0.0, self.took.get(source_id, 0.0) - 0.1)))
        with patience("sources"):
            await self.ports.source_runs.wake([source_id])


class _Filter:
    """What happens to files that count. `root` is the directory without links, as the events name it."""

    def __init__(self, root: str, *, without: str) -> None:
        self.root = os.path.realpath(root)
        self.without = without

    def __call__(self, _change: Change, path: str) -> bool:
        if path == self.without or path.startswith(f"{self.without}/"):
            return False
        below = Path(os.path.relpath(path, self.root))
        return not any(is_skipped(part) for part in below.parts if part not in (".", ".."))


@dataclass(frozen=True, slots=True)
class _Standing:
    """Which directory stands at a place, and when it, not what is in its files, was last changed or moved."""

    identity: tuple[int, int]
    changed_ns: int

    @classmethod
    def of(cls, root: str) -> "_Standing | None":
        """None when nothing stands there."""
        try:
            facts = Path(root).stat()
        except OSError:
            return None
        return cls((facts.st_dev, facts.st_ino), facts.st_ctime_ns)


def _tell(source: Source, outcome: SourceOutcome, seconds: float) -> None:
    counts = {name: count for name, count in outcome.counts.items() if count}
    facts = {"source": source.id.hex, "kind": source.kind.value, "seconds": round(seconds, 2), **counts}
    if outcome.error is not None:
        log.warning("source run", reason=outcome.error, **facts)
    elif counts.keys() - {"unchanged", "waiting"}:
        log.info("source run", **facts)
    else:
        log.debug("source run", **facts)


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
