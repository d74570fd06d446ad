"""The second wall: what a query that forgot its tenant's condition gets from PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from random import Random
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from bookwheel.access import reset_caller, set_caller
from bookwheel.acts import Recorder
from bookwheel.backends.postgres import migrate
from bookwheel.backends.postgres.audit import PostgresAuditLog, PostgresKeyUses
from bookwheel.backends.postgres.database import EVERYBODY, WALLED_ROLE, Connection, Database, rows
from bookwheel.backends.postgres.ports import open_database, postgres_ports
from bookwheel.ports import Ports
from bookwheel.testing import HashEmbedder, memory_ports
from bookwheel.testing.audit import entry
from bookwheel.testing.desk import Desk
from bookwheel.types import AuditFilter, Caller, Role, Scope

#: Whose rows they are is in the row above: the column that names it, and its table.
HANGING: Mapping[str, tuple[str, str]] = {
    "attribute_names": ("store_id", "stores"),
    "chunks": ("document_id", "documents"),
    "file_batch_documents": ("batch_id", "file_batches"),
    "response_events": ("response_id", "responses"),
    "sections": ("document_id", "documents"),
    "source_items": ("source_id", "sources"),
    "webhook_deliveries": ("endpoint_id", "webhook_endpoints"),
}
#: Tables that name a tenant, or a row of one, without a policy, and why.
OPEN: Mapping[str, str] = {
    "bodies": "requests COPY into it, which PostgreSQL refuses under row security; read by the id of a document only",
    "leases": "workers' alone: ids and times",
    "vectors_": "numbers and ids; a policy would keep the graph from being walked in its order",
}
#: Columns that say whose a row is.
NAMING = {"tenant_id", *(column for column, _ in HANGING.values())}
#: Values that constraints ask for.
ASKED = {"role": "reader", "outcome": "success", "status": "completed", "operation": "remove", "kind": "urls"}
BY_TYPE: Mapping[str, Any] = {
    "boolean": True,
    "integer": 1,
    "double precision": 1.0,
    "jsonb": "{}",
    "json": "{}",
    "ARRAY": "{}",
    "timestamp with time zone": "2026-01-01",
}
NEEDED = """
SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s
    AND is_identity = 'NO' AND (column_default IS NULL AND is_nullable = 'NO' OR column_name = 'tenant_id')
"""
GUARDED = "SELECT relname FROM pg_class WHERE relrowsecurity AND relnamespace = 'public'::regnamespace ORDER BY 1"


@pytest.fixture(scope="module")
async def url(database_url: str) -> str:
    """A database of its own: the rows here are no whole ones."""
    name = f"walls_{uuid4().hex}"
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(f"CREATE DATABASE {name}".encode())
    url = database_url.replace("@/postgres?", f"@/{name}?")
    await migrate.migrate(url)
    return url


@pytest.fixture(scope="module")
async def tenants(url: str) -> tuple[UUID, UUID]:
    """Two, each with a row in every table that has a policy."""
    both = uuid4(), uuid4()
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("SET session_replication_role = replica")  # no keys are checked
        for tenant_id in both:
            await migrate.register_tenant(url, tenant_id, tenant_id.hex)
            for table in sorted(await guarded(connection) - {"tenants"}):
                await insert(connection, table, tenant_id)
    return both


@pytest.fixture(scope="module")
async def database(url: str) -> AsyncIterator[Database]:
    """Few sessions, so that they change hands."""
    database = Database(url, size=3)
    await database.open()
    yield database
    await database.close()


@asynccontextmanager
async def serving(database: Database) -> AsyncIterator[Ports]:
    """Ports over it."""
    embedder = HashEmbedder()
    space = await migrate.ensure_space(
        database.url, model=embedder.model, revision=embedder.revision, dimensions=embedder.dimensions
    )
    await database.open()
    try:
        yield replace(memory_ports(), **postgres_ports(database), embedders={space.id: embedder}, space=space)
    finally:
        await database.close()


async def a_desk(ports: Ports, url: str) -> Desk:
    """A new tenant's."""
    tenant_id = uuid4()
    await migrate.register_tenant(url, tenant_id, tenant_id.hex)
    return Desk(ports=ports, tenant=tenant_id)


