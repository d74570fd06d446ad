"""The parts of a search, each of which may fail alone: in time, and left alone while it is away.

Nobody waits for a part that failed several times in a row. Whether it is back is tried beside the requests, which go
on without it meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from bookwheel.breaker import Breaker
from bookwheel.errors import (
    EmbedderUnavailableError,
    IndexUnavailableError,
    RerankerUnavailableError,
    UnavailableError,
)
from bookwheel.telemetry import UPSTREAM_CALLS, UPSTREAM_OPEN

FAILURES = 3  # in a row, before a part is left alone

T = TypeVar("T")

_running: set[asyncio.Task[Any]] = set()  # what came too late or tries a part: asyncio itself keeps no reference


class Part:
    """One part, such as the vector index. Raises `unavailable` for what is away, late or left alone."""

    def __init__(self, name: str, *, unavailable: type[UnavailableError], seconds: float) -> None:
        """`seconds` is all that a request waits for it."""
        self.name = name
        self._unavailable = unavailable
        self._seconds = seconds
        self._breaker = Breaker(failures=FAILURES)
        UPSTREAM_OPEN.labels(name).set(0)

    @property
    def rests(self) -> bool:
        """Whether it is left alone for now: what only serves to ask it need not be done."""
        return bool(self._breaker.wait())

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` returns. Raises `unavailable`, and what else `work` raises."""
        if not self._breaker.is_open:
            return await self._attempt(work, self._breaker.begin())
        if not self._breaker.wait():
            _keep(asyncio.create_task(self._try_again(work, self._breaker.begin())))
        UPSTREAM_CALLS.labels(self.name, "open").inc()
        raise self._unavailable(f"{self.name} failed several times in a row and is left alone for a moment.")

    async def _try_again(self, work: Callable[[], Awaitable[object]], ticket: int) -> None:
        try:
            await self._attempt(work, ticket)
        except UnavailableError:  # as before
            return

    async def _attempt(self, work: Callable[[], Awaitable[T]], ticket: int) -> T:
        good, result = None, "left"
        try:
            found = await in_time(work(), self._seconds)
            good, result = True, "ok"
            return found
        except TimeoutError as error:
            good, result = False, "failed"
            raise self._unavailable(f"{self.name} gave no answer within {self._seconds:g} s.") from error
        except UnavailableError:
            good, result = False, "failed"
            raise
        finally:
            self._breaker.end(ticket, good=good)
            UPSTREAM_CALLS.labels(self.name, result).inc()
            UPSTREAM_OPEN.labels(self.name).set(self._breaker.is_open)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchParts:
    """Those of a search."""

    embed: Part
    dense: Part
    keyword: Part
    rerank: Part

    @classmethod
    def within(cls, seconds: float) -> "SearchParts":
        """Each may take so long."""
        return cls(
            embed=Part("embed", unavailable=EmbedderUnavailableError, seconds=seconds),
            dense=Part("search.dense", unavailable=IndexUnavailableError, seconds=seconds),
            keyword=Part("search.keyword", unavailable=IndexUnavailableError, seconds=seconds),
            rerank=Part("rerank", unavailable=RerankerUnavailableError, seconds=seconds),
        )


async def in_time(work: Awaitable[T], seconds: float) -> T:
    """What the work returns. Raises TimeoutError in time, even where cancelling it takes longer: a statement of a
    server that does not answer is waited for beside."""
    task = asyncio.ensure_future(_plain(work))
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            _keep(task)
    if not task.done():
        raise TimeoutError
    return task.result()


async def _plain(work: Awaitable[T]) -> T:
    return await work


def _keep(task: asyncio.Task[Any]) -> None:
    _running.add(task)
    task.add_done_callback(_finished)


def _finished(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # or asyncio would report one that came too late as never looked at
