"""The cache that processes share, in PostgreSQL: one statement for each verb."""

from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg

from bookwheel.backends.postgres.database import Database
from bookwheel.errors import BookwheelError, CacheUnavailableError
from bookwheel.parts import in_time

T = TypeVar("T")

PATIENCE_SECONDS = 1.0  # a cache that is slower is away
SWEEP_SECONDS = 10.0  # for one statement of a sweep, which nobody waits for
SWEEP_STATEMENTS = 10_000
HELD_BYTES = 512 << 20  # of values, and of lists, after a sweep
ROW_BYTES = 512  # what a row costs beside its value, generously: so many rows are bounded too

GET = "SELECT key, value FROM cache_values WHERE key = ANY(%s) AND expires_at > now()"
PUT = """
INSERT INTO cache_values SELECT key, value, now() + %s * interval '1 second'
FROM unnest(%s::text[], %b::bytea[]) AS given (key, value)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
"""
# In the order of put, or the two would wait for each other.
REMOVE = """
DELETE FROM cache_values WHERE key IN (
    SELECT key FROM cache_values WHERE key = ANY(%s) ORDER BY key FOR UPDATE)
"""

# Numbers go by the clock: a list that is lost goes on above the numbers that its readers know.
APPEND = """
WITH turn AS (
    INSERT INTO cache_groups AS g (name, last_number, first_number, keep, expires_at)
    SELECT %(group)s, clock, clock, %(keep)s, clock_timestamp() + %(seconds)s * interval '1 second'
    FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint AS clock) AS now
    ON CONFLICT (name) DO UPDATE SET last_number = greatest(g.last_number + 1, excluded.last_number),
        first_number = CASE WHEN g.expires_at > clock_timestamp() THEN g.first_number ELSE g.last_number + 1 END,
        keep = excluded.keep, expires_at = excluded.expires_at
    RETURNING last_number, first_number
), added AS (
    INSERT INTO cache_members SELECT %(group)s, last_number, %(member)b FROM turn
)
DELETE FROM cache_members m USING turn WHERE m.name = %(group)s AND (m.number < turn.first_number
    OR m.number <= (SELECT number FROM cache_members WHERE name = %(group)s
        ORDER BY number DESC OFFSET %(keep)s - 1 LIMIT 1))
"""
# An append does not see, and so does not trim, what was added while it waited for its turn: hence the second limit.
MEMBERS = """
SELECT m.number, m.member FROM cache_members m WHERE m.name = %(group)s AND m.number > %(after)s
    AND m.number >= (SELECT first_number FROM cache_groups WHERE name = %(group)s AND expires_at > now())
ORDER BY m.number DESC LIMIT (SELECT keep FROM cache_groups WHERE name = %(group)s)
"""

# Of one tenant; members go with their lists. In the order of put.
FORGET = (
    "DELETE FROM cache_values WHERE key IN (SELECT key FROM cache_values"
    " WHERE split_part(key, ':', 2) = %(tenant)s ORDER BY key LIMIT %(rows)s FOR UPDATE) RETURNING 1",
    "DELETE FROM cache_groups WHERE name IN (SELECT name FROM cache_groups"
    " WHERE split_part(name, ':', 2) = %(tenant)s ORDER BY name LIMIT %(rows)s FOR UPDATE) RETURNING 1",
)
FORGET_ROWS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """How one kind of thing is forgotten: `expired` takes at most `rows` of those, `drop` at most `rows` of those that
    expire first and no more than `over` bytes ask for. Both return for each how many keys or members, and bytes, it
    was. What somebody writes just now is left to the next sweep."""

    rows: int  #: in one statement, so that none holds its locks for long
    held: str
    expired: str
    drop: str


VALUE_SIZE = f"octet_length(value) + {ROW_BYTES}"
MEMBERS_SIZE = f"""(SELECT count(*) AS members, coalesce(sum(octet_length(member) + {ROW_BYTES}), 0)::bigint AS bytes
    FROM cache_members m WHERE m.name = g.name)"""

SWEPT_VALUES = Swept(
    rows=500,
    held=f"SELECT coalesce(sum({VALUE_SIZE}), 0)::bigint FROM cache_values",
    expired=f"""
DELETE FROM cache_values WHERE key IN (
    SELECT key FROM cache_values WHERE expires_at <= now() ORDER BY expires_at LIMIT %(rows)s FOR UPDATE SKIP LOCKED)
RETURNING 1::bigint, ({VALUE_SIZE})::bigint
""",
    drop=f"""
WITH soonest AS (SELECT key, {VALUE_SIZE} AS bytes, expires_at FROM cache_values ORDER BY expires_at LIMIT %(rows)s),
summed AS (SELECT key, sum(bytes) OVER (ORDER BY expires_at, key) - bytes AS before FROM soonest)
DELETE FROM cache_values WHERE key IN (
    SELECT key FROM cache_values WHERE key IN (SELECT key FROM summed WHERE before < %(over)s) FOR UPDATE SKIP LOCKED)
RETURNING 1::bigint, ({VALUE_SIZE})::bigint
""",
)
SWEPT_GROUPS = Swept(
    rows=50,
    held=f"SELECT coalesce(sum(octet_length(member) + {ROW_BYTES}), 0)::bigint FROM cache_members",
    expired=f"""
WITH gone AS (SELECT g.name, size.* FROM cache_groups g, LATERAL {MEMBERS_SIZE} AS size
    WHERE expires_at <= now() ORDER BY expires_at LIMIT %(rows)s FOR UPDATE OF g SKIP LOCKED),
removed AS (DELETE FROM cache_groups WHERE name IN (SELECT name FROM gone))
SELECT members, bytes FROM gone
""",
    drop=f"""
WITH soonest AS (SELECT g.name, g.expires_at, size.* FROM cache_groups g, LATERAL {MEMBERS_SIZE} AS size
    ORDER BY expires_at LIMIT %(rows)s FOR UPDATE OF g SKIP LOCKED),
summed AS (SELECT *, sum(bytes) OVER (ORDER BY expires_at, name) - bytes AS before FROM soonest),
removed AS (DELETE FROM cache_groups WHERE name IN (SELECT name FROM summed WHERE before < %(over)s))
SELECT members, bytes FROM summed WHERE before < %(over)s
""",
)


