"""What 16 parallel clients over 2 processes get of one limit, and what one take costs.

    uv run python benchmarks/limiter.py [WINDOWS]       # of 5 s; 8 when not said

The first part asks the limiter itself, in 2 processes of 8 tasks each, for one counter that both share: as fast as they
can where they are refused, for so many windows of 5 s. A limit of L allows L in each window, so `allowed` over
L x WINDOWS is 1 when it is exact; the last moment of the last window is left out, or the next one might begin in it.

The second part takes as the guard of the API does, for a key and its tenant in one call, in turn with the least that a
call of the same server costs (`SELECT 1` in PostgreSQL, PING in Redis), over the same kind of connection.

The third part asks `bookwheel up` with 2 API processes for `GET /v1/models` with one key of 100 requests per minute, by
16 clients, for nearly one window: it must answer exactly 100. Where the API does not count requests it is left out.
"""

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
from redis.asyncio import Redis

from bookwheel.backends.postgres.limits import open_limiter
from bookwheel.backends.redis import RedisLimiter
from bookwheel.client import Client
from bookwheel.data_directory import holder
from bookwheel.errors import LimiterUnavailableError
from bookwheel.ports import Limiter
from bookwheel.types import Take
from harness import Figure, median, report, running

WINDOW, WINDOWS, LIMIT = 5.0, 8, 100
SHORT_SECONDS = 0.2  # of the last window, which is left out
PROCESSES, TASKS = 2, 8
PAUSE_SECONDS = 0.004  # of a client that was refused
TAKES = 3_000  # of each kind
BAR_RATIO, BAR_MILLISECONDS = 0.99, 1.0
KEY_LIMIT, HTTP_SECONDS = 100, 50.0
START_SECONDS = 20.0

Call = Callable[[], Awaitable[object]]


@contextlib.contextmanager
def redis_server() -> Iterator[str | None]:
    """The URL of a Redis that keeps nothing; None where it is not installed."""
    if (program := shutil.which("redis-server")) is None:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="bookwheel-bench-") as folder:
        options = ("--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", folder)
        process = subprocess.Popen([program, *options, "--logfile", f"{folder}/log"])
        try:
            _until_listening(port)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def _until_listening(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit("redis-server did not start.")


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Limiter]:
    """The limiter of a URL, once it answers."""
    if url.startswith("redis:"):
        limiter = RedisLimiter(url)
        await limiter.ping()
        yield limiter
        await limiter.close()
        return
    async with open_limiter(url) as shared:
        await shared.ping()
        yield shared


async def clients(url: str, name: str, begin: float, seconds: float) -> int:
    """How many takes this process's clients are allowed, from a moment that all processes share."""
    take, allowed = Take(name=name, limit=LIMIT, seconds=WINDOW), 0

    async def client(limiter: Limiter) -> None:
        nonlocal allowed
        while time.time() < begin + seconds:
            with contextlib.suppress(LimiterUnavailableError):  # then it was not allowed
                (standing,) = await limiter.take([take])
                allowed += standing.allowed
                await asyncio.sleep(0 if standing.allowed else PAUSE_SECONDS)

    async with opened(url) as limiter:
        await asyncio.sleep(begin - time.time())
        await asyncio.gather(*(client(limiter) for _ in range(TASKS)))
    return allowed


def allowed_ratio(url: str, windows: int) -> tuple[float, int]:
    """What all processes were allowed, against the limit of so many windows."""
    begin, seconds = time.time() + 5.0, windows * WINDOW - SHORT_SECONDS
    given = json.dumps({"url": url, "name": f"bench:{uuid4()}", "begin": begin, "seconds": seconds})
    command = [sys.executable, __file__, "--client", given]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(PROCESSES)]
    allowed = sum(int(process.communicate()[0]) for process in started)
    return allowed / (LIMIT * windows), allowed


