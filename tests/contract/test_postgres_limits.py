"""Limits in PostgreSQL, over the shared server."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from bookwheel.backends.postgres.database import Database
from bookwheel.backends.postgres.limits import PostgresLimiter
from bookwheel.backends.postgres.migrate import migrate
from bookwheel.ports import Limiter
from bookwheel.testing.limits import LATER, LEASE, LONG, AwayLimiterContract, LimiterContract, enter, one

TABLES = ("limit_counters", "limit_groups")
SLICES = 103  # of a counter, at most: those of a window, and the two that it cuts


@pytest.fixture(scope="module")
async def migrated(database_url: str) -> str:
    """The shared database with its tables."""
    await migrate(database_url)
    return database_url


@asynccontextmanager
async def postgres(url: str, **options: Any) -> AsyncIterator[PostgresLimiter]:
    """A limiter over a pool of its own."""
    database = Database(url, **options)
    await database.open()
    yield PostgresLimiter(database)
    await database.close()


@pytest.fixture(scope="module")
async def in_postgres(migrated: str) -> AsyncIterator[PostgresLimiter]:
    """One process's."""
    async with postgres(migrated) as limiter:
        yield limiter


@pytest.fixture(scope="module")
async def also_in_postgres(migrated: str) -> AsyncIterator[PostgresLimiter]:
    """A worker's."""
    async with postgres(migrated, works=True) as limiter:
        yield limiter


class TestPostgres(LimiterContract):
    """In PostgreSQL."""

    @pytest.fixture
    def limiter(self, in_postgres: Limiter) -> Limiter:
        """Shared by the tests."""
        return in_postgres

    @pytest.fixture
    def beside(self, also_in_postgres: Limiter) -> Limiter:
        """Over another pool."""
        return also_in_postgres

    async def test_what_is_empty_is_swept(self, in_postgres: PostgresLimiter, name: str) -> None:
        """Counters and groups, also more than one statement takes; what a take has locked stays."""
        await in_postgres.database.fetch("DELETE FROM limit_counters RETURNING 1")
        await in_postgres.database.fetch("DELETE FROM limit_groups RETURNING 1")
        await asyncio.gather(*(one(in_postgres, f"{name}:{number}", 1, seconds=LEASE) for number in range(510)))
        await enter(in_postgres, name, 1, holder="a", lease_seconds=LEASE)
        await enter(in_postgres, f"{name}:left", 1, holder="a")
        await in_postgres.leave([f"{name}:left"], holder="a")
        await asyncio.sleep(LATER)
        async with await psycopg.AsyncConnection.connect(in_postgres.database.url) as connection:
            await connection.execute("SELECT 1 FROM limit_counters WHERE name = %s FOR UPDATE", (f"{name}:7",))
            assert await in_postgres.sweep() == 509 + 2
        assert await in_postgres.sweep() == 1

    async def test_tables_are_unlogged(self, in_postgres: PostgresLimiter) -> None:
        """What may be lost costs no WAL."""
        found = await in_postgres.database.fetch(
            "SELECT relpersistence::text FROM pg_class WHERE relname = ANY(%s)", (list(TABLES),)
        )
        assert found == [("u",), ("u",)]

    async def test_updates_stay_in_their_page(self, migrated: str, name: str) -> None:
        """Whoever takes all the time makes no index grow: rows of full length have room for their next version."""
        async with postgres(migrated, size=1) as limiter:  # one session, which tells what it did
            await one(limiter, name, 10**6, seconds=LONG)
            await limiter.database.fetch(
                "UPDATE limit_counters SET lasts = array_fill(limit_clock(), ARRAY[%s]),"
                " amounts = array_fill(1, ARRAY[%s]) WHERE name = %s RETURNING 1",
                (SLICES, SLICES, name),
            )
            before = await _updates(limiter)
            for _ in range(300):
                await one(limiter, name, 10**6, seconds=LONG)
            after = await _updates(limiter)
            assert after[0] - before[0] >= 300
            assert after[1] - before[1] >= 0.8 * (after[0] - before[0])

    async def test_the_refused_wait_for_nobody(self, in_postgres: PostgresLimiter, name: str) -> None:
        """Whoever comes again and again to a full counter needs no lock."""
        await one(in_postgres, name, 1)
        async with await psycopg.AsyncConnection.connect(in_postgres.database.url) as connection:
            await connection.execute("SELECT 1 FROM limit_counters WHERE name = %s FOR UPDATE", (name,))
            assert not (await one(in_postgres, name, 1)).allowed

    async def test_the_long_row_is_not_compressed(self, in_postgres: PostgresLimiter, name: str) -> None:
        """With the longest name and all slices it is stored as it is, in its table."""
        long = f"{name}:{'x' * 200}"[:200]
        await one(in_postgres, long, 10**6, seconds=LONG)
        ((size, toasted),) = await in_postgres.database.fetch(
            "UPDATE limit_counters c SET lasts = array_fill(limit_clock(), ARRAY[%s]),"
            " amounts = array_fill(1, ARRAY[%s]) WHERE name = %s"
            " RETURNING pg_column_size(c), pg_column_compression(lasts)",
            (SLICES, SLICES, long),
        )
        assert size < 2_032  # TOAST_TUPLE_THRESHOLD
        assert toasted is None


async def _updates(limiter: PostgresLimiter) -> tuple[int, int]:
    """All so far, and those that stayed in their page."""
    await asyncio.sleep(1.1)  # a session tells at most once in a second
    await limiter.database.fetch("SELECT pg_stat_force_next_flush()")
    ((all_of_them, hot),) = await limiter.database.fetch(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'limit_counters'"
    )
    return all_of_them, hot


class TestNoPostgres(AwayLimiterContract):
    """Nobody listens."""

    @pytest.fixture
    async def away(self) -> AsyncIterator[Limiter]:
        """A port that nobody has."""
        database = Database("postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=2")
        await database.pool.open(wait=False)
        yield PostgresLimiter(database)
        await database.close()


class TestFrozenPostgres(AwayLimiterContract):
    """A server that hangs amid a connection is not waited for."""

    @pytest.fixture
    async def away(self, migrated: str) -> AsyncIterator[Limiter]:
        """The one process that serves us stands still for as long as the test runs."""
        database = Database(migrated, size=1)
        await database.open()
        ((pid,),) = await database.fetch("SELECT pg_backend_pid()")
        os.kill(pid, signal.SIGSTOP)
        yield PostgresLimiter(database)
        os.kill(pid, signal.SIGCONT)
        await database.close()


class TestNoTables(AwayLimiterContract):
    """A database that was not migrated is no store, and no error of another kind."""

    @pytest.fixture
    async def away(self, migrated: str) -> AsyncIterator[Limiter]:
        """The tables have other names for as long as the test runs."""
        async with await psycopg.AsyncConnection.connect(migrated, autocommit=True) as connection:
            await _rename(connection, "{0}", "other_{0}")
            async with postgres(migrated) as limiter:
                yield limiter
            await _rename(connection, "other_{0}", "{0}")


async def _rename(connection: psycopg.AsyncConnection, old: str, new: str) -> None:
    for table in TABLES:
        await connection.execute(f"ALTER TABLE {old.format(table)} RENAME TO {new.format(table)}")
