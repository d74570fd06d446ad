"""The cache in Redis: a real server, which is killed, frozen and filled."""

import asyncio
import importlib
import socket
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import quote

import pytest

from bookwheel.backends.redis import RedisCache
from bookwheel.errors import CacheUnavailableError, SettingsError
from bookwheel.ports import Cache
from bookwheel.testing.cache import LONG, VERBS, AwayCacheContract, CacheContract
from tests.redis_server import RedisServer, free_port, redis_server

SECRET = "p@ss-of-redis"  # which a URL holds encoded
#: A small server that drops what would expire first, which among items of one time to live is the oldest.
TIGHT = ("--maxmemory", "3mb", "--maxmemory-policy", "volatile-ttl", "--maxmemory-samples", "64")
FULL = ("--maxmemory", "2mb", "--maxmemory-policy", "noeviction")
RECOVERY_SECONDS = 10.0


BUSY_SECONDS = 30.0  # that a machine may be too busy to answer where nothing is to be away


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A server for all tests that do not break it; it wants a password."""
    with redis_server(password=SECRET) as server:
        yield server


@asynccontextmanager
async def in_redis(url: str, **options: float) -> AsyncIterator[RedisCache]:
    """A cache that is closed at the end."""
    cache = RedisCache(url, **options)
    try:
        yield cache
    finally:
        await cache.close()


class TestRedis(CacheContract):
    """In Redis."""

    @pytest.fixture
    async def cache(self, redis: RedisServer) -> AsyncIterator[Cache]:
        """Shared by the tests."""
        async with in_redis(redis.url, patience_seconds=BUSY_SECONDS) as cache:
            yield cache

    @pytest.fixture
    async def beside(self, redis: RedisServer) -> AsyncIterator[Cache]:
        """Over other connections."""
        async with in_redis(redis.url, patience_seconds=BUSY_SECONDS) as cache:
            yield cache

    @pytest.fixture
    async def tight(self) -> AsyncIterator[Cache]:
        """A small server."""
        with redis_server(*TIGHT) as server:
            async with in_redis(server.url) as cache:
                yield cache

    async def test_many_at_once(self, cache: Cache, name: str) -> None:
        """More calls than connections take turns."""
        await asyncio.gather(*(cache.put({f"{name}:{number}": b"1"}, seconds=LONG) for number in range(200)))
        assert len(await cache.get([f"{name}:{number}" for number in range(200)])) == 200

    async def test_a_full_server_that_drops_nothing(self, name: str) -> None:
        """It says what to set, and what is there can still be read."""
        with redis_server(*FULL) as server:
            async with in_redis(server.url) as cache:
                with pytest.raises(CacheUnavailableError, match="maxmemory-policy"):
                    await _put_often(cache, [f"{name}:{number}" for number in range(100)])
                with pytest.raises(CacheUnavailableError, match="maxmemory-policy"):
                    await _append_often(cache, name)
                assert await cache.get([f"{name}:0"]) == {f"{name}:0": bytes(100_000)}

    async def test_killed_and_started_again(self, name: str) -> None:
        """While it is gone each verb says so soon; then all go on, without a restart of ours."""
        with redis_server() as server:
            async with in_redis(server.url) as cache:
                await asyncio.gather(*(cache.put({f"{name}:{number}": b"1"}, seconds=LONG) for number in range(40)))
                server.kill()
                await _all_say_so_soon(cache)
                server.start()
                await _recovers(cache)
                assert dict(await cache.get([f"{name}:1"])) == {}

    async def test_killed_amid_calls(self, name: str) -> None:
        """Calls under way end by a value or by the one error."""
        with redis_server() as server:
            async with in_redis(server.url) as cache:
                calls = [asyncio.create_task(_call_often(cache, f"{name}:{number}")) for number in range(8)]
                await asyncio.sleep(0.2)
                server.kill()
                assert await asyncio.gather(*calls) == [CacheUnavailableError] * 8

    async def test_frozen_and_thawed(self, name: str) -> None:
        """A server that hangs costs no more than the time for one answer, and no connection."""
        with redis_server() as server:
            async with in_redis(server.url) as cache:
                server.freeze()
                await _all_say_so_soon(cache)
                server.thaw()
                await _recovers(cache)
                await asyncio.gather(*(cache.get([name]) for _ in range(100)))


async def _put_often(cache: Cache, names: Sequence[str]) -> None:
    for name in names:
        await cache.put({name: bytes(100_000)}, seconds=LONG)


async def _append_often(cache: Cache, name: str) -> None:
    for _ in range(100):
        await cache.append(name, bytes(100_000), seconds=LONG, keep=100)


async def _call_often(cache: Cache, name: str) -> type[Exception] | None:
    """What ends it."""
    try:
        for number in range(100_000):
            await cache.put({name: str(number).encode()}, seconds=LONG)
            assert dict(await cache.get([name])) == {name: str(number).encode()}
    except CacheUnavailableError as error:
        return type(error)
    return None


async def _all_say_so_soon(cache: Cache) -> None:
    for verb in VERBS.values():
        begun = time.monotonic()
        with pytest.raises(CacheUnavailableError):
            await verb(cache)
        assert time.monotonic() - begun < 2.0


async def _recovers(cache: Cache) -> None:
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        try:
            for verb in VERBS.values():
                await verb(cache)
            return
        except CacheUnavailableError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


class TestNoRedis(AwayCacheContract):
    """Nobody listens."""

    @pytest.fixture
    async def away(self) -> AsyncIterator[Cache]:
        """A port that nobody has."""
        async with in_redis(f"redis://127.0.0.1:{free_port()}") as cache:
            yield cache


class TestWrongPassword(AwayCacheContract):
    """The server refuses us."""

    @pytest.fixture
    async def away(self, redis: RedisServer) -> AsyncIterator[Cache]:
        """A password that it does not know."""
        async with in_redis(replace(redis, password="guessed").url) as cache:
            yield cache


def repeating_server(listener: socket.socket) -> None:
    """Answers each command by an error that repeats it, as some servers do, until the listener is closed."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            said = connection.recv(10_000).replace(b"\r\n", b" ")
            connection.sendall(b"-ERR unknown command, with args beginning with: " + said + b"\r\n")


