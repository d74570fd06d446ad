"""A few seconds of each target, from a seed that is always the same: no crash and no 5xx."""

import asyncio
import time

import pytest
from hypothesis import strategies as st

from tests.fuzz.runner import Tally, batch, running
from tests.fuzz.targets import Target

SECONDS, EXAMPLES = 0.8, 60  #: of each target


def test_a_little_of_everything() -> None:
    """Each target takes some inputs, and none of them breaks it."""
    with running() as (made, runner):
        for target in made.targets():
            tally = Tally(target.name)
            batch(target, tally, until=time.monotonic() + SECONDS, seed=1, runner=runner, examples=EXAMPLES)
            assert not tally.problems, (target.name, tally.problems)
            assert tally.runs, target.name


@pytest.mark.parametrize("broken", ["crash", "status"])
def test_what_breaks_is_told(broken: str) -> None:
    """An exception and a 5xx are counted, and the input that made them is shown."""

    async def run(value: int) -> int | None:
        if broken == "crash":
            raise ZeroDivisionError
        return 503

    tally = Tally("broken")
    with asyncio.Runner() as runner:
        target = Target("broken", st.just(7), run)
        batch(target, tally, until=time.monotonic() + 5, seed=1, runner=runner, examples=3)
    assert (tally.crashes, tally.server_errors) == ((1, 0) if broken == "crash" else (0, 1))
    (told,) = tally.problems.values()
    assert "7" in told
