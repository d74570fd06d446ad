"""The PostgreSQL backend keeps every contract of the ports that it fills, over one shared database."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from bookwheel.app import make_first_key
from bookwheel.audit import canonical
from bookwheel.backends.postgres import ingestion, migrate, shards, vectors
from bookwheel.backends.postgres.audit import NAMES, PostgresAuditLog
from bookwheel.backends.postgres.ports import open_database, postgres_ports
from bookwheel.errors import DatabaseUnavailableError
from bookwheel.ports import AuditLog, Ports
from bookwheel.settings import Settings
from bookwheel.testing import HashEmbedder, given, memory_ports
from bookwheel.testing.access import AccessContract
from bookwheel.testing.audit import WRITERS, AuditContract, KeyUsesContract, entry
from bookwheel.testing.batches import BatchesContract
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import Desk
from bookwheel.testing.documents import DocumentsContract
from bookwheel.testing.expiry import ExpiryContract
from bookwheel.testing.files import FilesContract
from bookwheel.testing.given import GivenVectorsContract
from bookwheel.testing.idempotency import IdempotencyKeysContract
from bookwheel.testing.ingestion import FairnessContract, IngestionContract, JobsContract
from bookwheel.testing.outbox import OutboxContract
from bookwheel.testing.passages import PassagesContract
from bookwheel.testing.responses import ResponseRunsContract, ResponsesContract
from bookwheel.testing.sources import SourceRunsContract, SourcesContract
from bookwheel.testing.stores import StoresContract
from bookwheel.testing.tenants import AskedQuestionsContract, KeysContract, TenantsContract
from bookwheel.testing.vectors import VectorIndexContract
from bookwheel.testing.webhooks import WebhookRunsContract, WebhooksContract
from bookwheel.types import SERVER_CHAIN, AuditEvent, AuditFilter, DocumentDraft, Scope

WAITING, BATCH = 2_000, 200  # documents


@pytest.fixture(scope="session")
async def shared_ports(database_url: str) -> AsyncIterator[Ports]:
    """Ports over the migrated database; what PostgreSQL does not fill is in memory."""
    await migrate.migrate(database_url)
    embedder = HashEmbedder()
    space = await migrate.ensure_space(
        database_url, model=embedder.model, revision=embedder.revision, dimensions=embedder.dimensions
    )
    async with open_database(database_url, works=False) as database:
        filled = postgres_ports(database)
        yield replace(memory_ports(), **filled, embedders={space.id: embedder}, space=space)


class PostgresPorts(PortsContract):
    """The shared database with tenants of each test's own."""

    @pytest.fixture
    def ports(self, shared_ports: Ports) -> Ports:
        """The ports under test."""
        return shared_ports

    @pytest.fixture(autouse=True)
    def _url(self, database_url: str) -> None:
        self.url = database_url

    async def new_tenant(self, ports: Ports) -> UUID:
        """A registered tenant, all in one partition so that they are neighbours there."""
        tenant_id = UUID(int=uuid4().int // shards.SHARDS * shards.SHARDS)
        await migrate.register_tenant(self.url, tenant_id, tenant_id.hex)  # names are unique
        return tenant_id


class TestAuditLog(PostgresPorts, AuditContract):
    """The audit log in PostgreSQL."""

    @pytest.fixture(autouse=True)
    async def _pools(self, database_url: str) -> AsyncIterator[None]:
        """Pools of processes that share nothing but the database."""
        async with AsyncExitStack() as opened:
            entered = [await opened.enter_async_context(open_database(database_url, works=False)) for _ in range(3)]
            self.databases = entered
            yield

    def writers(self, ports: Ports) -> list[AuditLog]:
        """Each over one of the pools."""
        return [PostgresAuditLog(self.databases[number % len(self.databases)]) for number in range(WRITERS)]

    async def rewrite(self, ports: Ports, tenant_id: UUID, events: Sequence[AuditEvent]) -> None:
        """As a superuser who switches the triggers off."""
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute("DELETE FROM audit_events WHERE tenant_id = %s", (tenant_id,))
            columns, places = ", ".join(NAMES), ", ".join(["%s"] * len(NAMES))
            for event in events:
                values = [getattr(event, name) for name in NAMES]
                values[NAMES.index("details")] = Jsonb(event.details)
                await connection.execute(f"INSERT INTO audit_events ({columns}) VALUES ({places})", values)

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE audit_events SET actor = 'somebody' WHERE tenant_id = %s",
            "DELETE FROM audit_events WHERE tenant_id = %s",
            "TRUNCATE audit_events",
            "SELECT * FROM offboard_audit(%s)",
        ],
    )
    async def test_changes_are_refused(self, desk: Desk, change: str) -> None:
        """By the database itself, offboarding too unless it was announced for this very tenant."""
        await desk.ports.audit.append([entry(desk.tenant)])
        for announced in ("", str(uuid4())):
            async with await psycopg.AsyncConnection.connect(self.url) as connection:
                await connection.execute("SELECT set_config('bookwheel.offboarding', %s, true)", (announced,))
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="can only grow"):
                    await connection.execute(change, (desk.tenant,) if "%s" in change else None)
        assert (await desk.ports.audit.verify(scope=desk.scope())).count == 1

    async def test_an_announced_offboarding_changes_nothing_else(self, desk: Desk, stranger: Desk) -> None:
        """Not another tenant's chain, and no event in place."""
        await desk.ports.audit.append([entry(desk.tenant), entry(stranger.tenant)])
        for change in ("UPDATE audit_events SET sequence = 9", "DELETE FROM audit_events", "TRUNCATE audit_events"):
            async with await psycopg.AsyncConnection.connect(self.url) as connection:
                await connection.execute("SELECT set_config('bookwheel.offboarding', %s, true)", (str(desk.tenant),))
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="can only grow"):
                    await connection.execute(change)

    async def test_an_operators_key_made_at_the_machine_is_told(self, ports: Ports) -> None:
        """In the server's chain, without the secret."""
        secret = await make_first_key(Settings(database_url=self.url), again=True)
        (event,) = await ports.audit.list(scope=Scope(tenant_id=SERVER_CHAIN), limit=1, filter=AuditFilter())
        assert (event.action, event.actor, event.details) == ("key.create", "local", {"role": "operator"})
        assert secret is not None
        assert secret.encode() not in canonical(event)


