"""How much each caller may use: requests and tokens per minute, requests at once, tokens embedded per day.

    guard = Guard(ports.limiter, settings)
    async with await guard.admit(caller, tokens=900) as admission:  # raises RateLimitError
        ...
        await admission.spend(120)  # what the answer took beyond that
    response.headers.update(admission.headers)

Limits are of the key or user and of its tenant; both are taken together or none is. What the caller carries counts
before the settings. Where the store of the limits is away, requests go on uncounted, and that is told.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from types import TracebackType
from typing import Self, TypeVar
from uuid import UUID

import structlog

from bookwheel.breaker import Clock
from bookwheel.errors import QuotaError, RateLimitError
from bookwheel.lenient import MINUTE, Lenient, NoLimiter
from bookwheel.ports import Limiter
from bookwheel.settings import Settings
from bookwheel.types import Caller, Entry, Limits, Role, Standing, Take, Tenant

T = TypeVar("T")
log = structlog.get_logger()

DAY = 86_400.0  # seconds
LEASE_SECONDS = 15.0  # a process silent for so long has no requests under way
LONGEST_ID = 100  # characters of a caller's id in the name of a counter
UNKNOWN_WAIT_SECONDS = 1.0  # told to those who wait for somebody to leave


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One limit that a request must keep to."""

    name: str  #: of its counter or group
    whose: str  #: "this key"
    what: str  #: "requests per minute"
    limit: int
    amount: int = 1
    seconds: float = MINUTE

    @property
    def take(self) -> Take:
        """As the limiter takes it."""
        return Take(name=self.name, limit=self.limit, amount=self.amount, seconds=self.seconds)

    def refusal(self, standing: Standing, headers: Mapping[str, str]) -> RateLimitError | QuotaError:
        """What the caller is told: which limit, its figure, what to do."""
        limit = f"{self.limit:,} {self.what} of {self.whose}"
        if standing.wait is None:
            return QuotaError(
                f"This request needs {self.amount:,}, more than the limit of {limit} can ever give. Make it smaller, or"
                " ask an admin for a larger limit."
            )
        wait = standing.wait or UNKNOWN_WAIT_SECONDS
        return RateLimitError(
            f"The limit of {limit} is reached. Send the request again in {wait:.1f} s, or ask an admin for a larger"
            " limit.",
            retry_after=wait,
            headers=headers,
        )


REQUESTS, TOKENS = "requests per minute", "tokens per minute"
AT_ONCE, EMBEDDED = "requests at once", "embedding tokens per day"


class Admission:
    """A request that may run. Leave it by `release`, or as a context manager, where requests at once are limited."""

    def __init__(
        self, places: "Places", held: Sequence[str], tokens: Sequence[str], headers: Mapping[str, str]
    ) -> None:
        self.headers = headers  #: OpenAI's x-ratelimit-*: how the limits stand that have the least left
        self._places, self._held, self._tokens = places, held, tokens

    @property
    def counts_tokens(self) -> bool:
        """Whether what it takes is of interest."""
        return bool(self._tokens)

    async def spend(self, tokens: int) -> None:
        """Book what the request took beyond what it was admitted with."""
        if tokens > 0:
            await asyncio.gather(*(self._places.lenient.ask(partial(_add, name, tokens)) for name in self._tokens))

    async def release(self) -> None:
        """It runs no more. Idempotent."""
        held, self._held = self._held, ()
        await self._places.leave(held)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()


