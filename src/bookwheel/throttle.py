"""The pace that a server of models allows, kept by all processes that call it together."""

import asyncio
import hashlib
import time
from collections.abc import Callable

from bookwheel.breaker import Clock
from bookwheel.errors import OverloadedError, SettingsError
from bookwheel.lenient import MINUTE, Lenient
from bookwheel.model_url import ModelUrl
from bookwheel.ports import Limiter
from bookwheel.telemetry import UPSTREAM_SHED
from bookwheel.types import Take

REQUESTS, TOKENS = "requests_per_minute", "tokens_per_minute"
THROTTLE_OPTIONS = (REQUESTS, TOKENS)  # of a model's URL

TokenCount = Callable[[], int]


def open_throttle(url: ModelUrl, limiter: Limiter, *, name: str, setting: str) -> "Throttle | None":
    """What `&requests_per_minute=60&tokens_per_minute=90000` behind a model's URL ask for, `name` in messages and
    metrics; None without them. Who calls the same model at the same address shares the pace. Raises SettingsError."""
    limits = {option: _number(url, option, setting) for option in THROTTLE_OPTIONS if url.options.get(option)}
    if not limits:
        return None
    place = hashlib.blake2b(repr((url.scheme, url.address, url.model)).encode(), digest_size=16).hexdigest()
    return Throttle(
        limiter, name, counter=f"upstream:{place}", requests=limits.get(REQUESTS), tokens=limits.get(TOKENS)
    )


def _number(url: ModelUrl, option: str, setting: str) -> int:
    given = url.options[option]
    if not given.isdecimal() or not 0 < int(given) < 10**12:
        raise SettingsError(f"{setting} has {option}={given!r}: use a positive whole number.")
    return int(given)


class Throttle:
    """Lets calls through at most so many in a minute, with at most so many tokens: first come, first served within a
    process. Where the store of the limits is away, they go on without waiting."""

    def __init__(
        self,
        limiter: Limiter,
        name: str,
        *,
        counter: str,
        requests: int | None = None,
        tokens: int | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._name, self._counter = name, counter
        self._requests, self._tokens = requests, tokens
        self._lenient = Lenient(limiter, clock=clock)
        self._clock = clock
        self._first = asyncio.Lock()  # who has it asks the limiter; the others stand behind
        self._turn_at = clock()  # when the first one's turn comes, as far as is known

    async def turn(self, tokens: TokenCount, *, within: float) -> None:
        """Wait for the turn of a call with so many tokens, which are counted only where they are limited; one of more
        than the limit takes the whole minute. Raises OverloadedError, at once where the turn cannot be expected within
        so many seconds."""
        deadline = self._clock() + within
        takes = self._takes(tokens)
        self._check(self._turn_at, deadline)
        try:
            async with asyncio.timeout(within), self._first:
                while wait := await self._wait(takes):
                    self._turn_at = self._clock() + wait
                    self._check(self._turn_at, deadline)
                    await asyncio.sleep(wait)
        except TimeoutError:
            raise self._overloaded(max(0.0, self._turn_at - self._clock())) from None

    async def now(self, tokens: TokenCount) -> bool:
        """Whether a call may be made at once; then it is counted."""
        return not self._first.locked() and not await self._wait(self._takes(tokens))

    def _takes(self, tokens: TokenCount) -> list[Take]:
        takes = []
        if self._requests:
            takes.append(Take(name=f"{self._counter}:requests", limit=self._requests))
        if self._tokens:
            amount = min(self._tokens, max(1, tokens()))
            takes.append(Take(name=f"{self._counter}:tokens", limit=self._tokens, amount=amount))
        return takes

    async def _wait(self, takes: list[Take]) -> float:
        """Seconds until they may be asked for again; 0.0 when they are taken."""
        standings = await self._lenient.ask(lambda limiter: limiter.take(takes)) or ()
        return max((standing.wait or MINUTE for standing in standings if not standing.allowed), default=0.0)

    def _check(self, turn_at: float, deadline: float) -> None:
        if turn_at > deadline:
            raise self._overloaded(turn_at - self._clock())

    def _overloaded(self, seconds: float) -> OverloadedError:
        UPSTREAM_SHED.labels(self._name).inc()
        limits = ((self._requests, "requests"), (self._tokens, "tokens"))
        figures = " and ".join(f"{limit:,} {what}" for limit, what in limits if limit)
        return OverloadedError(
            f"{self._name} is asked no more than {figures} per minute, and others are before you. Send the request"
            f" again in {seconds:.1f} s.",
            retry_after=seconds,
        )
