"""What tasks beside the main work share: waiting that can be ended, and patience with a database that is away."""

import asyncio
import contextlib
from collections.abc import Iterator

import structlog

from bookwheel.errors import BookwheelError
from bookwheel.telemetry import ERRORS

log = structlog.get_logger()


async def waited(seconds: float, stop: asyncio.Event) -> bool:
    """Wait; False, at once, when `stop` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    return not stop.is_set()


@contextlib.contextmanager
def patience(part: str) -> Iterator[None]:
    """Go on, counted and told, when something that may come back is away."""
    try:
        yield
    except BookwheelError as error:
        if not error.retryable:
            raise
        ERRORS.labels(part, type(error).__name__).inc()
        log.warning("background task waits", part=part, reason=error.message)
