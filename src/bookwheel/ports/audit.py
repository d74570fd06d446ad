"""What was done, by whom: chains that can only grow."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from bookwheel.types import AuditEntry, AuditEvent, AuditFilter, Head, Scope, Verified


class AuditLog(Protocol):
    """One hash chain for each tenant and one of the server. Nothing in it can be changed, and nothing removed but a
    tenant's whole chain."""

    async def append(self, entries: Sequence[AuditEntry]) -> Sequence[AuditEvent]:
        """Put them at the ends of their chains, in order; a chain's sequence is the order of its commits. All or
        nothing for each chain. Returns them as they stand there, in the given order."""

    async def list(
        self, *, scope: Scope, limit: int, after: int | None = None, newest: bool = True, filter: AuditFilter
    ) -> Sequence[AuditEvent]:
        """A page of the scope's chain, behind the event with the sequence `after`."""

    async def verify(self, *, scope: Scope, expected: bytes | None = None) -> Verified:
        """Walk the whole chain and compute every hash anew, outside the store. `expected` is a head that was kept
        elsewhere: without it nobody can tell that the newest events are gone."""

    def export(self, *, scope: Scope, filter: AuditFilter) -> AsyncIterator[AuditEvent]:
        """The scope's chain from its beginning, as it stood at no single moment: what is appended may come too."""

    async def heads(self) -> Sequence[Head]:
        """Where every chain ends, by tenant id."""

    async def offboard(self, *, scope: Scope) -> Head:
        """Remove the scope's whole chain; returns where it ended."""


class KeyUses(Protocol):
    """From which networks keys came, coarsely, so that a use out of pattern is known as one by every process."""

    async def networks(self, actor: str) -> Mapping[str, tuple[datetime, datetime]]:
        """First and last use from each network."""

    async def used(self, actor: str, network: str, *, at: datetime, keep: int) -> None:
        """Note a use. Of one actor the `keep` networks used last are kept."""

    async def forget(self, actors: Sequence[str]) -> None:
        """Forget these: their keys are gone."""
