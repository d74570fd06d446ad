"""The contract of ports.Limiter."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from uuid import uuid4

import pytest

from bookwheel.errors import LimiterUnavailableError
from bookwheel.ports import Limiter
from bookwheel.types import Entry, Standing, Take

LONG = 600.0  #: seconds; longer than any test
WINDOW = 1.0  #: seconds; of the tests that wait for what comes back
SOON = 0.05  #: seconds; a call takes less, also on a busy machine mostly
LEASE, LATER = 0.5, 0.8  #: seconds; the second is after the first
LIMIT, CLIENTS = 40, 8
SOON_SECONDS = 2.0

Verb = Callable[[Limiter], Awaitable[object]]
#: Every verb that callers wait for, to ask a limiter that is away.
VERBS: Mapping[str, Verb] = {
    "take": lambda limiter: limiter.take([Take(name="name", limit=1)]),
    "add": lambda limiter: limiter.add("name", 1),
    "spent": lambda limiter: limiter.spent("name"),
    "enter": lambda limiter: limiter.enter([Entry(name="name", limit=1)], holder="me", lease_seconds=LONG),
    "leave": lambda limiter: limiter.leave(["name"], holder="me"),
    "renew": lambda limiter: limiter.renew({"name": 1}, holder="me", lease_seconds=LONG),
    "ping": lambda limiter: limiter.ping(),
}


async def one(limiter: Limiter, name: str, limit: int, amount: int = 1, *, seconds: float = LONG) -> Standing:
    """Take of one counter."""
    (standing,) = await limiter.take([Take(name=name, limit=limit, amount=amount, seconds=seconds)])
    return standing


async def enter(limiter: Limiter, name: str, limit: int, *, holder: str, lease_seconds: float = LONG) -> Standing:
    """Enter one group."""
    (standing,) = await limiter.enter([Entry(name=name, limit=limit)], holder=holder, lease_seconds=lease_seconds)
    return standing


class LimiterContract:
    """Subclass it for a backend that fills ports.Limiter. The tests use names of their own."""

    @pytest.fixture
    def limiter(self) -> Limiter:
        """The limiter under test; others may use it too."""
        raise NotImplementedError

    @pytest.fixture
    def beside(self, limiter: Limiter) -> Limiter:
        """The same limiter as another process sees it."""
        return limiter

    @pytest.fixture
    def name(self) -> str:
        """A name that no other test uses."""
        return f"tenant:{uuid4()}"

    async def test_a_burst_gets_the_limit(self, limiter: Limiter, beside: Limiter, name: str) -> None:
        """Exactly, whoever asks; each take says what is left, and who is refused when to come back."""
        for number in range(5):
            standing = await one((limiter, beside)[number % 2], name, 5)
            assert (standing.name, standing.limit, standing.allowed) == (name, 5, True)
            assert (standing.remaining, standing.wait) == (4 - number, 0.0)
            assert LONG - SOON_SECONDS < standing.whole_in <= LONG
        for refused in (await one(limiter, name, 5), await one(beside, name, 5)):
            assert (refused.allowed, refused.remaining) == (False, 0)
            assert refused.wait is not None
            assert LONG - SOON_SECONDS < refused.wait <= refused.whole_in <= LONG

    async def test_what_begins_so_is_forgotten(self, limiter: Limiter, beside: Limiter, name: str) -> None:
        """Counters and groups; other names stay as they are."""
        other = f"{name}0"
        for whose in (name, other):
            await one(limiter, f"{whose}:requests", 5)
            await enter(limiter, f"{whose}:running", 5, holder="a")
        assert await limiter.forget(f"{name}:") == 2
        assert await limiter.forget(f"{name}:") == 0
        assert [await beside.spent(f"{whose}:requests", seconds=LONG) for whose in (name, other)] == [0, 1]
        assert (await enter(beside, f"{name}:running", 5, holder="b")).remaining == 4
        assert (await enter(beside, f"{other}:running", 5, holder="b")).remaining == 3

    async def test_many_at_once_get_the_limit(self, limiter: Limiter, beside: Limiter, name: str) -> None:
        """No more and no less, however the calls meet."""
        asked = [one((limiter, beside)[number % 2], name, LIMIT, 1 + number % 2) for number in range(4 * LIMIT)]
        asked += [one(limiter, name, LIMIT) for _ in range(LIMIT)]
        standings = await asyncio.gather(*asked)
        assert await limiter.spent(name, seconds=LONG) == LIMIT
        assert min(standing.remaining for standing in standings) == 0

    async def test_no_window_holds_more(self, limiter: Limiter, beside: Limiter, name: str) -> None:
        """Clients that ask all the time, for some windows: between any take and the one `limit` later lies a whole
        window, and in so many windows it is so many times the limit, within 1 %."""
        windows, sent, answered = 3, list[float](), list[float]()
        end = time.monotonic() + windows * WINDOW - 2 * SOON

        async def ask(mine: Limiter) -> None:
            while (asked := time.monotonic()) < end:
                if (await one(mine, name, LIMIT, seconds=WINDOW)).allowed:
                    sent.append(asked)
                    answered.append(time.monotonic())
                await asyncio.sleep(0.003)

        await asyncio.gather(*(ask((limiter, beside)[client % 2]) for client in range(CLIENTS)))
        for early, late in zip(sorted(sent), sorted(answered)[LIMIT:], strict=False):
            assert late - early >= WINDOW
        assert 0.99 * windows * LIMIT <= len(sent) <= windows * LIMIT

    async def test_what_was_taken_comes_back(self, limiter: Limiter, name: str) -> None:
        """A window after it was taken and not all together; not before, and `wait` says when."""
        await one(limiter, name, 3, 2, seconds=WINDOW)
        await asyncio.sleep(WINDOW / 2)
        assert (await one(limiter, name, 3, seconds=WINDOW)).remaining == 0
        refused = await one(limiter, name, 3, 2, seconds=WINDOW)
        assert refused.wait is not None
        assert 0.2 * WINDOW < refused.wait <= WINDOW / 2 < refused.whole_in <= WINDOW
        await asyncio.sleep(refused.wait - SOON)
        if not (await one(limiter, name, 3, 2, seconds=WINDOW)).allowed:
            await asyncio.sleep(2 * SOON)
        assert await limiter.spent(name, seconds=WINDOW) in (1, 3)
        all_of_it = await one(limiter, name, 3, 3, seconds=WINDOW)
        assert not all_of_it.allowed
        await asyncio.sleep(all_of_it.whole_in + SOON)
        assert (await one(limiter, name, 3, 3, seconds=WINDOW)).remaining == 0

    async def test_slices_are_thin(self, limiter: Limiter, name: str) -> None:
        """What was taken a tenth of a window earlier comes back by itself, not with the later ones."""
        await one(limiter, name, 2, seconds=WINDOW)
        await asyncio.sleep(WINDOW / 10)
        await one(limiter, name, 2, seconds=WINDOW)
        refused = await one(limiter, name, 2, seconds=WINDOW)
        assert refused.wait is not None
        assert refused.wait <= 0.9 * WINDOW < refused.whole_in

    async def test_all_or_nothing(self, limiter: Limiter, name: str) -> None:
        """Where one take is refused, the others take nothing; standings come in the order of the takes."""
        takes = [
            Take(name=f"{name}:{part}", limit=limit, seconds=LONG) for part, limit in (("c", 9), ("a", 1), ("b", 9))
        ]
        first, second = await limiter.take(takes), await limiter.take(takes)
        assert [standing.name for standing in first] == [take.name for take in takes]
        assert [standing.remaining for standing in first] == [8, 0, 8]
        assert [standing.allowed for standing in second] == [True, False, True]
        assert [standing.remaining for standing in second] == [8, 0, 8]
        assert [await limiter.spent(take.name, seconds=LONG) for take in takes] == [1, 1, 1]

    async def test_takes_that_meet_in_any_order(self, limiter: Limiter, beside: Limiter, name: str) -> None:
        """Calls for the same counters, named in any order, wait for each other but never in a circle."""
        takes = [Take(name=f"{name}:{part}", limit=500, seconds=LONG) for part in "abcdefghijklmnop"]
        orders = [takes, takes[::-1], takes[8:] + takes[:8]]
        calls = [(limiter, beside)[number % 2].take(orders[number % 3]) for number in range(120)]
        assert all(standing.allowed for standings in await asyncio.gather(*calls) for standing in standings)
        assert [await limiter.spent(take.name, seconds=LONG) for take in takes] == [120] * len(takes)

    async def test_more_than_the_limit(self, limiter: Limiter, name: str) -> None:
        """Is refused at once, with nothing to wait for, and takes nothing."""
        standing = await one(limiter, name, 5, 6)
        assert (standing.allowed, standing.remaining, standing.wait, standing.whole_in) == (False, 5, None, 0.0)
        assert (await one(limiter, name, 5, 5)).allowed
        assert (await one(limiter, name, 5, 6)).wait is None

    async def test_nothing_can_be_taken_too(self, limiter: Limiter, name: str) -> None:
        """It asks whether anything is left."""
        assert (await one(limiter, name, 2, 0)).remaining == 2
        assert (await one(limiter, name, 2, 2)).allowed
        refused = await one(limiter, name, 2, 0)
        assert not refused.allowed
        assert refused.wait
        assert await limiter.spent(name, seconds=LONG) == 2

    async def test_no_takes(self, limiter: Limiter) -> None:
        """Is no error."""
        assert list(await limiter.take([])) == []
        assert list(await limiter.enter([], holder="me", lease_seconds=LONG)) == []
        await limiter.leave([], holder="me")
        await limiter.renew({}, holder="me", lease_seconds=LONG)

    async def test_what_is_added_counts(self, limiter: Limiter, beside: Limiter, name: str) -> None:
        """Whatever the limit says: less than nothing may be left, and it is waited for."""
        assert (await one(limiter, name, 100, 10, seconds=WINDOW)).allowed
        await beside.add(name, 500, seconds=WINDOW)
        assert await limiter.spent(name, seconds=WINDOW) == 510
        refused = await one(limiter, name, 100, 1, seconds=WINDOW)
        assert (refused.allowed, refused.remaining) == (False, -410)
        assert refused.wait is not None
        assert 0.0 < refused.wait <= WINDOW
        await asyncio.sleep(WINDOW + SOON)
        assert await limiter.spent(name, seconds=WINDOW) == 0
        assert (await one(limiter, name, 100, 100, seconds=WINDOW)).allowed

    async def test_nothing_is_spent_of_unknown_counters(self, limiter: Limiter, name: str) -> None:
        """And adding nothing changes nothing."""
        await limiter.add(name, 0, seconds=LONG)
        assert await limiter.spent(name, seconds=LONG) == 0

    async def test_large_amounts_and_long_windows(self, limiter: Limiter, name: str) -> None:
        """Tokens of a day: numbers are exact."""
        day, most = 86_400.0, 10**12
        assert (await one(limiter, name, most, most - 1, seconds=day)).remaining == 1
        assert (await one(limiter, name, most, 2, seconds=day)).remaining == 1
        assert (await one(limiter, name, most, 1, seconds=day)).remaining == 0

    async def test_so_many_run_at_once(self, limiter: Limiter, beside: Limiter, name: str) -> None:
        """Those of all holders together; who leaves makes room for one."""
        assert (await enter(limiter, name, 3, holder="a")).remaining == 2
        assert (await enter(beside, name, 3, holder="b")).remaining == 1
        assert (await enter(limiter, name, 3, holder="a")).remaining == 0
        refused = await enter(beside, name, 3, holder="b")
        assert (refused.allowed, refused.remaining) == (False, 0)
        assert refused.wait is not None
        assert LONG - SOON_SECONDS < refused.wait <= LONG
        await limiter.leave([name], holder="a")
        assert (await enter(beside, name, 3, holder="b")).remaining == 0
        assert not (await enter(limiter, name, 3, holder="a")).allowed

    async def test_many_enter_at_once(self, limiter: Limiter, beside: Limiter, name: str) -> None:
        """No more than the limit, and all places are free again when all have left."""
        for _ in range(2):
            calls = [enter((limiter, beside)[number % 2], name, 7, holder=str(number % 2)) for number in range(40)]
            inside = [number % 2 for number, one in enumerate(await asyncio.gather(*calls)) if one.allowed]
            assert len(inside) == 7
            await asyncio.gather(*((limiter, beside)[side].leave([name], holder=str(side)) for side in inside))

    async def test_groups_are_entered_together(self, limiter: Limiter, name: str) -> None:
        """All of them, or none where one is full."""
        key, tenant = Entry(name=f"{name}:key", limit=1), Entry(name=f"{name}:a-tenant", limit=5)
        first = await limiter.enter([key, tenant], holder="a", lease_seconds=LONG)
        assert [(standing.name, standing.remaining) for standing in first] == [(key.name, 0), (tenant.name, 4)]
        second = await limiter.enter([key, tenant], holder="a", lease_seconds=LONG)
        assert [(standing.allowed, standing.remaining) for standing in second] == [(False, 0), (True, 4)]
        await limiter.leave([key.name, tenant.name], holder="a")
        assert (await enter(limiter, tenant.name, 5, holder="b")).remaining == 4

    async def test_the_dead_are_forgotten(self, limiter: Limiter, beside: Limiter, name: str) -> None:
        """A holder that is silent loses its places when its lease ends; the others keep theirs."""
        await enter(limiter, name, 2, holder="dead", lease_seconds=LEASE)
        await enter(beside, name, 2, holder="alive")
        refused = await enter(beside, name, 2, holder="alive")
        assert refused.wait is not None
        assert 0.0 < refused.wait <= LEASE
        await asyncio.sleep(LATER)
        await limiter.leave([name], holder="dead")  # too late: it changes nothing
        assert (await enter(beside, name, 2, holder="alive")).remaining == 0

    async def test_leases_are_renewed(self, limiter: Limiter, name: str) -> None:
        """As often as is wanted; nothing else keeps a place."""
        for holder in ("renewed", "silent"):
            await enter(limiter, name, 2, holder=holder, lease_seconds=LEASE)
        for _ in range(4):
            await asyncio.sleep(LEASE / 2.5)
            await limiter.renew({name: 1}, holder="renewed", lease_seconds=LEASE)
        assert (await enter(limiter, name, 2, holder="new")).remaining == 0
        assert not (await enter(limiter, name, 2, holder="new")).allowed

    async def test_renewing_puts_right(self, limiter: Limiter, beside: Limiter, name: str) -> None:
        """A holder knows best how many it runs: more than was counted, fewer, none, or what was forgotten."""
        await enter(beside, name, 9, holder="other")
        for running, remaining in ((3, 5), (1, 7), (0, 8), (2, 6)):
            await limiter.renew({name: running, f"{name}:too": running}, holder="a", lease_seconds=LONG)
            assert (await enter(beside, name, 9, holder="b", lease_seconds=LONG)).remaining == remaining - 1
            await beside.leave([name], holder="b")
        assert (await enter(limiter, f"{name}:too", 9, holder="b")).remaining == 6

    async def test_leaving_too_often(self, limiter: Limiter, name: str) -> None:
        """Is no error and makes no more room than there is."""
        await enter(limiter, name, 1, holder="a")
        for _ in range(3):
            await limiter.leave([name, f"{name}:unknown"], holder="a")
        assert (await enter(limiter, name, 1, holder="a")).allowed
        assert not (await enter(limiter, name, 1, holder="a")).allowed

    async def test_counters_and_groups_do_not_meet(self, limiter: Limiter, name: str) -> None:
        """The same name for both is two things; names that differ in one character are others."""
        long = (name + " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~" + "a" * 200)[:200]
        for each in (long, long[:-1], long[:-1] + "A"):
            assert (await one(limiter, each, 1)).allowed
            assert (await enter(limiter, each, 1, holder="a" * 200)).allowed

    async def test_sweeping_takes_only_what_is_empty(self, limiter: Limiter, name: str) -> None:
        """What holds something stays; how many went is told, and is 0 where the backend forgets by itself."""
        await one(limiter, f"{name}:short", 1, seconds=LEASE)
        await one(limiter, f"{name}:long", 1)
        await enter(limiter, f"{name}:short", 1, holder="a", lease_seconds=LEASE)
        await enter(limiter, f"{name}:long", 1, holder="a")
        await asyncio.sleep(LATER)
        assert await limiter.sweep() >= 0
        assert await self._left(limiter, name) == [True, False, True, False]

    async def _left(self, limiter: Limiter, name: str) -> Sequence[bool]:
        return [
            (await one(limiter, f"{name}:short", 1, seconds=LEASE)).allowed,
            (await one(limiter, f"{name}:long", 1)).allowed,
            (await enter(limiter, f"{name}:short", 1, holder="b")).allowed,
            (await enter(limiter, f"{name}:long", 1, holder="b")).allowed,
        ]

    async def test_ping_answers(self, limiter: Limiter) -> None:
        """A working limiter answers."""
        await limiter.ping()


class AwayLimiterContract:
    """Subclass it for a backend whose store may be away."""

    @pytest.fixture
    def away(self) -> Limiter:
        """A limiter whose store does not answer, or answers nobody."""
        raise NotImplementedError

    @pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
    async def test_every_verb_says_so_soon(self, away: Limiter, verb: Verb) -> None:
        """LimiterUnavailableError and nothing else, within two seconds; the message tells what to do."""
        begun = time.monotonic()
        with pytest.raises(LimiterUnavailableError, match="BOOKWHEEL_LIMITS_URL"):
            await verb(away)
        assert time.monotonic() - begun < SOON_SECONDS