async def costs(url: str) -> tuple[float, float, float]:
    """Milliseconds of a take by its median and 99th percentile, and of the least call by its median; in turn."""
    taken: dict[str, list[float]] = {"take": [], "least": []}
    async with opened(url) as limiter, least_call(url) as least:
        key, tenant = f"bench:{uuid4()}", f"bench:{uuid4()}"
        takes = [Take(name=key, limit=10**9), Take(name=tenant, limit=10**9)]
        calls: dict[str, Call] = {"take": lambda: limiter.take(takes), "least": least}
        for number in range(TAKES + 100):
            for kind, call in calls.items():
                began = time.perf_counter()
                await call()
                if number >= 100:
                    taken[kind].append(1_000 * (time.perf_counter() - began))
    return median(taken["take"]), sorted(taken["take"])[int(0.99 * TAKES)], median(taken["least"])


@asynccontextmanager
async def least_call(url: str) -> AsyncIterator[Call]:
    """The cheapest call of the same server."""
    if url.startswith("redis:"):
        redis = Redis.from_url(url, protocol=2)
        yield redis.ping
        await redis.aclose()
        return
    async with open_limiter(url) as limiter:
        await limiter.ping()
        yield lambda: limiter.database.fetch("SELECT 1")


def measured(name: str, url: str, windows: int) -> list[Figure]:
    """The figures of one store."""
    ratio, allowed = allowed_ratio(url, windows)
    p50, p99, least = asyncio.run(costs(url))
    detail = f"{allowed} of {LIMIT} in each of {windows} windows; {PROCESSES} processes x {TASKS} clients"
    return [
        Figure(name=f"limits in {name}: allowed against the limit, least", value=ratio, bar=BAR_RATIO, detail=detail),
        Figure(name=f"limits in {name}: allowed, most", value=ratio, bar=2 - BAR_RATIO, at_most=True, detail=detail),
        Figure(
            name=f"limits in {name}: one take for key and tenant, p50",
            value=p50,
            bar=BAR_MILLISECONDS,
            unit="ms",
            at_most=True,
            detail=f"p99 {p99:.2f} ms; the least call of the same server {least:.2f} ms",
        ),
    ]


async def over_http(url: str, secret: str) -> tuple[int, bool]:
    """How many requests of 16 clients the API answers, and whether it says what its limit is."""
    answered, says = 0, False

    async def client(http: httpx.AsyncClient) -> None:
        nonlocal answered, says
        while time.monotonic() < end:
            answer = await http.get("/v1/models")
            answered += answer.status_code == httpx.codes.OK
            says = says or "x-ratelimit-limit-requests" in answer.headers
            await asyncio.sleep(PAUSE_SECONDS if answer.status_code == httpx.codes.OK else 10 * PAUSE_SECONDS)

    async with contextlib.AsyncExitStack() as stack:
        headers = {"authorization": f"Bearer {secret}"}
        made = [httpx.AsyncClient(base_url=url, headers=headers, timeout=30) for _ in range(PROCESSES * TASKS)]
        each = [await stack.enter_async_context(one) for one in made]  # connections of their own: both processes serve
        end = time.monotonic() + HTTP_SECONDS
        await asyncio.gather(*map(client, each))
    return answered, says


def through_the_api(url: str) -> list[Figure]:
    """One key of 100 requests a minute."""
    with Client(url) as client:
        key = client.call("POST", "/v1/keys", json={"name": "bench", "limits": {"requests_per_minute": KEY_LIMIT}})
    answered, says = asyncio.run(over_http(url, key["secret"]))
    if not says:
        print("The API does not say x-ratelimit-limit-requests: requests are not counted there, so this is left out.")
        return []
    detail = f"{answered} of {KEY_LIMIT} in one minute; 16 clients, 2 API processes, PostgreSQL"
    name, value = "requests of one key over 2 API processes: answered against the limit", answered / KEY_LIMIT
    return [
        Figure(name=f"{name}, least", value=value, bar=BAR_RATIO, detail=detail),
        Figure(name=f"{name}, most", value=value, bar=2 - BAR_RATIO, at_most=True, detail=detail),
    ]


def main(windows: int) -> None:
    """All parts; each is told as soon as it is there."""
    with running(BOOKWHEEL_API_PROCESSES=str(PROCESSES)) as server, redis_server() as redis:
        stores = {"PostgreSQL": str(holder(server.data_dir)["database_url"]), "Redis": redis}
        for name, url in stores.items():
            if url is not None:
                report("limiter", measured(name, url, windows))
        report("limiter", through_the_api(server.url))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        print(asyncio.run(clients(**json.loads(sys.argv[2]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else WINDOWS)
