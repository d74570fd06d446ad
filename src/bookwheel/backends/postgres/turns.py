"""Fair queueing in PostgreSQL: which tenants have something ready, their next documents, and their accounts.

A claim looks once at each tenant that has unfinished documents and reads nothing else of what waits."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from bookwheel.backends.postgres.database import Connection, rows
from bookwheel.turns import Offer, Queue, Turn

# Of a document d. Subqueries, not joins: each is one look by key, whatever the statistics say.
FREE = """
    NOT (SELECT s.paused FROM stores s WHERE s.id = d.store_id)
    AND coalesce((SELECT l.expires_at < clock_timestamp() OR l.owner = %(owner)s
        FROM leases l WHERE l.document_id = d.id), true)
"""
SINCE = "coalesce(d.retry_at, d.updated_at)"
# As in the index documents_ready. Not clock_timestamp(), which no index can be asked with.
READY = f"""
    d.status = 'in_progress' AND {SINCE} <= statement_timestamp() AND {FREE}
"""
IN_ORDER = f"ORDER BY {SINCE}, d.id"

# The tenants are found by walking from one to the next along the index.
UNFINISHED = """
WITH RECURSIVE unfinished (tenant_id) AS (
    (SELECT d.tenant_id FROM documents d WHERE d.status = 'in_progress' ORDER BY d.tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT d.tenant_id FROM documents d WHERE d.status = 'in_progress' AND d.tenant_id > u.tenant_id
        ORDER BY d.tenant_id LIMIT 1)
    FROM unfinished u WHERE u.tenant_id IS NOT NULL
)
"""
# With the moments since which each one's next documents have been ready.
QUEUES = f"""
{UNFINISHED}
SELECT t.id, t.weight, coalesce((SELECT a.ends FROM turns a WHERE a.tenant_id = t.id), 0)::float8,
    (SELECT {SINCE} FROM documents d WHERE d.tenant_id = t.id AND d.urgent AND {READY} {IN_ORDER} LIMIT 1),
    (SELECT {SINCE} FROM documents d WHERE d.tenant_id = t.id AND NOT d.urgent AND {READY} {IN_ORDER} LIMIT 1)
FROM unfinished u JOIN tenants t ON t.id = u.tenant_id WHERE NOT t.suspended
"""
ANY_READY = f"""
SELECT EXISTS ({UNFINISHED} SELECT FROM unfinished u JOIN tenants t ON t.id = u.tenant_id WHERE NOT t.suspended
    AND EXISTS (SELECT FROM documents d WHERE d.tenant_id = t.id AND d.urgent = %(urgent)s AND {READY} OFFSET 0))
"""
CLOCK = "SELECT coalesce((SELECT moment FROM turn_clock), 0)::float8"

# From there on, so that what is leased already is not looked through again.
OFFERS = f"""
SELECT d.id, u.tenant_id, d.size
FROM unnest(%(tenants)s::uuid[], %(slices)s::integer[], %(since)s::timestamptz[]) AS u (tenant_id, slice, since)
CROSS JOIN LATERAL (
    SELECT d.id, d.size FROM documents d
    WHERE d.tenant_id = u.tenant_id AND d.urgent = %(urgent)s AND {SINCE} >= u.since AND {READY}
    {IN_ORDER} LIMIT u.slice FOR UPDATE SKIP LOCKED) AS d
"""

# In the order of ids, so that two claims cannot wait for each other.
CHARGE = """
INSERT INTO turns AS a (tenant_id, ends)
SELECT u.tenant_id, %s + u.cost FROM unnest(%s::uuid[], %s::float8[]) AS u (tenant_id, cost) ORDER BY u.tenant_id
ON CONFLICT (tenant_id) DO UPDATE SET ends = greatest(a.ends, %s) + excluded.ends - %s
"""
MOVE_CLOCK = """
INSERT INTO turn_clock AS c (moment) SELECT %s WHERE %s > coalesce((SELECT moment FROM turn_clock), 0)
ON CONFLICT (only_one) DO UPDATE SET moment = greatest(c.moment, excluded.moment)
"""


class Ready(NamedTuple):
    """What may be taken."""

    queues: list[Queue]
    clock: float
    since: dict[tuple[UUID, bool], datetime]  #: by tenant and whether it is of single uploads


async def ready(connection: Connection, *, owner: str) -> Ready:
    """Tenants with something that this owner may take now."""
    found = [row for row in await rows(connection, QUEUES, {"owner": owner}) if row[3] or row[4]]
    queues = [
        Queue(tenant_id=row[0], weight=row[1], ends=row[2], urgent=row[3] is not None, bulk=row[4] is not None)
        for row in found
    ]
    since = {(row[0], urgent): row[3 if urgent else 4] for row in found for urgent in (True, False)}
    return Ready(queues, (await rows(connection, CLOCK))[0][0], since)


async def any_ready(connection: Connection, *, urgent: bool) -> bool:
    """Whether a worker would find a single upload, or else a document of a bulk load."""
    return bool((await rows(connection, ANY_READY, {"owner": "", "urgent": urgent}))[0][0])


async def offers(
    connection: Connection, turn: Turn, since: Mapping[tuple[UUID, bool], datetime], *, owner: str
) -> list[Offer]:
    """The next documents of the turn's tenants, locked; those that another claim holds are left out."""
    tenants = [queue.tenant_id for queue in turn.queues]
    parameters: dict[str, Any] = {
        "owner": owner,
        "urgent": turn.urgent,
        "tenants": tenants,
        "slices": list(turn.slices),
        "since": [since[tenant, turn.urgent] for tenant in tenants],
    }
    found = await rows(connection, OFFERS, parameters)
    return [Offer(document_id=row[0], tenant_id=row[1], size=row[2]) for row in found]


async def charge(connection: Connection, turn: Turn, costs: dict[UUID, float]) -> None:
    """Move the accounts and the clock on. Last in the transaction: other claims wait for it."""
    tenants: Sequence[UUID] = list(costs)
    await connection.execute(CHARGE.encode(), (turn.clock, tenants, list(costs.values()), turn.clock, turn.clock))
    await connection.execute(MOVE_CLOCK.encode(), (turn.clock, turn.clock))
