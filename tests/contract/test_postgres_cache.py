"""The cache in PostgreSQL, over the shared server."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import psycopg
import pytest

from bookwheel.backends.postgres.cache import SWEPT_VALUES, PostgresCache
from bookwheel.backends.postgres.database import Database
from bookwheel.backends.postgres.migrate import migrate
from bookwheel.backends.postgres.ports import open_database
from bookwheel.errors import CacheUnavailableError
from bookwheel.ports import Cache
from bookwheel.testing.cache import KEEP, LATER, LONG, SHORT, TIGHT_BYTES, AwayCacheContract, CacheContract

TABLES = "cache_values, cache_groups, cache_members"
RECOVERY_SECONDS = 10.0


@pytest.fixture(scope="module")
async def migrated(database_url: str) -> str:
    """The shared database with its tables."""
    await migrate(database_url)
    return database_url


@asynccontextmanager
async def postgres(url: str, **options: int) -> AsyncIterator[PostgresCache]:
    """A cache over a pool of its own."""
    async with open_database(url, works=False) as database:
        yield PostgresCache(database, **options)


@pytest.fixture(scope="module")
async def in_postgres(migrated: str) -> AsyncIterator[PostgresCache]:
    """One process's."""
    async with postgres(migrated) as cache:
        yield cache


@pytest.fixture(scope="module")
async def also_in_postgres(migrated: str) -> AsyncIterator[PostgresCache]:
    """Another's."""
    async with postgres(migrated) as cache:
        yield cache


@pytest.fixture
async def tight_postgres(migrated: str) -> AsyncIterator[PostgresCache]:
    """Over empty tables, for it drops whatever is there."""
    async with await psycopg.AsyncConnection.connect(migrated, autocommit=True) as connection:
        await connection.execute(f"TRUNCATE {TABLES}")
    async with postgres(migrated, held_bytes=TIGHT_BYTES) as cache:
        yield cache


