"""A circuit breaker: after failures in a row nobody waits for an upstream that is away; now and then one call tries it.

There is no state of being half open to get stuck in: while it is open, one call in each pause may pass, the probe. The
first answer closes it; a probe that hangs keeps nobody from trying in the next pause.
"""

import time
from collections.abc import Callable

Clock = Callable[[], float]

FAILURES = 5  # in a row, before it opens
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 5.0  # doubled until here, so that a recovery is seen within 10 s


class Breaker:
    """Counts what became of calls. A call that its caller left says nothing."""

    def __init__(
        self,
        *,
        failures: int = FAILURES,
        first_pause: float = FIRST_PAUSE_SECONDS,
        longest_pause: float = LONGEST_PAUSE_SECONDS,
        clock: Clock = time.monotonic,
    ) -> None:
        self._limit = failures
        self._first_pause, self._longest_pause = first_pause, longest_pause
        self._clock = clock
        self._failures = 0  # in a row
        self._pause = first_pause
        self._next_probe: float | None = None  # when, on the clock; None while it is closed
        self._epoch = 0  # grows when it opens or closes: what earlier calls come to says nothing then

    @property
    def is_open(self) -> bool:
        """Whether calls are answered without the upstream."""
        return self._next_probe is not None

    def wait(self) -> float:
        """Seconds until a call may pass, 0.0 when one may now."""
        return 0.0 if self._next_probe is None else max(0.0, self._next_probe - self._clock())

    def begin(self) -> int:
        """Let a call pass, only when `wait` is 0.0; returns the ticket to end it with."""
        if self._next_probe is not None:
            self._next_probe = self._clock() + self._pause
        return self._epoch

    def answered(self, ticket: int) -> None:
        """The call has an answer, though not the whole: the upstream is back."""
        if ticket == self._epoch and self._next_probe is not None:
            self._close()

    def end(self, ticket: int, *, good: bool | None) -> None:
        """What became of the call: good, a failure of the upstream, or None where it was left."""
        if ticket != self._epoch:
            return
        if good:
            self.answered(ticket)
            self._failures = 0
        elif good is not None:
            self._failed()
        elif self._next_probe is not None:  # a probe that was left makes way for another
            self._next_probe = self._clock()

    def _failed(self) -> None:
        if self._next_probe is not None:
            self._pause = min(2 * self._pause, self._longest_pause)
            self._next_probe = self._clock() + self._pause
            return
        self._failures += 1
        if self._failures >= self._limit:
            self._epoch += 1
            self._pause, self._next_probe = self._first_pause, self._clock() + self._first_pause

    def _close(self) -> None:
        self._epoch += 1
        self._failures, self._next_probe = 0, None
