"""What a store follows."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from bookwheel.types import Scope, Source, SourceChange, SourceDraft, SourceItem, SourceOutcome, Store


class Sources(Protocol):
    """Places that stores are kept in step with, from the owner's side. A source goes with its store, and is there for
    those for whom its store is."""

    async def create(self, draft: SourceDraft, *, scope: Scope, store: Store) -> Source:
        """Record a source; it is due at once. Raises NotFoundError when the store is gone."""

    async def get(self, source_id: UUID, *, scope: Scope) -> Source:
        """One source with the number of its items. Raises NotFoundError, also for another tenant's."""

    async def list(
        self, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True
    ) -> Sequence[Source]:
        """A page of the tenant's sources by creation time."""

    async def update(self, source_id: UUID, change: SourceChange, *, scope: Scope) -> Source:
        """Change what is given. A paused source is not due; one that goes on again is due at once, and so is one with
        a new config or schedule. Raises NotFoundError."""

    async def failures(self, source_id: UUID, *, scope: Scope, limit: int) -> Sequence[SourceItem]:
        """Items whose last try failed, by key. Raises NotFoundError."""

    async def delete(self, source_id: UUID, *, scope: Scope, if_empty: bool = False) -> bool:
        """Remove the source and its items; documents stay. With `if_empty` only a source without items is removed;
        returns whether it was. Raises NotFoundError."""


class SourceRuns(Protocol):
    """Sources from the worker's side. Every verb is idempotent."""

    async def claim(self, *, owner: str, lease_seconds: float, limit: int) -> Sequence[Source]:
        """Take sources that are due and not held by a live owner, this one included; the longest due first."""

    async def renew(self, owner: str, *, lease_seconds: float) -> None:
        """Extend every lease of the owner: it is alive."""

    async def release(self, owner: str) -> None:
        """Give unfinished sources back, so that another worker may take them at once."""

    async def items(self, source_id: UUID, *, limit: int, after: str = "") -> Sequence[SourceItem]:
        """Items by key, beginning behind the key `after`."""

    async def save(self, source_id: UUID, items: Sequence[SourceItem], *, gone: Sequence[str] = ()) -> None:
        """Upsert items by key and forget those of the keys `gone`. Raises NotFoundError when the source is gone."""

    async def finish(self, source: Source, outcome: SourceOutcome, *, owner: str) -> None:
        """Note how a claimed run ended and when the next is due, unless somebody changed that during the run; the
        lease ends. Nothing happens when the source is gone or another owner holds it."""

    async def watched(self) -> Sequence[Source]:
        """Directory sources that are not paused, of all tenants, without numbers of items."""

    async def wake(self, source_ids: Sequence[UUID]) -> None:
        """Make those that are not paused due at once."""