class TestKeyUses(PostgresPorts, KeyUsesContract):
    """Networks of keys in PostgreSQL."""


class TestAccess(PostgresPorts, AccessContract):
    """Row-level access."""


class TestStores(PostgresPorts, StoresContract):
    """Stores in PostgreSQL."""


class TestFiles(PostgresPorts, FilesContract):
    """Files in PostgreSQL."""


class TestDocuments(PostgresPorts, DocumentsContract):
    """Documents in PostgreSQL."""


class TestBatches(PostgresPorts, BatchesContract):
    """File batches in PostgreSQL."""


class TestExpiry(PostgresPorts, ExpiryContract):
    """What ends by itself, in PostgreSQL."""


class TestIdempotencyKeys(PostgresPorts, IdempotencyKeysContract):
    """Idempotency keys in PostgreSQL."""


class TestIngestion(PostgresPorts, IngestionContract):
    """Ingestion in PostgreSQL."""


class TestFairness(PostgresPorts, FairnessContract):
    """Tenants share the workers, in PostgreSQL."""


class TestGivenVectors(PostgresPorts, GivenVectorsContract):
    """Given vectors in PostgreSQL."""

    async def lose_chunks(self, ports: Ports, document_id: UUID) -> None:
        """From the table."""
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            await connection.execute("DELETE FROM chunks WHERE document_id = %s", (document_id,))

    async def test_old_vectors_go_with_their_text(self, ports: Ports, desk: Desk) -> None:
        """A version that nobody sees any more leaves nothing, and a delete leaves nothing at all."""
        store = await desk.store()
        for second in (2.0, 3.0):
            document = await given.put(desk, store, given=given.passages(store.space, second=second))
            await given.live(desk, document)
        query = "SELECT version, length(vectors) FROM bodies WHERE document_id = %s"
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            kept = await (await connection.execute(query, (document.id,))).fetchall()
            await ports.documents.delete([document.id], scope=desk.scope(store))
            left = await (await connection.execute(query, (document.id,))).fetchall()
        assert (kept, left) == ([(2, 2 * 4 * store.space.dimensions)], [])


