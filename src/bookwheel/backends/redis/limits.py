"""The limits that many servers share, in Redis: one script for each verb, which runs alone and on the server's clock.

Times are microseconds. A counter is one string, so that it is evicted whole: the time of the newest slice's first take,
and of each slice the time of its last take and its amount. A group is a hash: of each holder how many it runs and when
its lease ends.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from redis.commands.core import AsyncScript

from bookwheel.backends.redis.server import PATIENCE_SECONDS, Server
from bookwheel.errors import LimiterUnavailableError
from bookwheel.types import Entry, Standing, Take

COUNTERS, GROUPS = "bookwheel:limit:", "bookwheel:running:"
SLICES = 100  # of a window, see ports.Limiter
NO_LIMIT = -1
NEVER = -1

CLOCK = """
local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
"""
# The counter without what has left its window.
READ = """
local function read(key, window)
    local counter = {now = clock, first = 0, held = 0, lasts = {}, amounts = {}}
    local packed = redis.call('GET', key)
    if not packed then return counter end
    local first, lasts, amounts = unpack(cmsgpack.unpack(packed))
    counter.first, counter.now = first, math.max(clock, lasts[#lasts])
    for number, last in ipairs(lasts) do
        if last + window > counter.now then
            table.insert(counter.lasts, last)
            table.insert(counter.amounts, amounts[number])
            counter.held = counter.held + amounts[number]
        end
    end
    return counter
end
"""
# For each key its limit, amount and window; returns for each whether it is allowed, what is held, and the microseconds
# until the window is whole and until it would be allowed.
TAKE = f"""
{CLOCK}{READ}
local function wait(counter)
    local left = counter.held
    for number, last in ipairs(counter.lasts) do
        left = left - counter.amounts[number]
        if left + math.max(1, counter.amount) <= counter.limit then return last + counter.window - counter.now end
    end
    return {NEVER}
end
local function book(key, counter)
    local count = #counter.lasts
    if count == 0 or counter.now - counter.first >= counter.window / {SLICES} then
        count, counter.first = count + 1, counter.now
        counter.amounts[count] = 0
    end
    counter.lasts[count] = counter.now
    counter.amounts[count] = counter.amounts[count] + counter.amount
    counter.held = counter.held + counter.amount
    local packed = cmsgpack.pack({{counter.first, counter.lasts, counter.amounts}})
    redis.call('SET', key, packed, 'PX', math.ceil(counter.window / 1000))
end
local counters, all = {{}}, true
for place, key in ipairs(KEYS) do
    local counter = read(key, tonumber(ARGV[3 * place]))
    counter.limit, counter.amount = tonumber(ARGV[3 * place - 2]), tonumber(ARGV[3 * place - 1])
    counter.window = tonumber(ARGV[3 * place])
    counter.fits = counter.limit == {NO_LIMIT} or counter.held + math.max(1, counter.amount) <= counter.limit
    all = all and counter.fits
    counters[place] = counter
end
local standings = {{}}
for place, counter in ipairs(counters) do
    if all and counter.amount > 0 then book(KEYS[place], counter) end
    local last = counter.lasts[#counter.lasts]
    standings[place] = {{
        counter.fits and 1 or 0,
        counter.held,
        last and last + counter.window - counter.now or 0,
        counter.fits and 0 or wait(counter),
    }}
end
return standings
"""
SPENT = f"{CLOCK}{READ} return read(KEYS[1], tonumber(ARGV[1])).held"

# What is alive of a group: how many run, when each lease ends; the others are forgotten.
GROUP = """
local function group(key)
    local found, all, running, first, last = redis.call('HGETALL', key), {}, 0, nil, clock
    for place = 1, #found, 2 do
        local count, ends = string.match(found[place + 1], '(%d+) (%d+)')
        count, ends = tonumber(count), tonumber(ends)
        if ends > clock then
            all[found[place]] = {count, ends}
            running, first, last = running + count, math.min(first or ends, ends), math.max(last, ends)
        else
            redis.call('HDEL', key, found[place])
        end
    end
    return all, running, first or clock, last
end
local function keep(key, holder, count, ends, last)
    if count == 0 then return redis.call('HDEL', key, holder) end
    redis.call('HSET', key, holder, string.format('%d %.0f', count, ends))
    redis.call('PEXPIRE', key, math.ceil((math.max(ends, last) - clock) / 1000))
end
"""
# The holder, the lease and the limit of each key; returns as TAKE does.
ENTER = f"""
{CLOCK}{GROUP}
local holder, lease, standings, free = ARGV[1], tonumber(ARGV[2]), {{}}, true
for place, key in ipairs(KEYS) do
    local all, running, first, last = group(key)
    local fits = running < tonumber(ARGV[2 + place])
    free = free and fits
    standings[place] = {{fits and 1 or 0, running, last - clock, fits and 0 or first - clock}}
end
if not free then return standings end
for place, key in ipairs(KEYS) do
    local all, running, first, last = group(key)
    keep(key, holder, 1 + (all[holder] and all[holder][1] or 0), clock + lease, last)
    standings[place] = {{1, running + 1, math.max(last - clock, lease), 0}}
end
return standings
"""
LEAVE = f"""
{CLOCK}{GROUP}
for place, key in ipairs(KEYS) do
    local all, running, first, last = group(key)
    local mine = all[ARGV[1]]
    if mine then keep(key, ARGV[1], mine[1] - 1, mine[2], last) end
end
"""
# The holder, the lease and how many it runs of each key.
RENEW = f"""
{CLOCK}{GROUP}
for place, key in ipairs(KEYS) do
    local all, running, first, last = group(key)
    keep(key, ARGV[1], tonumber(ARGV[2 + place]), clock + tonumber(ARGV[2]), last)
end
"""


class RedisLimiter:
    """Fills ports.Limiter. What is forgotten when its time is over costs no sweep; a server that evicts (allkeys-lru)
    may forget a counter early, one with `noeviction` is told as an outage when it is full."""

    name = "redis"

    def __init__(self, url: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Connects when it is first asked. A server that takes longer than this is away. Raises SettingsError."""
        self._server = Server(
            url,
            what="The store of the limits",
            setting="BOOKWHEEL_LIMITS_URL",
            unavailable=LimiterUnavailableError,
            patience_seconds=patience_seconds,
        )
        scripts = (TAKE, SPENT, ENTER, LEAVE, RENEW)
        register = self._server.redis.register_script
        self._take, self._spent, self._enter, self._leave, self._renew = [register(script) for script in scripts]

    async def close(self) -> None:
        """Close all connections."""
        await self._server.close()

    async def take(self, takes: Sequence[Take]) -> Sequence[Standing]:
        """See ports.Limiter."""
        if not takes:
            return []
        given = [number for one in takes for number in (one.limit, one.amount, _microseconds(one.seconds))]
        found = await self._run(self._take, COUNTERS, [one.name for one in takes], given)
        return [_standing(one, row) for one, row in zip(takes, found, strict=True)]

    async def add(self, name: str, amount: int, *, seconds: float = 60.0) -> None:
        """See ports.Limiter."""
        await self._run(self._take, COUNTERS, [name], [NO_LIMIT, amount, _microseconds(seconds)])

    async def spent(self, name: str, *, seconds: float = 60.0) -> int:
        """See ports.Limiter."""
        return int(await self._run(self._spent, COUNTERS, [name], [_microseconds(seconds)]))

    async def enter(self, entries: Sequence[Entry], *, holder: str, lease_seconds: float) -> Sequence[Standing]:
        """See ports.Limiter."""
        if not entries:
            return []
        given: list[str | int] = [holder, _microseconds(lease_seconds), *(entry.limit for entry in entries)]
        found = await self._run(self._enter, GROUPS, [entry.name for entry in entries], given)
        return [_standing(one, row) for one, row in zip(entries, found, strict=True)]

    async def leave(self, names: Sequence[str], *, holder: str) -> None:
        """See ports.Limiter."""
        if names:
            await self._run(self._leave, GROUPS, names, [holder])

    async def renew(self, running: Mapping[str, int], *, holder: str, lease_seconds: float) -> None:
        """See ports.Limiter."""
        if running:
            given: list[str | int] = [holder, _microseconds(lease_seconds), *running.values()]
            await self._run(self._renew, GROUPS, list(running), given)

    async def forget(self, prefix: str) -> int:
        """See ports.Limiter."""
        return sum([await self._server.forget(f"{kind}{prefix}*") for kind in (COUNTERS, GROUPS)])

    async def sweep(self) -> int:
        """See ports.Limiter."""
        return 0

    async def ping(self) -> None:
        """See ports.Limiter."""
        await self._server.ping()

    async def _run(self, script: AsyncScript, kind: str, names: Sequence[str], given: Sequence[str | int]) -> Any:
        """What the script returns; the server knows it from the second call on."""
        async with self._server.soon():
            return cast("Any", await script(keys=[kind + name for name in names], args=given))


def _microseconds(seconds: float) -> int:
    return max(1, round(seconds * 1_000_000))


def _standing(asked: Take | Entry, row: Sequence[int]) -> Standing:
    allowed, held, whole_in, wait = row
    return Standing(
        name=asked.name,
        limit=asked.limit,
        allowed=bool(allowed),
        remaining=asked.limit - held,
        whole_in=whole_in / 1_000_000,
        wait=None if wait == NEVER else wait / 1_000_000,
    )
