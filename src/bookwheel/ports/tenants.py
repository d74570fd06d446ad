"""Whom the service serves, and what they ask again and again."""

from collections.abc import Sequence
from typing import Protocol

from bookwheel.types import AskedQuestion, Keep, Scope, Tenant


class Tenants(Protocol):
    """The tenants and what they chose."""

    async def get(self, *, scope: Scope) -> Tenant:
        """The scope's tenant. Raises NotFoundError."""

    async def update(self, *, scope: Scope, generator: str | Keep | None = "keep") -> Tenant:
        """Change what is given. Raises NotFoundError."""


class AskedQuestions(Protocol):
    """How often each question is asked. A count may be lost with its process; nothing rests on it."""

    async def note(self, asked: Sequence[AskedQuestion]) -> None:
        """Add to the counts; those of tenants that are gone are left out."""

    async def popular(self, *, limit: int, at_least: int, within_seconds: float) -> Sequence[AskedQuestion]:
        """Questions of all tenants that were asked so often, and the last time so lately, most often first."""

    async def refreshed(self, key: str) -> bool:
        """Note that a question was answered anew ahead of time; False, and nothing is noted, when nobody has asked it
        since that was done last: what nobody asks is not worth an answer."""

    async def forget(self, *, older_than_seconds: float, limit: int) -> int:
        """Forget questions that were asked longer ago; returns how many."""