async def guarded(connection: psycopg.AsyncConnection[Any]) -> set[str]:
    """The tables with policies."""
    return {row[0] for row in await (await connection.execute(GUARDED)).fetchall()}


async def insert(connection: psycopg.AsyncConnection[Any], table: str, tenant_id: UUID) -> None:
    """A row of this tenant; rows that others hang on have its id."""
    values, unique = {}, {"uuid": tenant_id, "bytea": tenant_id.bytes, "bigint": uuid4().int >> 66}
    for name, kind in await (await connection.execute(NEEDED, (table,))).fetchall():
        values[name] = BY_TYPE.get(kind) or ASKED.get(name) or unique.get(kind) or uuid4().hex
    columns, places = ", ".join(values), ", ".join(["%s"] * len(values))
    await connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})".encode(), list(values.values()))


def whose(table: str) -> str:
    """The column that says whose a row of these tests is: rows above have the id of their tenant."""
    return "id" if table == "tenants" else HANGING.get(table, ("tenant_id", ""))[0]


@contextmanager
def calling(tenant_id: UUID, role: Role = Role.ADMIN) -> Iterator[None]:
    """As in a request of this tenant."""
    token = set_caller(Caller(id="key_1", role=role, scope=Scope(tenant_id=tenant_id, manages=True)))
    try:
        yield
    finally:
        reset_caller(token)


async def seen(database: Database) -> dict[str, set[UUID]]:
    """Whose rows queries without any condition find, by table."""
    async with database.connection() as connection:
        tables = await guarded(connection)
        found = {table: await rows(connection, f"SELECT {whose(table)} FROM {table}") for table in tables}
    return {table: {row[0] for row in held} for table, held in found.items()}


async def test_every_table_of_tenants_has_a_policy(url: str) -> None:
    """Or a reason. A new table that names a tenant or a row of one needs a policy or a line in OPEN."""
    await migrate.ensure_space(url, model="any", revision="1", dimensions=8)
    query = "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' AND column_name = ANY(%s)"
    async with await psycopg.AsyncConnection.connect(url) as connection:
        naming = {row[0] for row in await (await connection.execute(query, (list(NAMING),))).fetchall()}
        held = await guarded(connection)
    assert {table for table in naming - held if not table.startswith(tuple(OPEN))} == set()
    assert held == {table for table in naming if not table.startswith(tuple(OPEN))} | {"tenants"}


@pytest.mark.parametrize("role", [Role.READER, Role.WRITER, Role.ADMIN])
async def test_nothing_of_another_tenant_is_read(database: Database, tenants: tuple[UUID, UUID], role: Role) -> None:
    """Whatever the table and the role; the tenant's own rows are."""
    for tenant_id in tenants:
        with calling(tenant_id, role):
            found = await seen(database)
        assert found == {table: {tenant_id} for table in found}
        assert len(found) > 20


async def test_operators_and_what_nobody_asks_for_see_all(database: Database, tenants: tuple[UUID, UUID]) -> None:
    """Workers, and requests before their caller is known, are the latter."""
    with calling(tenants[0], Role.OPERATOR):
        assert all(set(tenants) <= held for held in (await seen(database)).values())
    assert all(set(tenants) <= held for held in (await seen(database)).values())
    found = await database.fetch("SELECT current_user, count(*) FROM api_keys GROUP BY 1", walled=True)
    assert found == [(WALLED_ROLE, 2)]  # as keys are looked up


async def test_a_session_that_was_not_told_sees_nothing(url: str, tenants: tuple[UUID, UUID]) -> None:
    """Nor does one that was told nonsense: both fail closed."""
    async with open_database(url, works=False) as fresh, fresh.pool.connection() as connection:
        for value in (None, ""):
            if value is not None:
                await connection.execute("SELECT set_config('bookwheel.tenant', %s, false)", (value,))
            for table in await guarded(connection):
                assert await rows(connection, f"SELECT FROM {table}") == [], table
        await connection.execute("SELECT set_config('bookwheel.tenant', 'all', false)")
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            await connection.execute("SELECT FROM stores")