class TestTenants(PostgresPorts, TenantsContract):
    """Tenants in PostgreSQL."""


class TestKeys(PostgresPorts, KeysContract):
    """API keys in PostgreSQL."""


class TestAskedQuestions(PostgresPorts, AskedQuestionsContract):
    """What is asked again and again, in PostgreSQL."""


class TestJobs(PostgresPorts, JobsContract):
    """Jobs on procrastinate."""


class TestSources(PostgresPorts, SourcesContract):
    """Sources in PostgreSQL."""


class TestSourceRuns(PostgresPorts, SourceRunsContract):
    """Runs of sources in PostgreSQL."""


class TestResponses(PostgresPorts, ResponsesContract):
    """Responses in PostgreSQL."""


class TestResponseRuns(PostgresPorts, ResponseRunsContract):
    """Background responses in PostgreSQL."""


class TestWebhooks(PostgresPorts, WebhooksContract):
    """Webhooks in PostgreSQL."""


class TestWebhookRuns(PostgresPorts, WebhookRunsContract):
    """Deliveries in PostgreSQL."""


class TestPassages(PostgresPorts, PassagesContract):
    """Passages in PostgreSQL."""


class TestOutbox(PostgresPorts, OutboxContract):
    """The outbox in PostgreSQL."""


class TestExactSearch(PostgresPorts, VectorIndexContract):
    """pgvector with the exact plan."""


