"""Each process's own cache before the shared one: the contract, and what happens when the shared one is away."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from bookwheel.backends.memory.cache import MemoryCache
from bookwheel.backends.redis import RedisCache
from bookwheel.errors import CacheUnavailableError
from bookwheel.ports import Cache
from bookwheel.testing.cache import KEEP, LATER, LONG, SHORT, TIGHT_BYTES, VERBS, CacheContract
from bookwheel.tiers import NoCache, TieredCache
from tests.redis_server import redis_server

MIB = 1 << 20
PAUSE_SECONDS = 1.2  # after an outage was noticed, until the shared cache is asked again
RECOVERY_SECONDS = 10.0
BUSY_SECONDS = 30.0  # that a machine may be too busy to answer where nothing is to be away


class SharedCache(MemoryCache):
    """A shared cache that the test takes away."""

    def __init__(self) -> None:
        super().__init__(16 * MIB)
        self.away, self.asked = False, 0

    async def get(self, keys: Sequence[str], *, newest: bool = False) -> Mapping[str, bytes]:
        """Slow, so that a test can leave in the middle."""
        self._ask()
        await asyncio.sleep(0.01)
        return await super().get(keys, newest=newest)

    async def put(self, values: Mapping[str, bytes], *, seconds: float) -> None:
        """As MemoryCache."""
        self._ask()
        await super().put(values, seconds=seconds)

    async def remove(self, keys: Sequence[str]) -> None:
        """As MemoryCache."""
        self._ask()
        await super().remove(keys)

    async def forget(self, tenant: str) -> int:
        """As MemoryCache."""
        self._ask()
        return await super().forget(tenant)

    async def append(self, group: str, member: bytes, *, seconds: float, keep: int) -> None:
        """As MemoryCache."""
        self._ask()
        await super().append(group, member, seconds=seconds, keep=keep)

    async def members(self, group: str, *, after: int = 0) -> Sequence[tuple[int, bytes]]:
        """As MemoryCache."""
        self._ask()
        return await super().members(group, after=after)

    async def sweep(self) -> int:
        """As MemoryCache."""
        self._ask()
        return await super().sweep()

    def _ask(self) -> None:
        self.asked += 1
        if self.away:
            raise CacheUnavailableError


def process(shared: Cache, *, own_seconds: float = 30.0) -> TieredCache:
    """The caches of one process."""
    return TieredCache(MemoryCache(16 * MIB), shared, own_seconds=own_seconds)


@pytest.fixture
def shared() -> SharedCache:
    """Empty."""
    return SharedCache()


class TestTiers(CacheContract):
    """Both in memory."""

    @pytest.fixture
    def cache(self) -> Cache:
        """Empty."""
        return process(MemoryCache(16 * MIB))

    @pytest.fixture
    def tight(self) -> Cache:
        """Small."""
        return TieredCache(MemoryCache(TIGHT_BYTES), MemoryCache(TIGHT_BYTES))


@pytest.fixture(scope="module")
async def over_redis() -> AsyncIterator[RedisCache]:
    """A cache of many servers."""
    with redis_server() as server:
        cache = RedisCache(server.url, patience_seconds=BUSY_SECONDS)
        yield cache
        await cache.close()


class TestTiersOverRedis(CacheContract):
    """The shared one in Redis. Nothing stays in the process's own, or another's would be seen late."""

    @pytest.fixture
    def cache(self, over_redis: RedisCache) -> Cache:
        """One process's."""
        return process(over_redis, own_seconds=0.001)

    @pytest.fixture
    def beside(self, over_redis: RedisCache) -> Cache:
        """Another's."""
        return process(over_redis, own_seconds=0.001)

    @pytest.fixture
    async def tight(self) -> AsyncIterator[Cache]:
        """A small server."""
        small = ("--maxmemory", "3mb", "--maxmemory-policy", "volatile-ttl", "--maxmemory-samples", "64")
        with redis_server(*small) as server:
            shared = RedisCache(server.url, patience_seconds=BUSY_SECONDS)
            yield process(shared, own_seconds=0.001)
            await shared.close()


