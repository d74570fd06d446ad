"""The connection pool, transactions that are retried on deadlock, and the border where errors are translated."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import orjson
import psycopg
from pgvector.psycopg import register_vector_async
from psycopg import AsyncConnection, errors
from psycopg.rows import TupleRow
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from bookwheel.errors import DatabaseUnavailableError, StorageFullError

Connection = AsyncConnection[TupleRow]
T = TypeVar("T")

POOL_SIZE = 8
POOL_TIMEOUT_SECONDS = 10.0
TRANSACTION_TRIES = 4

#: Search plans: nearest neighbours come out of the graph in order, so a plan that sorts is the worse one.
SEARCHING = {
    "hnsw.ef_search": "120",
    "hnsw.iterative_scan": "strict_order",
    "enable_sort": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
}
#: A worker's statements are few and carry hundreds of rows: a plan kept from when the tables were empty costs far more
#: than a new one.
WORKING = {"jit": "off", "plan_cache_mode": "force_custom_plan"}


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours; what is our own mistake (bad SQL) passes unchanged."""
    try:
        yield
    except errors.DiskFull as error:
        raise StorageFullError from error
    except (errors.OutOfMemory, errors.TooManyConnections) as error:
        raise DatabaseUnavailableError(
            f"PostgreSQL refused: {error.diag.message_primary}. Retry in a moment."
        ) from error
    except (PoolTimeout, PoolClosed, OSError) as error:
        raise DatabaseUnavailableError from error
    except (errors.DeadlockDetected, errors.SerializationFailure):
        raise
    except psycopg.OperationalError as error:
        raise DatabaseUnavailableError from error


class Database:
    """A pool of connections to one PostgreSQL."""

    def __init__(self, url: str, *, size: int = POOL_SIZE, works: bool = False) -> None:
        """With `works` its sessions are for a worker's statements, else for searching."""
        self.url = url
        self._session = WORKING if works else SEARCHING
        self.pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=size,
            timeout=POOL_TIMEOUT_SECONDS,
            open=False,
            configure=self._configure,
            kwargs={"autocommit": True, "prepare_threshold": 2},
            name="bookwheel",
        )

    async def open(self) -> None:
        """Connect. Raises DatabaseUnavailableError."""
        with translated():
            await self.pool.open(wait=True, timeout=POOL_TIMEOUT_SECONDS)

    async def close(self) -> None:
        """Close all connections."""
        await self.pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit mode, for single statements."""
        with translated():
            async with self.pool.connection() as connection:
                yield connection

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in one transaction, again when it met a deadlock or lost a race for a unique name."""
        for attempt in range(TRANSACTION_TRIES):
            try:
                async with self.connection() as connection, connection.transaction():
                    return await work(connection)
            except (errors.DeadlockDetected, errors.SerializationFailure, errors.UniqueViolation) as error:
                if attempt == TRANSACTION_TRIES - 1:
                    raise DatabaseUnavailableError("The database is contended. Retry in a moment.") from error
                await asyncio.sleep(0.02 * 2**attempt)
        raise AssertionError("unreachable")

    async def _configure(self, connection: Connection) -> None:
        for name, value in self._session.items():
            await connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        await register_vector_async(connection)
        set_json_loads(orjson.loads, connection)  # jsonb gives digits: those of 1e300 become a float here

    async def fetch(self, query: str, parameters: Any = ()) -> list[TupleRow]:
        """All rows of one statement, in binary."""
        async with self.connection() as connection:
            return await rows(connection, query, parameters)


async def rows(connection: Connection, query: str, parameters: Any = ()) -> list[TupleRow]:
    """All rows of one statement on this connection, in binary."""
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(query.encode(), parameters)
        return await cursor.fetchall()