async def test_nothing_of_another_tenant_is_changed(database: Database, tenants: tuple[UUID, UUID]) -> None:
    """Updates and deletes without a condition touch the tenant's own rows, if they are allowed at all."""
    mine, others = tenants
    for table in await seen(database):
        for change in (f"UPDATE {table} SET {whose(table)} = {whose(table)}", f"DELETE FROM {table}"):
            assert await touched(database, change, mine, table) in ({mine}, {"refused"}), change
    assert all(others in held for held in (await seen(database)).values())


async def touched(database: Database, change: str, tenant_id: UUID, table: str) -> set[Any]:
    """Whose rows a statement changes, undone afterwards."""
    with calling(tenant_id):
        async with database.connection() as connection, connection.transaction(force_rollback=True):
            try:
                return {row[0] for row in await rows(connection, f"{change} RETURNING {whose(table)}")}
            except InsufficientPrivilege:
                assert table == "audit_events"  # nobody may
                return {"refused"}


async def test_nothing_is_made_for_another_tenant(database: Database, tenants: tuple[UUID, UUID]) -> None:
    """And nothing is handed to it."""
    mine, others = tenants
    policed = "row-level security policy"
    for table in sorted(await seen(database)):
        with calling(mine):
            async with database.connection() as connection, connection.transaction(force_rollback=True):
                with pytest.raises(InsufficientPrivilege, match=policed):
                    await insert(connection, table, others)
            if table == "audit_events":
                continue
            async with database.connection() as connection, connection.transaction(force_rollback=True):
                with pytest.raises(InsufficientPrivilege, match=policed):
                    await connection.execute(f"UPDATE {table} SET {whose(table)} = %s".encode(), (others,))


async def test_sessions_that_change_hands_never_mix(database: Database, tenants: tuple[UUID, UUID]) -> None:
    """A hundred tasks over three sessions, some of which fail in a transaction or are cancelled anywhere."""
    random = Random(5)

    async def look(number: int) -> None:
        operates = number % 3 == 2
        wanted = set(tenants) if operates else {tenants[number % 2]}
        with calling(tenants[number % 2], Role.OPERATOR if operates else Role.READER):
            for _ in range(4):
                found = await database.fetch("SELECT tenant_id, pg_sleep(0.0005) FROM stores")
                assert {row[0] for row in found} & set(tenants) == wanted
                assert operates or {row[0] for row in found} == wanted
                with pytest.raises(ZeroDivisionError):
                    await database.transact(fails)

    async def fails(connection: Connection) -> None:
        await connection.execute("SELECT set_config('bookwheel.tenant', %s, true)", (EVERYBODY,))
        raise ZeroDivisionError

    async def is_cancelled(number: int) -> None:
        task = asyncio.create_task(look(number))
        await asyncio.sleep(random.random() / 20)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None, repr(task.exception())

    await asyncio.gather(*(look(number) if number % 4 else is_cancelled(number) for number in range(100)))


async def test_one_tenant_costs_no_extra_trip(url: str, tenants: tuple[UUID, UUID]) -> None:
    """A session is told only when it is to act for somebody else."""
    database = Database(url, size=1)
    await database.open()
    statements = "SELECT calls FROM (SELECT current_setting('bookwheel.tenant')) AS s (calls)"
    try:
        async with database.pool.connection() as session:
            told: list[Any] = []
            execute = session.execute

            async def noted(*given: Any, **options: Any) -> Any:
                told.append(given)
                return await execute(*given, **options)

            session.execute = noted  # type: ignore[method-assign]
        for tenant_id, times in ((tenants[0], 1), (tenants[0], 1), (tenants[1], 2), (tenants[0], 3)):
            with calling(tenant_id):
                assert await database.fetch(statements) == [(str(tenant_id),)]
            assert len(told) == times
    finally:
        await database.close()


