"""A limiter that is off, and one that may be away without anybody being refused for it."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import structlog

from bookwheel.breaker import Breaker, Clock
from bookwheel.errors import LimiterUnavailableError
from bookwheel.ports import Limiter
from bookwheel.telemetry import DEGRADED, ERRORS
from bookwheel.types import Entry, Standing, Take

T = TypeVar("T")
log = structlog.get_logger()

STAGE = "limits"
MINUTE = 60.0  # seconds
TELL_SECONDS = 60.0  # between two lines of the log about the same outage


class NoLimiter:
    """Fills ports.Limiter and counts nothing: everything is allowed."""

    name = "off"

    async def take(self, takes: Sequence[Take]) -> Sequence[Standing]:
        """All is there."""
        return [
            Standing(name=one.name, limit=one.limit, allowed=True, remaining=one.limit, whole_in=0.0) for one in takes
        ]

    async def add(self, name: str, amount: int, *, seconds: float = MINUTE) -> None:
        """Not counted."""

    async def spent(self, name: str, *, seconds: float = MINUTE) -> int:  # noqa: ARG002 - the port's
        """Nothing is counted."""
        return 0

    async def enter(self, entries: Sequence[Entry], *, holder: str, lease_seconds: float) -> Sequence[Standing]:  # noqa: ARG002
        """There is room."""
        return [
            Standing(name=one.name, limit=one.limit, allowed=True, remaining=one.limit, whole_in=0.0) for one in entries
        ]

    async def leave(self, names: Sequence[str], *, holder: str) -> None:
        """Not counted."""

    async def renew(self, running: Mapping[str, int], *, holder: str, lease_seconds: float) -> None:
        """Not counted."""

    async def forget(self, prefix: str) -> int:  # noqa: ARG002 - the port's
        """Nothing is there."""
        return 0

    async def sweep(self) -> int:
        """Nothing is there."""
        return 0

    async def ping(self) -> None:
        """It answers."""


class Lenient:
    """A limiter that may be away: then it is gone on without, counted at each request, told at most once a minute, and
    asked again after 1 to 5 s by one of them."""

    def __init__(self, limiter: Limiter, *, clock: Clock = time.monotonic) -> None:
        self.limiter = limiter
        self._clock = clock
        self._breaker = Breaker(failures=1, clock=clock)
        self._tell_at = clock()

    async def ask(self, verb: Callable[[Limiter], Awaitable[T]]) -> T | None:
        """What the limiter returns; None when it is away."""
        if self._breaker.wait():
            DEGRADED.labels(STAGE).inc()
            return None
        ticket, good = self._breaker.begin(), None
        try:
            found = await verb(self.limiter)
            good = True
            return found
        except LimiterUnavailableError as error:
            good = False
            self._lost(error)
            return None
        finally:
            self._breaker.end(ticket, good=good)

    def _lost(self, error: LimiterUnavailableError) -> None:
        DEGRADED.labels(STAGE).inc()
        ERRORS.labels(STAGE, type(error).__name__).inc()
        if (now := self._clock()) >= self._tell_at:
            self._tell_at = now + TELL_SECONDS
            log.warning("limits are away, going on without them", store=self.limiter.name, reason=error.message)
