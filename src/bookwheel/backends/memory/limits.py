"""Limits in this process's memory: for one process, and the reference for the others."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bookwheel.types import Entry, Standing, Take

SLICES = 100  # of a window, see ports.Limiter
SWEEP_GROWTH = 2.0  # it sweeps by itself when it holds so many times as much as after the last sweep
SWEEP_LEAST = 1_000


@dataclass(slots=True, kw_only=True)
class Slice:
    """Takes that come back together."""

    last: float  #: the time of its last take
    amount: int


@dataclass(slots=True, kw_only=True)
class Counter:
    """What one window holds."""

    seconds: float
    first: float = 0.0  #: the time of the newest slice's first take
    held: int = 0
    slices: deque[Slice] = field(default_factory=deque)  #: oldest first

    def at(self, now: float) -> float:
        """The time to count with, which never runs backwards, once what has left the window is forgotten."""
        now = max(now, self.slices[-1].last) if self.slices else now
        while self.slices and self.slices[0].last + self.seconds <= now:
            self.held -= self.slices.popleft().amount
        return now

    def add(self, amount: int, now: float) -> None:
        """Book it in the newest slice, or in a new one."""
        if not amount:
            return
        if not self.slices or now - self.first >= self.seconds / SLICES:
            self.first = now
            self.slices.append(Slice(last=now, amount=0))
        self.slices[-1].last = now
        self.slices[-1].amount += amount
        self.held += amount

    def stand(self, take: Take, now: float, *, taken: bool) -> Standing:
        """How it stands for this take, which is booked already or not."""
        allowed = taken or self.fits(take)
        return Standing(
            name=take.name,
            limit=take.limit,
            allowed=allowed,
            remaining=take.limit - self.held,
            whole_in=self.slices[-1].last + self.seconds - now if self.slices else 0.0,
            wait=0.0 if allowed else self._wait(take, now),
        )

    def fits(self, take: Take) -> bool:
        """Whether it is allowed now."""
        return self.held + max(1, take.amount) <= take.limit

    def _wait(self, take: Take, now: float) -> float | None:
        left = self.held
        for one in self.slices:
            left -= one.amount
            if left + max(1, take.amount) <= take.limit:
                return one.last + self.seconds - now
        return None


@dataclass(slots=True, kw_only=True)
class Held:
    """What a holder has in a group."""

    running: int
    until: float  #: the end of its lease


class MemoryLimiter:
    """Fills ports.Limiter; never away. Holds a counter for each name that was used within its window."""

    name = "memory"

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counters: dict[str, Counter] = {}
        self._groups: dict[str, dict[str, Held]] = {}
        self._sweep_at = SWEEP_LEAST

    async def take(self, takes: Sequence[Take]) -> Sequence[Standing]:
        """See ports.Limiter."""
        self._make_room()
        counters = [self._counter(take.name, take.seconds) for take in takes]
        times = [counter.at(self._clock()) for counter in counters]
        taken = all(counter.fits(take) for counter, take in zip(counters, takes, strict=True))
        if taken:
            for counter, take, now in zip(counters, takes, times, strict=True):
                counter.add(take.amount, now)
        each = zip(counters, takes, times, strict=True)
        return [counter.stand(take, now, taken=taken) for counter, take, now in each]

    async def add(self, name: str, amount: int, *, seconds: float = 60.0) -> None:
        """See ports.Limiter."""
        self._make_room()
        counter = self._counter(name, seconds)
        counter.add(amount, counter.at(self._clock()))

    async def spent(self, name: str, *, seconds: float = 60.0) -> int:
        """See ports.Limiter."""
        counter = self._counters.get(name) or Counter(seconds=seconds)
        counter.at(self._clock())
        return counter.held

    async def enter(self, entries: Sequence[Entry], *, holder: str, lease_seconds: float) -> Sequence[Standing]:
        """See ports.Limiter."""
        self._make_room()
        now = self._clock()
        groups = [self._group(entry.name, now) for entry in entries]
        counts = [sum(held.running for held in group.values()) for group in groups]
        entered = all(count < entry.limit for count, entry in zip(counts, entries, strict=True))
        if entered:
            for group in groups:
                held = group.setdefault(holder, Held(running=0, until=now))
                held.running, held.until = held.running + 1, now + lease_seconds
        each = zip(entries, counts, groups, strict=True)
        return [_standing(entry, count, group, now, entered=entered) for entry, count, group in each]

    async def leave(self, names: Sequence[str], *, holder: str) -> None:
        """See ports.Limiter."""
        now = self._clock()
        for name in names:
            if (held := self._groups.get(name, {}).get(holder)) is not None and held.until > now:
                held.running -= 1

    async def renew(self, running: Mapping[str, int], *, holder: str, lease_seconds: float) -> None:
        """See ports.Limiter."""
        self._make_room()
        now = self._clock()
        for name, count in running.items():
            self._group(name, now)[holder] = Held(running=count, until=now + lease_seconds)

    async def forget(self, prefix: str) -> int:
        """See ports.Limiter."""
        counters = [name for name in self._counters if name.startswith(prefix)]
        groups = [name for name in self._groups if name.startswith(prefix)]
        for name in counters:
            del self._counters[name]
        for name in groups:
            del self._groups[name]
        return len(counters) + len(groups)

    async def sweep(self) -> int:
        """See ports.Limiter."""
        return self._sweep()

    async def ping(self) -> None:
        """See ports.Limiter."""

    def _counter(self, name: str, seconds: float) -> Counter:
        return self._counters.setdefault(name, Counter(seconds=seconds))

    def _group(self, name: str, now: float) -> dict[str, Held]:
        """Without those whose leases have ended."""
        group = {
            holder: held for holder, held in self._groups.get(name, {}).items() if held.until > now and held.running > 0
        }
        self._groups[name] = group
        return group

    def _make_room(self) -> None:
        """Before anything is looked up: what holds nothing may go."""
        if len(self._counters) + len(self._groups) >= self._sweep_at:
            self._sweep()
            self._sweep_at = max(SWEEP_LEAST, int(SWEEP_GROWTH * (len(self._counters) + len(self._groups))))

    def _sweep(self) -> int:
        now, before = self._clock(), len(self._counters) + len(self._groups)
        for counter in self._counters.values():
            counter.at(now)
        self._counters = {name: counter for name, counter in self._counters.items() if counter.slices}
        self._groups = {name: group for name in list(self._groups) if (group := self._group(name, now))}
        return before - len(self._counters) - len(self._groups)


def _standing(entry: Entry, count: int, group: dict[str, Held], now: float, *, entered: bool) -> Standing:
    allowed = entered or count < entry.limit
    ends = max((held.until for held in group.values()), default=now) - now
    soonest = min((held.until for held in group.values()), default=now) - now
    return Standing(
        name=entry.name,
        limit=entry.limit,
        allowed=allowed,
        remaining=entry.limit - count - entered,
        whole_in=ends,
        wait=0.0 if allowed else soonest,
    )