class Guard:
    """Admits requests. One for each process; `close` it at the end."""

    def __init__(self, limiter: Limiter, settings: Settings, *, clock: Clock = time.monotonic) -> None:
        self._lenient = Lenient(limiter, clock=clock)
        self._places = Places(self._lenient)
        self._own = Limits(
            requests_per_minute=settings.limit_requests_per_minute,
            tokens_per_minute=settings.limit_tokens_per_minute,
            concurrent_requests=settings.limit_concurrent_requests,
        )
        self._tenant = Limits(
            requests_per_minute=settings.limit_tenant_requests_per_minute,
            tokens_per_minute=settings.limit_tenant_tokens_per_minute,
            concurrent_requests=settings.limit_tenant_concurrent_requests,
            embedding_tokens_per_day=settings.limit_embedding_tokens_per_day,
        )

    async def admit(self, caller: Caller, *, tokens: int = 0) -> Admission:
        """Let a request in that will take so many tokens, as far as is known. Without any known ones it must find some
        left where they are limited. Raises RateLimitError, or QuotaError for more than can ever be."""
        if not self._counts(caller):
            return Admission(self._places, (), (), {})
        entries = list(self._entries(caller))
        await self._enter(entries)
        try:
            rules = list(self._rules(caller, tokens))
            headers = await self._take(rules)
        except BaseException:
            await self._places.leave([entry.name for entry in entries])
            raise
        counters = [rule.name for rule in rules if rule.what == TOKENS]
        return Admission(self._places, [entry.name for entry in entries], counters, headers)

    async def embed(self, caller: Caller, *, tokens: int) -> None:
        """Take tokens of the day for texts that a request has embedded. Raises as `admit` does."""
        if self._counts(caller):
            tenant = f"tenant:{caller.scope.tenant_id}"
            rules = [
                *self._embedding(f"{tenant}:{_short(caller.id)}", _own(caller), caller.limits, tokens),
                *self._embedding(tenant, "the tenant", _over(caller.tenant_limits, self._tenant), tokens),
            ]
            await self._take(rules)

    async def ingest(self, tenant: Tenant, *, tokens: int) -> None:
        """The same for what a worker embeds of the tenant's documents: `retry_after` of the error says when to go on
        with it."""
        if self._lenient.limiter.name != NoLimiter.name:
            limits = _over(tenant.limits, self._tenant)
            await self._take(list(self._embedding(f"tenant:{tenant.id}", "the tenant", limits, tokens)))

    def limits_embedding(self, tenant: Tenant) -> bool:
        """Whether what is embedded of the tenant's documents is limited."""
        has_limit = bool(_over(tenant.limits, self._tenant).embedding_tokens_per_day)
        return has_limit and self._lenient.limiter.name != NoLimiter.name

    async def book(self, tenant_id: UUID, *, tokens: int) -> None:
        """Book what a worker has embedded of the tenant's documents, whatever its limit says."""
        await self._lenient.ask(
            lambda limiter: limiter.add(f"tenant:{tenant_id}:embedding_tokens", tokens, seconds=DAY)
        )

    async def close(self) -> None:
        """End what runs beside the requests."""
        await self._places.close()

    def _counts(self, caller: Caller) -> bool:
        return caller.limited and self._lenient.limiter.name != NoLimiter.name

    def _rules(self, caller: Caller, tokens: int) -> Iterator[Rule]:
        for prefix, whose, limits in self._sides(caller):
            if limit := limits.requests_per_minute:
                yield Rule(name=f"{prefix}:requests", whose=whose, what=REQUESTS, limit=limit)
            if limit := limits.tokens_per_minute:
                yield Rule(name=f"{prefix}:tokens", whose=whose, what=TOKENS, limit=limit, amount=tokens)

    def _entries(self, caller: Caller) -> Iterator[Rule]:
        for prefix, whose, limits in self._sides(caller):
            if limit := limits.concurrent_requests:
                yield Rule(name=f"{prefix}:running", whose=whose, what=AT_ONCE, limit=limit)

    def _sides(self, caller: Caller) -> Iterator[tuple[str, str, Limits]]:
        """Of the key or user, and of its tenant: how its counters begin, how it is called, its limits. A key is told
        by its tenant too: the ids of users are their issuer's."""
        tenant = f"tenant:{caller.scope.tenant_id}"
        yield f"{tenant}:{_short(caller.id)}", _own(caller), _over(caller.limits, self._own)
        if caller.role is not Role.OPERATOR:  # who must be able to act when a tenant is at its limit
            yield tenant, "the tenant", _over(caller.tenant_limits, self._tenant)

    def _embedding(self, prefix: str, whose: str, limits: Limits, tokens: int) -> Iterator[Rule]:
        if limit := limits.embedding_tokens_per_day:
            name = f"{prefix}:embedding_tokens"
            yield Rule(name=name, whose=whose, what=EMBEDDED, limit=limit, amount=tokens, seconds=DAY)

    async def _enter(self, rules: Sequence[Rule]) -> None:
        if rules and (standings := await self._places.enter(rules)):
            _refuse(rules, standings, {})

    async def _take(self, rules: Sequence[Rule]) -> Mapping[str, str]:
        """Take all or none; the headers."""
        if not rules:
            return {}
        standings = await self._lenient.ask(lambda limiter: limiter.take([rule.take for rule in rules])) or ()
        headers = rate_limit_headers(
            requests=_least(rules, standings, REQUESTS), tokens=_least(rules, standings, TOKENS)
        )
        _refuse(rules, standings, headers)
        return headers


