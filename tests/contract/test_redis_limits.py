"""Limits in Redis: a real server, which is killed, frozen and filled."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from bookwheel.backends.redis import RedisLimiter
from bookwheel.errors import LimiterUnavailableError, SettingsError
from bookwheel.ports import Limiter
from bookwheel.testing.limits import LONG, VERBS, AwayLimiterContract, LimiterContract, enter, one
from tests.redis_server import RedisServer, free_port, redis_server

SECRET = "p@ss-of-redis"  # which a URL holds encoded
FULL = ("--maxmemory", "2mb", "--maxmemory-policy", "noeviction")
BUSY_SECONDS = 30.0  # that a machine may be too busy to answer where nothing is to be away
RECOVERY_SECONDS = 10.0


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A server for all tests that do not break it; it wants a password."""
    with redis_server(password=SECRET) as server:
        yield server


@asynccontextmanager
async def in_redis(url: str, **options: float) -> AsyncIterator[RedisLimiter]:
    """A limiter that is closed at the end."""
    limiter = RedisLimiter(url, **options)
    try:
        yield limiter
    finally:
        await limiter.close()


class TestRedis(LimiterContract):
    """In Redis."""

    @pytest.fixture
    async def limiter(self, redis: RedisServer) -> AsyncIterator[Limiter]:
        """Shared by the tests."""
        async with in_redis(redis.url, patience_seconds=BUSY_SECONDS) as limiter:
            yield limiter

    @pytest.fixture
    async def beside(self, redis: RedisServer) -> AsyncIterator[Limiter]:
        """Over other connections."""
        async with in_redis(redis.url, patience_seconds=BUSY_SECONDS) as limiter:
            yield limiter

    async def test_a_full_server_that_drops_nothing(self) -> None:
        """It says what to set."""
        with redis_server(*FULL) as server:
            async with in_redis(server.url) as limiter:
                with pytest.raises(LimiterUnavailableError, match="maxmemory-policy"):
                    await _take_often(limiter)

    async def test_killed_and_started_again(self, name: str) -> None:
        """While it is gone each verb says so soon; then all go on, without a restart of ours, and count anew."""
        with redis_server() as server:
            async with in_redis(server.url) as limiter:
                assert not [await one(limiter, name, 1) for _ in range(2)][1].allowed
                server.kill()
                for verb in VERBS.values():
                    with pytest.raises(LimiterUnavailableError):
                        await verb(limiter)
                server.start()
                await _recovers(limiter)
                assert (await one(limiter, name, 1)).allowed

    async def test_frozen_and_thawed(self, name: str) -> None:
        """A server that hangs costs no more than the time for one answer, and no connection."""
        with redis_server() as server:
            async with in_redis(server.url) as limiter:
                server.freeze()
                begun = time.monotonic()
                with pytest.raises(LimiterUnavailableError):
                    await limiter.ping()
                assert time.monotonic() - begun < 2.0
                server.thaw()
                await _recovers(limiter)
                await asyncio.gather(*(one(limiter, name, 100) for _ in range(100)))
                assert await limiter.spent(name, seconds=LONG) == 100

    async def test_nothing_stays(self, name: str) -> None:
        """Each key ends by itself when it holds nothing any more."""
        with redis_server() as server:
            async with in_redis(server.url) as limiter:
                await one(limiter, name, 1, seconds=0.2)
                await enter(limiter, name, 1, holder="a", lease_seconds=0.2)
                await enter(limiter, f"{name}:left", 1, holder="a")
                await limiter.leave([f"{name}:left"], holder="a")
                await asyncio.sleep(0.5)
                assert await limiter._server.redis.dbsize() == 0


async def _take_often(limiter: Limiter) -> None:
    for number in range(20_000):
        await one(limiter, f"name {number}", 1)


async def _recovers(limiter: Limiter) -> None:
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        try:
            return await limiter.ping()
        except LimiterUnavailableError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


class TestNoRedis(AwayLimiterContract):
    """Nobody listens."""

    @pytest.fixture
    async def away(self) -> AsyncIterator[Limiter]:
        """A port that nobody has."""
        async with in_redis(f"redis://127.0.0.1:{free_port()}") as limiter:
            yield limiter


class TestWrongPassword(AwayLimiterContract):
    """The server refuses us."""

    @pytest.fixture
    async def away(self, redis: RedisServer) -> AsyncIterator[Limiter]:
        """A password that it does not know."""
        async with in_redis(replace(redis, password="guessed").url) as limiter:
            yield limiter

    async def test_the_password_is_not_told(self, away: Limiter) -> None:
        """Neither in the message nor in the traceback that a log may hold."""
        with pytest.raises(LimiterUnavailableError) as told:
            await away.ping()
        assert "guessed" not in "".join(traceback.format_exception(told.value)).replace(__file__, "")


def test_a_wrong_url() -> None:
    """Is told at the start, by the setting's name."""
    with pytest.raises(SettingsError, match="BOOKWHEEL_LIMITS_URL"):
        RedisLimiter("redis://:secret@host:port")
