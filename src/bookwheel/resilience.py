"""Calls to one upstream over the network that end in time, whatever it does: a deadline, retries, a breaker, a limit.

A backend has one `Upstream` for each service that it calls and hands it every call:

    found = await self._upstream.call(lambda: self._client.search(query))
    async for piece in self._upstream.stream(lambda: self._pieces(request)): ...

What its client library raises is judged in one place, by the function that the backend gives.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Final, TypeVar

import stamina

from bookwheel.admission import Admission
from bookwheel.breaker import Breaker, Clock
from bookwheel.errors import BookwheelError, OverloadedError, UnavailableError
from bookwheel.telemetry import UPSTREAM_CALLS, UPSTREAM_OPEN, UPSTREAM_RETRIES, UPSTREAM_SHED
from bookwheel.throttle import Throttle, TokenCount

ATTEMPTS = 3
BACKOFF_SECONDS = 0.2  # before the second attempt, with as much again by chance; doubled for each further one
WAITING_PER_CALL = 4  # callers in the queue for each call at once
LONGEST_WAIT_SECONDS = 3_600.0  # that a server may ask for
TOO_MANY_REQUESTS = 429
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})  # statuses after which the same may succeed

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What an exception of a client library means."""

    error: BookwheelError  #: for the caller; its retry_after is the least wait before another attempt
    retryable: bool  #: the same call may succeed soon
    broken: bool  #: the upstream's fault: it counts for the breaker. A refusal shows that the upstream is alive


Judge = Callable[[Exception], Failure | None]  # None for what is no failure of the call: it is raised as it is


class _End(Enum):
    END = "end"


_END: Final = _End.END