class Places:
    """The requests of this process that run at once where that is limited. While there are any, the store is told so
    again and again, so that it forgets a process that has died."""

    def __init__(self, lenient: Lenient, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self.lenient = lenient
        self._lease_seconds = lease_seconds
        self._holder = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._running: Counter[str] = Counter()
        self._renewing: asyncio.Task[None] | None = None

    async def enter(self, rules: Sequence[Rule]) -> Sequence[Standing]:
        """One more in each group, or in none; no standings when the store is away: then it counts all the same, for
        the time when it is back."""
        entries, names = [Entry(name=rule.name, limit=rule.limit) for rule in rules], [rule.name for rule in rules]
        self._running.update(names)  # before it is asked: a renewal meanwhile must not forget this one
        let_in = False
        try:
            standings = await self.lenient.ask(
                lambda limiter: limiter.enter(entries, holder=self._holder, lease_seconds=self._lease_seconds)
            )
            let_in = all(standing.allowed for standing in standings or ())
        finally:
            if not let_in:
                self._running.subtract(names)
        if let_in and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.create_task(self._renew())
        return standings or ()

    async def leave(self, names: Sequence[str]) -> None:
        """One less in each group."""
        if not names:
            return
        try:
            await self.lenient.ask(lambda limiter: limiter.leave(names, holder=self._holder))
        finally:
            self._running.subtract(names)  # not before: a renewal meanwhile would count it down twice

    async def close(self) -> None:
        """End the renewals."""
        if self._renewing is not None:
            self._renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._renewing

    async def _renew(self) -> None:
        """As long as there is anything; a group that is left is told as empty once, in case the store missed that."""
        while self._running:
            await asyncio.sleep(self._lease_seconds / 3)
            running = dict(self._running)
            await self.lenient.ask(partial(self._tell, running))
            for name, count in running.items():
                if not count and not self._running[name]:
                    del self._running[name]

    async def _tell(self, running: Mapping[str, int], limiter: Limiter) -> None:
        await limiter.renew(running, holder=self._holder, lease_seconds=self._lease_seconds)


async def _add(name: str, tokens: int, limiter: Limiter) -> None:
    await limiter.add(name, tokens)


def _own(caller: Caller) -> str:
    return "this user" if caller.id.startswith("user_") else "this key"


def _short(caller_id: str) -> str:
    """The id as a part of a counter's name: an issuer may give users ids of any length and script."""
    if len(caller_id) <= LONGEST_ID and caller_id.isascii() and caller_id.isprintable():
        return caller_id
    return hashlib.blake2b(caller_id.encode(), digest_size=16).hexdigest()


def _over(given: Limits, defaults: Limits) -> Limits:
    """Those that are given, else the defaults."""
    names = Limits.__dataclass_fields__
    return Limits(**{name: getattr(defaults if getattr(given, name) is None else given, name) for name in names})


def _refuse(rules: Sequence[Rule], standings: Sequence[Standing], headers: Mapping[str, str]) -> None:
    """Raises the refusal that is to be waited for longest, if there is any."""
    refused = [
        (standing.wait is None, standing.wait or 0.0, rule, standing)
        for rule, standing in zip(rules, standings, strict=False)  # there are none where the store is away
        if not standing.allowed
    ]
    if refused:
        _, _, rule, standing = max(refused, key=lambda one: one[:2])
        raise rule.refusal(standing, headers)


def _least(rules: Sequence[Rule], standings: Sequence[Standing], what: str) -> Standing | None:
    """The standing of this kind that has the least left."""
    found = [one for rule, one in zip(rules, standings, strict=False) if rule.what == what]
    return min(found, key=lambda one: one.remaining, default=None)


def rate_limit_headers(*, requests: Standing | None, tokens: Standing | None) -> dict[str, str]:
    """OpenAI's headers for the limits that there are: what each allows, what remains, when it is whole again."""
    headers = dict[str, str]()
    for kind, standing in (("requests", requests), ("tokens", tokens)):
        if standing is not None:
            headers[f"x-ratelimit-limit-{kind}"] = str(standing.limit)
            headers[f"x-ratelimit-remaining-{kind}"] = str(max(0, standing.remaining))
            headers[f"x-ratelimit-reset-{kind}"] = go_duration(standing.whole_in)
    return headers


def go_duration(seconds: float) -> str:
    """As Go writes it and OpenAI's headers do: `17ms`, `1.5s`, `6m0s`, `24h0m0s`; whole milliseconds, rounded up."""
    milliseconds = ceil(seconds * 1_000)
    if milliseconds < 1_000:
        return f"{milliseconds}ms" if milliseconds > 0 else "0s"
    minutes, left = divmod(milliseconds, 60_000)
    last = f"{left / 1_000:g}s"
    if minutes < 60:
        return f"{minutes}m{last}" if minutes else last
    return f"{minutes // 60}h{minutes % 60}m{last}"