class TestGraphSearch(PostgresPorts, VectorIndexContract):
    """pgvector with the graph plan, however small the store."""

    @pytest.fixture(autouse=True)
    async def _graph(self, ports: Ports, _url: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(vectors, "GRAPH_ROWS", 0)
        monkeypatch.setattr(vectors, "exact_is_cheaper", lambda rows, partition_rows: False)
        desk = Desk(ports=ports, tenant=await self.new_tenant(ports))
        await desk.add(await desk.store(), "the first row, so that the partition has a size")
        await ports.vectors.tend(ports.space, idle=True)


class TestMigrations:
    """The schema is applied once."""

    async def test_again_is_nothing(self, database_url: str, shared_ports: Ports) -> None:
        """A second process finds nothing to do."""
        assert await migrate.migrate(database_url) == []

    async def test_a_space_is_made_once(self, database_url: str, shared_ports: Ports) -> None:
        """The same model gives the same space, another revision another one."""
        space = shared_ports.space
        known = {"model": space.model, "dimensions": space.dimensions}
        assert await migrate.ensure_space(database_url, revision=space.revision, **known) == space
        assert (await migrate.ensure_space(database_url, revision="other", **known)).id != space.id

    async def test_no_server_is_a_designed_error(self) -> None:
        """A wrong address says that the database does not answer."""
        with pytest.raises(DatabaseUnavailableError):
            await migrate.migrate("postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=2")


class TestPlan:
    """Which plan is chosen."""

    @pytest.mark.parametrize(
        ("rows", "partition_rows", "exact"),
        [(500, 1_000_000, True), (5_000, 100_000, True), (25_000, 100_000, False), (100_000, 100_000, False)],
    )
    def test_small_stores_are_scanned_large_ones_walked(self, rows: int, partition_rows: int, exact: bool) -> None:
        """A small share of a partition is scanned exactly; the graph serves the rest."""
        assert vectors.exact_is_cheaper(rows, partition_rows) is exact

    @pytest.mark.parametrize("partition_rows", [1_500, 50_000, 1_000_000])
    def test_counting_ends_where_the_graph_begins(self, partition_rows: int) -> None:
        """Passing chunks are counted only as far as the decision needs, and then it is for the graph."""
        enough = vectors.graph_rows(partition_rows)
        assert not vectors.exact_is_cheaper(enough, partition_rows)
        assert vectors.exact_is_cheaper(enough - 1, partition_rows)


class TestReadableRows(PostgresPorts):
    """The plan rests on what the caller may read, or a graph would be walked past all that he may not."""

    async def test_restricted_chunks_do_not_count(self, ports: Ports, tenant: UUID, stranger: Desk) -> None:
        """Neither those of restricted documents, nor of another tenant's stores, change what others count."""
        desk, index = Desk(ports=ports, tenant=tenant), ports.vectors
        assert isinstance(index, vectors.PgVectorIndex)
        store, foreign = await desk.store(), await stranger.store()
        await desk.add(store, "one\ntwo")
        document, _ = await desk.add(store, "three\nfour\nfive")
        other, _ = await stranger.add(foreign, "six")
        await ports.documents.update(document.id, scope=desk.scope(store), access=("staff",))
        await ports.documents.update(other.id, scope=stranger.scope(foreign), access=("staff",))
        for principals, rows in ((frozenset[str](), 2), (frozenset({"staff"}), 5), (frozenset({"x"}), 2)):
            scope = replace(desk.scope(store, foreign), principals=principals)
            layout = await index._layout(ports.space, scope)
            assert layout is not None
            assert layout.rows == rows


class TestWorkerPlans(PostgresPorts):
    """A batch costs what is in it, however much waits beside it."""

    @pytest.mark.parametrize("query", [ingestion.STILL_WRITABLE, ingestion.STILL_WANTED])
    @pytest.mark.parametrize("works", [False, True])
    async def test_what_waits_is_not_read(
        self, ports: Ports, tenant: UUID, database_url: str, query: str, works: bool
    ) -> None:
        """Asking whether a batch is still wanted looks at its own documents, not at each pair with a waiting one."""
        desk = Desk(ports=ports, tenant=tenant)
        store = await desk.store()
        drafts = [DocumentDraft(external_id=str(number), text="waits") for number in range(WAITING)]
        waiting = await ports.documents.put(drafts, scope=desk.scope(store), store=store)
        batch = [document.id for document in waiting[:BATCH]]
        async with open_database(database_url, works=works) as database:
            ((plan,),) = await database.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", (batch,))
        assert BATCH <= rows_read(plan[0]["Plan"]) < 3 * (WAITING + BATCH)


def rows_read(plan: dict[str, Any]) -> float:
    """Rows that a plan's nodes gave or threw away, all loops together."""
    removed = sum(value for name, value in plan.items() if name.startswith("Rows Removed"))
    return (plan["Actual Rows"] + removed) * plan["Actual Loops"] + sum(map(rows_read, plan.get("Plans", ())))


class TestWebhookRaces(PostgresPorts):
    """What is told and who is told change at the same time."""

    async def test_an_endpoint_that_is_being_deleted_fails_no_document(
        self, ports: Ports, tenant: UUID, database_url: str
    ) -> None:
        """Publishing waits for the delete and leaves the endpoint out."""
        desk = Desk(ports=ports, tenant=tenant)
        store = await desk.store()
        await ports.webhooks.create(
            "going",
            scope=desk.scope(),
            url="https://example.org/",
            event_types=["vector_store.file.completed"],
            secret=b"s",
        )
        claim = await desk.claim(await desk.put(store, "one"))
        await desk.write(claim)
        async with (
            open_database(database_url, works=True) as database,
            database.connection() as connection,
            connection.transaction(),
        ):
            await connection.execute("DELETE FROM webhook_endpoints WHERE tenant_id = %s", (tenant,))
            publishing = asyncio.create_task(ports.ingestion.publish([claim]))
            await asyncio.sleep(0.3)  # long enough to meet the delete
            assert not publishing.done()
        assert await publishing == [claim]
