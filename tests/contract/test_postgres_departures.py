"""Offboarding in PostgreSQL: no table that holds anything of a tenant is forgotten, nor one that is yet to be made."""

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from bookwheel.errors import ConflictError, NotFoundError
from bookwheel.ports import Ports
from bookwheel.testing.departures import DeparturesContract, Filled, fill, go, name_of
from bookwheel.testing.desk import Desk
from tests.contract.test_postgres import PostgresPorts, shared_ports

__all__ = ["shared_ports"]

#: Tables with rows of a tenant that is gone: its receipt says so itself.
KEEPS = {"receipts"}
#: Tables that name a tenant but that `fill` leaves empty, and where their removal is shown.
NOT_FILLED = {
    "moves": "only while a tenant is moved; goes with the tenant by its foreign key",
    "own_partitions": "of tenants that were moved; test_an_own_partition_is_free_again",
    "turns": "of tenants that were ingested in turn; goes with the tenant by its foreign key",
    "departing_documents": "only while a tenant is offboarded",
    "departing_blobs": "only while a tenant is offboarded",
    "departing_actors": "only while a tenant is offboarded",
    "receipts": "made by the offboarding",
}

OF_A_TENANT = """
SELECT DISTINCT table_name FROM information_schema.columns
WHERE table_schema = current_schema() AND column_name = 'tenant_id'
"""
HANGS_ON = """
WITH RECURSIVE on_tenants AS (
    SELECT 'tenants'::regclass::oid AS id
    UNION
    SELECT c.conrelid FROM pg_constraint c JOIN on_tenants t ON c.confrelid = t.id WHERE c.contype = 'f'
)
SELECT id::regclass::text FROM on_tenants WHERE id <> 'tenants'::regclass
"""
TABLES = """
SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace
"""


class TestDepartures(PostgresPorts, DeparturesContract):
    """Offboarding in PostgreSQL."""

    async def nothing_else(self, desk: Desk, filled: Filled) -> None:
        """No row of any table has the tenant's id, or that of its store or of a file, as text."""
        ids = [desk.tenant, filled.store.id, *(file.id for file in filled.files)]
        assert await self.tables_with(*(form for one in ids for form in (str(one), one.hex))) <= KEEPS

    async def tables_with(self, *texts: str) -> set[str]:
        """The tables that have a row with one of these."""
        found = set()
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            for (table,) in await (await connection.execute(TABLES)).fetchall():
                query = SQL("SELECT count(*) FROM {} AS x WHERE x::text ILIKE ANY(%s)").format(Identifier(table))
                rows = await connection.execute(query, ([f"%{text}%" for text in texts],))
                found |= {table for (count,) in await rows.fetchall() if count}
        return found

    async def test_every_table_of_a_tenant_is_filled_here(self, desk: Desk) -> None:
        """So that the tests above show for each that it is emptied: a new table fails here until `fill` fills it."""
        filled = await fill(desk)
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            own = {
                row[0]
                for query in (OF_A_TENANT, HANGS_ON)
                for row in await (await connection.execute(query)).fetchall()
            }
        unknown = own - NOT_FILLED.keys() - await self.tables_of(desk, filled)
        assert not unknown, f"fill() in testing/departures.py puts nothing of the tenant into {unknown}"

    async def tables_of(self, desk: Desk, filled: Filled) -> set[str]:
        """The tables that hold something of the tenant by an id of it or of something of it."""
        texts = [str(desk.tenant), str(filled.store.id)]
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            for table in ("documents", "responses", "sources", "webhook_endpoints", "file_batches", "api_keys"):
                query = SQL("SELECT id::text FROM {} WHERE tenant_id = %s").format(Identifier(table))
                rows = await (await connection.execute(query, (desk.tenant,))).fetchall()
                texts += [row[0] for row in rows]
        return await self.tables_with(*texts)

    async def test_an_own_partition_is_free_again(self, desk: Desk) -> None:
        """Its rows are gone; the next tenant that is given one gets it."""
        filled = await fill(desk)
        await desk.ports.vectors.move(desk.tenant, own_partition=True)
        receipt = await go(desk, await name_of(desk))
        assert receipt.complete
        await self.nothing_else(desk, filled)
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            found = await connection.execute("SELECT count(*) FROM own_partitions WHERE tenant_id IS NULL")
            assert (await found.fetchall())[0][0] >= 1

    async def test_requests_that_were_let_in_before_find_no_tenant(self, desk: Desk) -> None:
        """Whatever they make; the bytes of an upload do not stay."""
        ports: Ports = desk.ports
        await go(desk, await name_of(desk))
        sha256 = desk.tenant.bytes * 2
        for late in (desk.store(), desk.file(sha256=sha256)):
            with pytest.raises((NotFoundError, ConflictError)):
                await late
        assert sha256 in await ports.files.dead_blobs(older_than_seconds=-1.0, limit=1_000_000)
