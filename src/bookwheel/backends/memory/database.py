"""The tables of the memory backend, and the changes that touch several of them.

A verb never awaits between its first and its last change, so on one event loop each verb is a transaction.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal, TypeVar
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray

from bookwheel.given import GivenPassages
from bookwheel.rights import visible
from bookwheel.types import (
    ApiKey,
    AskedQuestion,
    AuditEvent,
    Change,
    Chunk,
    Delivery,
    DeliveryStatus,
    Departure,
    Document,
    File,
    FileBatch,
    KeptResponse,
    KeywordEntry,
    ModelResponse,
    Receipt,
    ResponseEvent,
    Scope,
    Source,
    SourceItem,
    Store,
    Tenant,
    WebhookEndpoint,
)

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class DocumentRow:
    """A document with what its owner does not see."""

    document: Document
    digest: bytes  #: of the source, to know unchanged content
    text: str | None  #: inline text of the wanted version
    sha256: bytes | None  #: of the blob, for a document made of a file
    given: GivenPassages | None  #: with the text, of the wanted version
    urgent: bool = False
    attempts: int = 0
    retry_at: float | None = None
    trouble: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorRow:
    """A vector and the chunk version it belongs to."""

    document_id: UUID
    version: int
    ordinal: int
    text_hash: bytes
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who works on a document, and until when by the database's clock."""

    owner: str
    expires_at: float
    deaths: int = 0
    parked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedRow:
    """A question with when it was asked last, and answered ahead of time last, by the database's clock."""

    asked: AskedQuestion
    asked_at: float
    refreshed_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """A file batch with the versions that it put, by document; its counts are made when it is read."""

    batch: FileBatch
    versions: Mapping[UUID, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """An idempotency key in use."""

    fingerprint: bytes
    owner: UUID
    busy_until: float
    created_at: float
    response: KeptResponse | None = None  #: None while the request runs


class MemoryDatabase:
    """What the memory ports share. `clock` gives seconds since 1970; leases and times of creation come from it."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.stores: dict[UUID, Store] = {}
        self.files: dict[UUID, File] = {}
        self.documents: dict[UUID, DocumentRow] = {}
        self.batches: dict[UUID, BatchRow] = {}
        self.tenants: dict[UUID, Tenant] = {}  #: that chose something
        self.keys: dict[bytes, ApiKey] = {}  #: by the hash of their secret
        self.audit_events: dict[UUID, list[AuditEvent]] = {}  #: by chain
        self.key_uses: dict[str, dict[str, tuple[datetime, datetime]]] = {}  #: by actor and network
        self.departures: dict[UUID, Departure] = {}  #: by tenant
        self.noted: dict[UUID, Any] = {}  #: what was theirs, by tenant, see departures.py
        self.sealed: set[UUID] = set()  #: chains that do not grow any more
        self.gone: set[UUID] = set()  #: tenants that were removed
        self.receipts: dict[UUID, Receipt] = {}
        self.signing_key: bytes | None = None
        self.asked: dict[str, AskedRow] = {}  #: by key
        self.idempotency_keys: dict[tuple[UUID, str], KeyRow] = {}  #: by tenant and key
        self.chunks: dict[int, Chunk] = {}
        self.vectors: dict[tuple[int, int], VectorRow] = {}  #: by space and chunk
        self.leases: dict[UUID, Lease] = {}
        self.turns: dict[UUID, float] = {}  #: fair queueing's accounts, see bookwheel.turns
        self.turn_clock = 0.0
        self.tombstones: dict[bytes, float] = {}  #: blobs whose last file was deleted, and when
        self.outbox: list[Change] = []
        self.sources: dict[UUID, Source] = {}
        self.source_items: dict[UUID, dict[str, SourceItem]] = {}  #: by source and key
        self.source_leases: dict[UUID, Lease] = {}
        self.responses: dict[UUID, ModelResponse] = {}
        self.response_events: dict[UUID, list[ResponseEvent]] = {}  #: by response, in order
        self.webhook_endpoints: dict[UUID, WebhookEndpoint] = {}
        self.deliveries: dict[UUID, Delivery] = {}
        self.response_leases: dict[UUID, Lease] = {}  #: of nobody ("") where one is not to be taken before
        self.entries: dict[int, KeywordEntry] = {}  #: of the keyword index
        self.position = 0  #: of the keyword index

    def now(self) -> datetime:
        """The clock as a date."""
        return datetime.fromtimestamp(self.clock(), UTC)

    def visible(self, scope: Scope) -> Iterator[DocumentRow]:
        """Documents of the scope's stores that its caller may know of."""
        return (row for row in self.visible_anywhere(scope) if row.document.store_id in scope.store_ids)

    def visible_one(self, document_id: UUID, scope: Scope) -> DocumentRow | None:
        """One document of the scope's stores, when its caller may know of it."""
        row = self.documents.get(document_id)
        if row is None or row.document.store_id not in scope.store_ids:
            return None
        return row if self.may_know(row, scope) else None

    def visible_anywhere(self, scope: Scope) -> Iterator[DocumentRow]:
        """Documents of any store that the scope's caller may know of."""
        return (row for row in self.documents.values() if self.may_know(row, scope))

    def may_know(self, row: DocumentRow, scope: Scope) -> bool:
        """Whether the scope's caller may know of the document, whatever its stores."""
        return visible(row.document, self.stores[row.document.store_id], scope)

    def readable(self, scope: Scope) -> Iterator[DocumentRow]:
        """Documents of the scope's stores that its caller may read."""
        return self.visible(replace(scope, manages=False))

    def live_chunks(self, document: Document) -> list[Chunk]:
        """The chunks that queries see, in order."""
        live = [
            chunk
            for chunk in self.chunks.values()
            if chunk.document_id == document.id and chunk.version == document.live_version
        ]
        return sorted(live, key=lambda chunk: chunk.ordinal)

    def touch_store(self, store_id: UUID, *, version: int = 0) -> None:
        """Note activity, which ends an expiry, and raise the store's version by `version`."""
        store, now = self.stores[store_id], self.now()
        self.stores[store_id] = replace(store, version=store.version + version, last_active_at=now, expired=False)

    def append(self, operation: Literal["publish", "remove"], document: Document) -> None:
        """Add a line to the outbox, for the document's newest version."""
        self.outbox.append(
            Change(
                sequence=self.outbox[-1].sequence + 1 if self.outbox else 1,
                operation=operation,
                tenant_id=document.tenant_id,
                store_id=document.store_id,
                document_id=document.id,
                version=document.version,
            )
        )

    def tell_webhooks(self, tenant_id: UUID, event_type: str, data: Mapping[str, Any]) -> None:
        """Have the tenant's endpoints that asked for it told of an event."""
        event = {
            "id": f"evt_{uuid4().hex}",
            "object": "event",
            "type": event_type,
            "created_at": int(self.clock()),
            "data": data,
        }
        for endpoint in self.webhook_endpoints.values():
            if endpoint.tenant_id == tenant_id and event_type in endpoint.event_types:
                delivery = Delivery(
                    id=uuid4(),
                    endpoint_id=endpoint.id,
                    event_type=event_type,
                    payload=json.dumps(event),
                    status=DeliveryStatus.PENDING,
                    attempts=0,
                    next_try_at=self.now(),
                    http_status=None,
                    error=None,
                    created_at=self.now(),
                    updated_at=self.now(),
                )
                self.deliveries[delivery.id] = delivery

    def tell_webhooks_of(self, document: Document, event_type: str) -> None:
        """The same of a document, with ids as callers see them."""
        document_id = f"doc_{document.id.hex}"
        error = {"code": document.error_code, "message": document.error_message} if document.error_code else None
        data = {
            "id": f"file-{document.file_id.hex}" if document.file_id else document_id,
            "vector_store_id": f"vs_{document.store_id.hex}",
            "document_id": document_id,
            "external_id": document.external_id,
            "version": document.version,
            "status": document.status.value,
            "last_error": error,
        }
        self.tell_webhooks(document.tenant_id, event_type, data)

    def remove_documents(self, doomed: Iterable[Document]) -> int:
        """Delete documents with all that hangs on them, and tell the outbox; returns how many."""
        removed = list(doomed)
        for document in removed:
            del self.documents[document.id]
            self.leases.pop(document.id, None)
            self.remove_chunks(document.id, lambda _version: True)
            self.append("remove", document)
        for store_id in {document.store_id for document in removed}:
            self.touch_store(store_id, version=1)
        return len(removed)

    def remove_source(self, source_id: UUID) -> None:
        """Delete a source with its items and its lease."""
        del self.sources[source_id]
        self.source_items.pop(source_id, None)
        self.source_leases.pop(source_id, None)

    def remove_chunks(self, document_id: UUID, doomed: Callable[[int], bool]) -> None:
        """Delete chunks and vectors of the document's versions for which `doomed` is true."""
        for chunk_id, chunk in list(self.chunks.items()):
            if chunk.document_id == document_id and doomed(chunk.version):
                del self.chunks[chunk_id]
        for key, row in list(self.vectors.items()):
            if row.document_id == document_id and doomed(row.version):
                del self.vectors[key]


def page(
    table: Mapping[UUID, T], keep: Callable[[T], bool], *, limit: int, after: UUID | None, newest: bool
) -> list[T]:
    """A page of a table whose order is that of creation, beginning behind the row `after`."""
    ids = list(table)[:: -1 if newest else 1]
    if after is not None:
        ids = ids[ids.index(after) + 1 :] if after in table else []
    return list(islice((row for row in map(table.__getitem__, ids) if keep(row)), limit))
