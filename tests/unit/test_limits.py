"""Rules of the guard: what a caller takes, what it is told, and what happens where nobody can count."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog
from prometheus_client import REGISTRY

from bookwheel.backends.memory.limits import MemoryLimiter
from bookwheel.errors import LimiterUnavailableError, QuotaError, RateLimitError
from bookwheel.lenient import Lenient, NoLimiter
from bookwheel.limits import Guard, Places, Rule, go_duration
from bookwheel.ports import Limiter
from bookwheel.settings import Settings
from bookwheel.types import DEFAULT_TENANT, Caller, Limits, Role, Scope, Standing, Take, Tenant


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class AwayLimiter(MemoryLimiter):
    """Can be away; counts how often it is asked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.away, self.asked = False, 0

    async def take(self, takes: Sequence[Take]) -> Sequence[Standing]:
        """As long as it is there."""
        self.asked += 1
        if self.away:
            raise LimiterUnavailableError
        return await super().take(takes)

    async def enter(self, *arguments: Any, **options: Any) -> Sequence[Standing]:
        """As long as it is there."""
        if self.away:
            raise LimiterUnavailableError
        return await super().enter(*arguments, **options)

    async def leave(self, *arguments: Any, **options: Any) -> None:
        """As long as it is there."""
        if self.away:
            raise LimiterUnavailableError
        await super().leave(*arguments, **options)


def a_caller(id: str = "key_1", *, tenant: UUID = DEFAULT_TENANT, **changes: Any) -> Caller:
    """A key without limits of its own."""
    return Caller(id=id, role=Role.READER, scope=Scope(tenant_id=tenant), **changes)


def a_guard(limiter: Limiter | None = None, *, clock: Clock | None = None, **settings: int) -> Guard:
    """Over an empty limiter; only the limits that are named."""
    none = {"limit_requests_per_minute": 0, "limit_tenant_requests_per_minute": 0}
    limiter = limiter or MemoryLimiter(clock=clock or Clock())
    return Guard(limiter, Settings(**{**none, **settings}), clock=clock or Clock())


async def refusal(call: Awaitable[Any]) -> RateLimitError:
    """The error of a call that comes too early."""
    with pytest.raises(RateLimitError) as caught:
        await call
    return caught.value


def degraded() -> float:
    """Requests so far that nobody counted."""
    return REGISTRY.get_sample_value("bookwheel_degraded_total", {"stage": "limits"}) or 0.0


async def test_a_key_gets_its_requests() -> None:
    """So many in a minute, by the settings; the refusal names the limit, its figure and the remedy."""
    clock = Clock()
    guard = a_guard(clock=clock, limit_requests_per_minute=3)
    for _ in range(3):
        await guard.admit(a_caller())
    error = await refusal(guard.admit(a_caller()))
    assert error.message == (
        "The limit of 3 requests per minute of this key is reached. Send the request again in 60.0 s, or ask an admin"
        " for a larger limit."
    )
    assert (error.status, error.code, error.retry_after) == (429, "rate_limit_exceeded", 60.0)
    assert error.headers["x-ratelimit-remaining-requests"] == "0"
    await guard.admit(a_caller("key_2"))
    clock.now += 60
    await guard.admit(a_caller())


async def test_the_defaults() -> None:
    """100 a minute for a key or user, 500 for a tenant."""
    guard, tenant = Guard(MemoryLimiter(), Settings()), uuid4()
    for key in range(5):
        for _ in range(100):
            await guard.admit(a_caller(f"key_{key}", tenant=tenant))
        if key == 0:
            error = await refusal(guard.admit(a_caller("key_0", tenant=tenant)))
            assert "100 requests per minute of this key" in error.message
    error = await refusal(guard.admit(a_caller("user_9", tenant=tenant)))
    assert "500 requests per minute of the tenant" in error.message
    await guard.admit(a_caller("key_1"))


async def test_what_the_caller_carries_counts_first() -> None:
    """Its own limits and its tenant's; 0 is no limit."""
    guard = a_guard(limit_requests_per_minute=1, limit_tenant_requests_per_minute=2)
    wide = a_caller("user_1", limits=Limits(requests_per_minute=0), tenant_limits=Limits(requests_per_minute=4))
    for _ in range(4):
        await guard.admit(wide)
    assert "4 requests per minute of the tenant" in (await refusal(guard.admit(wide))).message
    narrow = a_caller("user_2", tenant=uuid4(), limits=Limits(requests_per_minute=1), tenant_limits=Limits())
    await guard.admit(narrow)
    assert "1 requests per minute of this user" in (await refusal(guard.admit(narrow))).message