class TestOwnFirst:
    """What a process has it does not ask for."""

    async def test_what_was_found_is_kept(self, shared: SharedCache) -> None:
        """Only what is missing is asked for, and only once."""
        one, other = process(shared), process(shared)
        await one.put({"a": b"1", "b": b"2"}, seconds=LONG)
        assert dict(await other.get(["a"])) == {"a": b"1"}
        asked = shared.asked
        assert dict(await other.get(["a"])) == {"a": b"1"}
        assert shared.asked == asked
        assert dict(await other.get(["a", "b"])) == {"a": b"1", "b": b"2"}
        assert shared.asked == asked + 1

    async def test_the_newest_is_what_all_share(self, shared: SharedCache) -> None:
        """Who needs it does not get what this process has kept of it, and has it itself from then on."""
        one, other = process(shared), process(shared)
        await one.put({"a": b"1"}, seconds=LONG)
        assert dict(await other.get(["a"])) == {"a": b"1"}
        await one.put({"a": b"2"}, seconds=LONG)
        assert dict(await other.get(["a"])) == {"a": b"1"}
        assert dict(await other.get(["a"], newest=True)) == {"a": b"2"}
        assert dict(await other.get(["a"])) == {"a": b"2"}

    async def test_others_changes_are_seen_after_a_while(self, shared: SharedCache) -> None:
        """What another process replaced or removed is served for as long as it may stay, and no longer."""
        one, other = process(shared), process(shared, own_seconds=SHORT)
        for change in (one.put({"a": b"2"}, seconds=LONG), one.remove(["a"])):
            before = dict(await other.get(["a"]))
            await one.put({"a": b"1"}, seconds=LONG)
            assert dict(await other.get(["a"])) == (before or {"a": b"1"})
            await change
            await asyncio.sleep(LATER)
            assert dict(await other.get(["a"])) == dict(await one.get(["a"]))

    async def test_so_are_they_by_who_put_the_value(self, shared: SharedCache) -> None:
        """A process does not hold on to its own either."""
        one, other = process(shared, own_seconds=SHORT), process(shared)
        await one.put({"a": b"1"}, seconds=LONG)
        await other.put({"a": b"2"}, seconds=LONG)
        await asyncio.sleep(LATER)
        assert dict(await one.get(["a"])) == {"a": b"2"}

    async def test_a_copy_does_not_outlive_its_time(self, shared: SharedCache) -> None:
        """However late it was copied."""
        one, other = process(shared), process(shared)
        await one.put({"a": b"1"}, seconds=LATER)
        await asyncio.sleep(LATER / 2)
        assert dict(await other.get(["a"])) == {"a": b"1"}
        await asyncio.sleep(LATER)
        assert dict(await other.get(["a"])) == {}

    async def test_lists_are_shared(self, shared: SharedCache) -> None:
        """A member is seen by all at once."""
        one, other = process(shared), process(shared)
        await one.append("g", b"1", seconds=LONG, keep=KEEP)
        assert [member for _, member in await other.members("g")] == [b"1"]
        assert list(await one.own.members("g")) == []


