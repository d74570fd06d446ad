"""Runs a target on inputs that hypothesis makes, for so many seconds, and counts."""

import asyncio
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from tests.fuzz.targets import Target, World, world

BATCH = 200  #: inputs from one seed
SLOW_SECONDS = 15.0  #: an input that takes longer is a problem as well


@dataclass(slots=True)
class Tally:
    """What became of a target's inputs."""

    name: str
    runs: int = 0
    crashes: int = 0
    server_errors: int = 0
    problems: dict[str, str] = field(default_factory=dict)  #: the first of each kind

    def crash(self, kind: str, told: str) -> None:
        """Count one."""
        self.crashes += 1
        self.problems.setdefault(kind, told)

    def __str__(self) -> str:
        return f"{self.name:36} {self.runs:9,} runs {self.crashes:5} crashes {self.server_errors:5} of 5xx"


@contextmanager
def running() -> Iterator[tuple[World, asyncio.Runner]]:
    """The world of the targets, opened and closed by one task, and the loop that it lives in."""
    with asyncio.Runner() as runner:
        ready: asyncio.Future[World] = runner.get_loop().create_future()
        over = asyncio.Event()

        async def hold() -> None:
            async with world() as made:
                ready.set_result(made)
                await over.wait()

        async def opened() -> tuple[asyncio.Task[None], World]:
            holder = asyncio.create_task(hold())
            await asyncio.wait({holder, ready}, return_when=asyncio.FIRST_COMPLETED)
            if holder.done():
                holder.result()
            return holder, await ready

        holder, made = runner.run(opened())
        try:
            yield made, runner
        finally:
            over.set()
            runner.run(asyncio.wait_for(holder, 60))


def fuzz(target: Target, seconds: float, *, seed: int, runner: asyncio.Runner) -> Tally:
    """Inputs from one seed after another until the time is over."""
    tally, end = Tally(target.name), time.monotonic() + seconds
    while time.monotonic() < end:
        batch(target, tally, until=end, seed=seed, runner=runner)
        seed += 1
    return tally


def batch(
    target: Target, tally: Tally, *, until: float, seed: int, runner: asyncio.Runner, examples: int = BATCH
) -> None:
    """The inputs of one seed, or those for which there is time."""

    @seeded(seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(value=target.strategy)
    def take(value: Any) -> None:
        if time.monotonic() < until:
            _run(target, value, tally, runner)

    take()


def _run(target: Target, value: Any, tally: Tally, runner: asyncio.Runner) -> None:
    tally.runs += 1
    start = time.monotonic()
    try:
        status = runner.run(target.run(value))  # type: ignore[arg-type] - our targets are coroutines
    except Exception as error:  # noqa: BLE001 - any at all is what is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        tally.crash(f"{type(error).__name__} {place.filename}:{place.lineno}", _told(value))
        return
    if status is not None and status >= 500:
        tally.server_errors += 1
        tally.problems.setdefault(f"status {status}", f"{status} for {value!r:.2000}")
    if time.monotonic() - start > SLOW_SECONDS:
        tally.crash("slow", f"took {time.monotonic() - start:.1f} s: {value!r:.2000}")


def _told(value: Any) -> str:
    return f"{traceback.format_exc(limit=-6)}\nfor {value!r:.2000}"