class _AttemptError(Exception):
    """An attempt failed, as judged."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error.message)
        self.failure = failure


class _SpentError(Exception):
    """The deadline passed while items were coming: the answer was long, or whoever reads it slow."""


def _no_tokens() -> int:
    return 0


class Upstream:
    """One service that is called. Raises what `judge` makes of its errors; `unavailable` when it is silent too long or
    when the breaker is open, then at once and with retry_after; OverloadedError when too many wait for it."""

    def __init__(
        self,
        name: str,
        *,
        judge: Judge,
        unavailable: type[UnavailableError],
        deadline_seconds: float,
        concurrency: int,
        stall_seconds: float | None = None,
        queue: int | None = None,
        attempts: int = ATTEMPTS,
        backoff_seconds: float = BACKOFF_SECONDS,
        breaker: Breaker | None = None,
        throttle: Throttle | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        """`name` stands in messages and metrics. `deadline_seconds` is all that a caller ever waits, the queue and all
        attempts included; `stall_seconds` the longest silence of a stream; each attempt takes its turn in `throttle`.
        """
        self.name = name
        self._judge, self._unavailable = judge, unavailable
        self._deadline_seconds = deadline_seconds
        self._stall_seconds = stall_seconds or deadline_seconds
        self._attempts, self._backoff = attempts, backoff_seconds
        self._clock = clock
        self._breaker = breaker or Breaker(clock=clock)
        self._throttle = throttle
        waiting = WAITING_PER_CALL * concurrency if queue is None else queue
        self._admission = Admission(name, limit=concurrency, queue=waiting, clock=clock)
        UPSTREAM_OPEN.labels(name).set(0)

    async def call(
        self, work: Callable[[], Awaitable[T]], *, hedge_after: float | None = None, tokens: TokenCount = _no_tokens
    ) -> T:
        """The result of `work`, which is called again after a failure that may pass.

        With `hedge_after` the work must be idempotent: when so many seconds have brought no answer, and a place is
        free, it is called a second time beside the first; the first answer wins and the other call is cancelled.
        """
        deadline = self._clock() + self._deadline_seconds

        async def once() -> T:
            await self._turn(tokens, deadline)
            with self._trial():
                async with asyncio.timeout(deadline - self._clock()):
                    return await (work() if hedge_after is None else self._hedged(work, hedge_after, tokens))

        with _told():
            async with self._place(deadline):
                return await self._persist(once, deadline)

    async def stream(
        self, open: Callable[[], AsyncGenerator[T, None]], *, tokens: TokenCount = _no_tokens
    ) -> AsyncGenerator[T, None]:
        """The items of `open()`, which is opened again after a failure that may pass, until there was a first item.

        Empty items only say that it lives; they are not handed on. The place is held until the stream has ended or is
        closed, at most until the deadline: close it when you leave early (`contextlib.aclosing`).
        """
        deadline = self._clock() + self._deadline_seconds

        async def begin() -> tuple[AsyncGenerator[T, None], T | _End]:
            await self._turn(tokens, deadline)
            flow = self._flow(open, deadline)
            return flow, await anext(flow, _END)

        with _told():
            async with self._place(deadline):
                flow, first = await self._persist(begin, deadline)
                async with aclosing(flow):
                    if first is not _END:
                        yield first
                    async for item in flow:
                        yield item

    async def _flow(self, open: Callable[[], AsyncGenerator[T, None]], deadline: float) -> AsyncGenerator[T, None]:
        """The items of one attempt. Raises _AttemptError."""
        with self._trial() as answered:
            came = False
            async with aclosing(open()) as items:
                while (item := await self._next(items, deadline, came=came)) is not _END:
                    if item:
                        came = True
                        answered()
                        yield item

    async def _next(self, items: AsyncIterator[T], deadline: float, *, came: bool) -> T | _End:
        left = deadline - self._clock()
        try:
            async with asyncio.timeout(min(self._stall_seconds, left)):
                return await anext(items, _END)
        except TimeoutError as error:
            if came and left < self._stall_seconds:
                raise _SpentError from error
            raise

    async def _turn(self, tokens: TokenCount, deadline: float) -> None:
        if self._throttle is not None:
            self._check_breaker()  # or a call that nobody will make would take a turn
            await self._throttle.turn(tokens, within=deadline - self._clock())

    @asynccontextmanager
    async def _place(self, deadline: float) -> AsyncIterator[None]:
        """Be one of the calls at once."""
        self._check_breaker()
        try:
            place = await self._admission.enter(within=deadline - self._clock())
        except OverloadedError:
            UPSTREAM_SHED.labels(self.name).inc()
            raise
        # Who reads a stream too slowly, or not at all, does not keep others out for ever.
        late = asyncio.get_running_loop().call_later(deadline - self._clock(), place.leave)
        try:
            yield
        finally:
            late.cancel()
            place.leave()

    @contextmanager
    def _trial(self) -> Iterator[Callable[[], None]]:
        """One attempt as the breaker and the metrics see it; the callable says that a first item came."""
        self._check_breaker()
        ticket, good, result = self._breaker.begin(), None, "left"
        try:
            yield lambda: self._breaker.answered(ticket)
            good, result = True, "ok"
        except Exception as error:
            failure = self._failure(error)
            if failure is None:
                raise
            good, result = not failure.broken, "failed" if failure.broken else "refused"
            raise _AttemptError(failure) from error
        finally:
            self._breaker.end(ticket, good=good)
            UPSTREAM_CALLS.labels(self.name, result).inc()
            UPSTREAM_OPEN.labels(self.name).set(self._breaker.is_open)

    def _check_breaker(self) -> None:
        if seconds := self._breaker.wait():
            UPSTREAM_CALLS.labels(self.name, "open").inc()
            raise self._unavailable(
                f"{self.name} failed several times in a row and is left alone for a moment. Try again in"
                f" {seconds:.1f} s.",
                retry_after=seconds,
            )

    def _failure(self, error: Exception) -> Failure | None:
        if isinstance(error, TimeoutError):
            return self._silence()
        if isinstance(error, _SpentError):
            late = self._unavailable(f"{self.name} wrote for longer than {self._deadline_seconds:g} s.")
            return Failure(error=late, retryable=False, broken=False)
        if broke_while_connecting(error):
            lost = self._unavailable(f"{self.name} failed: the connection broke as it was made.")
            return Failure(error=lost, retryable=True, broken=True)
        return self._judge(error)

    def _silence(self) -> Failure:
        """A silent upstream is not asked again: its caller has waited long, and it has enough to do."""
        error = self._unavailable(f"{self.name} was silent for too long. Try again in a moment.")
        return Failure(error=error, retryable=False, broken=True)

    async def _persist(self, act: Callable[[], Awaitable[T]], deadline: float) -> T:
        """The result of the first attempt that succeeds; waits that would pass the deadline are not begun."""
        longest = self._backoff * (1 + 2 ** max(0, self._attempts - 2))

        def again(error: Exception) -> bool | float:
            if not isinstance(error, _AttemptError) or not error.failure.retryable:
                return False
            least = error.failure.error.retry_after or 0.0
            if least + longest >= deadline - self._clock():
                return False
            return least + random.uniform(0, self._backoff) if least else True  # noqa: S311 - no secret

        async for attempt in stamina.retry_context(
            on=again,
            attempts=self._attempts,
            timeout=None,
            wait_initial=self._backoff,
            wait_max=longest,
            wait_jitter=self._backoff,
        ):
            if attempt.num > 1:
                UPSTREAM_RETRIES.labels(self.name).inc()
            with attempt:
                return await act()
        raise AssertionError("stamina returns or raises")

    async def _hedged(self, work: Callable[[], Awaitable[T]], after: float, tokens: TokenCount) -> T:
        async def run() -> T:
            return await work()

        tasks, extra = {asyncio.create_task(run())}, None
        try:
            done, _ = await asyncio.wait(tasks, timeout=after)
            if not done and (self._throttle is None or await self._throttle.now(tokens)):
                extra = self._admission.enter_now()
            if extra:
                tasks.add(asyncio.create_task(run()))
            return await _first_success(tasks)
        finally:
            for task in tasks:
                task.cancel()
            if extra:  # before anything is awaited: a second cancellation must not keep the place
                extra.leave()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _first_success(tasks: "set[asyncio.Task[T]]") -> T:
    """The first result; the last exception when there is none."""
    pending = tasks
    while True:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        good = [task for task in done if not task.exception()]
        if good or not pending:
            return (good or list(done))[0].result()


@contextmanager
def _told() -> Iterator[None]:
    """What callers are told of a failed attempt."""
    try:
        yield
    except _AttemptError as error:
        raise error.failure.error from error.__cause__


def broke_while_connecting(error: Exception) -> bool:
    """Whether it is what anyio (4.16) raises, through all client libraries, for a connection that was reset before it
    looked at it: an AttributeError of its own, which is no mistake of ours."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))
    return isinstance(error, AttributeError) and where.startswith("anyio.")


def http_failure(
    status: int, said: str, *, name: str, headers: Mapping[str, str], unavailable: type[UnavailableError]
) -> Failure:
    """What an HTTP status other than 2xx means, with what the server said to it."""
    wait = retry_after(headers)
    message = f"{name} answered {status}: {said.strip().rstrip('.') or 'no reason given'}."
    if status == TOO_MANY_REQUESTS:
        message = f"{message} It takes no more requests for now."
    error = unavailable(message, retry_after=wait)
    return Failure(error=error, retryable=status in PASSING, broken=status in PASSING and status != TOO_MANY_REQUESTS)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, by a number or an HTTP date; None when it does not say, or not clearly."""
    given = (headers.get("retry-after") or "").strip()
    if given.replace(".", "", 1).isdecimal():
        return min(float(given), LONGEST_WAIT_SECONDS)
    try:
        seconds = parsedate_to_datetime(given).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), LONGEST_WAIT_SECONDS)