class PostgresCache:
    """Fills ports.Cache. Its bound holds after each sweep; between two it may grow past it. What is over it and would
    expire first goes first."""

    name = "postgresql"

    def __init__(self, database: Database, *, held_bytes: int = HELD_BYTES) -> None:
        """Values, and lists, take at most `held_bytes` after a sweep."""
        self.database = database
        self._held_bytes = held_bytes

    async def get(self, keys: Sequence[str], *, newest: bool = False) -> Mapping[str, bytes]:  # noqa: ARG002 - all is shared
        """See ports.Cache."""
        if not keys:
            return {}
        return dict(await self._soon(self.database.fetch(GET, (list(keys),))))

    async def put(self, values: Mapping[str, bytes], *, seconds: float) -> None:
        """See ports.Cache."""
        if values:
            keys = sorted(values)  # in one order, or two puts would wait for each other
            await self._soon(self._execute(PUT, (seconds, keys, [values[key] for key in keys])))

    async def remove(self, keys: Sequence[str]) -> None:
        """See ports.Cache."""
        if keys:
            await self._soon(self._execute(REMOVE, (list(keys),)))

    async def append(self, group: str, member: bytes, *, seconds: float, keep: int) -> None:
        """See ports.Cache."""
        given = {"group": group, "member": member, "seconds": seconds, "keep": keep}
        await self._soon(self._execute(APPEND, given))

    async def members(self, group: str, *, after: int = 0) -> Sequence[tuple[int, bytes]]:
        """See ports.Cache."""
        found = await self._soon(self.database.fetch(MEMBERS, {"group": group, "after": after}))
        return [(number, member) for number, member in reversed(found)]

    async def forget(self, tenant: str) -> int:
        """See ports.Cache."""
        count = 0
        for statement in FORGET:
            while gone := await self._sweep_once(statement, {"tenant": tenant, "rows": FORGET_ROWS}):
                count += len(gone)
        return count

    async def sweep(self) -> int:
        """See ports.Cache."""
        kinds = (SWEPT_VALUES, SWEPT_GROUPS)
        return sum([await self._forget_expired(kind) + await self._hold_bound(kind) for kind in kinds])

    async def ping(self) -> None:
        """See ports.Cache."""
        await self._soon(self.database.fetch("SELECT 1 FROM cache_values LIMIT 1"))

    async def _forget_expired(self, kind: Swept) -> int:
        count = 0
        for _ in range(SWEEP_STATEMENTS):
            gone = await self._sweep_once(kind.expired, {"rows": kind.rows})
            count += sum(number for number, _ in gone)
            if not gone:
                break
        return count

    async def _hold_bound(self, kind: Swept) -> int:
        ((held,),) = await self._sweep_once(kind.held)
        over, count = held - self._held_bytes, 0
        while over > 0 and (gone := await self._sweep_once(kind.drop, {"rows": kind.rows, "over": over})):
            count += sum(number for number, _ in gone)
            over -= sum(size for _, size in gone)
        return count

    async def _sweep_once(self, query: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        return await self._soon(self.database.fetch(query, parameters), seconds=SWEEP_SECONDS)

    async def _execute(self, query: str, parameters: Any) -> None:
        async with self.database.connection() as connection:
            await connection.execute(query.encode(), parameters)

    async def _soon(self, work: Coroutine[Any, Any, T], *, seconds: float = PATIENCE_SECONDS) -> T:
        """What `work` returns, or CacheUnavailableError in time."""
        try:
            return await in_time(work, seconds)
        except TimeoutError as error:
            raise unavailable(f"no answer within {seconds:g} s") from error
        except (psycopg.Error, BookwheelError) as error:
            raise unavailable(_reason(error)) from error


def unavailable(reason: str) -> CacheUnavailableError:
    """The error of every verb."""
    return CacheUnavailableError(
        f"The cache in PostgreSQL does not answer: {reason}. Check the database, or set BOOKWHEEL_CACHE_URL to another"
        " cache; answers go on without it."
    )


def _reason(error: psycopg.Error | BookwheelError) -> str:
    """In few words, without addresses or values."""
    if isinstance(error, BookwheelError):
        return error.code
    return error.diag.message_primary or type(error).__name__
