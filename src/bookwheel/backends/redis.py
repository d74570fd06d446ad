"""The cache that many servers share, in Redis 5 or newer, or in what speaks its protocol."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import cast
from urllib.parse import urlsplit

from bookwheel.errors import CacheUnavailableError, SettingsError

try:
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import AuthenticationError, NoPermissionError, OutOfMemoryError, RedisError
    from redis.exceptions import TimeoutError as RedisTimeoutError
except ImportError as error:
    raise SettingsError(
        "BOOKWHEEL_CACHE_URL asks for Redis, whose library is not installed: pip install 'bookwheel[redis]'."
    ) from error

PATIENCE_SECONDS = 1.0  # a cache that is slower is away
SOCKET_SHARE = 0.5  # of it: for connecting, and for each answer
CONNECTIONS = 32
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
        self._patience_seconds = patience_seconds
        socket_seconds = patience_seconds * SOCKET_SHARE
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=socket_seconds,
                socket_timeout=socket_seconds,
                socket_connect_timeout=socket_seconds,
                retry=Retry(NoBackoff(), 0),  # a broken connection is noticed, and made anew, before it is used
                protocol=2,
            )
            self._address = urlsplit(url).hostname or "localhost"
        except ValueError:
            raise SettingsError(  # without the cause, which may repeat the URL and so the password
                "BOOKWHEEL_CACHE_URL is no Redis URL: use redis://[[USER]:PASSWORD@]HOST[:PORT][/NUMBER], or rediss://"
                " for TLS; characters of a password that mean something in URLs are percent-encoded."
            ) from None
        self._redis = Redis(connection_pool=pool)

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.connection_pool.disconnect()

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

    async def sweep(self) -> int:
        """See ports.Cache."""
        return 0

    async def ping(self) -> None:
        """See ports.Cache."""
        async with self._soon():
            await self._redis.ping()

    @asynccontextmanager
    async def _soon(self) -> AsyncIterator[None]:
        """Raises CacheUnavailableError, in time. Without the cause: a server may repeat in its error what it was sent,
        and that may be the password."""
        try:
            async with asyncio.timeout(self._patience_seconds):
                yield
        except (RedisError, OSError) as error:  # asyncio's TimeoutError is an OSError
            raise CacheUnavailableError(
                f"The cache in Redis at {self._address} does not answer: {_reason(error)}. Check BOOKWHEEL_CACHE_URL;"
                " answers go on without it."
            ) from None


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _number(entry: bytes) -> int:
    milliseconds, _, place = entry.partition(b"-")
    return int(milliseconds) * PLACES + int(place)


def _reason(error: RedisError | OSError) -> str:
    """In few words of ours, without what was sent."""
    if isinstance(error, AuthenticationError | NoPermissionError):
        return "it refuses the user or the password"
    if isinstance(error, OutOfMemoryError):
        return "it is full and may drop nothing; set its maxmemory-policy to allkeys-lru"
    if isinstance(error, RedisTimeoutError | TimeoutError):
        return "it is silent"
    return type(error).__name__
