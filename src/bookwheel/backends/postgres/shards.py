"""Which partitions a tenant's vectors are in, held for a transaction that writes or removes them.

A tenant that moves has two: until the move has switched, vectors are written to both; what is removed goes from both
as long as the move lasts. Whoever changes vectors holds the tenant's lock shared to the end of its transaction; the
move takes it alone, for moments, so that nobody writes by an old answer."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from bookwheel.backends.postgres.database import Connection, rows

SHARDS = 16  # partitions that tenants share; large tenants get one of their own
LOCK = 7306  # an arbitrary number: the class of the tenants' locks

HOLD = """
SELECT pg_advisory_xact_lock_shared(%s, hashtext(tenant_id::text))
FROM (SELECT DISTINCT tenant_id FROM stores WHERE id = ANY(%s) ORDER BY tenant_id) AS touched
"""
ALONE = "SELECT pg_advisory_xact_lock(%s, hashtext(%s::uuid::text))"
HELD = """
SELECT s.id, t.shard, m.source, m.target, m.switched FROM stores s JOIN tenants t ON t.id = s.tenant_id
    LEFT JOIN moves m ON m.tenant_id = t.id
WHERE s.id = ANY(%s)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """Where the vectors of a store are."""

    written: tuple[int, ...]  #: each vector goes into all of these
    held: tuple[int, ...]  #: and may be in any of these


def shard_of(tenant_id: UUID) -> int:
    """The partition of a new tenant, by the part of its id that is chance."""
    return tenant_id.int % SHARDS


async def hold_shards(connection: Connection, store_ids: Collection[UUID]) -> dict[UUID, Shards]:
    """Where these stores' vectors are until the transaction ends; stores that are gone are left out."""
    stores = list(store_ids)
    await connection.execute(HOLD.encode(), (LOCK, stores))
    # A statement of its own: it must see what the move that we may have waited for committed.
    return {row[0]: _shards(*row[1:]) for row in await rows(connection, HELD, (stores,))}


def _shards(shard: int, source: int | None, target: int | None, switched: bool | None) -> Shards:
    if source is None or target is None:
        return Shards(written=(shard,), held=(shard,))
    return Shards(written=(shard,) if switched else (source, target), held=(source, target))
