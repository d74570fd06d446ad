"""Server-sent events on their way out: each when it comes, none for a reader who has left."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

Result = TypeVar("Result")

HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}  #: the second one is for nginx


def event_stream(events: AsyncGenerator[bytes, None], *, headers: Mapping[str, str] | None = None) -> Response:
    """A response that sends the events, as fast as its reader takes them, and closes them when he leaves."""
    return StreamingResponse(
        _in_turn(events), media_type="text/event-stream; charset=utf-8", headers={**HEADERS, **(headers or {})}
    )


async def _in_turn(events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        async for event in events:
            await asyncio.sleep(0)  # events that are always ready would keep the loop from seeing that the reader left
            yield event


async def unless_left(work: Coroutine[Any, Any, Result], *, request: Request) -> Result:
    """What the work gives before a response has begun; a reader who leaves ends it. Raises ClientDisconnect."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