class TestNotRedis(AwayCacheContract):
    """What listens speaks another protocol, or a part of it."""

    @pytest.fixture
    async def away(self) -> AsyncIterator[Cache]:
        """A server that repeats what it was sent."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=repeating_server, args=(listener,), daemon=True).start()
            async with in_redis(f"redis://:{quote(SECRET)}@127.0.0.1:{listener.getsockname()[1]}") as cache:
                yield cache
            listener.shutdown(socket.SHUT_RDWR)

    async def test_the_password_is_not_told(self, away: Cache) -> None:
        """Neither in the message nor in the traceback that a log may hold."""
        with pytest.raises(CacheUnavailableError) as told:
            await away.ping()
        assert SECRET not in "".join(traceback.format_exception(told.value))
        assert SECRET not in repr(away)


class TestSettings:
    """What is wrong with the setting is told at the start."""

    @pytest.mark.parametrize("url", ["redis://:secret@host:port", "http://:secret@host", "redis://:secret@[::1"])
    def test_a_wrong_url(self, url: str) -> None:
        """By the setting's name, without the password."""
        with pytest.raises(SettingsError, match="BOOKWHEEL_CACHE_URL") as told:
            RedisCache(url)
        assert "secret" not in "".join(traceback.format_exception(told.value)).replace(repr(url), "")

    def test_without_the_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error says what to install."""
        monkeypatch.setitem(sys.modules, "redis.asyncio", None)
        monkeypatch.delitem(sys.modules, "bookwheel.backends.redis")
        with pytest.raises(SettingsError, match=r"pip install 'bookwheel\[redis\]'"):
            importlib.import_module("bookwheel.backends.redis")
