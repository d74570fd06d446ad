"""The memory backend and the doubles keep every contract: they are the reference for the others."""

from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from bookwheel.backends.memory import MemoryBlobs, MemoryDatabase, MemoryKeywordIndex
from bookwheel.backends.memory.audit import MemoryAuditLog
from bookwheel.ports import Blobs, Embedder, Generator, KeywordIndex, Ports
from bookwheel.testing import EchoGenerator, HashEmbedder, memory_ports
from bookwheel.testing.access import AccessContract
from bookwheel.testing.audit import AuditContract, KeyUsesContract
from bookwheel.testing.batches import BatchesContract
from bookwheel.testing.blobs import BlobsContract
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.departures import DeparturesContract
from bookwheel.testing.desk import Desk
from bookwheel.testing.documents import DocumentsContract
from bookwheel.testing.embedder import EmbedderContract
from bookwheel.testing.expiry import ExpiryContract
from bookwheel.testing.files import FilesContract
from bookwheel.testing.generator import GeneratorContract
from bookwheel.testing.given import GivenVectorsContract
from bookwheel.testing.idempotency import IdempotencyKeysContract
from bookwheel.testing.ingestion import FairnessContract, IngestionContract, JobsContract
from bookwheel.testing.keywords import KeywordIndexContract
from bookwheel.testing.outbox import OutboxContract
from bookwheel.testing.passages import PassagesContract
from bookwheel.testing.responses import ResponseRunsContract, ResponsesContract
from bookwheel.testing.sources import SourceRunsContract, SourcesContract
from bookwheel.testing.stores import StoresContract
from bookwheel.testing.tenants import AskedQuestionsContract, KeysContract, TenantsContract
from bookwheel.testing.vectors import VectorIndexContract
from bookwheel.testing.webhooks import WebhookRunsContract, WebhooksContract
from bookwheel.types import AuditEvent

LEASE_SECONDS = 15.0


class MemoryPorts(PortsContract):
    """Fresh ports for each test."""

    @pytest.fixture
    def ports(self) -> Ports:
        """Empty ports."""
        return memory_ports()


class TestAuditLog(MemoryPorts, AuditContract):
    """The audit log in memory."""

    async def rewrite(self, ports: Ports, tenant_id: UUID, events: Sequence[AuditEvent]) -> None:
        """In the dictionary."""
        assert isinstance(ports.audit, MemoryAuditLog)
        ports.audit.database.audit_events[tenant_id] = list(events)


class TestKeyUses(MemoryPorts, KeyUsesContract):
    """Networks of keys in memory."""


class TestAccess(MemoryPorts, AccessContract):
    """Row-level access."""


class TestStores(MemoryPorts, StoresContract):
    """Stores in memory."""


class TestFiles(MemoryPorts, FilesContract):
    """Files in memory."""


class TestDocuments(MemoryPorts, DocumentsContract):
    """Documents in memory."""


class TestBatches(MemoryPorts, BatchesContract):
    """File batches in memory."""


class TestExpiry(MemoryPorts, ExpiryContract):
    """What ends by itself, in memory."""


class TestIdempotencyKeys(MemoryPorts, IdempotencyKeysContract):
    """Idempotency keys in memory."""


class TestIngestion(MemoryPorts, IngestionContract):
    """Ingestion in memory."""


class TestFairness(MemoryPorts, FairnessContract):
    """Tenants share the workers, in memory."""


class TestGivenVectors(GivenVectorsContract):
    """Given vectors in memory."""

    @pytest.fixture
    def database(self) -> MemoryDatabase:
        """An empty database."""
        return MemoryDatabase()

    @pytest.fixture
    def ports(self, database: MemoryDatabase) -> Ports:
        """Ports over it."""
        self.database = database
        return memory_ports(database)

    async def lose_chunks(self, ports: Ports, document_id: UUID) -> None:
        """From the table."""
        chunks = self.database.chunks
        for chunk in [chunk for chunk in chunks.values() if chunk.document_id == document_id]:
            del chunks[chunk.id]


