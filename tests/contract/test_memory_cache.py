"""The cache in a process's memory."""

import os
import tracemalloc

import pytest

from bookwheel.backends.memory.cache import MemoryCache
from bookwheel.ports import Cache
from bookwheel.testing.cache import KEEP, LONG, TIGHT_BYTES, CacheContract

MIB = 1 << 20


class TestMemory(CacheContract):
    """In this process."""

    @pytest.fixture
    def cache(self) -> Cache:
        """Empty."""
        return MemoryCache(16 * MIB)

    @pytest.fixture
    def tight(self) -> Cache:
        """Small."""
        return MemoryCache(TIGHT_BYTES)

    async def test_what_expired_is_counted(self) -> None:
        """Keys and members, each once."""
        now = 0.0
        cache = MemoryCache(MIB, clock=lambda: now)
        await cache.put({"one": b"1", "two": b"2"}, seconds=10)
        await cache.put({"three": b"3"}, seconds=30)
        for member in (b"4", b"5"):
            await cache.append("group", member, seconds=10, keep=KEEP)
        now = 20.0
        assert await cache.sweep() == 4
        assert dict(await cache.get(["one", "three"])) == {"three": b"3"}

    async def test_memory_stays_under_the_bound(self) -> None:
        """Whatever the items' size: what Python keeps beside them is counted."""
        for size in (1, 2_000, 100_000):
            cache = MemoryCache(4 * MIB)
            tracemalloc.start()
            for number in range(12_000 if size < MIB // 100 else 200):
                name = f"tenant:{number % 9_000:0190}"
                await cache.put({name: os.urandom(size)}, seconds=LONG)
                await cache.append(f"group:{number % 50}", os.urandom(size), seconds=LONG, keep=KEEP)
            held, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert held <= 4 * MIB

    async def test_what_is_used_stays(self) -> None:
        """The least recently used goes first."""
        cache = MemoryCache(TIGHT_BYTES)
        await cache.put({"used": b"1", "unused": b"2"}, seconds=LONG)
        for number in range(40):
            await cache.put({str(number): bytes(100_000)}, seconds=LONG)
            await cache.get(["used"])
        assert dict(await cache.get(["used", "unused"])) == {"used": b"1"}

    async def test_a_value_larger_than_all(self) -> None:
        """Is not kept, nor what it was to replace; the others stay."""
        cache = MemoryCache(MIB)
        await cache.put({"large": b"small", "other": b"1"}, seconds=LONG)
        await cache.put({"large": bytes(2 * MIB)}, seconds=LONG)
        assert dict(await cache.get(["large", "other"])) == {"other": b"1"}

    async def test_a_list_does_not_push_out_all(self) -> None:
        """It keeps to its share, and drops its oldest for that."""
        cache = MemoryCache(MIB)
        await cache.put({"key": b"1"}, seconds=LONG)
        for number in range(100):
            await cache.append("group", bytes([number]) * 50_000, seconds=LONG, keep=KEEP)
        members = [member[0] for _, member in await cache.members("group")]
        assert members == list(range(100 - len(members), 100))
        assert 3 <= len(members) <= 5
        assert await cache.get(["key"])
