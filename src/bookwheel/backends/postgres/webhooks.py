"""Webhook endpoints and their deliveries in PostgreSQL. What is told is written by tell_webhooks (migration 0007)."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID, uuid4

from bookwheel.backends.postgres.database import Database
from bookwheel.backends.postgres.stores import page
from bookwheel.errors import NotFoundError
from bookwheel.types import Delivery, DeliveryOutcome, DeliveryStatus, Scope, WebhookEndpoint

ENDPOINT = "w.id, w.tenant_id, w.name, w.url, w.event_types, w.secret, w.created_at, w.updated_at"
DELIVERY = (
    "d.id, d.endpoint_id, d.event_type, d.payload, d.status, d.attempts, d.next_try_at, d.http_status, d.error,"
    " d.created_at, d.updated_at"
)
ENDPOINT_COLUMNS = ENDPOINT.count(",") + 1
UPDATE = f"""
UPDATE webhook_endpoints w SET name = coalesce(%s, w.name), url = coalesce(%s, w.url),
    event_types = coalesce(%s, w.event_types), secret = coalesce(%s, w.secret), updated_at = clock_timestamp()
WHERE w.id = %s AND w.tenant_id = %s RETURNING {ENDPOINT}
"""
CLAIM = f"""
UPDATE webhook_deliveries d SET attempts = d.attempts + 1, updated_at = clock_timestamp(),
    next_try_at = clock_timestamp() + %s * interval '1 second'
FROM (SELECT id, next_try_at FROM webhook_deliveries WHERE next_try_at <= now() AND endpoint_id <> ALL(%s)
      ORDER BY next_try_at LIMIT %s FOR UPDATE SKIP LOCKED) AS due, webhook_endpoints w
WHERE d.id = due.id AND w.id = d.endpoint_id RETURNING due.next_try_at, {ENDPOINT}, {DELIVERY}
"""
FINISH = """
UPDATE webhook_deliveries SET status = %s, http_status = %s, error = %s, updated_at = clock_timestamp(),
    next_try_at = clock_timestamp() + %s::double precision * interval '1 second'
WHERE id = %s AND attempts = %s AND status = 'pending'
"""
FORGET = """
DELETE FROM webhook_deliveries WHERE id IN (
    SELECT id FROM webhook_deliveries WHERE created_at < now() - %s * interval '1 second' LIMIT %s
    FOR UPDATE SKIP LOCKED) RETURNING id
"""


class PostgresWebhooks:
    """Fills ports.Webhooks."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def create(
        self, name: str, *, scope: Scope, url: str, event_types: Sequence[str], secret: bytes
    ) -> WebhookEndpoint:
        """See ports.Webhooks."""
        made = await self.database.fetch(
            "INSERT INTO webhook_endpoints AS w (id, tenant_id, name, url, event_types, secret)"
            f" VALUES (%s, %s, %s, %s, %s, %s) RETURNING {ENDPOINT}",
            (uuid4(), scope.tenant_id, name, url, list(event_types), secret),
        )
        return _endpoint(made[0])

    async def get(self, endpoint_id: UUID, *, scope: Scope) -> WebhookEndpoint:
        """See ports.Webhooks."""
        found = await self.database.fetch(
            f"SELECT {ENDPOINT} FROM webhook_endpoints w WHERE w.id = %s AND w.tenant_id = %s",
            (endpoint_id, scope.tenant_id),
        )
        if not found:
            raise _unknown(endpoint_id)
        return _endpoint(found[0])

    async def list(
        self, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True
    ) -> "list[WebhookEndpoint]":
        """See ports.Webhooks."""
        query, parameters = page(
            f"SELECT {ENDPOINT} FROM webhook_endpoints w",
            "w.tenant_id = %s",
            [scope.tenant_id],
            alias="w",
            table="webhook_endpoints",
            after=after,
            newest=newest,
        )
        return [_endpoint(row) for row in await self.database.fetch(query, [*parameters, limit])]

    async def update(
        self,
        endpoint_id: UUID,
        *,
        scope: Scope,
        name: str | None = None,
        url: str | None = None,
        event_types: Sequence[str] | None = None,
        secret: bytes | None = None,
    ) -> WebhookEndpoint:
        """See ports.Webhooks."""
        types = None if event_types is None else [*event_types]
        changed = await self.database.fetch(UPDATE, (name, url, types, secret, endpoint_id, scope.tenant_id))
        if not changed:
            raise _unknown(endpoint_id)
        return _endpoint(changed[0])

    async def delete(self, endpoint_id: UUID, *, scope: Scope) -> None:
        """See ports.Webhooks."""
        gone = await self.database.fetch(
            "DELETE FROM webhook_endpoints WHERE id = %s AND tenant_id = %s RETURNING id",
            (endpoint_id, scope.tenant_id),
        )
        if not gone:
            raise _unknown(endpoint_id)

    async def deliveries(
        self, endpoint_id: UUID, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True
    ) -> Sequence[Delivery]:
        """See ports.Webhooks."""
        await self.get(endpoint_id, scope=scope)
        query, parameters = page(
            f"SELECT {DELIVERY} FROM webhook_deliveries d",
            "d.endpoint_id = %s",
            [endpoint_id],
            alias="d",
            table="webhook_deliveries",
            after=after,
            newest=newest,
        )
        return [_delivery(row) for row in await self.database.fetch(query, [*parameters, limit])]


class PostgresWebhookRuns:
    """Fills ports.WebhookRuns."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def claim(
        self, *, lease_seconds: float, limit: int, without: Collection[UUID] = ()
    ) -> list[tuple[Delivery, WebhookEndpoint]]:
        """See ports.WebhookRuns."""
        found = await self.database.fetch(CLAIM, (lease_seconds, list(without), limit))
        found.sort(key=lambda row: row[0])
        split = 1 + ENDPOINT_COLUMNS
        return [(_delivery(row[split:]), _endpoint(row[1:split])) for row in found]

    async def finish(self, delivery: Delivery, outcome: DeliveryOutcome) -> None:
        """See ports.WebhookRuns."""
        values = (outcome.status.value, outcome.http_status, outcome.error, outcome.retry_in)
        async with self.database.connection() as connection:
            await connection.execute(FINISH.encode(), (*values, delivery.id, delivery.attempts))

    async def forget(self, *, older_than_seconds: float, limit: int) -> int:
        """See ports.WebhookRuns."""
        return len(await self.database.fetch(FORGET, (older_than_seconds, limit)))


def _unknown(endpoint_id: UUID) -> NotFoundError:
    return NotFoundError(
        f"No webhook endpoint with id we_{endpoint_id.hex}. List yours with GET /v1/webhook_endpoints."
    )


def _endpoint(row: Sequence[Any]) -> WebhookEndpoint:
    return WebhookEndpoint(
        id=row[0],
        tenant_id=row[1],
        name=row[2],
        url=row[3],
        event_types=tuple(row[4]),
        secret=bytes(row[5]),
        created_at=row[6],
        updated_at=row[7],
    )


def _delivery(row: Sequence[Any]) -> Delivery:
    return Delivery(
        id=row[0],
        endpoint_id=row[1],
        event_type=row[2],
        payload=row[3],
        status=DeliveryStatus(row[4]),
        attempts=row[5],
        next_try_at=row[6],
        http_status=row[7],
        error=row[8],
        created_at=row[9],
        updated_at=row[10],
    )
