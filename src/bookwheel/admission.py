"""A limit on calls at once, and a short queue before it that turns callers away before they would wait in vain."""

import asyncio
import time
from collections import deque

from bookwheel.breaker import Clock
from bookwheel.errors import OverloadedError

RECENT = 0.2  # weight of the newest call in the moving average of their times
UNKNOWN_WAIT_SECONDS = 1.0  # told to those who are turned away before any call has ended


class Place:
    """The right to call, until it is left."""

    __slots__ = ("_admission", "began")

    def __init__(self, admission: "Admission", began: float) -> None:
        self._admission: Admission | None = admission
        self.began = began

    def leave(self) -> None:
        """Give it to the next one. Idempotent."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.left(self)


class Admission:
    """At most `limit` places, at most `queue` callers who wait for one, first come first served."""

    def __init__(self, name: str, *, limit: int, queue: int, clock: Clock = time.monotonic) -> None:
        self._name = name
        self._limit, self._queue = limit, queue
        self._clock = clock
        self._running: set[Place] = set()
        self._waiting: deque[asyncio.Future[Place]] = deque()
        self._average: float | None = None  # seconds of recent calls

    def enter_now(self) -> Place | None:
        """A place, if one is free: then nobody waits for it, for a place that is left goes to who waits."""
        return self._admit() if len(self._running) < self._limit else None

    async def enter(self, *, within: float) -> Place:
        """A place, so early that a usual call still ends within so many seconds. Raises OverloadedError, at once
        where that cannot be expected."""
        if (place := self.enter_now()) is not None:
            return place
        if len(self._waiting) >= self._queue or self.expected_wait() + self._usual_seconds() > within:
            raise self._overloaded()
        turn: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(within):
                return await turn
        except TimeoutError:
            self._give_back(turn)
            raise self._overloaded() from None
        except asyncio.CancelledError:
            self._give_back(turn)
            raise

    def expected_wait(self) -> float:
        """Seconds that one more in the queue would wait."""
        return self._usual_seconds() * (len(self._waiting) + 1) / self._limit

    def left(self, place: Place) -> None:
        """A place is free: to be called by the place."""
        self._running.discard(place)
        seconds = self._clock() - place.began
        self._average = seconds if self._average is None else self._average + RECENT * (seconds - self._average)
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(self._admit())
                return

    def _admit(self) -> Place:
        place = Place(self, self._clock())
        self._running.add(place)
        return place

    def _usual_seconds(self) -> float:
        """How long a call takes: as the recent ones did, or as long as those that run have taken so far, which is how
        an upstream that has begun to hang is noticed."""
        now = self._clock()
        so_far = sum(now - place.began for place in self._running) / (len(self._running) or 1)
        return max(self._average or 0.0, so_far)

    def _give_back(self, turn: "asyncio.Future[Place]") -> None:
        """One who waited goes: out of the queue, or out of the place that he was given at the same moment."""
        if turn in self._waiting:
            self._waiting.remove(turn)
        elif turn.done() and not turn.cancelled():
            turn.result().leave()

    def _overloaded(self) -> OverloadedError:
        seconds = self.expected_wait() or UNKNOWN_WAIT_SECONDS
        return OverloadedError(
            f"{self._name} has {len(self._running)} calls to answer and {len(self._waiting)} that wait. Send the"
            f" request again in {seconds:.1f} s.",
            retry_after=seconds,
        )
