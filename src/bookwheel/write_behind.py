"""A cache whose values are written a moment later, many in one go, so that nobody waits for it."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence

import structlog

from bookwheel.errors import CacheUnavailableError
from bookwheel.ports import Cache
from bookwheel.telemetry import ERRORS

FLUSH_SECONDS = 0.1  #: from the first value that waits until all of them are written
MOST_WAITING = 4_096  #: values; more are not kept

log = structlog.get_logger()


class WriteBehind:
    """Fills ports.Cache over another one. A value can be read by this process at once, by others a moment later; what
    waits is lost with the process, and when the cache is away."""

    def __init__(self, cache: Cache, *, flush_seconds: float = FLUSH_SECONDS) -> None:
        self.name = cache.name
        self._cache = cache
        self._flush_seconds = flush_seconds
        self._waiting: dict[str, tuple[float, bytes]] = {}  # seconds to keep, value
        self._flushing: asyncio.Task[None] | None = None

    async def get(self, keys: Sequence[str], *, newest: bool = False) -> Mapping[str, bytes]:
        """See ports.Cache."""
        found = {key: self._waiting[key][1] for key in keys if key in self._waiting}
        missing = [key for key in keys if key not in found]
        return {**(await self._cache.get(missing, newest=newest) if missing else {}), **found}

    async def put(self, values: Mapping[str, bytes], *, seconds: float) -> None:
        """See ports.Cache; it never raises."""
        for key, value in values.items():
            if len(self._waiting) < MOST_WAITING or key in self._waiting:
                self._waiting[key] = (seconds, value)
        if self._waiting and self._flushing is None:
            self._flushing = asyncio.create_task(self._flush_soon())

    async def remove(self, keys: Sequence[str]) -> None:
        """See ports.Cache. What is being written just now is written first."""
        for key in keys:
            self._waiting.pop(key, None)
        if self._flushing is not None:
            await asyncio.shield(self._flushing)
        await self._cache.remove(keys)

    async def append(self, group: str, member: bytes, *, seconds: float, keep: int) -> None:
        """See ports.Cache."""
        await self._cache.append(group, member, seconds=seconds, keep=keep)

    async def members(self, group: str, *, after: int = 0) -> Sequence[tuple[int, bytes]]:
        """See ports.Cache."""
        return await self._cache.members(group, after=after)

    async def forget(self, tenant: str) -> int:
        """See ports.Cache. What is being written just now is written first."""
        waiting = [key for key in self._waiting if key.split(":")[1:2] == [tenant]]
        for key in waiting:
            del self._waiting[key]
        if self._flushing is not None:
            await asyncio.shield(self._flushing)
        return len(waiting) + await self._cache.forget(tenant)

    async def sweep(self) -> int:
        """See ports.Cache."""
        return await self._cache.sweep()

    async def ping(self) -> None:
        """See ports.Cache."""
        await self._cache.ping()

    async def flush(self) -> None:
        """Write what waits; at the end of a process too."""
        while self._flushing is not None or self._waiting:
            if self._flushing is None:
                self._flushing = asyncio.create_task(self._flush_soon())
            await asyncio.shield(self._flushing)

    async def _flush_soon(self) -> None:
        try:
            await asyncio.sleep(self._flush_seconds)
            waiting, self._waiting = self._waiting, {}
            together: dict[float, dict[str, bytes]] = defaultdict(dict)
            for key, (seconds, value) in waiting.items():
                together[seconds][key] = value
            for seconds, values in together.items():
                await self._cache.put(values, seconds=seconds)
        except CacheUnavailableError as error:  # a cache may lose anything at any time
            ERRORS.labels("cache", type(error).__name__).inc()
            log.debug("values not kept", cache=self.name, reason=error.message)
        finally:
            self._flushing = None
