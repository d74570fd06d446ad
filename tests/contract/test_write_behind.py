"""Values that are written a moment later keep the contract for their own process, and come to the others."""

import asyncio
from collections.abc import Mapping

import pytest

from bookwheel.backends.memory.cache import MemoryCache
from bookwheel.errors import CacheUnavailableError
from bookwheel.ports import Cache
from bookwheel.testing.cache import LONG, TIGHT_BYTES, CacheContract
from bookwheel.write_behind import MOST_WAITING, WriteBehind

MIB = 1 << 20


class Written(WriteBehind):
    """Where everything is written when `put` returns."""

    async def put(self, values: Mapping[str, bytes], *, seconds: float) -> None:
        """As WriteBehind, and waits."""
        await super().put(values, seconds=seconds)
        await self.flush()


class TestWriteBehind(CacheContract):
    """Over a cache in memory."""

    @pytest.fixture
    def cache(self) -> Cache:
        """Empty; it writes at once, which times of the contract are made for."""
        return WriteBehind(MemoryCache(16 * MIB), flush_seconds=0.0)

    @pytest.fixture
    def tight(self) -> Cache:
        """Small; what waits is bounded by itself, so it is written before the next value."""
        return Written(MemoryCache(TIGHT_BYTES), flush_seconds=0.0)


class CountingCache(MemoryCache):
    """Counts writes, and may be away."""

    def __init__(self) -> None:
        super().__init__(16 * MIB)
        self.puts = 0
        self.away = False

    async def put(self, values: Mapping[str, bytes], *, seconds: float) -> None:
        """As MemoryCache."""
        self.puts += 1
        if self.away:
            raise CacheUnavailableError
        await super().put(values, seconds=seconds)


async def test_many_values_are_one_write() -> None:
    """However many callers put them; each reads its own at once, others when it is written."""
    shared = CountingCache()
    behind = WriteBehind(shared, flush_seconds=0.01)
    for number in range(50):
        await behind.put({f"key{number}": b"value"}, seconds=LONG)
    assert (shared.puts, await shared.get(["key0"])) == (0, {})
    assert await behind.get(["key0", "key49"]) == {"key0": b"value", "key49": b"value"}
    await behind.flush()
    assert (shared.puts, await shared.get(["key0"])) == (1, {"key0": b"value"})


async def test_what_is_removed_stays_away() -> None:
    """Also when it still waited to be written."""
    shared = CountingCache()
    behind = WriteBehind(shared, flush_seconds=0.01)
    await behind.put({"key": b"value"}, seconds=LONG)
    await behind.remove(["key"])
    await asyncio.sleep(0.03)
    assert await behind.get(["key"]) == {}


async def test_a_cache_that_is_away_costs_only_what_waited() -> None:
    """Nobody hears of it here; the next values are written again."""
    shared = CountingCache()
    behind = WriteBehind(shared, flush_seconds=0.0)
    shared.away = True
    await behind.put({"lost": b"value"}, seconds=LONG)
    await behind.flush()
    shared.away = False
    await behind.put({"kept": b"value"}, seconds=LONG)
    await behind.flush()
    assert await behind.get(["lost", "kept"]) == {"kept": b"value"}


async def test_what_waits_is_bounded() -> None:
    """More than it can hold are left out."""
    behind = WriteBehind(CountingCache(), flush_seconds=60.0)
    await behind.put({f"key{number}": b"value" for number in range(MOST_WAITING + 10)}, seconds=LONG)
    assert len(await behind.get([f"key{number}" for number in range(MOST_WAITING + 10)])) == MOST_WAITING
    assert behind._flushing is not None
    behind._flushing.cancel()
