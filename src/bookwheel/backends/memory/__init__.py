"""Every stored port in this process's memory: the reference for the contract tests, gone when the process ends."""

from typing import Any

from bookwheel.backends.memory.audit import MemoryAuditLog, MemoryKeyUses
from bookwheel.backends.memory.batches import MemoryBatches
from bookwheel.backends.memory.blobs import MemoryBlobs
from bookwheel.backends.memory.catalog import MemoryDocuments, MemoryStores
from bookwheel.backends.memory.database import MemoryDatabase
from bookwheel.backends.memory.departures import MemoryDepartures, MemoryReceipts
from bookwheel.backends.memory.expiry import MemoryExpiry
from bookwheel.backends.memory.exports import MemoryExports
from bookwheel.backends.memory.files import MemoryFiles
from bookwheel.backends.memory.idempotency import MemoryIdempotencyKeys
from bookwheel.backends.memory.ingestion import MemoryIngestion, MemoryJobs, MemoryOutbox
from bookwheel.backends.memory.keys import MemoryKeys
from bookwheel.backends.memory.responses import MemoryResponseRuns, MemoryResponses
from bookwheel.backends.memory.search import MemoryKeywordIndex, MemoryPassages, MemoryVectorIndex
from bookwheel.backends.memory.sources import MemorySourceRuns, MemorySources
from bookwheel.backends.memory.tenants import MemoryAskedQuestions, MemoryTenants
from bookwheel.backends.memory.webhooks import MemoryWebhookRuns, MemoryWebhooks

__all__ = ["MemoryBlobs", "MemoryDatabase", "MemoryKeywordIndex", "memory_backend"]


def memory_backend(database: MemoryDatabase) -> dict[str, Any]:
    """Arguments of `Ports`, all over one database."""
    return {
        "tenants": MemoryTenants(database),
        "keys": MemoryKeys(database),
        "audit": MemoryAuditLog(database),
        "key_uses": MemoryKeyUses(database),
        "departures": MemoryDepartures(database),
        "receipts": MemoryReceipts(database),
        "exports": MemoryExports(database),
        "asked": MemoryAskedQuestions(database),
        "stores": MemoryStores(database),
        "files": MemoryFiles(database),
        "documents": MemoryDocuments(database),
        "batches": MemoryBatches(database),
        "expiry": MemoryExpiry(database),
        "idempotency_keys": MemoryIdempotencyKeys(database),
        "ingestion": MemoryIngestion(database),
        "passages": MemoryPassages(database),
        "outbox": MemoryOutbox(database),
        "jobs": MemoryJobs(database),
        "sources": MemorySources(database),
        "source_runs": MemorySourceRuns(database),
        "responses": MemoryResponses(database),
        "response_runs": MemoryResponseRuns(database),
        "webhooks": MemoryWebhooks(database),
        "webhook_runs": MemoryWebhookRuns(database),
        "vectors": MemoryVectorIndex(database),
        "keywords": MemoryKeywordIndex(database),
        "blobs": MemoryBlobs(),
    }
