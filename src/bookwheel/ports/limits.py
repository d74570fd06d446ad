"""How much of something was used lately, counted for all processes and machines together."""

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from bookwheel.types import Entry, Standing, Take


class Limiter(Protocol):
    """Counters over windows that slide, and places for those who run at once.

    A window is kept in slices: takes are booked in one slice from its first take on for a hundredth of the window, and
    all of a slice comes back together, one window after its last take. So no window, wherever it begins, ever holds
    more than the limit, and what was taken comes back at most 1 % of the window late. The clock is the store's own,
    which all processes share; where it jumps back, time stands still until it has caught up.

    Each verb is one round trip, and happens whole or not at all. Names in one call differ. Every verb raises
    LimiterUnavailableError and nothing else, and soon: a limiter that is slow is away.
    """

    name: str  #: of the backend, for metrics

    async def take(self, takes: Sequence[Take]) -> Sequence[Standing]:
        """Take all of these, or none where one is not allowed; how each counter stands then, in their order. What
        asks for more than its limit is refused at once, with no time to wait for."""

    async def add(self, name: str, amount: int, *, seconds: float = 60.0) -> None:
        """Book what was used, whatever the limit says; `seconds` is the counter's window."""

    async def spent(self, name: str, *, seconds: float = 60.0) -> int:
        """What the counter's window holds now. Takes nothing and waits for nobody."""

    async def enter(self, entries: Sequence[Entry], *, holder: str, lease_seconds: float) -> Sequence[Standing]:
        """Be one more of those who run in each of these groups, or in none where one is full. `wait` of a full one is
        the time until the next lease would end, for nobody knows when somebody leaves. What a holder (a process) has
        entered is forgotten when its lease ends; each entry begins the lease in these groups anew."""

    async def leave(self, names: Sequence[str], *, holder: str) -> None:
        """Be one less in each of these groups. Nothing happens in a group whose lease has ended."""

    async def renew(self, running: Mapping[str, int], *, holder: str, lease_seconds: float) -> None:
        """The holder runs so many in each of these groups, whatever was counted or forgotten; its leases begin anew.
        So a call that broke off, of which nobody knows whether it entered or left, is put right."""

    async def forget(self, prefix: str) -> int:
        """Forget the counters and groups whose names begin so; returns how many."""

    async def sweep(self) -> int:
        """Forget counters and groups that hold nothing any more; returns how many. Nothing to do where the backend
        does it."""

    async def ping(self) -> None:
        """Raises LimiterUnavailableError when it cannot answer."""


class EmbeddingBudget(Protocol):
    """How much of each tenant's documents may be embedded in a day. A worker asks before it begins a document and
    books afterwards, so the last ones may go over."""

    async def wait(self, tenant_id: UUID) -> float:
        """Seconds until more may be embedded, 0 for now. Where the counts are away, nobody waits."""

    async def book(self, tokens: Mapping[UUID, int]) -> None:
        """What was embedded, by tenant."""

    async def limited(self, tenant_id: UUID) -> bool:
        """Whether the tenant has such a limit: else nobody needs to count."""