class TestOutage:
    """The shared cache is away."""

    async def test_every_verb_goes_on(self, shared: SharedCache) -> None:
        """None raises; what the process puts itself it finds again."""
        cache = process(shared)
        shared.away = True
        for verb in VERBS.values():
            await verb(cache)
        assert await cache.sweep() == 0
        await cache.put({"a": b"1"}, seconds=LONG)
        await cache.append("g", b"2", seconds=LONG, keep=KEEP)
        assert dict(await cache.get(["a", "b"])) == {"a": b"1"}
        assert [member for _, member in await cache.members("g")] == [b"2"]
        await cache.remove(["a"])
        assert dict(await cache.get(["a"])) == {}

    async def test_who_must_know_that_all_is_forgotten_is_told(self, shared: SharedCache) -> None:
        """An offboarding must not count what it could not reach as gone."""
        cache = process(shared)
        await cache.put({"answer:t:1": b"value"}, seconds=LONG)
        shared.away = True
        with pytest.raises(CacheUnavailableError):
            await cache.forget("t")
        shared.away = False
        assert await cache.forget("t") == 1

    async def test_it_is_told_once_and_counted(self, shared: SharedCache) -> None:
        """A warning when it begins, a line when it ends, a count for each verb that went without."""
        cache, before = process(shared), _count("bookwheel_degraded_total", stage="cache")
        failed = _count("bookwheel_errors_total", stage="cache", type="CacheUnavailableError")
        with capture_logs() as logs:
            shared.away = True
            for _ in range(5):
                await cache.get(["a"])
            await asyncio.sleep(PAUSE_SECONDS)
            await cache.get(["a"])
            shared.away = False
            await _until_asked(cache, shared)
            await cache.get(["a"])
        assert [line["log_level"] for line in logs] == ["warning", "info"]
        assert _count("bookwheel_degraded_total", stage="cache") >= before + 6
        assert _count("bookwheel_errors_total", stage="cache", type="CacheUnavailableError") == failed + 2

    async def test_it_is_left_alone(self, shared: SharedCache) -> None:
        """One call each pause tries it; all others do not wait for it."""
        cache = process(shared)
        shared.away = True
        for _ in range(100):
            await cache.get(["a"])
        assert shared.asked == 1

    async def test_numbers_grow_through_it(self, shared: SharedCache) -> None:
        """Who reads on after the last number misses nothing that is added later, when it goes and when it returns."""
        cache, last = process(shared), 0
        for away in (False, True, False):
            shared.away = away
            if not away:
                await _until_asked(cache, shared)
            for member in (b"1", b"2"):
                await cache.append("g", member, seconds=LONG, keep=KEEP)
            found = await cache.members("g", after=last)
            assert [member for _, member in found] == [b"1", b"2"]
            last = found[-1][0]

    async def test_a_caller_who_leaves_is_no_outage(self, shared: SharedCache) -> None:
        """A cancelled call says nothing about the shared cache."""
        cache = process(shared)
        call = asyncio.create_task(cache.get(["a"]))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        asked = shared.asked
        await cache.get(["a"])
        assert shared.asked == asked + 1

    async def test_redis_killed_and_started_again(self) -> None:
        """Nobody waits long while it is gone, and it is used again within ten seconds."""
        with redis_server() as server:
            cache = process(shared := RedisCache(server.url))
            await cache.put({"a": b"1"}, seconds=LONG)
            server.kill()
            assert await _seconds_of_gets(cache) < 2.0
            server.start()
            await _until_used(cache, shared)
            await shared.close()

    async def test_redis_frozen_and_thawed(self) -> None:
        """A server that hangs costs one wait in some seconds."""
        with redis_server() as server:
            cache = process(shared := RedisCache(server.url))
            server.freeze()
            assert await _seconds_of_gets(cache) < 2.0
            server.thaw()
            await _until_used(cache, shared)
            await shared.close()


async def _seconds_of_gets(cache: Cache) -> float:
    begun = time.monotonic()
    for number in range(200):
        assert dict(await cache.get([f"none {number}"])) == {}
    return time.monotonic() - begun


async def _until_used(cache: Cache, shared: Cache) -> None:
    deadline = time.monotonic() + RECOVERY_SECONDS
    while not await shared.members("g"):
        assert time.monotonic() < deadline
        await cache.append("g", b"1", seconds=LONG, keep=KEEP)
        await asyncio.sleep(0.05)


async def _until_asked(cache: Cache, shared: SharedCache) -> None:
    deadline, asked = time.monotonic() + RECOVERY_SECONDS, shared.asked
    while shared.asked == asked:
        assert time.monotonic() < deadline
        await cache.get(["asking"])
        await asyncio.sleep(0.02)


def _count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


class TestNoCache:
    """`off:`"""

    async def test_nothing_is_kept(self) -> None:
        """Every verb answers."""
        cache: Cache = NoCache()
        for verb in VERBS.values():
            await verb(cache)
        assert (dict(await cache.get(["key"])), list(await cache.members("group"))) == ({}, [])
        assert await cache.sweep() == 0
