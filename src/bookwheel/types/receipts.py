"""A tenant that goes, and what proves that it is gone."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from bookwheel.types.audit import Head

Counts = Mapping[str, int]  # of things, by kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """An offboarding that has begun and has not ended."""

    id: UUID  #: of its receipt too
    tenant_id: UUID
    name: str
    begun_at: datetime
    held: Counts | None  #: what the tenant had; None until that is counted
    audit: Head | None  #: where its audit chain ended; None as long as it may grow


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What was removed of a tenant and what is left of it, signed."""

    id: UUID
    tenant_id: UUID
    made_at: datetime
    statement: bytes  #: canonical JSON, see bookwheel.receipts: exactly what is signed
    signature: bytes  #: 64 bytes, Ed25519
    complete: bool  #: nothing is left
