"""Every stored port in this process's memory: the reference for the contract tests, gone when the process ends."""

from typing import Any

from bookwheel.backends.memory.blobs import MemoryBlobs
from bookwheel.backends.memory.catalog import MemoryDocuments, MemoryFiles, MemoryStores
from bookwheel.backends.memory.database import MemoryDatabase
from bookwheel.backends.memory.ingestion import MemoryIngestion, MemoryJobs, MemoryOutbox
from bookwheel.backends.memory.search import MemoryKeywordIndex, MemoryPassages, MemoryVectorIndex
from bookwheel.backends.memory.sources import MemorySourceRuns, MemorySources

__all__ = ["MemoryBlobs", "MemoryDatabase", "MemoryKeywordIndex", "memory_backend"]


def memory_backend(database: MemoryDatabase) -> dict[str, Any]:
    """Arguments of `Ports`, all over one database."""
    return {
        "stores": MemoryStores(database),
        "files": MemoryFiles(database),
        "documents": MemoryDocuments(database),
        "ingestion": MemoryIngestion(database),
        "passages": MemoryPassages(database),
        "outbox": MemoryOutbox(database),
        "jobs": MemoryJobs(database),
        "sources": MemorySources(database),
        "source_runs": MemorySourceRuns(database),
        "vectors": MemoryVectorIndex(database),
        "keywords": MemoryKeywordIndex(database),
        "blobs": MemoryBlobs(),
    }
