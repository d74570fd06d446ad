"""Keeping the keyword index in step with the catalog: the one writer follows the outbox, or rebuilds from nothing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import structlog

from bookwheel.background import waited
from bookwheel.errors import UnavailableError
from bookwheel.ports import Ports
from bookwheel.telemetry import ERRORS, stage
from bookwheel.types import Change

CHANGES_PER_COMMIT = 512
IDLE_SECONDS = 0.3  # between looks at the outbox when nothing happens
COMMIT_SECONDS = 0.5  # after a small commit, that more may gather: each one makes a segment that must be merged later
SMALL_COMMIT = 100  # changes
PAUSE_SECONDS = 1.0  # after an error
TRIM_EVERY = 50  # commits between trims of the outbox

log = structlog.get_logger()


async def follow(ports: Ports, stop: asyncio.Event) -> None:
    """Apply changes until `stop` is set. An index that is empty beside a full catalog is rebuilt first."""
    commits = 0
    while not stop.is_set():
        try:
            applied = await catch_up(ports)
            commits += bool(applied)
            if commits >= TRIM_EVERY:
                await ports.outbox.trim(await ports.keywords.position())
                commits = 0
            pause = IDLE_SECONDS if not applied else COMMIT_SECONDS if applied < SMALL_COMMIT else 0.0
        except UnavailableError as error:
            ERRORS.labels("keywords.follow", type(error).__name__).inc()
            log.warning("keyword index waits", reason=error.message)
            pause = PAUSE_SECONDS
        if pause:
            await waited(pause, stop)


async def catch_up(ports: Ports) -> int:
    """Apply one batch of changes; returns how many. An index that has fallen out of the outbox is rebuilt."""
    position = await ports.keywords.position()
    changes = await ports.outbox.read(position - 1, limit=CHANGES_PER_COMMIT)
    if not _continues(position, changes):
        return await rebuild(ports)
    news = [change for change in changes if change.sequence > position]
    if news:
        await _apply(ports, news)
    return len(news)


def _continues(position: int, changes: Sequence[Change]) -> bool:
    """Trimming always leaves the line at the index's position: without it, lines are missing from this index."""
    if position == 0:
        return not changes or changes[0].sequence == 1
    return bool(changes) and changes[0].sequence == position


async def rebuild(ports: Ports) -> int:
    """Make the keyword index anew from the catalog; returns the number of documents. Queries see it grow."""
    timings: dict[str, float] = {}
    with stage("index.build", timings):
        target = await ports.outbox.last()
        await ports.keywords.reset(0)  # until the last batch it counts as empty: a killed rebuild starts again
        count, waiting = 0, list[Change]()
        async for batch in _in_batches(ports.outbox.snapshot()):
            if waiting:
                await _apply(ports, waiting)
            waiting, count = batch, count + len(batch)
        if waiting:
            await _apply(ports, [replace(change, sequence=target) for change in waiting])
        else:
            await ports.keywords.reset(target)
    log.info("keyword index rebuilt", documents=count, seconds=round(timings["index.build"], 2))
    return count


async def _apply(ports: Ports, changes: Sequence[Change]) -> None:
    await ports.keywords.apply(changes, ports.outbox.entries(changes))


async def _in_batches(changes: AsyncIterator[Change]) -> AsyncIterator[list[Change]]:
    batch: list[Change] = []
    async for change in changes:
        batch.append(change)
        if len(batch) == CHANGES_PER_COMMIT:
            yield batch
            batch = []
    if batch:
        yield batch
