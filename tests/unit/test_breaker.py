"""Rules of the circuit breaker; resilience.py is tested with it."""

from typing import Any

from bookwheel.breaker import Breaker


class Clock:
    """Time as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock, **changes: Any) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker(failures=1, clock=clock, **changes)
    breaker.end(breaker.begin(), good=False)
    assert breaker.is_open
    return breaker


def test_one_probe_in_each_pause() -> None:
    """After the pause one call may try; the others go on being answered at once until it has come back."""
    clock = Clock()
    breaker = opened(clock, first_pause=1.0)
    assert breaker.wait() == 1.0
    clock.now += 1.0
    assert breaker.wait() == 0.0
    probe = breaker.begin()
    assert breaker.wait() > 0
    breaker.end(probe, good=True)
    assert not breaker.is_open


def test_a_probe_that_hangs_does_not_keep_the_next_one_out() -> None:
    """A recovery is noticed though an earlier probe still waits; and it may come back late, for better only."""
    clock = Clock()
    breaker = opened(clock, first_pause=1.0)
    clock.now += 1.0
    hanging = breaker.begin()
    clock.now += 1.0
    assert breaker.wait() == 0.0
    breaker.end(breaker.begin(), good=True)
    breaker.end(hanging, good=False)
    assert not breaker.is_open


def test_pauses_grow_but_never_beyond_five_seconds() -> None:
    """So a recovery is seen within ten seconds, however long it took."""
    clock = Clock()
    breaker = opened(clock)
    pauses = []
    for _ in range(6):
        pauses.append(breaker.wait())
        clock.now += breaker.wait()
        breaker.end(breaker.begin(), good=False)
    assert pauses == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


def test_a_probe_that_was_left_says_nothing() -> None:
    """Its caller went away: the next one may try at once."""
    clock = Clock()
    breaker = opened(clock)
    clock.now += 1.0
    breaker.end(breaker.begin(), good=None)
    assert breaker.is_open
    assert breaker.wait() == 0.0


def test_calls_from_before_it_opened_are_no_news() -> None:
    """Those that were under way when it opened neither close it nor make its pause longer."""
    clock = Clock()
    breaker = Breaker(failures=1, clock=clock)
    early, late = breaker.begin(), breaker.begin()
    breaker.end(breaker.begin(), good=False)
    breaker.end(early, good=True)
    breaker.end(late, good=False)
    assert breaker.wait() == 1.0


def test_after_it_closed_failures_count_from_the_start() -> None:
    """One more failure behind a recovery does not open it at once."""
    clock = Clock()
    breaker = Breaker(failures=2, clock=clock)
    for _ in range(2):
        breaker.end(breaker.begin(), good=False)
    clock.now += breaker.wait()
    breaker.answered(breaker.begin())
    breaker.end(breaker.begin(), good=False)
    assert not breaker.is_open
