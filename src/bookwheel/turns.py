"""Whose turn it is: ingestion shared between tenants by weight (start-time fair queueing).

Each tenant has an account in virtual time: the moment at which what it was given so far ends. A document begins where
its tenant's account ends and takes its cost divided by the tenant's weight; what begins first is taken first. The
clock is the moment at which the first tenant that has something ready would begin. It never goes back, and a tenant
that comes with nothing behind it begins at the clock: nobody saves up turns by being idle.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

DOCUMENT_COST = 2_000  # bytes that a document counts beside its source's: an empty one is work too
SPARE_TENANTS = 16  # looked at beyond the limit, as another worker may just take what the first ones have


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A tenant with documents that are ready to be taken."""

    tenant_id: UUID
    weight: float
    ends: float  #: of its account; 0 before its first turn
    urgent: bool  #: it has single uploads, which go first
    bulk: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A document that is ready."""

    document_id: UUID
    tenant_id: UUID
    size: int  #: bytes of its source

    @property
    def cost(self) -> int:
        """In bytes."""
        return self.size + DOCUMENT_COST


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Whose documents one claim may hold: single uploads or bulk loads, never both."""

    clock: float
    urgent: bool
    queues: tuple[Queue, ...]  #: who begins first comes first
    slices: tuple[int, ...]  #: documents that each of them is to offer


def next_turn(queues: Sequence[Queue], *, clock: float, limit: int, urgent: bool) -> Turn | None:
    """The next claim of at most `limit` documents; with `urgent` only of single uploads. None when nothing is ready."""
    begins = {queue.tenant_id: max(queue.ends, clock) for queue in queues}
    ordered = sorted(queues, key=lambda queue: (begins[queue.tenant_id], not queue.urgent, queue.tenant_id))
    wanted = [queue for queue in ordered if queue.urgent or not urgent]
    if not wanted:
        return None
    kind = wanted[0].urgent
    taking = [queue for queue in wanted if queue.urgent is kind][: limit + SPARE_TENANTS]
    weight = sum(queue.weight for queue in taking)
    return Turn(
        clock=min(begins.values()),
        urgent=kind,
        queues=tuple(taking),
        slices=tuple(min(limit, math.ceil(2 * limit * queue.weight / weight)) for queue in taking),
    )


def share_out(turn: Turn, offers: Sequence[Offer], *, limit: int, max_bytes: int) -> list[Offer]:
    """What the claim takes of what was offered, each tenant's in its order: at most so many documents and bytes, or
    one larger document. It ends where a tenant that may have more than it offered would begin again."""
    waiting: dict[UUID, list[Offer]] = {}
    for offer in offers:
        waiting.setdefault(offer.tenant_id, []).append(offer)
    begun: list[tuple[float, int, Offer]] = []
    horizon = math.inf
    for queue, offered in zip(turn.queues, turn.slices, strict=True):
        moment = max(queue.ends, turn.clock)
        mine = waiting.get(queue.tenant_id, [])
        for offer in mine:
            begun.append((moment, len(begun), offer))
            moment += offer.cost / queue.weight
        if len(mine) >= offered:
            horizon = min(horizon, moment)
    return _within([offer for moment, _, offer in sorted(begun, key=_order) if moment <= horizon][:limit], max_bytes)


def costs(turn: Turn, taken: Sequence[Offer]) -> dict[UUID, float]:
    """By how much each tenant's account moves on."""
    weights = {queue.tenant_id: queue.weight for queue in turn.queues}
    moved = dict.fromkeys((offer.tenant_id for offer in taken), 0.0)
    for offer in taken:
        moved[offer.tenant_id] += offer.cost / weights[offer.tenant_id]
    return moved


def _order(begun: tuple[float, int, Offer]) -> tuple[float, int]:
    return begun[:2]


def _within(offers: Sequence[Offer], max_bytes: int) -> list[Offer]:
    taken: list[Offer] = []
    held = 0
    for offer in offers:
        held += offer.size
        if taken and held > max_bytes:
            break
        taken.append(offer)
    return taken