async def test_the_refused_spend_nothing() -> None:
    """What one key asks in vain is not its tenant's."""
    guard = a_guard(limit_requests_per_minute=1, limit_tenant_requests_per_minute=2)
    await guard.admit(a_caller("key_1"))
    for _ in range(9):
        await refusal(guard.admit(a_caller("key_1")))
    await guard.admit(a_caller("key_2"))
    assert "of the tenant" in (await refusal(guard.admit(a_caller("key_3")))).message


async def test_the_same_user_of_two_tenants() -> None:
    """Is two callers."""
    guard = a_guard(limit_requests_per_minute=1)
    for tenant in (uuid4(), uuid4()):
        await guard.admit(a_caller("user_1", tenant=tenant))


async def test_ids_of_any_script() -> None:
    """Become names that every store takes, each its own."""
    limiter = MemoryLimiter()
    guard = a_guard(limiter, limit_requests_per_minute=1)
    for user in ("user_" + "a" * 500, "user_" + "a" * 501, "user_ü\n", "user_ö\n"):
        await guard.admit(a_caller(user))
    assert all(name.isascii() and len(name) <= 200 for name in limiter._counters)
    assert len(limiter._counters) == 4


async def test_tokens_are_taken_and_spent() -> None:
    """What is known before, and what it took beyond that; who comes without known ones must find some left."""
    clock = Clock()
    guard = a_guard(clock=clock, limit_tokens_per_minute=100, limit_tenant_tokens_per_minute=150)
    admission = await guard.admit(a_caller(), tokens=60)
    assert admission.headers["x-ratelimit-remaining-tokens"] == "40"
    error = await refusal(guard.admit(a_caller(), tokens=50))
    assert "100 tokens per minute of this key" in error.message
    await guard.admit(a_caller())
    await admission.spend(500)
    assert "100 tokens per minute" in (await refusal(guard.admit(a_caller()))).message
    other = await refusal(guard.admit(a_caller("key_2")))
    assert "150 tokens per minute of the tenant" in other.message
    assert other.headers["x-ratelimit-remaining-tokens"] == "0"
    clock.now += 60.0
    await guard.admit(a_caller(), tokens=100)


async def test_more_than_can_ever_be() -> None:
    """Is refused with no time to come back."""
    with pytest.raises(QuotaError, match=r"needs 101, more than the limit of 100 tokens per minute of this key"):
        await a_guard(limit_tokens_per_minute=100).admit(a_caller(), tokens=101)


async def test_so_many_requests_at_once() -> None:
    """Of a key and of its tenant; who leaves makes room, also by an error, and only once."""
    guard = a_guard(limit_concurrent_requests=2, limit_tenant_concurrent_requests=3)
    first, second = await guard.admit(a_caller()), await guard.admit(a_caller())
    error = await refusal(guard.admit(a_caller()))
    assert "2 requests at once of this key" in error.message
    assert error.retry_after
    third = await guard.admit(a_caller("key_2"))
    assert "3 requests at once of the tenant" in (await refusal(guard.admit(a_caller("key_2")))).message
    for _ in range(3):
        await first.release()
    with pytest.raises(ZeroDivisionError):
        async with await guard.admit(a_caller()):
            raise ZeroDivisionError
    async with await guard.admit(a_caller()):
        await refusal(guard.admit(a_caller()))
    await second.release()
    await third.release()
    await guard.close()


async def test_a_refused_request_keeps_no_place() -> None:
    """Where there is room but no request left."""
    limiter = MemoryLimiter(clock=Clock())
    guard = a_guard(limiter, limit_concurrent_requests=5, limit_requests_per_minute=1)
    await (await guard.admit(a_caller())).release()
    for _ in range(9):
        assert "per minute" in (await refusal(guard.admit(a_caller()))).message
    assert not any(held.running for group in limiter._groups.values() for held in group.values())
    await guard.close()


async def test_long_requests_keep_their_places() -> None:
    """The store is told again and again that they run; when they have left, no longer."""
    limiter = MemoryLimiter()
    places = Places(Lenient(limiter), lease_seconds=0.15)
    rule = Rule(name="group", whose="", what="", limit=1)
    assert (await places.enter([rule]))[0].allowed
    await asyncio.sleep(0.5)
    other = Places(Lenient(limiter), lease_seconds=0.15)
    assert not (await other.enter([rule]))[0].allowed
    await places.leave([rule.name])
    assert (await other.enter([rule]))[0].allowed
    assert places._renewing is not None
    await asyncio.wait_for(places._renewing, timeout=5)
    await other.close()


