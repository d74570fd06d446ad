"""Rules of the pace that a server of models allows."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from prometheus_client import REGISTRY

from bookwheel.backends.cohere import open_cohere_reranker
from bookwheel.backends.memory.limits import MemoryLimiter
from bookwheel.backends.openai.generator import open_generator
from bookwheel.errors import EmbedderUnavailableError, LimiterUnavailableError, OverloadedError, SettingsError
from bookwheel.model_url import parse_model_url
from bookwheel.resilience import Failure, Upstream
from bookwheel.settings import Settings
from bookwheel.testing import HashEmbedder
from bookwheel.throttle import THROTTLE_OPTIONS, Throttle, open_throttle
from bookwheel.types import Standing, Take

NAME = "test:throttled"
SHORT = 0.3  # seconds, in place of a minute


class QuickLimiter(MemoryLimiter):
    """Its minutes are short."""

    async def take(self, takes: Sequence[Take]) -> Sequence[Standing]:
        """In short windows."""
        quick = [Take(name=one.name, limit=one.limit, amount=one.amount, seconds=SHORT) for one in takes]
        return await super().take(quick)


class LostLimiter(MemoryLimiter):
    """Away."""

    async def take(self, takes: Sequence[Take]) -> Sequence[Standing]:
        """Away."""
        raise LimiterUnavailableError


def a_throttle(limiter: MemoryLimiter | None = None, **limits: int) -> Throttle:
    """With short minutes."""
    return Throttle(limiter or QuickLimiter(), NAME, counter="upstream:test", **limits)


def an_upstream(throttle: Throttle, **changes: Any) -> Upstream:
    """That keeps the pace."""
    given: dict[str, Any] = {"deadline_seconds": 2.0, "concurrency": 50, "backoff_seconds": 0.001}
    return Upstream(
        NAME,
        judge=lambda error: Failure(error=EmbedderUnavailableError("away"), retryable=True, broken=False),
        unavailable=EmbedderUnavailableError,
        throttle=throttle,
        **{**given, **changes},
    )


def shed() -> float:
    """Calls turned away so far."""
    return REGISTRY.get_sample_value("bookwheel_upstream_shed_total", {"upstream": NAME}) or 0.0


async def test_calls_wait_for_their_turn() -> None:
    """First come, first served, by two processes that share the limiter, no more than the limit in any window."""
    limiter, begun, done = QuickLimiter(), time.monotonic(), list[tuple[float, int]]()
    sides = [a_throttle(limiter, requests=4) for _ in range(2)]

    async def call(number: int) -> None:
        await sides[number % 2].turn(lambda: 0, within=5.0)
        done.append((time.monotonic() - begun, number))

    await asyncio.gather(*map(call, range(12)))
    times = [at for at, _ in done]
    assert times[3] < SHORT / 2
    assert all(late - early >= 0.99 * SHORT for early, late in zip(times, times[4:], strict=False))
    for side in range(2):
        numbers = [number for _, number in done if number % 2 == side]
        assert numbers == sorted(numbers)


async def test_what_cannot_be_in_time_is_refused_at_once() -> None:
    """Told when to come back, by the name and the limits of the service; also whoever comes behind one that waits."""
    throttle, before = a_throttle(requests=1, tokens=1_000), shed()
    await throttle.turn(lambda: 1, within=1.0)
    begun = time.monotonic()
    with pytest.raises(OverloadedError, match=r"no more than 1 requests and 1,000 tokens per minute") as told:
        await throttle.turn(lambda: 1, within=SHORT / 3)
    waiting = asyncio.create_task(throttle.turn(lambda: 1, within=5.0))
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await throttle.turn(lambda: 1, within=SHORT / 3)
    assert time.monotonic() - begun < SHORT / 3
    assert told.value.retry_after is not None
    assert 0 < told.value.retry_after <= SHORT
    assert shed() == before + 2
    await waiting


async def test_who_stands_too_long_behind_others_is_refused() -> None:
    """In time."""
    throttle = a_throttle(requests=1)
    calls = [asyncio.create_task(throttle.turn(lambda: 0, within=1.5 * SHORT)) for _ in range(4)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), type(None), OverloadedError, OverloadedError]


async def test_tokens_are_limited() -> None:
    """A call of more than the limit takes the whole minute; where tokens are not limited nobody counts them."""
    throttle, begun = a_throttle(tokens=100), time.monotonic()
    await throttle.turn(lambda: 10**9, within=1.0)
    await throttle.turn(lambda: 60, within=1.0)
    assert time.monotonic() - begun >= 0.99 * SHORT
    await throttle.turn(lambda: 40, within=0.0)

    def never() -> int:
        raise AssertionError

    await a_throttle(requests=1).turn(never, within=1.0)


async def test_a_limiter_that_is_away_keeps_nobody_waiting() -> None:
    """Calls go on."""
    throttle = a_throttle(LostLimiter(), requests=1)
    for _ in range(5):
        await throttle.turn(lambda: 0, within=0.1)


async def test_each_attempt_takes_a_turn() -> None:
    """The retries too, within the deadline of the whole call."""
    limiter, calls = QuickLimiter(), list[float]()

    async def work() -> str:
        calls.append(time.monotonic())
        if len(calls) < 3:
            raise ConnectionError
        return "there"

    assert await an_upstream(a_throttle(limiter, requests=2)).call(work) == "there"
    assert calls[2] - calls[0] >= 0.99 * SHORT
    upstream = an_upstream(a_throttle(requests=1), deadline_seconds=SHORT / 3)

    async def quick() -> str:
        return "there"

    assert await upstream.call(quick) == "there"
    with pytest.raises(OverloadedError):
        await upstream.call(quick)


async def test_streams_take_turns() -> None:
    """As calls do."""

    async def items() -> Any:
        yield "one"

    upstream = an_upstream(a_throttle(tokens=5), deadline_seconds=SHORT / 3)
    assert [item async for item in upstream.stream(items, tokens=lambda: 5)] == ["one"]
    with pytest.raises(OverloadedError):
        assert [item async for item in upstream.stream(items, tokens=lambda: 1)]


async def test_a_second_call_beside_needs_a_turn_too() -> None:
    """Hedging never goes over the pace."""
    calls = 0

    async def slow() -> str:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.05)
        return "there"

    assert await an_upstream(a_throttle(requests=1)).call(slow, hedge_after=0.01) == "there"
    assert calls == 1
    assert await an_upstream(a_throttle(requests=9)).call(slow, hedge_after=0.01) == "there"
    assert calls == 3


def opened(url: str, **options: Any) -> Throttle | None:
    """As a backend opens it."""
    model = parse_model_url(url, setting="BOOKWHEEL_EMBEDDER_URL", options=THROTTLE_OPTIONS)
    return open_throttle(model, MemoryLimiter(), name=NAME, setting="BOOKWHEEL_EMBEDDER_URL")


def test_the_url_says_the_pace() -> None:
    """Nothing is kept without it; whoever calls the same model at the same address shares it."""
    assert opened("openai:https://h/v1?model=a") is None
    one, same, other = (
        opened(f"openai:https://{host}/v1?model=a&requests_per_minute=60&tokens_per_minute=90000") for host in "hhi"
    )
    assert one is not None
    assert same is not None
    assert other is not None
    assert [(take.limit, take.amount) for take in one._takes(lambda: 7)] == [(60, 1), (90_000, 7)]
    assert one._counter == same._counter != other._counter


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "many", "1e3"])
def test_an_unusable_pace(number: str) -> None:
    """Is told at the start, by the setting and the option."""
    with pytest.raises(SettingsError, match="BOOKWHEEL_EMBEDDER_URL has requests_per_minute="):
        opened(f"openai:https://h/v1?model=a&requests_per_minute={number}")


def open_a_generator(url: str) -> object:
    """As app.py does."""
    return open_generator(url, Settings(), count=HashEmbedder().token_counts)


def open_a_reranker(url: str) -> object:
    """As app.py does."""
    return open_cohere_reranker(url, Settings())


@pytest.mark.parametrize(
    ("open_backend", "url", "setting"),
    [
        (open_a_generator, "openai:https://h/v1?model=a", "BOOKWHEEL_GENERATOR_URL"),
        (open_a_reranker, "cohere:https://h/v2/rerank?model=a", "BOOKWHEEL_RERANKER_URL"),
    ],
)
async def test_backends_take_it_from_their_urls(open_backend: Callable[[str], object], url: str, setting: str) -> None:
    """And name their own setting."""
    with pytest.raises(SettingsError, match=f"{setting} has tokens_per_minute='x'"):
        open_backend(f"{url}&tokens_per_minute=x")
    open_backend(f"{url}&tokens_per_minute=5")
