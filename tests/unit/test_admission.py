"""Rules of the queue before an upstream; resilience.py is tested with it."""

import asyncio
from collections.abc import Awaitable

import pytest

from bookwheel.admission import Admission, Place
from bookwheel.errors import OverloadedError

NAME = "test:upstream"


class Clock:
    """Time as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def at_once(entering: Awaitable[Place]) -> Place:
    """What comes without waiting."""
    async with asyncio.timeout(1):
        return await entering


async def test_who_could_not_be_served_in_time_is_turned_away_at_once() -> None:
    """Ten seconds of waiting before a call of ten do not fit into fifteen."""
    clock = Clock()
    admission = Admission(NAME, limit=1, queue=99, clock=clock)
    place = await admission.enter(within=15.0)
    clock.now += 10.0
    place.leave()
    await admission.enter(within=15.0)
    with pytest.raises(OverloadedError) as caught:
        await at_once(admission.enter(within=15.0))
    assert caught.value.retry_after == 10.0


async def test_an_upstream_that_begins_to_hang_is_noticed() -> None:
    """How long the running calls have taken counts, though none has ended yet."""
    clock = Clock()
    admission = Admission(NAME, limit=2, queue=99, clock=clock)
    for _ in range(2):
        await admission.enter(within=15.0)
    assert admission.expected_wait() == 0.0
    clock.now += 12.0
    assert admission.expected_wait() == 6.0
    with pytest.raises(OverloadedError):
        await at_once(admission.enter(within=15.0))


async def test_the_wait_follows_the_recent_calls() -> None:
    """A slow hour long ago does not turn callers away today."""
    clock = Clock()
    admission = Admission(NAME, limit=1, queue=99, clock=clock)
    for seconds in [10.0, *[1.0] * 30]:
        place = await admission.enter(within=60.0)
        clock.now += seconds
        place.leave()
    assert admission.expected_wait() == pytest.approx(1.0, abs=0.05)


async def test_waiting_in_the_queue_ends_at_the_deadline() -> None:
    """A caller that was let in wrongly is not left there."""
    admission = Admission(NAME, limit=1, queue=9)
    await admission.enter(within=1.0)
    with pytest.raises(OverloadedError):
        await admission.enter(within=0.02)
    assert not admission._waiting


@pytest.mark.parametrize("left_first", [True, False])
async def test_a_caller_that_leaves_at_the_very_turn_passes_it_on(left_first: bool) -> None:
    """He was given the place, and cancelled before he could take it; or the other way about."""
    admission = Admission(NAME, limit=1, queue=9)
    place = await admission.enter(within=1.0)
    leaver = asyncio.create_task(admission.enter(within=1.0))
    await asyncio.sleep(0)
    for act in (place.leave, leaver.cancel) if left_first else (leaver.cancel, place.leave):
        act()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert admission.enter_now() is not None