class TestPostgres(CacheContract):
    """In PostgreSQL."""

    @pytest.fixture
    def cache(self, in_postgres: Cache) -> Cache:
        """Shared by the tests."""
        return in_postgres

    @pytest.fixture
    def beside(self, also_in_postgres: Cache) -> Cache:
        """Over another pool."""
        return also_in_postgres

    @pytest.fixture
    def tight(self, tight_postgres: Cache) -> Cache:
        """Small after each sweep."""
        return tight_postgres

    async def test_what_expired_is_counted(self, tight_postgres: PostgresCache) -> None:
        """Keys and members, each once, also more than one statement takes."""
        values = {f"{number}": b"" for number in range(SWEPT_VALUES.rows + 7)}
        await tight_postgres.put(values, seconds=SHORT)
        for number in range(60):
            await tight_postgres.append(f"group {number % 55}", b"", seconds=SHORT, keep=KEEP)
        await asyncio.sleep(LATER)
        assert await tight_postgres.sweep() == len(values) + 60
        for table in TABLES.split(", "):
            assert await tight_postgres.database.fetch(f"SELECT count(*) FROM {table}") == [(0,)]

    async def test_what_expires_first_goes_first(self, tight_postgres: PostgresCache) -> None:
        """Where there is too much, and no more than that; the same for lists, which go whole."""
        half = bytes(TIGHT_BYTES // 2 - 5_000)
        for name, seconds in (("b", LONG), ("a", LONG / 2), ("c", 2 * LONG)):
            await tight_postgres.put({name: half}, seconds=seconds)
            await tight_postgres.append(name, half, seconds=seconds, keep=KEEP)
        assert await tight_postgres.sweep() == 2
        assert dict(await tight_postgres.get(["a", "b", "c"])) == {"b": half, "c": half}
        assert [len(await tight_postgres.members(name)) for name in "abc"] == [0, 1, 1]

    async def test_the_soonest_of_many_go(self, tight_postgres: PostgresCache) -> None:
        """Also where there are more than one statement looks at."""
        long, short = ([f"{kind}{number}" for number in range(350)] for kind in ("long", "short"))
        for keys, seconds in ((long, LONG), (short, LONG / 2)):
            await tight_postgres.put(dict.fromkeys(keys, bytes(4_000)), seconds=seconds)
        assert 0 < await tight_postgres.sweep() < len(short)
        assert len(await tight_postgres.get(long)) == len(long)

    async def test_appends_at_once_keep_so_many(self, tight_postgres: PostgresCache) -> None:
        """Also where each waited for its turn and did not see what it should have trimmed."""
        await tight_postgres.append("g", b"0", seconds=LONG, keep=2)
        async with await psycopg.AsyncConnection.connect(tight_postgres.database.url) as connection:
            await connection.execute("SELECT 1 FROM cache_groups FOR UPDATE")
            appends = [asyncio.create_task(tight_postgres.append("g", b"1", seconds=LONG, keep=2)) for _ in range(5)]
            await asyncio.sleep(0.5)  # long enough that all wait
        await asyncio.gather(*appends)
        assert [member for _, member in await tight_postgres.members("g")] == [b"1", b"1"]

    async def test_tables_are_unlogged(self, in_postgres: PostgresCache) -> None:
        """What may be lost costs no WAL."""
        found = await in_postgres.database.fetch(
            "SELECT relname FROM pg_class WHERE relname LIKE 'cache\\_%%' AND relkind = 'r' AND relpersistence = 'u'",
        )
        assert {name for (name,) in found} == set(TABLES.split(", "))


class TestLockedPostgres(AwayCacheContract):
    """A table that somebody locked is as good as away."""

    @pytest.fixture
    async def away(self, migrated: str) -> AsyncIterator[Cache]:
        """Locked for as long as the test runs."""
        async with AsyncExitStack() as stack:
            cache = await stack.enter_async_context(postgres(migrated))
            connection = await stack.enter_async_context(await psycopg.AsyncConnection.connect(migrated))
            await connection.execute(f"LOCK TABLE {TABLES} IN ACCESS EXCLUSIVE MODE")
            yield cache
            await connection.rollback()
            await cache.put({"again": b"1"}, seconds=LONG)


class TestExhaustedPool(AwayCacheContract):
    """A pool that gives no connection is not waited for."""

    @pytest.fixture
    async def away(self, migrated: str) -> AsyncIterator[Cache]:
        """All connections are taken."""
        database = Database(migrated, size=1)
        await database.open()
        async with database.connection():
            yield PostgresCache(database)
        await database.close()


class TestNoPostgres(AwayCacheContract):
    """Nobody listens."""

    @pytest.fixture
    async def away(self) -> AsyncIterator[Cache]:
        """A pool that was never filled."""
        database = Database("postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=2")
        await database.pool.open(wait=False)
        yield PostgresCache(database)
        await database.close()


class TestFrozenPostgres(AwayCacheContract):
    """A server that hangs amid a connection is not waited for, not even until it has ended the statement."""

    @pytest.fixture
    async def away(self, migrated: str) -> AsyncIterator[Cache]:
        """The one process that serves us stands still for as long as the test runs; then it serves us again."""
        database = Database(migrated, size=1)
        await database.open()
        ((pid,),) = await database.fetch("SELECT pg_backend_pid()")
        os.kill(pid, signal.SIGSTOP)
        cache = PostgresCache(database)
        yield cache
        os.kill(pid, signal.SIGCONT)
        await _recovers(cache)
        await database.close()


async def _recovers(cache: Cache) -> None:
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        try:
            return await cache.put({"again": b"1"}, seconds=LONG)
        except CacheUnavailableError:
            assert time.monotonic() < deadline


class TestNoTables(AwayCacheContract):
    """A database that was not migrated is no cache, and no error of another kind."""

    @pytest.fixture
    async def away(self, migrated: str) -> AsyncIterator[Cache]:
        """The tables have other names for as long as the test runs."""
        async with await psycopg.AsyncConnection.connect(migrated, autocommit=True) as connection:
            await _rename(connection, "{0}", "other_{0}")
            async with postgres(migrated) as cache:
                yield cache
            await _rename(connection, "other_{0}", "{0}")


async def _rename(connection: psycopg.AsyncConnection, old: str, new: str) -> None:
    for table in TABLES.split(", "):
        await connection.execute(f"ALTER TABLE {old.format(table)} RENAME TO {new.format(table)}")
