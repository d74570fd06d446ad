"""Many small calls at once become one batch, without waiting when nothing runs."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from numpy.typing import NDArray

Row = NDArray[Any]
Run = Callable[[Sequence[str]], Awaitable[NDArray[Any]]]


class Batcher:
    """Collects what is waiting while a batch runs and sends it as the next batch.

    An idle batcher sends a text at once, so one caller alone never pays; under load the batches grow by themselves.
    """

    def __init__(self, run: Run, *, limit: int = 64) -> None:
        """`run` maps n texts to n rows; it gets `limit` texts at most and is never called twice at a time."""
        self._run = run
        self._limit = limit
        self._waiting: deque[tuple[str, asyncio.Future[Row]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def embed_one(self, text: str) -> Row:
        """The row of one text. Raises what `run` raised for the batch that held it."""
        future: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
        self._waiting.append((text, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._drain())
        return await future

    async def _drain(self) -> None:
        try:
            while batch := self._take():
                await self._serve(batch)
        finally:
            self._worker = None
            for _, future in self._waiting:  # only left over when this task is cancelled
                future.cancel()
            self._waiting.clear()

    def _take(self) -> list[tuple[str, asyncio.Future[Row]]]:
        """The next batch; callers that left are dropped before any work is done for them."""
        batch: list[tuple[str, asyncio.Future[Row]]] = []
        while self._waiting and len(batch) < self._limit:
            text, future = self._waiting.popleft()
            if not future.done():
                batch.append((text, future))
        return batch

    async def _serve(self, batch: list[tuple[str, asyncio.Future[Row]]]) -> None:
        """Hand each caller its row, or everyone in the batch the error; callers that left meanwhile are skipped."""
        futures = [future for _, future in batch]
        try:
            (outcome,) = await asyncio.gather(self._run([text for text, _ in batch]), return_exceptions=True)
        except asyncio.CancelledError:
            for future in futures:
                future.cancel()
            raise
        for position, future in enumerate(futures):
            if future.done():
                continue
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome[position])
