"""Webhook endpoints and their deliveries in memory."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from bookwheel.backends.memory.database import MemoryDatabase, page
from bookwheel.errors import NotFoundError
from bookwheel.types import Delivery, DeliveryOutcome, DeliveryStatus, Scope, WebhookEndpoint


class MemoryWebhooks:
    """Fills ports.Webhooks."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def create(
        self, name: str, *, scope: Scope, url: str, event_types: Sequence[str], secret: bytes
    ) -> WebhookEndpoint:
        """See ports.Webhooks."""
        endpoint = WebhookEndpoint(
            id=uuid4(),
            tenant_id=scope.tenant_id,
            name=name,
            url=url,
            event_types=tuple(event_types),
            secret=secret,
            created_at=self.database.now(),
            updated_at=self.database.now(),
        )
        self.database.webhook_endpoints[endpoint.id] = endpoint
        return endpoint

    async def get(self, endpoint_id: UUID, *, scope: Scope) -> WebhookEndpoint:
        """See ports.Webhooks."""
        endpoint = self.database.webhook_endpoints.get(endpoint_id)
        if endpoint is None or endpoint.tenant_id != scope.tenant_id:
            raise NotFoundError(f"No webhook endpoint with id we_{endpoint_id.hex}.")
        return endpoint

    async def list(
        self, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True
    ) -> Sequence[WebhookEndpoint]:
        """See ports.Webhooks."""
        return page(
            self.database.webhook_endpoints,
            lambda endpoint: endpoint.tenant_id == scope.tenant_id,
            limit=limit,
            after=after,
            newest=newest,
        )

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
        endpoint = await self.get(endpoint_id, scope=scope)
        self.database.webhook_endpoints[endpoint_id] = changed = replace(
            endpoint,
            name=endpoint.name if name is None else name,
            url=endpoint.url if url is None else url,
            event_types=endpoint.event_types if event_types is None else tuple(event_types),
            secret=endpoint.secret if secret is None else secret,
            updated_at=self.database.now(),
        )
        return changed

    async def delete(self, endpoint_id: UUID, *, scope: Scope) -> None:
        """See ports.Webhooks."""
        await self.get(endpoint_id, scope=scope)
        del self.database.webhook_endpoints[endpoint_id]
        for delivery in [one for one in self.database.deliveries.values() if one.endpoint_id == endpoint_id]:
            del self.database.deliveries[delivery.id]

    async def deliveries(
        self, endpoint_id: UUID, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True
    ) -> Sequence[Delivery]:
        """See ports.Webhooks."""
        await self.get(endpoint_id, scope=scope)
        return page(
            self.database.deliveries,
            lambda delivery: delivery.endpoint_id == endpoint_id,
            limit=limit,
            after=after,
            newest=newest,
        )


class MemoryWebhookRuns:
    """Fills ports.WebhookRuns."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def claim(
        self, *, lease_seconds: float, limit: int, without: Collection[UUID] = ()
    ) -> Sequence[tuple[Delivery, WebhookEndpoint]]:
        """See ports.WebhookRuns."""
        now = self.database.now()
        open_to = [one for one in self.database.deliveries.values() if one.endpoint_id not in without]
        due = [(_due_at(one), one) for one in open_to if _due_at(one) <= now]
        taken = [
            replace(one, attempts=one.attempts + 1, next_try_at=now + timedelta(seconds=lease_seconds), updated_at=now)
            for _, one in sorted(due, key=lambda pair: pair[0])[:limit]
        ]
        self.database.deliveries.update({delivery.id: delivery for delivery in taken})
        return [(delivery, self.database.webhook_endpoints[delivery.endpoint_id]) for delivery in taken]

    async def finish(self, delivery: Delivery, outcome: DeliveryOutcome) -> None:
        """See ports.WebhookRuns."""
        kept = self.database.deliveries.get(delivery.id)
        if kept is None or (kept.attempts, kept.status) != (delivery.attempts, DeliveryStatus.PENDING):
            return
        now = self.database.now()
        self.database.deliveries[delivery.id] = replace(
            kept,
            status=outcome.status,
            http_status=outcome.http_status,
            error=outcome.error,
            next_try_at=None if outcome.retry_in is None else now + timedelta(seconds=outcome.retry_in),
            updated_at=now,
        )

    async def forget(self, *, older_than_seconds: float, limit: int) -> int:
        """See ports.WebhookRuns."""
        before = self.database.now() - timedelta(seconds=older_than_seconds)
        old = [one.id for one in self.database.deliveries.values() if one.created_at < before][:limit]
        for delivery_id in old:
            del self.database.deliveries[delivery_id]
        return len(old)


def _due_at(delivery: Delivery) -> datetime:
    return delivery.next_try_at or datetime.max.replace(tzinfo=delivery.created_at.tzinfo)
