"""Who asks, and where vectors live."""

from dataclasses import dataclass
from uuid import UUID

DEFAULT_TENANT = UUID("00000000-0000-7000-8000-000000000001")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What one request may see. Required by everything that reads."""

    tenant_id: UUID
    store_ids: tuple[UUID, ...] = ()  #: the stores in question; the tenant's others stay invisible
    principals: frozenset[str] = frozenset()  #: users and groups the caller stands for


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """An embedding space. Vectors of different spaces never meet."""

    id: int
    model: str
    revision: str
    dimensions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """The unit of isolation."""

    id: UUID
    name: str
    generator: str | None  #: who writes its answers by default; None for the server's own default
