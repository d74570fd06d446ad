"""The connections to one Redis, and the border where errors are translated."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, OutOfMemoryError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from bookwheel.errors import SettingsError, UnavailableError

PATIENCE_SECONDS = 1.0  # what is slower is away
SOCKET_SHARE = 0.5  # of it: for connecting, and for each answer
CONNECTIONS = 32
FORGET_KEYS = 1_000  # looked at in one step


class Server:
    """One Redis as one port sees it. Connects when it is first asked."""

    def __init__(
        self, url: str, *, what: str, setting: str, unavailable: type[UnavailableError], patience_seconds: float
    ) -> None:
        """`what` is kept there, by the words of messages. Raises SettingsError."""
        self._what, self._setting, self._unavailable = what, setting, unavailable
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
                f"{setting} is no Redis URL: use redis://[[USER]:PASSWORD@]HOST[:PORT][/NUMBER], or rediss://"
                " for TLS; characters of a password that mean something in URLs are percent-encoded."
            ) from None
        self.redis = Redis(connection_pool=pool)

    async def close(self) -> None:
        """Close all connections."""
        await self.redis.connection_pool.disconnect()

    async def ping(self) -> None:
        """Raises `unavailable` when it cannot answer."""
        async with self.soon():
            await self.redis.ping()

    async def forget(self, pattern: str) -> int:
        """Remove all keys that match, a few at a time; returns how many. The pattern must not come from a caller."""
        cursor, count = 0, 0
        while True:
            async with self.soon():
                cursor, found = await self.redis.scan(cursor, match=pattern, count=FORGET_KEYS)
                count += await self.redis.unlink(*found) if found else 0
            if not cursor:
                return count

    @asynccontextmanager
    async def soon(self) -> AsyncIterator[None]:
        """Raises `unavailable`, in time. Without the cause: a server may repeat in its error what it was sent, and that
        may be the password."""
        try:
            async with asyncio.timeout(self._patience_seconds):
                yield
        except (RedisError, OSError) as error:  # asyncio's TimeoutError is an OSError
            raise self._unavailable(
                f"{self._what} in Redis at {self._address} does not answer: {_reason(error)}. Check {self._setting};"
                " the service goes on without it."
            ) from None


def _reason(error: RedisError | OSError) -> str:
    """In few words of ours, without what was sent."""
    if isinstance(error, AuthenticationError | NoPermissionError):
        return "it refuses the user or the password"
    if isinstance(error, OutOfMemoryError):
        return "it is full and may drop nothing; set its maxmemory-policy to allkeys-lru"
    if isinstance(error, RedisTimeoutError | TimeoutError):
        return "it is silent"
    return type(error).__name__
