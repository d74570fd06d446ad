"""Parts of a search: each has its time, is left alone after failures, and is tried beside the requests."""

import asyncio

import pytest

from bookwheel import parts
from bookwheel.errors import DatabaseUnavailableError, EmbedderUnavailableError, IndexUnavailableError
from bookwheel.parts import FAILURES, Part, in_time

SOON, NEVER = 0.05, 3_600.0  # seconds
PATIENCE = 10.0  # only a test that fails waits so long


@pytest.fixture
def part() -> Part:
    """A part with little time."""
    return Part("test", unavailable=IndexUnavailableError, seconds=SOON)


async def works() -> str:
    """A part that is well."""
    return "found"


async def fails() -> str:
    """A part that is away."""
    raise IndexUnavailableError


async def hangs() -> str:
    """A part that gives no answer."""
    await asyncio.sleep(NEVER)
    return "late"


async def opened(part: Part) -> None:
    """Let it fail until it is left alone."""
    for _ in range(FAILURES):
        assert not part.rests
        with pytest.raises(IndexUnavailableError):
            await part.call(fails)
    assert part.rests


async def test_what_is_found_comes_back(part: Part) -> None:
    """And says that all is well."""
    assert await part.call(works) == "found"
    assert not part.rests


async def test_what_is_late_is_away(part: Part) -> None:
    """In its time, with the part's own error, which names it."""
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(IndexUnavailableError, match=r"test gave no answer within 0\.05 s"):
            await part.call(hangs)


async def test_after_failures_it_is_left_alone(part: Part) -> None:
    """Nobody waits, and nothing is asked, until it is time to try."""
    await opened(part)
    asked = list[int]()

    async def asks() -> str:
        asked.append(1)
        return "found"

    with pytest.raises(IndexUnavailableError, match="left alone"):
        await part.call(asks)
    await asyncio.sleep(0)
    assert asked == []


async def test_a_success_between_failures_counts(part: Part) -> None:
    """Only failures in a row open it."""
    for _ in range(2 * FAILURES):
        with pytest.raises(IndexUnavailableError):
            await part.call(fails)
        assert await part.call(works) == "found"
    assert not part.rests


async def test_it_is_tried_beside_the_requests(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request that tries does not wait for it either; those after the first success find it back."""
    await opened(part)
    monkeypatch.setattr(part._breaker, "_next_probe", 0.0)
    assert not part.rests
    begun, go = asyncio.Event(), asyncio.Event()

    async def recovers() -> str:
        begun.set()
        await go.wait()
        return "found"

    with pytest.raises(IndexUnavailableError):
        await part.call(recovers)
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
        go.set()
        while part._breaker.is_open:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
    assert await part.call(works) == "found"


async def test_what_is_no_failure_of_the_part_is_raised(part: Part) -> None:
    """And does not count."""

    async def wrong() -> str:
        raise ValueError("a fault of ours")

    for _ in range(2 * FAILURES):
        with pytest.raises(ValueError, match="ours"):
            await part.call(wrong)
    assert not part.rests


async def test_other_parts_that_are_away_count(part: Part) -> None:
    """Such as the database under an index."""

    async def without_database() -> str:
        raise DatabaseUnavailableError

    for _ in range(FAILURES):
        with pytest.raises(DatabaseUnavailableError):
            await part.call(without_database)
    assert part.rests


async def test_a_caller_who_leaves_says_nothing() -> None:
    """The part was not slow: nobody waited for it."""
    part = Part("test", unavailable=EmbedderUnavailableError, seconds=PATIENCE)
    for _ in range(2 * FAILURES):
        task = asyncio.create_task(part.call(hangs))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not part.rests


async def test_work_that_cannot_be_cancelled_is_not_waited_for() -> None:
    """It ends beside, and its late error is nobody's."""
    go, ended = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.sleep(NEVER)
        except asyncio.CancelledError:
            await go.wait()
            ended.set()
            raise ValueError("too late") from None

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(TimeoutError):
            await in_time(stubborn(), SOON)
        assert not ended.is_set()
        go.set()
        await ended.wait()
        while parts._running:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
