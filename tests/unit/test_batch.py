"""Rules of the micro-batcher."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bookwheel.batch import Batcher


class Gate:
    """A batch function whose batches wait until they are let through; a row holds its text's length."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.open = asyncio.Event()
        self.started = asyncio.Event()

    async def __call__(self, texts: Sequence[str]) -> NDArray[Any]:
        self.batches.append(list(texts))
        self.started.set()
        await self.open.wait()
        if any(text.startswith("bad") for text in texts):
            raise ValueError(texts[0])
        return np.array([[len(text)] for text in texts])


@pytest.fixture
def gate() -> Gate:
    """A closed gate."""
    return Gate()


async def start(batcher: Batcher, gate: Gate, text: str) -> "asyncio.Task[NDArray[Any]]":
    """A call whose batch is running."""
    gate.started.clear()
    task = asyncio.create_task(batcher.embed_one(text))
    await gate.started.wait()
    return task


async def queue(batcher: Batcher, *texts: str) -> "list[asyncio.Task[NDArray[Any]]]":
    """Calls that wait behind the running batch."""
    tasks = [asyncio.create_task(batcher.embed_one(text)) for text in texts]
    await asyncio.sleep(0)
    return tasks


async def test_an_idle_batcher_sends_at_once(gate: Gate) -> None:
    """A lone caller waits for nobody."""
    gate.open.set()
    assert await Batcher(gate).embed_one("abc") == [3]
    assert gate.batches == [["abc"]]


async def test_waiting_calls_share_the_next_batch_and_get_their_own_row(gate: Gate) -> None:
    """What comes while a batch runs goes out together, and each caller gets the row of its text."""
    batcher = Batcher(gate)
    first = await start(batcher, gate, "a")
    rest = await queue(batcher, "bb", "ccc", "dddd")
    gate.open.set()
    rows = await asyncio.gather(first, *rest)
    assert [row.tolist() for row in rows] == [[1], [2], [3], [4]]
    assert gate.batches == [["a"], ["bb", "ccc", "dddd"]]


async def test_a_batch_never_exceeds_the_limit(gate: Gate) -> None:
    """More waiting calls than the limit make several batches, in order."""
    batcher = Batcher(gate, limit=2)
    first = await start(batcher, gate, "a")
    rest = await queue(batcher, "b", "c", "d")
    gate.open.set()
    await asyncio.gather(first, *rest)
    assert gate.batches == [["a"], ["b", "c"], ["d"]]


async def test_a_cancelled_caller_is_dropped_before_its_batch(gate: Gate) -> None:
    """Nothing is computed for a caller that left while waiting."""
    batcher = Batcher(gate)
    first = await start(batcher, gate, "a")
    gone, stays = await queue(batcher, "gone", "stays")
    gone.cancel()
    await asyncio.sleep(0)
    gate.open.set()
    assert (await stays).tolist() == [5]
    assert (await first).tolist() == [1]
    assert gate.batches == [["a"], ["stays"]]


async def test_a_caller_that_leaves_during_its_batch_harms_nobody(gate: Gate) -> None:
    """The others of the batch still get their rows, and the next batch runs."""
    batcher = Batcher(gate)
    gone = await start(batcher, gate, "gone")
    (after,) = await queue(batcher, "after")
    gone.cancel()
    await asyncio.sleep(0)
    gate.open.set()
    assert (await after).tolist() == [5]


async def test_an_error_reaches_everyone_in_its_batch_and_nobody_else(gate: Gate) -> None:
    """A failed batch fails its own callers; the batcher goes on."""
    batcher = Batcher(gate)
    first = await start(batcher, gate, "a")
    bad, beside = await queue(batcher, "bad", "beside")
    gate.open.set()
    results = await asyncio.gather(first, bad, beside, return_exceptions=True)
    assert [type(result) for result in results] == [np.ndarray, ValueError, ValueError]
    assert (await batcher.embed_one("next")).tolist() == [4]


async def test_callers_are_released_when_the_loop_ends(gate: Gate) -> None:
    """Cancelling the batcher's own task cancels those who wait instead of leaving them for ever."""
    batcher = Batcher(gate)
    running = await start(batcher, gate, "a")
    (waiting,) = await queue(batcher, "b")
    assert batcher._worker is not None
    batcher._worker.cancel()
    results = await asyncio.gather(running, waiting, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError, asyncio.CancelledError]