class TestTenants(MemoryPorts, TenantsContract):
    """Tenants in memory."""


class TestKeys(MemoryPorts, KeysContract):
    """API keys in memory."""


class TestAskedQuestions(MemoryPorts, AskedQuestionsContract):
    """What is asked again and again, in memory."""


class TestDepartures(MemoryPorts, DeparturesContract):
    """Offboarding in memory."""


class TestJobs(MemoryPorts, JobsContract):
    """Jobs in memory."""


class TestSources(MemoryPorts, SourcesContract):
    """Sources in memory."""


class TestSourceRuns(MemoryPorts, SourceRunsContract):
    """Runs of sources in memory."""


class TestResponses(MemoryPorts, ResponsesContract):
    """Responses in memory."""


class TestResponseRuns(MemoryPorts, ResponseRunsContract):
    """Background responses in memory."""


class TestWebhooks(MemoryPorts, WebhooksContract):
    """Webhooks in memory."""


class TestWebhookRuns(MemoryPorts, WebhookRunsContract):
    """Deliveries in memory."""


class TestPassages(MemoryPorts, PassagesContract):
    """Passages in memory."""


class TestOutbox(MemoryPorts, OutboxContract):
    """The outbox in memory."""


class TestVectorIndex(MemoryPorts, VectorIndexContract):
    """Exact search in memory."""


class TestKeywordIndex(KeywordIndexContract):
    """BM25 in memory."""

    @pytest.fixture
    def keywords(self) -> KeywordIndex:
        """An empty index."""
        return MemoryKeywordIndex(MemoryDatabase())

    async def reopen(self, keywords: KeywordIndex) -> KeywordIndex:
        """Another index over the same database."""
        assert isinstance(keywords, MemoryKeywordIndex)
        return MemoryKeywordIndex(keywords.database)


class TestBlobs(BlobsContract):
    """Blobs in memory."""

    @pytest.fixture
    def blobs(self) -> Blobs:
        """No blobs."""
        return MemoryBlobs()


class TestEmbedder(EmbedderContract):
    """The hashing embedder."""

    @pytest.fixture
    def embedder(self) -> Embedder:
        """The double."""
        return HashEmbedder()


class TestGenerator(GeneratorContract):
    """The echoing generator."""

    @pytest.fixture
    def generator(self) -> Generator:
        """The double."""
        return EchoGenerator()


class TestClock:
    """Leases by a clock that the test turns."""

    async def test_lease_ends_by_the_clock(self) -> None:
        """A lease holds until its last second, is renewed from now on, and ends without anybody's doing."""
        seconds = [1000.0]
        ports = memory_ports(MemoryDatabase(clock=lambda: seconds[0]))
        desk = Desk(ports=ports, tenant=uuid4())
        document = await desk.put(await desk.store(), "one")
        await desk.claims(document, owner="first", lease_seconds=LEASE_SECONDS)
        seconds[0] += LEASE_SECONDS - 1
        assert await desk.claims(document, owner="second") == []
        await ports.ingestion.renew(["first"], lease_seconds=LEASE_SECONDS)
        seconds[0] += LEASE_SECONDS - 1
        assert await desk.claims(document, owner="second") == []
        seconds[0] += 1
        assert len(await desk.claims(document, owner="second")) == 1

    async def test_a_retry_waits_by_the_clock(self) -> None:
        """A failed attempt is made again after the time that it was given, not before."""
        seconds = [1000.0]
        ports = memory_ports(MemoryDatabase(clock=lambda: seconds[0]))
        desk = Desk(ports=ports, tenant=uuid4())
        document = await desk.put(await desk.store(), "one")
        await ports.ingestion.release([await desk.claim(document)], retry_in=60.0, reason="later")
        seconds[0] += 59
        assert await desk.next() == []
        seconds[0] += 1
        assert [claim.document_id for claim in await desk.next()] == [document.id]