async def test_ports_given_another_tenants_scope(url: str) -> None:
    """As if the first wall had let a caller say whose data it wants: there is nothing."""
    async with serving(Database(url)) as ports:
        desk = await a_desk(ports, url)
        store = await desk.store()
        document, chunks = await desk.add(store, "secret")
        there, vector = desk.scope(store), (await HashEmbedder().embed(["secret"]))[0]
        with calling(uuid4()):
            assert await ports.stores.list(scope=there, limit=9) == []
            assert await ports.documents.list(scope=there, limit=9) == []
            assert await ports.documents.delete([document.id], scope=there) == 0
            assert await ports.passages.hydrate([chunk.id for chunk in chunks], scope=there, filter=None) == []
            assert await desk.search(vector, store) == []
        with calling(desk.tenant):
            assert len(await ports.passages.hydrate([chunk.id for chunk in chunks], scope=there, filter=None)) == 1
            assert len(await desk.search(vector, store)) == 1


async def test_a_batch_of_audit_events_holds_those_of_several_tenants(url: str) -> None:
    """The request that begins to write it writes for others too."""
    async with open_database(url, works=False) as database:
        log = PostgresAuditLog(database)
        recorder, both = Recorder(log, PostgresKeyUses(database)), (uuid4(), uuid4())
        with calling(both[0]):
            await recorder.record([entry(tenant_id) for tenant_id in both])
        for tenant_id in both:
            assert len(await log.list(scope=Scope(tenant_id=tenant_id), limit=9, filter=AuditFilter())) == 1


async def test_filters_on_attributes_keep_their_index(database: Database, tenants: tuple[UUID, UUID]) -> None:
    """A policy comes first, unless an operator is known to tell nothing."""
    with calling(tenants[0]):
        async with database.connection() as connection, connection.transaction():
            await connection.execute("SET LOCAL enable_seqscan = off")
            plan = await rows(connection, "EXPLAIN SELECT FROM documents WHERE attributes @> '{\"a\": 1}'")
    assert "documents_by_attributes" in str(plan)


@pytest.fixture
async def managed(database_url: str) -> AsyncIterator[str]:
    """A database as providers give it: its owner may make no roles and is no superuser."""
    owner = f"owner_{uuid4().hex[:8]}"
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(f"CREATE ROLE {owner} LOGIN NOSUPERUSER NOCREATEROLE".encode())
        await connection.execute(f"CREATE DATABASE {owner} OWNER {owner}".encode())
    url = database_url.replace("postgres@/postgres?", f"{owner}@/{owner}?")
    as_superuser = database_url.replace("@/postgres?", f"@/{owner}?")
    async with await psycopg.AsyncConnection.connect(as_superuser, autocommit=True) as connection:
        await connection.execute("CREATE EXTENSION vector")
    yield url
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(f"DROP DATABASE {owner} WITH (FORCE)".encode())
        await connection.execute(f"DROP ROLE {owner}".encode())


async def test_an_owner_without_the_role_is_bound(managed: str, database_url: str) -> None:
    """It migrates, works and answers as everywhere; `check` tells when somebody lets it pass by the policies."""
    assert await migrate.migrate(managed)
    assert await migrate.wall_stands(managed)
    database = Database(managed, works=True)
    async with serving(database) as ports:
        desk, other = await a_desk(ports, managed), await a_desk(ports, managed)
        for one in (desk, other):
            store = await one.store()
            await one.add(store, "text")
        vector = (await HashEmbedder().embed(["text"]))[0]
        with calling(desk.tenant):
            ((name, count),) = await database.fetch("SELECT current_user, count(*) FROM stores GROUP BY 1")
            assert (str(name).partition("_")[0], count) == ("owner", 1)
        assert await database.fetch("SELECT count(*) FROM stores") == [(2,)]
        with calling(other.tenant):
            assert len(await other.search(vector, store)) == 1
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(f"ALTER ROLE {name} BYPASSRLS".encode())
    assert not await migrate.wall_stands(managed)


async def test_the_wall_stands_here(url: str) -> None:
    """By the role, though the tests are a superuser; not without policies."""
    assert await migrate.wall_stands(url)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("ALTER TABLE documents DISABLE ROW LEVEL SECURITY")
        try:
            assert not await migrate.wall_stands(url)
        finally:
            await connection.execute("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
