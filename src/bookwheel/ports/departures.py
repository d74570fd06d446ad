"""Tenants on their way out, and what proves that they are gone."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from bookwheel.types import Counts, Departure, Head, ModelResponse, Receipt, Scope


class Departures(Protocol):
    """The offboarding of the scope's tenant. Every verb is idempotent, so that one that broke off anywhere is simply
    begun again."""

    async def begin(self, name: str, *, scope: Scope) -> Departure:
        """Record that the tenant of this name goes; one that has begun comes back as it is."""

    async def begun(self, *, scope: Scope) -> Departure | None:
        """The one that has begun and has not ended; also when the tenant itself is gone already."""

    async def note(self, *, scope: Scope) -> None:
        """Remember which documents, blobs and actors are the tenant's: what hangs on them can be counted when they
        are gone themselves. To be called before anything is removed."""

    async def holdings(self, *, scope: Scope) -> Counts:
        """How much there is of the tenant in each kind of row, what was noted and is still somewhere included; blobs
        that a file of another tenant has too are not its own."""

    async def count(self, held: Counts, *, scope: Scope) -> Departure:
        """Remember what the tenant had, unless that is known."""

    async def shrink(self, *, scope: Scope, limit: int) -> int:
        """Remove at most `limit` rows of each kind that hangs on the tenant alone: keys, sources, webhooks, responses,
        kept answers of requests, counted questions. Returns how many; 0 when there are none."""

    async def remove(self, *, scope: Scope) -> bool:
        """Remove the tenant with what is left to hang on it: from now on nothing can be made for it. False, and nothing
        is removed, while it has stores or files."""

    async def seal(self, *, scope: Scope) -> Head:
        """Note where the tenant's audit chain ends, and let nothing be added to it any more."""

    async def blobs(self, *, scope: Scope) -> Sequence[bytes]:
        """Hashes that were noted and that no file has now."""

    async def forget(self, *, scope: Scope, blobs: Sequence[bytes] = (), position: int = 0) -> None:
        """These blobs are gone, and a keyword index has applied all changes up to this position: lines of the outbox
        say no longer whose they were."""


class Receipts(Protocol):
    """What was signed at the end of each offboarding, and the key that signs."""

    async def keep(self, receipt: Receipt) -> None:
        """Keep it in place of an earlier one of the same offboarding, which a complete one ends."""

    async def get(self, receipt_id: UUID) -> Receipt:
        """Raises NotFoundError."""

    async def list(self, *, limit: int, after: UUID | None = None) -> Sequence[Receipt]:
        """A page, newest first."""

    async def signing_key(self, made: bytes) -> bytes:
        """The server's private key of 32 bytes: `made` where there was none, which is kept then."""


class Exports(Protocol):
    """What only an export of all that a tenant has reads: whosever it is in the tenant, whatever the lists say."""

    async def text(self, document_id: UUID, *, scope: Scope) -> str | None:
        """The text of the newest version of a document of the tenant; None where it was put otherwise."""

    async def responses(self, *, scope: Scope, limit: int, after: UUID | None = None) -> Sequence[ModelResponse]:
        """A page of the tenant's kept responses, of all callers, by id."""
