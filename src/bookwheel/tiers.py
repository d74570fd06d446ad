"""Each process's own cache before the one that all share, and no cache at all."""

import struct
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import structlog

from bookwheel.breaker import Breaker
from bookwheel.errors import CacheUnavailableError
from bookwheel.ports import Cache
from bookwheel.telemetry import DEGRADED, ERRORS

T = TypeVar("T")
log = structlog.get_logger()

STAGE = "cache"
OWN_SECONDS = 30.0
_EXPIRY = struct.Struct(">d")  # seconds since 1970, before each value of the shared cache


class TieredCache:
    """Fills ports.Cache; only `forget` raises CacheUnavailableError. Values are read from `own` first, and written to
    both.

    A value stays in `own` for at most 30 s, and not past its time (the writer's clock; how far clocks differ, it may be
    off). For so long this process does not see that another one removed or replaced it. So it is safe for values that
    their key tells whole (the vector of a text, what a search found in a version of a store), and for values that the
    reader checks before he uses them (an answer, against the documents that it rests on). It is wrong for what must be
    gone at once wherever it is removed. `remove` clears both, but nothing in an outage: then what is removed may come
    back with the shared cache.

    When `shared` does not answer it goes on with `own` alone, tells so once, counts each verb that it missed, and asks
    again after 1 to 5 s with one call. Lists are in `shared`; in an outage in `own`, and forgotten after it. All
    backends number members by the clock, so that numbers grow through both changes.
    """

    def __init__(self, own: Cache, shared: Cache, *, own_seconds: float = OWN_SECONDS) -> None:
        self.own, self.shared = own, shared
        self.name = shared.name
        self._own_seconds = own_seconds
        self._breaker = Breaker(failures=1)
        self._told = False  # of the outage

    async def get(self, keys: Sequence[str], *, newest: bool = False) -> Mapping[str, bytes]:
        """See ports.Cache."""
        found = {} if newest else dict(await self.own.get(keys))
        if missing := [key for key in keys if key not in found]:
            nothing: Mapping[str, bytes] = {}
            sealed = await self._ask(lambda: self.shared.get(missing), nothing)
            whole = {key: value for key, value in sealed.items() if len(value) >= _EXPIRY.size}
            found |= {key: await self._opened(key, value) for key, value in whole.items()}
        return found

    async def put(self, values: Mapping[str, bytes], *, seconds: float) -> None:
        """See ports.Cache."""
        await self.own.put(values, seconds=min(seconds, self._own_seconds))
        expiry = _EXPIRY.pack(time.time() + seconds)
        sealed = {key: expiry + value for key, value in values.items()}
        await self._ask(lambda: self.shared.put(sealed, seconds=seconds), None)

    async def remove(self, keys: Sequence[str]) -> None:
        """See ports.Cache."""
        await self._ask(lambda: self.shared.remove(keys), None)
        await self.own.remove(keys)  # last: a read meanwhile may have found it in the shared one

    async def append(self, group: str, member: bytes, *, seconds: float, keep: int) -> None:
        """See ports.Cache."""

        async def append() -> bool:
            await self.shared.append(group, member, seconds=seconds, keep=keep)
            return True

        if not await self._ask(append, False):
            await self.own.append(group, member, seconds=seconds, keep=keep)

    async def members(self, group: str, *, after: int = 0) -> Sequence[tuple[int, bytes]]:
        """See ports.Cache."""
        found = await self._ask(lambda: self.shared.members(group, after=after), None)
        return await self.own.members(group, after=after) if found is None else found

    async def forget(self, tenant: str) -> int:
        """See ports.Cache. Unlike the other verbs it raises where `shared` is away: who asks must know."""
        count = await self.shared.forget(tenant)
        return max(count, await self.own.forget(tenant))  # what is in both is one

    async def sweep(self) -> int:
        """See ports.Cache."""
        return await self.own.sweep() + await self._ask(self.shared.sweep, 0)

    async def ping(self) -> None:
        """See ports.Cache. It answers as long as `own` does; ask `shared` for the other."""
        await self.own.ping()

    async def _opened(self, key: str, sealed: bytes) -> bytes:
        """A value of the shared cache, kept in this process's own."""
        (expires_at,) = _EXPIRY.unpack_from(sealed)
        value = sealed[_EXPIRY.size :]
        if (seconds := min(self._own_seconds, expires_at - time.time())) > 0:
            await self.own.put({key: value}, seconds=seconds)
        return value

    async def _ask(self, verb: Callable[[], Awaitable[T]], otherwise: T) -> T:
        """What the shared cache returns, `otherwise` when it is away."""
        if self._breaker.wait():
            DEGRADED.labels(STAGE).inc()
            return otherwise
        ticket, good = self._breaker.begin(), None
        try:
            found = await verb()
            good = True
        except CacheUnavailableError as error:
            good = False
            self._lost(error)
            return otherwise
        finally:
            self._breaker.end(ticket, good=good)
        self._back()
        return found

    def _lost(self, error: CacheUnavailableError) -> None:
        DEGRADED.labels(STAGE).inc()
        ERRORS.labels(STAGE, type(error).__name__).inc()
        if not self._told:
            log.warning("shared cache is away, going on without it", cache=self.name, reason=error.message)
        self._told = True

    def _back(self) -> None:
        if self._told and not self._breaker.is_open:
            self._told = False
            log.info("shared cache is back", cache=self.name)


class NoCache:
    """Fills ports.Cache and keeps nothing."""

    name = "off"

    async def get(self, keys: Sequence[str], *, newest: bool = False) -> Mapping[str, bytes]:  # noqa: ARG002 - the port's
        """Nothing is there."""
        return {}

    async def put(self, values: Mapping[str, bytes], *, seconds: float) -> None:
        """Not kept."""

    async def remove(self, keys: Sequence[str]) -> None:
        """Nothing is there."""

    async def append(self, group: str, member: bytes, *, seconds: float, keep: int) -> None:
        """Not kept."""

    async def members(self, group: str, *, after: int = 0) -> Sequence[tuple[int, bytes]]:  # noqa: ARG002 - the port's
        """Nothing is there."""
        return []

    async def forget(self, tenant: str) -> int:  # noqa: ARG002 - the port's name
        """Nothing is there."""
        return 0

    async def sweep(self) -> int:
        """Nothing is there."""
        return 0

    async def ping(self) -> None:
        """It answers."""
