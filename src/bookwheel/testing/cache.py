"""The contract of ports.Cache."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from uuid import uuid4

import pytest

from bookwheel.errors import CacheUnavailableError
from bookwheel.ports import Cache

LONG = 600.0  #: seconds; longer than any test
SHORT = 0.2  #: seconds
LATER = 0.5  #: seconds; after SHORT, also on a busy machine
KEEP = 100
KIB = 1 << 10
TIGHT_BYTES = 2 << 20  #: of values that `tight` may hold
PIECE, PIECES = bytes(range(256)) * 128, 4 * TIGHT_BYTES // (32 * KIB)
WRITERS, EACH = 8, 12
SOON_SECONDS = 2.0

Verb = Callable[[Cache], Awaitable[object]]
#: Every verb that callers wait for, to ask a cache that is away.
VERBS: Mapping[str, Verb] = {
    "get": lambda cache: cache.get(["key"]),
    "put": lambda cache: cache.put({"key": b"value"}, seconds=LONG),
    "remove": lambda cache: cache.remove(["key"]),
    "append": lambda cache: cache.append("group", b"member", seconds=LONG, keep=KEEP),
    "members": lambda cache: cache.members("group"),
    "ping": lambda cache: cache.ping(),
}


class CacheContract:
    """Subclass it for a backend that fills ports.Cache. The tests share nothing but the cache: they use names of their
    own."""

    @pytest.fixture
    def cache(self) -> Cache:
        """The cache under test; others may use it too."""
        raise NotImplementedError

    @pytest.fixture
    def beside(self, cache: Cache) -> Cache:
        """The same cache as another process sees it."""
        return cache

    @pytest.fixture
    def tight(self) -> Cache:
        """A cache of the same kind that holds at most TIGHT_BYTES of values."""
        raise NotImplementedError

    @pytest.fixture
    def name(self) -> str:
        """A key or a group that no other test uses."""
        return f"tenant:{uuid4()}"

    async def test_values_come_back(self, cache: Cache, beside: Cache, name: str) -> None:
        """Those of the keys that are there, whoever asks, and nothing for the others."""
        values = {f"{name}:{number}": f"value {number}".encode() for number in range(5)}
        await cache.put(values, seconds=LONG)
        for reader in (cache, beside):
            assert dict(await reader.get([*values, f"{name}:none"])) == values
        assert dict(await cache.get([f"{name}:3"])) == {f"{name}:3": b"value 3"}
        assert dict(await cache.get([f"{name}:none"])) == {}

    @pytest.mark.parametrize("value", [b"", b"\0", bytes(range(256)), b"\xff" * 3, "wörter\r\n".encode()])
    async def test_any_bytes(self, cache: Cache, name: str, value: bytes) -> None:
        """Values and members are bytes, not text; empty ones are there."""
        await cache.put({name: value}, seconds=LONG)
        await cache.append(name, value, seconds=LONG, keep=KEEP)
        assert dict(await cache.get([name])) == {name: value}
        assert [member for _, member in await cache.members(name)] == [value]

    async def test_a_tenant_is_forgotten(self, cache: Cache, beside: Cache, name: str) -> None:
        """All its values and lists, of every kind, and nothing of another tenant."""
        ours, theirs = uuid4().hex, uuid4().hex
        for tenant in (ours, theirs):
            await cache.put({f"{kind}:{tenant}:{name}": b"value" for kind in "ab"}, seconds=LONG)
            await cache.append(f"questions:{tenant}:{name}", b"member", seconds=LONG, keep=KEEP)
        assert await cache.forget(ours) >= 3
        assert await cache.forget(ours) == 0
        for reader in (cache, beside):
            found = await reader.get([f"{kind}:{tenant}:{name}" for kind in "ab" for tenant in (ours, theirs)])
            assert set(found) == {f"a:{theirs}:{name}", f"b:{theirs}:{name}"}
            assert await reader.members(f"questions:{ours}:{name}") == []
            assert len(await reader.members(f"questions:{theirs}:{name}")) == 1

    async def test_large_values(self, cache: Cache, name: str) -> None:
        """100 kB come back whole, several of them at once."""
        values = {f"{name}:{number}": os.urandom(100_000) for number in range(4)}
        await cache.put(values, seconds=LONG)
        assert dict(await cache.get(list(values))) == values

    async def test_nothing_asked(self, cache: Cache) -> None:
        """No keys is no error."""
        await cache.put({}, seconds=LONG)
        await cache.remove([])
        assert dict(await cache.get([])) == {}

    async def test_long_names(self, cache: Cache, name: str) -> None:
        """200 ASCII characters of any kind; names that differ in one character or in case are others."""
        long = (name + " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~" + "a" * 200)[:200]
        values = {long: b"1", long[:-1]: b"2", long[:-1] + "A": b"3", long[:-1] + "%": b"4"}
        await cache.put(values, seconds=LONG)
        assert dict(await cache.get(list(values))) == values

    async def test_the_same_key_twice(self, cache: Cache, name: str) -> None:
        """Asking twice for a key in one call gives it once."""
        await cache.put({name: b"value"}, seconds=LONG)
        assert dict(await cache.get([name, name])) == {name: b"value"}

    async def test_values_are_replaced(self, cache: Cache, name: str) -> None:
        """The value and its time, whether that is longer or shorter."""
        for value, seconds in ((b"first", SHORT), (b"second", LONG)):
            await cache.put({name: value}, seconds=seconds)
        await asyncio.sleep(LATER)
        assert dict(await cache.get([name])) == {name: b"second"}
        await cache.put({name: b"third"}, seconds=SHORT)
        await asyncio.sleep(LATER)
        assert dict(await cache.get([name])) == {}

    async def test_values_expire(self, cache: Cache, beside: Cache, name: str) -> None:
        """After their time they are not served, to nobody; others stay, and the key can be used again."""
        await cache.put({f"{name}:short": b"1"}, seconds=SHORT)
        await cache.put({f"{name}:long": b"2"}, seconds=LONG)
        assert set(await beside.get([f"{name}:short", f"{name}:long"])) <= {f"{name}:short", f"{name}:long"}
        await asyncio.sleep(LATER)
        for reader in (cache, beside):
            assert dict(await reader.get([f"{name}:short", f"{name}:long"])) == {f"{name}:long": b"2"}
        await cache.put({f"{name}:short": b"3"}, seconds=LONG)
        assert dict(await cache.get([f"{name}:short"])) == {f"{name}:short": b"3"}

    async def test_removed_values_are_gone(self, cache: Cache, beside: Cache, name: str) -> None:
        """Those only; removing what is not there is no error, and the key can be used again."""
        keys = [f"{name}:{number}" for number in range(3)]
        await cache.put(dict.fromkeys(keys, b"value"), seconds=LONG)
        for _ in range(2):
            await cache.remove([keys[0], keys[2], f"{name}:none"])
            for reader in (cache, beside):
                assert dict(await reader.get(keys)) == {keys[1]: b"value"}
        await cache.put({keys[0]: b"again"}, seconds=LONG)
        assert dict(await cache.get(keys)) == {keys[0]: b"again", keys[1]: b"value"}

    async def test_keys_and_groups_do_not_meet(self, cache: Cache, name: str) -> None:
        """The same name for both is two things; groups do not see each other either."""
        await cache.put({name: b"value"}, seconds=LONG)
        await cache.append(name, b"member", seconds=LONG, keep=KEEP)
        await cache.append(f"{name}:2", b"other", seconds=LONG, keep=KEEP)
        assert [member for _, member in await cache.members(name)] == [b"member"]
        await cache.remove([name])
        assert [member for _, member in await cache.members(name)] == [b"member"]
        assert dict(await cache.get([name, f"{name}:2"])) == {}

    async def test_members_come_in_order(self, cache: Cache, beside: Cache, name: str) -> None:
        """In that in which they were added, with numbers that grow from 1 or later."""
        for number in range(20):
            await (cache, beside)[number % 2].append(name, str(number).encode(), seconds=LONG, keep=KEEP)
        found = await cache.members(name)
        assert [member for _, member in found] == [str(number).encode() for number in range(20)]
        numbers = [number for number, _ in found]
        assert numbers[0] >= 1
        assert numbers == sorted(set(numbers))
        assert list(await beside.members(name)) == list(found)

    async def test_members_after_a_number(self, cache: Cache, name: str) -> None:
        """Whoever knows the list up to a number gets what is newer, with the same numbers."""
        for number in range(6):
            await cache.append(name, str(number).encode(), seconds=LONG, keep=KEEP)
        found = list(await cache.members(name))
        for position, (number, _) in enumerate(found):
            assert list(await cache.members(name, after=number)) == found[position + 1 :]
        await cache.append(name, b"6", seconds=LONG, keep=KEEP)
        assert [member for _, member in await cache.members(name, after=found[-1][0])] == [b"6"]

    async def test_the_newest_are_kept(self, cache: Cache, name: str) -> None:
        """As many as the last append says; numbers that are gone do not come again."""
        for number in range(10):
            await cache.append(name, str(number).encode(), seconds=LONG, keep=4)
        found = await cache.members(name)
        assert [member for _, member in found] == [b"6", b"7", b"8", b"9"]
        assert list(await cache.members(name, after=found[1][0])) == list(found[2:])
        await cache.append(name, b"10", seconds=LONG, keep=2)
        after = await cache.members(name)
        assert [member for _, member in after] == [b"9", b"10"]
        assert after[0] == found[-1]
        assert after[1][0] > found[-1][0]

    async def test_unknown_groups_are_empty(self, cache: Cache, name: str) -> None:
        """Whatever is known of them."""
        assert list(await cache.members(name)) == []
        assert list(await cache.members(name, after=7)) == []

    async def test_lists_live_after_their_last_member(self, cache: Cache, name: str) -> None:
        """All of a list, for so long after the last one was added."""
        await cache.append(name, b"1", seconds=1.5, keep=KEEP)
        await asyncio.sleep(0.9)
        await cache.append(name, b"2", seconds=1.5, keep=KEEP)
        await asyncio.sleep(0.9)
        assert [member for _, member in await cache.members(name)] == [b"1", b"2"]
        await asyncio.sleep(1.0)
        assert list(await cache.members(name)) == []

    async def test_lost_lists_begin_anew(self, cache: Cache, beside: Cache, name: str) -> None:
        """A list that expired brings nothing back; its numbers are 1 or later and grow."""
        for number in range(5):
            await cache.append(name, str(number).encode(), seconds=SHORT, keep=KEEP)
        await asyncio.sleep(LATER)
        for member in (b"new", b"newer"):
            await beside.append(name, member, seconds=LONG, keep=KEEP)
        (first, one), (second, other) = await cache.members(name)
        assert (one, other) == (b"new", b"newer")
        assert 1 <= first < second

    async def test_appends_at_once_lose_nothing(self, cache: Cache, beside: Cache, name: str) -> None:
        """Many writers at once: each member is there once, and who reads on from the last number meets each once."""
        wanted = {f"{writer}.{number}".encode() for writer in range(WRITERS) for number in range(EACH)}

        async def write(writer: int) -> None:
            for number in range(EACH):
                member = f"{writer}.{number}".encode()
                await (cache, beside)[writer % 2].append(name, member, seconds=LONG, keep=len(wanted))

        writing = asyncio.gather(*map(write, range(WRITERS)))
        seen: list[tuple[int, bytes]] = []
        while not writing.done():
            seen += await beside.members(name, after=seen[-1][0] if seen else 0)
            await asyncio.sleep(0.001)
        await writing
        seen += await beside.members(name, after=seen[-1][0] if seen else 0)
        assert seen == list(await cache.members(name))
        assert sorted(member for _, member in seen) == sorted(wanted)
        assert [number for number, _ in seen] == sorted({number for number, _ in seen})

    async def test_puts_at_once(self, cache: Cache, beside: Cache, name: str) -> None:
        """Many writers and removers of the same keys, in any order, end with one of the values, whole."""
        keys = [f"{name}:{number}" for number in range(20)]

        async def write(writer: int) -> None:
            order = keys if writer % 2 else keys[::-1]
            await (cache, beside)[writer % 2].put(dict.fromkeys(order, str(writer).encode() * 1000), seconds=LONG)
            if writer % 4 == 0:
                await beside.remove(order)

        await asyncio.gather(*map(write, range(16)))
        await cache.put({keys[0]: b"last"}, seconds=LONG)
        found = await beside.get(keys)
        assert found[keys[0]] == b"last"
        assert set(found.values()) <= {b"last", *(str(writer).encode() * 1000 for writer in range(16))}

    async def test_sweeping_takes_only_what_expired(self, cache: Cache, name: str) -> None:
        """What lives stays; how many went is told, and is 0 where the backend forgets by itself."""
        await cache.put({f"{name}:short": b"1", f"{name}:shorter": b"2"}, seconds=SHORT)
        await cache.put({f"{name}:long": b"3"}, seconds=LONG)
        await cache.append(f"{name}:short", b"4", seconds=SHORT, keep=KEEP)
        await cache.append(f"{name}:long", b"5", seconds=LONG, keep=KEEP)
        await asyncio.sleep(LATER)
        assert await cache.sweep() >= 0
        assert await cache.sweep() == 0
        assert dict(await cache.get([f"{name}:long", f"{name}:short"])) == {f"{name}:long": b"3"}
        assert [member for _, member in await cache.members(f"{name}:long")] == [b"5"]

    async def test_ping_answers(self, cache: Cache) -> None:
        """A working cache answers."""
        await cache.ping()

    async def test_a_full_cache_drops_the_oldest(self, tight: Cache, name: str) -> None:
        """More than fits is no error: the newest are there, and no more than the bound."""
        keys = [f"{name}:{number}" for number in range(PIECES)]
        for key in keys:
            await tight.put({key: PIECE}, seconds=LONG)
            assert await tight.get([key])
        await tight.sweep()
        left = list(await tight.get(keys))
        assert KIB < sum(len(PIECE) for _ in left) <= TIGHT_BYTES
        assert keys[0] not in left
        assert keys[-1] in left


class AwayCacheContract:
    """Subclass it for a backend whose server may be away."""

    @pytest.fixture
    def away(self) -> Cache:
        """A cache whose server does not answer, or answers nobody."""
        raise NotImplementedError

    @pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
    async def test_every_verb_says_so_soon(self, away: Cache, verb: Verb) -> None:
        """CacheUnavailableError and nothing else, within two seconds; the message tells what to do."""
        begun = time.monotonic()
        with pytest.raises(CacheUnavailableError, match="BOOKWHEEL_CACHE_URL"):
            await verb(away)
        assert time.monotonic() - begun < SOON_SECONDS
