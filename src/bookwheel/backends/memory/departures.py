"""Tenants on their way out, in memory, and the receipts of those that are gone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

from bookwheel.backends.memory.database import MemoryDatabase
from bookwheel.errors import NotFoundError
from bookwheel.types import Counts, Departure, Head, Receipt, Scope

NOBODY = UUID(int=0)


@dataclass(slots=True, kw_only=True)
class Noted:
    """What was the tenant's when somebody looked."""

    documents: set[UUID] = field(default_factory=set)
    blobs: set[bytes] = field(default_factory=set)
    actors: set[str] = field(default_factory=set)


class MemoryDepartures:
    """Fills ports.Departures."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def begin(self, name: str, *, scope: Scope) -> Departure:
        """See ports.Departures."""
        begun = Departure(
            id=uuid4(), tenant_id=scope.tenant_id, name=name, begun_at=self.database.now(), held=None, audit=None
        )
        return self.database.departures.setdefault(scope.tenant_id, begun)

    async def begun(self, *, scope: Scope) -> Departure | None:
        """See ports.Departures."""
        return self.database.departures.get(scope.tenant_id)

    async def note(self, *, scope: Scope) -> None:
        """See ports.Departures."""
        noted, tenant = self._noted(scope), scope.tenant_id
        noted.documents |= {row.document.id for row in self._documents(tenant)}
        noted.blobs |= {file.sha256 for file in self.database.files.values() if file.tenant_id == tenant}
        noted.actors |= {f"key_{key.id.hex}" for key in self.database.keys.values() if key.tenant_id == tenant}
        events = self.database.audit_events.get(tenant, [])
        noted.actors |= {event.actor for event in events if event.actor.startswith("key_")}

    async def holdings(self, *, scope: Scope) -> Counts:
        """See ports.Departures."""
        database, tenant, noted = self.database, scope.tenant_id, self._noted(scope)
        documents = list(self._documents(tenant))
        sources = self._own(database.sources, tenant)
        webhooks, responses = self._own(database.webhook_endpoints, tenant), self._own(database.responses, tenant)
        foreign = {file.sha256 for file in database.files.values() if file.tenant_id != tenant}
        return {
            "tenants": int(tenant in database.tenants),
            "stores": len(self._own(database.stores, tenant)),
            "attribute_names": 0,  # they are in the documents here
            "documents": len(documents),
            "texts": sum(row.text is not None for row in documents),
            "chunks": _of(noted.documents, database.chunks.values()),
            "sections": 0,  # they are in the chunks here
            "vectors": _of(noted.documents, database.vectors.values()),
            "leases": len(noted.documents & database.leases.keys()),
            "files": len(self._own(database.files, tenant)),
            "blobs": len(noted.blobs - foreign),
            "file_batches": sum(row.batch.tenant_id == tenant for row in database.batches.values()),
            "file_batch_documents": sum(
                len(noted.documents & row.versions.keys()) for row in database.batches.values()
            ),
            "sources": len(sources),
            "source_items": sum(len(database.source_items.get(source, ())) for source in sources),
            "responses": len(responses),
            "response_events": sum(len(database.response_events.get(one, ())) for one in responses),
            "webhooks": len(webhooks),
            "deliveries": sum(one.endpoint_id in webhooks for one in database.deliveries.values()),
            "idempotency_keys": sum(owner == tenant for owner, _ in database.idempotency_keys),
            "asked_questions": sum(row.asked.tenant_id == tenant for row in database.asked.values()),
            "keys": sum(key.tenant_id == tenant for key in database.keys.values()),
            "key_uses": sum(len(database.key_uses.get(actor, ())) for actor in noted.actors),
            "audit_events": len(database.audit_events.get(tenant, ())),
            "keyword_changes": sum(change.tenant_id == tenant for change in database.outbox),
            "turns": int(tenant in database.turns),
            "moves": 0,  # there are no partitions here
            "partitions": 0,
        }

    async def count(self, held: Counts, *, scope: Scope) -> Departure:
        """See ports.Departures."""
        begun = self._begun(scope)
        if begun.held is None:
            begun = self.database.departures[scope.tenant_id] = replace(begun, held=dict(held))
        return begun

    async def shrink(self, *, scope: Scope, limit: int) -> int:
        """See ports.Departures."""
        database, tenant, removed = self.database, scope.tenant_id, 0
        for table, doomed in (
            (database.keys, [one for one, key in database.keys.items() if key.tenant_id == tenant]),
            (database.webhook_endpoints, self._own(database.webhook_endpoints, tenant)),
            (database.responses, self._own(database.responses, tenant)),
            (database.idempotency_keys, [one for one in database.idempotency_keys if one[0] == tenant]),
            (database.asked, [key for key, row in database.asked.items() if row.asked.tenant_id == tenant]),
            (database.key_uses, sorted(self._noted(scope).actors & database.key_uses.keys())),
        ):
            removed += _drop(table, doomed[:limit])
        for source in self._own(database.sources, tenant)[:limit]:
            database.remove_source(source)
            removed += 1
        self._drop_dependents()
        return removed

    async def remove(self, *, scope: Scope) -> bool:
        """See ports.Departures."""
        database, tenant = self.database, scope.tenant_id
        if self._own(database.stores, tenant) or self._own(database.files, tenant):
            return False
        while await self.shrink(scope=scope, limit=len(database.responses) + 1):
            pass
        database.tenants.pop(tenant, None)
        database.turns.pop(tenant, None)
        database.gone.add(tenant)
        return True

    async def seal(self, *, scope: Scope) -> Head:
        """See ports.Departures."""
        begun = self._begun(scope)
        if begun.audit is None:
            chain = self.database.audit_events.get(scope.tenant_id, [])
            last = Head(tenant_id=scope.tenant_id)
            if chain:
                last = replace(last, sequence=chain[-1].sequence, hash=chain[-1].hash)
            begun = self.database.departures[scope.tenant_id] = replace(begun, audit=last)
            self.database.sealed.add(scope.tenant_id)
        return begun.audit or Head(tenant_id=scope.tenant_id)

    async def blobs(self, *, scope: Scope) -> Sequence[bytes]:
        """See ports.Departures."""
        return sorted(self._noted(scope).blobs - {file.sha256 for file in self.database.files.values()})

    async def forget(self, *, scope: Scope, blobs: Sequence[bytes] = (), position: int = 0) -> None:
        """See ports.Departures."""
        self._noted(scope).blobs.difference_update(blobs)
        self.database.outbox[:] = [
            replace(one, operation="remove", tenant_id=NOBODY, store_id=NOBODY, document_id=NOBODY, version=0)
            if one.tenant_id == scope.tenant_id and one.sequence <= position
            else one
            for one in self.database.outbox
        ]

    def _noted(self, scope: Scope) -> Noted:
        noted: Noted = self.database.noted.setdefault(scope.tenant_id, Noted())
        return noted

    def _begun(self, scope: Scope) -> Departure:
        if scope.tenant_id not in self.database.departures:
            raise NotFoundError("There is no such tenant.")
        return self.database.departures[scope.tenant_id]

    def _documents(self, tenant: UUID) -> "Iterable[Any]":
        return (row for row in self.database.documents.values() if row.document.tenant_id == tenant)

    def _own(self, table: Mapping[UUID, Any], tenant: UUID) -> list[UUID]:
        return [key for key, one in table.items() if one.tenant_id == tenant]

    def _drop_dependents(self) -> None:
        """What goes with its response or its endpoint."""
        database = self.database
        for events in (database.response_events, database.response_leases):
            _drop(events, [one for one in events if one not in database.responses])
        told = database.deliveries
        _drop(told, [key for key, one in told.items() if one.endpoint_id not in database.webhook_endpoints])


class MemoryReceipts:
    """Fills ports.Receipts."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def keep(self, receipt: Receipt) -> None:
        """See ports.Receipts."""
        if receipt.tenant_id not in self.database.departures:
            return
        self.database.receipts[receipt.id] = receipt
        if receipt.complete:
            del self.database.departures[receipt.tenant_id]
            self.database.noted.pop(receipt.tenant_id, None)

    async def get(self, receipt_id: UUID) -> Receipt:
        """See ports.Receipts."""
        if receipt_id not in self.database.receipts:
            raise NotFoundError(f"No receipt with id receipt_{receipt_id.hex}. List them with GET /v1/receipts.")
        return self.database.receipts[receipt_id]

    async def list(self, *, limit: int, after: UUID | None = None) -> Sequence[Receipt]:
        """See ports.Receipts."""
        kept = sorted(self.database.receipts.values(), key=lambda one: (one.made_at, one.id), reverse=True)
        ids = [one.id for one in kept]
        if after is not None and after not in ids:
            return []
        start = 0 if after is None else ids.index(after) + 1
        return kept[start : start + limit]

    async def signing_key(self, made: bytes) -> bytes:
        """See ports.Receipts."""
        if self.database.signing_key is None:
            self.database.signing_key = made
        return self.database.signing_key


def _of(documents: set[UUID], found: Iterable[Any]) -> int:
    return sum(one.document_id in documents for one in found)


def _drop(table: "dict[Any, Any]", doomed: Sequence[Any]) -> int:
    for key in doomed:
        del table[key]
    return len(doomed)
