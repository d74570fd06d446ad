"""The cache that many servers share, in Redis."""

from collections.abc import Mapping, Sequence
from typing import cast

from bookwheel.backends.redis.server import PATIENCE_SECONDS, Server
from bookwheel.errors import CacheUnavailableError

VALUES, GROUPS = "bookwheel:value:", "bookwheel:group:"
PLACES = 1_000_000  # a member's number is the clock's milliseconds, times this, and its place in the millisecond
MEMBER = b"m"  # the one field of a stream's entries

# What the client gives as we set it up: bytes, for it decodes nothing.
_Values = Sequence[bytes | None]
_Entries = Sequence[tuple[bytes, Mapping[bytes, bytes]]]


class RedisCache:
    """Fills ports.Cache. How much it holds is the server's maxmemory; with the policy `noeviction` a full one refuses
    what is put, which is told as an outage. A list is a stream: its numbers go by the server's clock and never
    backwards."""

    name = "redis"

    def __init__(self, url: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Connects when it is first asked. A server that takes longer than this is away. Raises SettingsError."""
        self._server = Server(
            url,
            what="The cache",
            setting="BOOKWHEEL_CACHE_URL",
            unavailable=CacheUnavailableError,
            patience_seconds=patience_seconds,
        )
        self._redis, self._soon = self._server.redis, self._server.soon

    async def close(self) -> None:
        """Close all connections."""
        await self._server.close()

    async def get(self, keys: Sequence[str], *, newest: bool = False) -> Mapping[str, bytes]:  # noqa: ARG002 - all is shared
        """See ports.Cache."""
        if not keys:
            return {}
        async with self._soon():
            found = cast("_Values", await self._redis.mget([VALUES + key for key in keys]))
        return {key: value for key, value in zip(keys, found, strict=True) if value is not None}

    async def put(self, values: Mapping[str, bytes], *, seconds: float) -> None:
        """See ports.Cache."""
        async with self._soon(), self._redis.pipeline(transaction=False) as pipeline:
            for key, value in values.items():
                pipeline.set(VALUES + key, value, px=_milliseconds(seconds))
            await pipeline.execute()

    async def remove(self, keys: Sequence[str]) -> None:
        """See ports.Cache."""
        if keys:
            async with self._soon():
                await self._redis.unlink(*(VALUES + key for key in keys))

    async def append(self, group: str, member: bytes, *, seconds: float, keep: int) -> None:
        """See ports.Cache."""
        async with self._soon(), self._redis.pipeline(transaction=True) as pipeline:
            pipeline.xadd(GROUPS + group, {MEMBER: member}, maxlen=keep, approximate=False)
            pipeline.pexpire(GROUPS + group, _milliseconds(seconds))
            await pipeline.execute()

    async def members(self, group: str, *, after: int = 0) -> Sequence[tuple[int, bytes]]:
        """See ports.Cache."""
        milliseconds, place = divmod(after, PLACES)
        async with self._soon():
            found = cast("_Entries", await self._redis.xrange(GROUPS + group, min=f"({milliseconds}-{place}"))
        return [(_number(entry), fields[MEMBER]) for entry, fields in found]

    async def forget(self, tenant: str) -> int:
        """See ports.Cache. Tenants are told by letters and digits alone."""
        return sum([await self._server.forget(f"{kind}*:{tenant}:*") for kind in (VALUES, GROUPS)])

    async def sweep(self) -> int:
        """See ports.Cache."""
        return 0

    async def ping(self) -> None:
        """See ports.Cache."""
        await self._server.ping()


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _number(entry: bytes) -> int:
    milliseconds, _, place = entry.partition(b"-")
    return int(milliseconds) * PLACES + int(place)
