"""The connection pool, for whom its sessions act, transactions that are retried on deadlock, and the border where
errors are translated."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import orjson
import psycopg
from pgvector.psycopg import register_vector_async
from psycopg import AsyncConnection, errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from bookwheel.access import caller
from bookwheel.errors import DatabaseUnavailableError, NotFoundError, SettingsError, StorageFullError
from bookwheel.types import Role

Connection = AsyncConnection[TupleRow]
T = TypeVar("T")

POOL_SIZE = 8
POOL_TIMEOUT_SECONDS = 10.0
TRANSACTION_TRIES = 4

EVERYBODY = "*"  #: the value of `bookwheel.tenant` for which no policy hides anything (migration 0018)
WALLED_ROLE = "bookwheel_api"  #: owners and superusers pass by policies, this role does not
LOGIN_ROLE = "none"  # in PostgreSQL's words
ACT_FOR = "SELECT set_config('bookwheel.tenant', %s, false), set_config('role', %s, false)"
#: Whether sessions may take on the role, and it has its rights in this database. PostgreSQL 15 knows no right to SET.
MAY_TAKE_ROLE = """
SELECT coalesce(has_table_privilege(r.walled, to_regclass('documents')::oid, 'SELECT') AND pg_has_role(session_user,
    r.walled, CASE WHEN current_setting('server_version_num')::integer < 160000 THEN 'MEMBER' ELSE 'SET' END), false)
FROM (SELECT to_regrole(%s)::oid) AS r (walled)
"""

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
    except errors.ForeignKeyViolation as error:
        if not (error.diag.constraint_name or "").endswith("_tenant_id_fkey"):
            raise
        raise NotFoundError("There is no such tenant any more.") from error  # it was offboarded during the request


def checked_url(url: str) -> str:
    """The URL, when the driver can read it. Raises SettingsError without the cause, which repeats the URL and so the
    password."""
    try:
        conninfo_to_dict(url)
    except psycopg.Error:
        raise SettingsError(
            "BOOKWHEEL_DATABASE_URL is no PostgreSQL URL: use postgresql://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE[?...];"
            " characters of a password that mean something in URLs are percent-encoded."
        ) from None
    return url


def acting_for() -> str:
    """For whom the present task asks: the tenant of its caller. Operators, and what nobody asks for, act for all."""
    present = caller()
    return EVERYBODY if present is None or present.role is Role.OPERATOR else str(present.scope.tenant_id)


class Session(AsyncConnection[TupleRow]):
    """A connection that remembers for whom it acts, and as which role."""

    acts: tuple[str, str] | None = None  #: None before the first time, and while that changes
    walled_role: str = LOGIN_ROLE

    async def act_for(self, who: str, *, walled: bool) -> None:
        """One trip to the server when it acted otherwise, outside of any transaction that could undo it."""
        wanted = who, self.walled_role if walled else LOGIN_ROLE
        if self.acts != wanted:
            self.acts = None
            await self.execute(ACT_FOR, wanted)
            self.acts = wanted


class Database:
    """A pool of connections to one PostgreSQL."""

    def __init__(self, url: str, *, size: int = POOL_SIZE, works: bool = False, guarded: bool = True) -> None:
        """With `works` its sessions are for a worker's statements, else for searching; those that are not `guarded` see
        nothing of any tenant, and so need not be told for whom they act."""
        self.url = url
        self._guarded = guarded
        self._session = WORKING if works else SEARCHING
        self.pool: AsyncConnectionPool[Session] = AsyncConnectionPool(
            url,
            connection_class=Session,
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
    async def connection(self, *, walled: bool = False) -> AsyncIterator[Connection]:
        """A connection in autocommit mode, for single statements; it sees what its task's caller may. With `walled` it
        has the rights of callers also where it acts for all: a session that turns between roles plans anew each time.
        """
        with translated():
            async with self.pool.connection() as connection:
                if self._guarded:
                    who = acting_for()
                    await connection.act_for(who, walled=walled or who != EVERYBODY)
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

    async def _configure(self, connection: Session) -> None:
        for name, value in self._session.items():
            await connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        await register_vector_async(connection)
        set_json_loads(orjson.loads, connection)  # jsonb gives digits: those of 1e300 become a float here
        if (await rows(connection, MAY_TAKE_ROLE, (WALLED_ROLE,)))[0][0]:
            connection.walled_role = WALLED_ROLE
            await connection.execute("SELECT set_config('role', %s, false)", (WALLED_ROLE,))

    async def fetch(self, query: str, parameters: Any = (), *, walled: bool = False) -> list[TupleRow]:
        """All rows of one statement, in binary; see `connection`."""
        async with self.connection(walled=walled) as connection:
            return await rows(connection, query, parameters)


async def rows(connection: Connection, query: str, parameters: Any = ()) -> list[TupleRow]:
    """All rows of one statement on this connection, in binary."""
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(query.encode(), parameters)
        return await cursor.fetchall()
