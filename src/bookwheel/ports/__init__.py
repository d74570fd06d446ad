"""The ports: what can be swapped, each a page of verbs with its contract in words.

Every read takes a `Scope` by keyword and must not see past it. Every verb raises only `BookwheelError`s. A backend
passes the contract test of each port it fills (`bookwheel.testing`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bookwheel.parts import SearchParts
from bookwheel.ports.audit import AuditLog, KeyUses
from bookwheel.ports.cache import Cache, Caches, EarlierQuestion, EarlierQuestions
from bookwheel.ports.catalog import Batches, Documents, Expiry, Files, IdempotencyKeys, Stores
from bookwheel.ports.departures import Departures, Exports, Receipts
from bookwheel.ports.indexes import Blobs, KeywordIndex, VectorIndex
from bookwheel.ports.limits import EmbeddingBudget, Limiter
from bookwheel.ports.models import Embedder, Embedders, Generator, LengthReachedError, Reranker, Vectors
from bookwheel.ports.responses import ResponseRuns, Responses, WebhookRuns, Webhooks
from bookwheel.ports.sources import SourceRuns, Sources
from bookwheel.ports.tenants import AskedQuestions, Keys, Tenants
from bookwheel.ports.work import Ingestion, Jobs, Outbox, Passages
from bookwheel.types import Space

__all__ = [
    "AskedQuestions",
    "AuditLog",
    "Batches",
    "Blobs",
    "Cache",
    "Caches",
    "Departures",
    "Documents",
    "EarlierQuestion",
    "EarlierQuestions",
    "Embedder",
    "Embedders",
    "EmbeddingBudget",
    "Expiry",
    "Exports",
    "Files",
    "Generator",
    "IdempotencyKeys",
    "Ingestion",
    "Jobs",
    "KeyUses",
    "Keys",
    "KeywordIndex",
    "LengthReachedError",
    "Limiter",
    "Outbox",
    "Passages",
    "Ports",
    "Receipts",
    "Reranker",
    "ResponseRuns",
    "Responses",
    "SourceRuns",
    "Sources",
    "Stores",
    "Tenants",
    "VectorIndex",
    "Vectors",
    "WebhookRuns",
    "Webhooks",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Everything a walk may use, wired by app.py."""

    tenants: Tenants
    keys: Keys
    audit: AuditLog
    key_uses: KeyUses
    departures: Departures
    receipts: Receipts
    exports: Exports
    asked: AskedQuestions
    stores: Stores
    files: Files
    documents: Documents
    batches: Batches
    expiry: Expiry
    idempotency_keys: IdempotencyKeys
    ingestion: Ingestion
    passages: Passages
    outbox: Outbox
    jobs: Jobs
    sources: Sources
    source_runs: SourceRuns
    responses: Responses
    response_runs: ResponseRuns
    webhooks: Webhooks
    webhook_runs: WebhookRuns
    vectors: VectorIndex
    keywords: KeywordIndex
    blobs: Blobs
    embedders: Mapping[int, Embedder]  #: by space id
    space: Space  #: of new stores
    generators: Mapping[str, Generator]  #: by model name, the default first
    extractive: Generator  #: answers when the chosen one cannot
    reranker: Reranker
    caches: Caches
    limiter: Limiter
    budget: EmbeddingBudget
    parts: SearchParts

    @property
    def generator(self) -> Generator:
        """The default one."""
        return next(iter(self.generators.values()))
