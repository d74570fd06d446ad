"""Rules of calls to an upstream: deadline, retries, breaker, limit, hedge."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest
from anyio.abc import SocketStream
from prometheus_client import REGISTRY

from bookwheel.breaker import Breaker
from bookwheel.errors import EmbedderUnavailableError, OverloadedError
from bookwheel.resilience import LONGEST_WAIT_SECONDS, Failure, Upstream, retry_after

NAME = "test:upstream"


class AwayError(Exception):
    """The upstream fails in a way that may pass."""

    def __init__(self, wait: float | None = None) -> None:
        super().__init__("away")
        self.wait = wait


class WrongError(Exception):
    """The caller's fault."""


class Work:
    """Something to call, with a script: errors are raised, numbers are slept, anything else is the result."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.calls = 0
        self.running = 0

    async def __call__(self) -> Any:
        self.calls += 1
        step = self.script.pop(0) if self.script else "fine"
        self.running += 1
        try:
            if isinstance(step, float):
                await asyncio.sleep(step)
        finally:
            self.running -= 1
        if isinstance(step, Exception):
            raise step
        return step

    async def items(self) -> AsyncGenerator[Any, None]:
        """The script as a stream; it ends with the script, or with None."""
        self.calls += 1
        while self.script and (step := self.script.pop(0)) is not None:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, float):
                await asyncio.sleep(step)
            else:
                yield step


def judged(error: Exception) -> Failure | None:
    """What the backend of these tests says."""
    match error:
        case AwayError():
            told = EmbedderUnavailableError("away", retry_after=error.wait)
            return Failure(error=told, retryable=True, broken=True)
        case WrongError():
            return Failure(error=EmbedderUnavailableError("wrong"), retryable=False, broken=False)
    return None


def an_upstream(**changes: Any) -> Upstream:
    """One that is quick to give up."""
    given: dict[str, Any] = {
        "judge": judged,
        "unavailable": EmbedderUnavailableError,
        "deadline_seconds": 1.0,
        "concurrency": 2,
        "backoff_seconds": 0.001,
    }
    return Upstream(NAME, **{**given, **changes})


def counted(name: str, **labels: str) -> float:
    """A metric of the upstream."""
    return REGISTRY.get_sample_value(name, {"upstream": NAME, **labels}) or 0.0


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until this holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.001)


async def fails(call: Awaitable[Any]) -> EmbedderUnavailableError:
    """The error of a call that must fail."""
    with pytest.raises(EmbedderUnavailableError) as caught:
        await call
    return caught.value


async def all_of(stream: AsyncGenerator[Any, None]) -> list[Any]:
    """The items of a stream."""
    async with aclosing(stream):
        return [item async for item in stream]


async def test_what_may_pass_is_tried_again() -> None:
    """Two failures cost a caller nothing but time, and are counted."""
    before = counted("bookwheel_upstream_retries_total")
    work = Work(AwayError(), AwayError(), "there")
    assert await an_upstream().call(work) == "there"
    assert work.calls == 3
    assert counted("bookwheel_upstream_retries_total") == before + 2


async def test_attempts_are_bounded() -> None:
    """The last failure is what the caller is told, with its cause."""
    work = Work(*(AwayError() for _ in range(9)))
    error = await fails(an_upstream(attempts=3).call(work))
    assert work.calls == 3
    assert error.message == "away"
    assert isinstance(error.__cause__, AwayError)


async def test_the_callers_fault_is_not_tried_again() -> None:
    """The same request would be refused again."""
    work = Work(WrongError())
    assert (await fails(an_upstream().call(work))).message == "wrong"
    assert work.calls == 1


async def test_errors_that_nobody_judged_pass() -> None:
    """A mistake of our own is not taken for a failure of the upstream."""
    work = Work(KeyError("ours"))
    with pytest.raises(KeyError):
        await an_upstream().call(work)
    assert work.calls == 1


async def test_retry_after_is_the_least_wait() -> None:
    """The upstream knows best when it can serve again."""
    began = time.monotonic()
    assert await an_upstream().call(Work(AwayError(0.08), "there")) == "there"
    assert time.monotonic() - began >= 0.08


async def test_a_retry_after_beyond_the_deadline_is_told_at_once() -> None:
    """Nobody waits for an attempt that cannot be made in time."""
    began, work = time.monotonic(), Work(AwayError(7.0))
    assert (await fails(an_upstream().call(work))).retry_after == 7.0
    assert work.calls == 1
    assert time.monotonic() - began < 0.5


async def test_a_silent_upstream_ends_at_the_deadline() -> None:
    """Silence is an error in time, it is not tried again, and the work is cancelled."""
    began, work = time.monotonic(), Work(9.0)
    assert "silent" in (await fails(an_upstream(deadline_seconds=0.05).call(work))).message
    assert time.monotonic() - began < 5.0
    assert (work.calls, work.running) == (1, 0)


async def test_it_opens_after_failures_in_a_row_and_answers_at_once() -> None:
    """While it is open the upstream is left alone, and callers learn when to come back."""
    upstream, work = an_upstream(attempts=1, breaker=Breaker(failures=3)), Work(*(AwayError() for _ in range(9)))
    for _ in range(3):
        await fails(upstream.call(work))
    error = await fails(upstream.call(work))
    assert work.calls == 3
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 1.0
    assert counted("bookwheel_upstream_open") == 1.0


async def test_a_success_between_failures_keeps_it_closed() -> None:
    """Only failures in a row open it; refusals are answers."""
    upstream = an_upstream(attempts=1, breaker=Breaker(failures=2))
    for step in (AwayError(), "fine", AwayError(), WrongError(), AwayError()):
        work = Work(step)
        await asyncio.gather(upstream.call(work), return_exceptions=True)
        assert work.calls == 1


async def test_refusals_never_open_it() -> None:
    """A thousand wrong requests of one caller do not shut out the others."""
    upstream = an_upstream(breaker=Breaker(failures=2))
    for _ in range(5):
        await fails(upstream.call(Work(WrongError())))
    assert await upstream.call(Work("fine")) == "fine"


async def test_it_recovers_by_itself() -> None:
    """Once the upstream answers a probe, everybody is served again."""
    upstream = an_upstream(attempts=1, breaker=Breaker(failures=1, first_pause=0.02))
    await fails(upstream.call(Work(AwayError())))
    await asyncio.sleep(0.03)
    assert await upstream.call(Work("back")) == "back"
    assert await upstream.call(Work("again")) == "again"
    assert counted("bookwheel_upstream_open") == 0.0


async def test_calls_at_once_are_limited() -> None:
    """The others wait in order, and each gets its turn."""
    upstream, works = an_upstream(concurrency=2), [Work(0.02) for _ in range(6)]
    calls = [asyncio.create_task(upstream.call(work)) for work in works]
    most = 0
    while not all(call.done() for call in calls):
        most = max(most, sum(work.running for work in works))
        await asyncio.sleep(0.002)
    assert most == 2
    assert [call.result() for call in calls] == [0.02] * 6


async def test_a_full_queue_turns_callers_away_at_once() -> None:
    """They learn when to come back, and it is counted."""
    before = counted("bookwheel_upstream_shed_total")
    upstream = an_upstream(concurrency=1, queue=1)
    waiting = [asyncio.create_task(upstream.call(Work(9.0))) for _ in range(2)]
    await asyncio.sleep(0.01)
    with pytest.raises(OverloadedError) as caught:
        await upstream.call(Work())
    assert not any(call.done() for call in waiting)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 0
    assert counted("bookwheel_upstream_shed_total") == before + 1
    for call in waiting:
        call.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize("moment", [0, 1, 2, 3])
async def test_callers_that_leave_free_their_place(moment: int) -> None:
    """In the queue, at the moment of their turn, or during their call: no place is ever lost."""
    upstream = an_upstream(concurrency=1)
    first = asyncio.create_task(upstream.call(Work(0.02)))
    await asyncio.sleep(0)
    leaver = asyncio.create_task(upstream.call(Work(9.0)))
    await asyncio.sleep(0.001)
    if moment:
        await first
    for _ in range(moment - 1):
        await asyncio.sleep(0)
    leaver.cancel()
    await asyncio.gather(first, leaver, return_exceptions=True)
    async with asyncio.timeout(5):
        assert await upstream.call(Work("served")) == "served"


async def test_callers_that_leave_count_as_nothing() -> None:
    """A crowd that closes its browsers does not open the breaker."""
    upstream = an_upstream(breaker=Breaker(failures=2))
    for _ in range(4):
        call = asyncio.create_task(upstream.call(Work(9.0)))
        await asyncio.sleep(0.002)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    assert await upstream.call(Work("fine")) == "fine"


async def test_a_stream_hands_its_items_on_and_drops_empty_ones() -> None:
    """Empty items only show that the upstream lives."""
    assert await all_of(an_upstream().stream(Work("a", "", "b").items)) == ["a", "b"]
    assert await all_of(an_upstream().stream(Work().items)) == []


async def test_a_stream_is_opened_again_only_before_its_first_item() -> None:
    """What was read cannot be taken back, so a later failure is told."""
    work = Work("", AwayError(), "a", "b")
    assert await all_of(an_upstream().stream(work.items)) == ["a", "b"]
    assert work.calls == 2
    work = Work("a", AwayError(), "b")
    stream = an_upstream().stream(work.items)
    assert await anext(stream) == "a"
    await fails(anext(stream))
    assert work.calls == 1


@pytest.mark.parametrize("script", [(9.0,), ("a", 9.0)])
async def test_a_stream_that_falls_silent_is_an_error(script: tuple[Any, ...]) -> None:
    """Before the first item and between two, after stall_seconds and not at the deadline."""
    began = time.monotonic()
    with pytest.raises(EmbedderUnavailableError, match="silent"):
        await all_of(an_upstream(deadline_seconds=8.0, stall_seconds=0.05).stream(Work(*script).items))
    assert time.monotonic() - began < 5.0


async def test_signs_of_life_keep_a_stream_alive_until_the_deadline() -> None:
    """Empty items end a silence, but not the patience with the whole."""
    upstream = an_upstream(deadline_seconds=0.7, stall_seconds=0.5)
    script = [0.05, ""] * 99
    began = time.monotonic()
    with pytest.raises(EmbedderUnavailableError):
        await all_of(upstream.stream(Work(*script).items))
    assert 0.65 < time.monotonic() - began < 5.0


async def test_a_stream_holds_its_place_until_it_is_closed() -> None:
    """And gives it back when its reader leaves in the midst."""
    upstream = an_upstream(concurrency=1)
    stream = upstream.stream(Work("a", "b").items)
    assert await anext(stream) == "a"
    waiting = asyncio.create_task(upstream.call(Work("next")))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await stream.aclose()
    assert await waiting == "next"


async def test_a_reader_who_does_not_read_keeps_nobody_out_for_ever() -> None:
    """At the deadline his place is given to others."""
    upstream = an_upstream(concurrency=1, deadline_seconds=0.3)
    stream = upstream.stream(Work("a", "b").items)
    assert await anext(stream) == "a"
    await asyncio.sleep(0.4)
    assert await upstream.call(Work("next")) == "next"
    await stream.aclose()


async def test_streams_that_break_open_the_breaker_and_one_item_closes_it() -> None:
    """An upstream that always breaks off is as good as away; a long answer need not end to show that it is back."""
    upstream = an_upstream(attempts=1, breaker=Breaker(failures=2, first_pause=0.5))
    for _ in range(2):
        with pytest.raises(EmbedderUnavailableError):
            await all_of(upstream.stream(Work("a", AwayError()).items))
    work = Work("a")
    with pytest.raises(EmbedderUnavailableError, match="left alone"):
        await all_of(upstream.stream(work.items))
    assert work.calls == 0
    await asyncio.sleep(0.55)
    probe = upstream.stream(Work("a", "b").items)
    assert await anext(probe) == "a"
    assert await upstream.call(Work("fine")) == "fine"
    await probe.aclose()


async def test_a_stream_that_is_left_counts_as_nothing() -> None:
    """Neither for nor against the upstream, and its source is closed."""
    before = counted("bookwheel_upstream_calls_total", result="left")
    closed = asyncio.Event()

    async def source() -> AsyncGenerator[str, None]:
        try:
            while True:
                yield "a"
        finally:
            closed.set()

    stream = an_upstream().stream(source)
    assert await anext(stream) == "a"
    await stream.aclose()
    assert closed.is_set()
    assert counted("bookwheel_upstream_calls_total", result="left") == before + 1


async def test_a_slow_call_is_made_a_second_time_and_the_first_answer_wins() -> None:
    """The other one is cancelled."""
    work = Work(9.0, "quick")
    assert await an_upstream().call(work, hedge_after=0.01) == "quick"
    assert (work.calls, work.running) == (2, 0)


async def test_a_quick_call_is_made_once() -> None:
    """The hedge costs nothing where nothing is slow; a failure is the business of the retries."""
    work = Work("quick")
    assert await an_upstream().call(work, hedge_after=0.5) == "quick"
    assert work.calls == 1


async def test_a_hedge_that_fails_does_not_end_the_first_call() -> None:
    """One good answer is enough."""
    work = Work(0.3, AwayError())
    assert await an_upstream().call(work, hedge_after=0.01) == 0.3
    assert work.calls == 2


async def test_a_hedge_needs_a_free_place() -> None:
    """Under load nothing is asked twice."""
    upstream, work = an_upstream(concurrency=1), Work(0.04, "quick")
    assert await upstream.call(work, hedge_after=0.01) == 0.04
    assert work.calls == 1


async def test_a_hedged_call_that_is_left_leaves_nothing_running() -> None:
    """Both calls end, and both places are free."""
    upstream, work = an_upstream(concurrency=2), Work(9.0, 9.0)
    call = asyncio.create_task(upstream.call(work, hedge_after=0.005))
    await until(lambda: work.running == 2)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert work.running == 0
    results = await asyncio.gather(*(upstream.call(Work("fine")) for _ in range(2)))
    assert results == ["fine", "fine"]


async def test_a_connection_that_breaks_as_it_is_made_is_the_upstreams_failure() -> None:
    """anyio raises an AttributeError then, which no client library translates; one of our own passes as it is."""
    asked = 0

    async def connect() -> str:
        nonlocal asked
        asked += 1
        if asked == 1:
            assert SocketStream.extra_attributes.fget(SimpleNamespace(_raw_socket=None))  # type: ignore[attr-defined]
        return "fine"

    async def slip() -> None:
        raise AttributeError("ours")

    assert await an_upstream().call(connect) == "fine"
    with pytest.raises(AttributeError, match="ours"):
        await an_upstream().call(slip)


async def test_readers_who_are_slow_are_no_fault_of_the_upstream() -> None:
    """An answer whose reader takes longer than the deadline ends for him; the breaker stays closed for the others."""
    upstream = an_upstream(deadline_seconds=0.05, stall_seconds=0.04)

    async def flowing() -> AsyncGenerator[str, None]:
        while True:
            yield "piece"
            await asyncio.sleep(0)

    async def read_slowly() -> None:
        async for _ in upstream.stream(flowing):
            await asyncio.sleep(0.01)

    for _ in range(6):
        with pytest.raises(EmbedderUnavailableError, match="wrote for longer"):
            await read_slowly()
    assert [item async for item in upstream.stream(Work("fine").items)] == ["fine"]


@pytest.mark.parametrize("given", ["9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT", f"Fri, 31 Dec 2026 {'9' * 20}:0:0"])
def test_no_server_makes_us_wait_for_ever(given: str) -> None:
    """However long it asks us to."""
    assert (retry_after({"retry-after": given}) or 0) <= LONGEST_WAIT_SECONDS