async def test_calls_that_break_off_are_put_right() -> None:
    """A request whose client goes while the store enters it does not keep the place for ever."""

    class Slow(MemoryLimiter):
        async def enter(self, *arguments: Any, **options: Any) -> Sequence[Standing]:
            standings = await super().enter(*arguments, **options)
            await asyncio.sleep(0.01)
            return standings

    limiter = Slow()
    places = Places(Lenient(limiter), lease_seconds=0.15)
    await places.enter([Rule(name="group", whose="", what="", limit=3)])
    gone = asyncio.create_task(places.enter([Rule(name="group", whose="", what="", limit=3)]))
    await asyncio.sleep(0.005)
    gone.cancel()
    await asyncio.wait({gone})
    assert [held.running for held in limiter._groups["group"].values()] == [2]
    await asyncio.sleep(0.2)
    assert [held.running for held in limiter._groups["group"].values()] == [1]
    await places.close()


async def test_embedding_tokens_of_a_day() -> None:
    """Of the tenant, by requests and by what a worker ingests for it."""
    clock = Clock()
    guard, tenant = a_guard(clock=clock, limit_embedding_tokens_per_day=1_000), uuid4()
    caller = a_caller(tenant=tenant)
    await guard.embed(caller, tokens=400)
    await guard.ingest(Tenant(id=tenant, name="t", generator=None), tokens=600)
    error = await refusal(guard.embed(caller, tokens=1))
    assert "1,000 embedding tokens per day of the tenant" in error.message
    assert error.retry_after == 86_400.0
    await guard.ingest(Tenant(id=tenant, name="t", generator=None, limits=Limits(embedding_tokens_per_day=0)), tokens=9)
    with pytest.raises(QuotaError):
        await guard.embed(replace(caller, limits=Limits(embedding_tokens_per_day=5)), tokens=6)
    clock.now += 86_400
    await guard.embed(caller, tokens=1_000)


@pytest.mark.parametrize("changes", [{"limited": False}, {}])
async def test_who_is_not_counted(changes: dict[str, bool]) -> None:
    """The machine's own user, and everybody where limits are off: no headers either."""
    limiter = AwayLimiter() if changes else NoLimiter()
    guard = a_guard(limiter, limit_requests_per_minute=1, limit_concurrent_requests=1, limit_embedding_tokens_per_day=1)
    for _ in range(3):
        admission = await guard.admit(a_caller(**changes), tokens=9)
        assert admission.headers == {}
        await admission.spend(5)
        await guard.embed(a_caller(**changes), tokens=9)
    assert not (isinstance(limiter, AwayLimiter) and limiter.asked)


async def test_the_headers() -> None:
    """OpenAI's; of the key's and the tenant's limit that has less left."""
    clock = Clock()
    guard = a_guard(clock=clock, limit_requests_per_minute=10, limit_tenant_requests_per_minute=3)
    await guard.admit(a_caller())
    clock.now += 20.5
    assert (await guard.admit(a_caller())).headers == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "1m0s",
    }
    error = await refusal(_often(lambda: guard.admit(a_caller()), times=2))
    assert (error.headers["x-ratelimit-remaining-requests"], error.retry_after) == ("0", 39.5)


async def _often(call: Callable[[], Awaitable[object]], *, times: int) -> None:
    for _ in range(times):
        await call()


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.0, "0s"),
        (-1.0, "0s"),
        (0.0001, "1ms"),
        (0.017, "17ms"),
        (1.0, "1s"),
        (1.5, "1.5s"),
        (59.9999, "1m0s"),
        (360.0, "6m0s"),
        (61.25, "1m1.25s"),
        (86_400.0, "24h0m0s"),
        (5_025.003, "1h23m45.003s"),
    ],
)
def test_durations_as_go_writes_them(seconds: float, written: str) -> None:
    """What OpenAI's clients read; never shorter than it is."""
    assert go_duration(seconds) == written


async def test_a_store_that_is_away() -> None:
    """Requests go on, each counted; it is asked by one request in each pause, and told of once a minute."""
    clock, limiter = Clock(), AwayLimiter(clock=Clock())
    guard = a_guard(limiter, clock=clock, limit_requests_per_minute=1, limit_concurrent_requests=1)
    limiter.away, before = True, degraded()
    with structlog.testing.capture_logs() as logs:
        for second in range(100):
            for _ in range(10):
                async with await guard.admit(a_caller()) as admission:
                    assert admission.headers == {}
                    await admission.spend(1)
            clock.now = 1_000.0 + second
    assert degraded() - before >= 1_000
    assert limiter.asked <= 100
    assert [log["log_level"] for log in logs] == ["warning"] * 2
    assert "going on without" in logs[0]["event"]
    limiter.away = False
    clock.now += 10
    async with await guard.admit(a_caller()):
        await refusal(guard.admit(a_caller()))
    await guard.close()
