"""Limits in a process's memory, and what the rule of all of them comes to in the long run, on a clock of the tests'."""

import random
from collections import deque
from collections.abc import Iterator

import pytest

from bookwheel.backends.memory.limits import SWEEP_LEAST, MemoryLimiter
from bookwheel.ports import Limiter
from bookwheel.testing.limits import LimiterContract, one
from bookwheel.types import Entry

DAY = 86_400.0


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class TestMemory(LimiterContract):
    """In this process."""

    @pytest.fixture
    def limiter(self) -> Limiter:
        """Empty."""
        return MemoryLimiter()

    async def test_what_is_empty_is_swept(self) -> None:
        """Counters and groups, each counted once."""
        clock = Clock()
        limiter = MemoryLimiter(clock=clock)
        await one(limiter, "one", 1, seconds=10)
        await one(limiter, "other", 1, seconds=30)
        await limiter.enter([Entry(name="one", limit=1)], holder="a", lease_seconds=10)
        clock.now += 20
        assert await limiter.sweep() == 2
        assert await limiter.sweep() == 0

    async def test_it_sweeps_by_itself(self) -> None:
        """Names that are used once do not pile up, and what is held is not lost by it."""
        clock = Clock()
        limiter = MemoryLimiter(clock=clock)
        for number in range(20 * SWEEP_LEAST):
            assert (await one(limiter, f"counter {number}", 1, seconds=60)).allowed
            await limiter.enter([Entry(name=f"group {number}", limit=1)], holder="a", lease_seconds=60)
            assert not (await one(limiter, f"counter {number}", 1, seconds=60)).allowed
            clock.now += 0.5
        assert len(limiter._counters) + len(limiter._groups) <= 2 * SWEEP_LEAST

    async def test_a_clock_that_jumps_back(self) -> None:
        """Nothing comes back early, and time goes on where it stood."""
        clock = Clock()
        limiter = MemoryLimiter(clock=clock)
        assert (await one(limiter, "name", 1, seconds=60)).allowed
        clock.now -= 3_600
        assert (await one(limiter, "name", 1, seconds=60)).wait == 60.0
        clock.now += 3_600 + 60
        assert (await one(limiter, "name", 1, seconds=60)).allowed


def arrivals(kind: str, rate: float, seconds: float, chance: random.Random) -> Iterator[tuple[float, int]]:
    """When somebody asks, and for how much, for so long: evenly, by chance, or in bursts."""
    now = 0.0
    while now < seconds:
        if kind == "bursts":
            yield from ((now, 1) for _ in range(20))
            now += chance.expovariate(rate / 20)
            continue
        yield now, chance.choice((1, 1, 1, 5)) if kind == "amounts" else 1
        now += 1 / rate if kind == "even" else chance.expovariate(rate)


class Log:
    """What the rule comes to where each take is remembered by itself."""

    def __init__(self, limit: int, window: float) -> None:
        self.limit, self.window = limit, window
        self.held, self.taken = 0, deque[tuple[float, int]]()

    def fits(self, at: float, amount: int) -> bool:
        """Whether the window before `at` has room."""
        while self.taken and self.taken[0][0] <= at - self.window:
            self.held -= self.taken.popleft()[1]
        return self.held + amount <= self.limit

    def add(self, at: float, amount: int) -> None:
        """Remember."""
        self.taken.append((at, amount))
        self.held += amount


@pytest.mark.parametrize("pressure", [1.02, 1.5, 10.0])
@pytest.mark.parametrize("kind", ["even", "chance", "bursts", "amounts"])
@pytest.mark.parametrize(("limit", "window"), [(100, 60.0), (500, 60.0), (100, DAY)])
async def test_the_long_run(kind: str, pressure: float, limit: int, window: float) -> None:
    """Whatever comes, no window anywhere holds more than the limit, and in the long run it allows what remembering each
    take would allow, within 1 %; to those who always ask for more, the limit of each window."""
    clock, windows, allowed, ideal = Clock(), 20, 0, 0
    limiter, ours, exact = MemoryLimiter(clock=clock), Log(limit, window), Log(limit, window)
    begun = clock.now
    for at, amount in arrivals(kind, pressure * limit / window, windows * window, random.Random(7)):
        clock.now = begun + at
        if exact.fits(at, amount):
            exact.add(at, amount)
            ideal += amount
        fits = ours.fits(at, amount)
        if (await one(limiter, "name", limit, amount, seconds=window)).allowed:
            assert fits
            ours.add(at, amount)
            allowed += amount
    assert allowed >= 0.99 * ideal
    if pressure > 5 and kind != "bursts":
        assert 0.99 * windows * limit <= allowed <= windows * limit


async def test_nothing_comes_back_late() -> None:
    """What would fit into a window that is 1 % longer is never refused."""
    clock, limit, window = Clock(), 50, 60.0
    limiter, longer = MemoryLimiter(clock=clock), Log(limit, 1.01 * window)
    for at, amount in arrivals("amounts", 3 * limit / window, 20 * window, random.Random(11)):
        clock.now = 1_000.0 + at
        fits = longer.fits(at, amount)
        if (await one(limiter, "name", limit, amount, seconds=window)).allowed:
            longer.add(at, amount)
        else:
            assert not fits
