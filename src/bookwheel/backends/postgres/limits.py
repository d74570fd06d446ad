"""The limits that processes share, in PostgreSQL: one statement for each verb, on the server's clock.

Rows are locked in the order of their names, so that nobody waits in a circle. What counts is in functions of the
database (migration 0014), for only there a clock can be read after a lock was granted.
"""

from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import Any, TypeVar

import psycopg

from bookwheel.backends.postgres.database import Database
from bookwheel.errors import BookwheelError, LimiterUnavailableError
from bookwheel.parts import in_time
from bookwheel.types import Entry, Standing, Take

T = TypeVar("T")
Asked = TypeVar("Asked", Take, Entry)

PATIENCE_SECONDS = 1.0  # a limiter that is slower is away
SESSIONS = 4  # of each process
SWEEP_SECONDS = 10.0  # for one statement of a sweep, which nobody waits for
SWEEP_ROWS = 500  # in one statement, so that none holds its locks for long
SWEEP_STATEMENTS = 10_000

TAKE = "SELECT * FROM limit_take(%s::text[], %s::bigint[], %s::bigint[], %s::double precision[])"
SPENT = """
SELECT coalesce(sum(amount), 0)::bigint FROM limit_counters c, unnest(c.lasts, c.amounts) AS slice (last_at, amount)
WHERE c.name = %s AND last_at + c.window_seconds > limit_clock()
"""
ENTER = "SELECT * FROM limit_enter(%s::text[], %s::bigint[], %s, %s)"
LEAVE = "SELECT limit_hold(limit_group(name), %s, -1, NULL) FROM unnest(%s::text[]) AS name"
RENEW = (
    "SELECT limit_renew(limit_group(name), %s, count, %s) FROM unnest(%s::text[], %s::integer[]) AS it (name, count)"
)
FORGET = (
    "DELETE FROM limit_counters WHERE starts_with(name, %s) RETURNING 1",
    "DELETE FROM limit_groups WHERE starts_with(name, %s) RETURNING 1",
)
# What somebody changes just now is left to the next sweep.
SWEEPS = (
    """
DELETE FROM limit_counters WHERE name IN (
    SELECT name FROM limit_counters WHERE whole_at <= limit_clock() ORDER BY name LIMIT %s FOR UPDATE SKIP LOCKED)
RETURNING 1
""",
    """
DELETE FROM limit_groups WHERE name IN (
    SELECT name FROM limit_groups
    WHERE NOT EXISTS (SELECT FROM unnest(running, ends) AS held (count, ends_at)
        WHERE count > 0 AND ends_at > limit_clock())
    ORDER BY name LIMIT %s FOR UPDATE SKIP LOCKED)
RETURNING 1
""",
)


class PostgresLimiter:
    """Fills ports.Limiter. The tables are UNLOGGED: a crash of the server empties them, and the limits begin anew."""

    name = "postgresql"

    def __init__(self, database: Database) -> None:
        self.database = database

    async def take(self, takes: Sequence[Take]) -> Sequence[Standing]:
        """See ports.Limiter."""
        if not takes:
            return []
        asked = sorted(takes, key=attrgetter("name"))
        columns = [[getattr(one, column) for one in asked] for column in ("name", "limit", "amount", "seconds")]
        return _in_order(takes, asked, await self._fetch(TAKE, columns))

    async def add(self, name: str, amount: int, *, seconds: float = 60.0) -> None:
        """See ports.Limiter."""
        await self._fetch(TAKE, ([name], [None], [amount], [seconds]))

    async def spent(self, name: str, *, seconds: float = 60.0) -> int:  # noqa: ARG002 - the row knows it
        """See ports.Limiter."""
        ((amount,),) = await self._fetch(SPENT, (name,))
        return int(amount)

    async def enter(self, entries: Sequence[Entry], *, holder: str, lease_seconds: float) -> Sequence[Standing]:
        """See ports.Limiter."""
        if not entries:
            return []
        asked = sorted(entries, key=attrgetter("name"))
        names, limits = [entry.name for entry in asked], [entry.limit for entry in asked]
        return _in_order(entries, asked, await self._fetch(ENTER, (names, limits, holder, lease_seconds)))

    async def leave(self, names: Sequence[str], *, holder: str) -> None:
        """See ports.Limiter."""
        await self._fetch(LEAVE, (holder, sorted(names)))

    async def renew(self, running: Mapping[str, int], *, holder: str, lease_seconds: float) -> None:
        """See ports.Limiter."""
        names = sorted(running)
        await self._fetch(RENEW, (holder, lease_seconds, names, [running[name] for name in names]))

    async def forget(self, prefix: str) -> int:
        """See ports.Limiter."""
        return sum([len(await self._fetch(statement, (prefix,), seconds=SWEEP_SECONDS)) for statement in FORGET])

    async def sweep(self) -> int:
        """See ports.Limiter."""
        return sum([await self._sweep(statement) for statement in SWEEPS])

    async def ping(self) -> None:
        """See ports.Limiter."""
        await self._fetch("SELECT 1 FROM limit_counters LIMIT 1")

    async def _sweep(self, statement: str) -> int:
        count = 0
        for _ in range(SWEEP_STATEMENTS):
            gone = len(await self._fetch(statement, (SWEEP_ROWS,), seconds=SWEEP_SECONDS))
            count += gone
            if gone < SWEEP_ROWS:
                break
        return count

    async def _fetch(
        self, query: str, parameters: Sequence[Any] = (), *, seconds: float = PATIENCE_SECONDS
    ) -> list[tuple[Any, ...]]:
        """The rows, or LimiterUnavailableError in time."""
        return await _soon(self.database.fetch(query, parameters), seconds=seconds)


@asynccontextmanager
async def open_limiter(url: str) -> AsyncIterator[PostgresLimiter]:
    """A limiter over sessions of its own: what is asked before each request must not wait behind searches. It is not
    waited for."""
    database = Database(url, size=SESSIONS, guarded=False)
    try:
        await database.pool.open(wait=False)
        yield PostgresLimiter(database)
    finally:
        await database.close()


async def _soon(work: Coroutine[Any, Any, T], *, seconds: float) -> T:
    try:
        return await in_time(work, seconds)
    except TimeoutError as error:
        raise _unavailable(f"no answer within {seconds:g} s") from error
    except (psycopg.Error, BookwheelError) as error:
        raise _unavailable(_reason(error)) from error


def _in_order(given: Sequence[Asked], asked: Sequence[Asked], rows: Sequence[tuple[Any, ...]]) -> list[Standing]:
    """The rows of `asked` as standings, in the order of `given`."""
    found = {one.name: _standing(one, row) for one, row in zip(asked, rows, strict=True)}
    return [found[one.name] for one in given]


def _standing(asked: Take | Entry, row: tuple[Any, ...]) -> Standing:
    allowed, held, whole_in, wait = row
    return Standing(
        name=asked.name, limit=asked.limit, allowed=allowed, remaining=asked.limit - held, whole_in=whole_in, wait=wait
    )


def _unavailable(reason: str) -> LimiterUnavailableError:
    return LimiterUnavailableError(
        f"The store of the limits in PostgreSQL does not answer: {reason}. Check the database, or set"
        " BOOKWHEEL_LIMITS_URL to another store; requests go on without it."
    )


def _reason(error: psycopg.Error | BookwheelError) -> str:
    """In few words, without addresses or values."""
    if isinstance(error, BookwheelError):
        return error.code
    return error.diag.message_primary or type(error).__name__
