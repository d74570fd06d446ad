"""One tenant far over its limit, without and with a bulk load beside it: what do the others notice?

    uv run python benchmarks/neighbour.py [SECONDS]         # of each block; 15 when not said

Three tenants without limits search their stores of SQuAD passages at an even pace, one request after the other. Blocks
in turn: quiet ones; loud ones in which a fourth tenant, whose limit is 300 requests a minute, sends ten times as many
from sixteen connections; and loaded ones in which it has thousands of passages ingested besides. A search is timed from
when it was due, so that one that waits behind a slow one counts as slow. Nothing is kept by any cache.
"""

import asyncio
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from bookwheel.client import Client
from harness import Figure, load, median, report, running

SECONDS = 15.0
BLOCKS = 3  # of each kind
QUIET, PASSAGES, PACE = 3, 400, 8.0  # tenants, what each has, and searches a second of each
LIMIT, TIMES, CONNECTIONS = 300, 10, 16
LOAD = 2_000  # passages put at the beginning of each loud block
LEAD = 10.0  # seconds of shouting before a loud block is measured: what its limit lets through at once is spent
BAR = 1.5


@dataclass(frozen=True, slots=True)
class Searcher:
    """A tenant with a key and a store."""

    key: str
    store_id: str


def tenant(admin: Client, url: str, name: str, *, per_minute: int, corpus: list[dict[str, Any]]) -> Searcher:
    """A new tenant whose store holds these passages."""
    limits = {"requests_per_minute": per_minute, "tokens_per_minute": 0}
    made = admin.call("POST", "/v1/tenants", json={"name": name, "limits": limits})
    body = {"name": name, "role": "writer", "limits": limits}
    key = admin.call("POST", f"/v1/tenants/{made['id']}/keys", json=body)["secret"]
    with Client(url, key=key) as client:
        store_id = client.call("POST", "/v1/vector_stores", json={"name": name})["id"]
        for line in client.put_documents(store_id, [{"id": one["_id"], "text": one["text"]} for one in corpus]):
            if "error" in line:
                raise SystemExit(str(line))
        client.wait(store_id)
    return Searcher(key, store_id)


async def searching(url: str, one: Searcher, queries: list[str], seconds: float) -> list[float]:
    """Milliseconds from when each search was due until it was answered."""
    taken = []
    async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {one.key}"}, timeout=60) as client:
        began = time.perf_counter()
        for number in range(int(seconds * PACE)):
            due = began + number / PACE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            response = await client.post(
                f"/v1/vector_stores/{one.store_id}/search", json={"query": random.choice(queries)}
            )
            response.raise_for_status()
            taken.append(1_000 * (time.perf_counter() - due))
    return taken


async def shouting(url: str, one: Searcher, queries: list[str], seconds: float) -> dict[int, int]:
    """Ten times the limit, evenly over all connections; how often each status came."""
    statuses: dict[int, int] = {}
    interval = 60 * CONNECTIONS / (LIMIT * TIMES)

    async def connection(client: httpx.AsyncClient, began: float) -> None:
        for number in range(int(seconds / interval)):
            await asyncio.sleep(max(0.0, began + number * interval - time.perf_counter()))
            response = await client.post(
                f"/v1/vector_stores/{one.store_id}/search", json={"query": random.choice(queries)}
            )
            statuses[response.status_code] = statuses.get(response.status_code, 0) + 1

    headers = {"authorization": f"Bearer {one.key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
        began = time.perf_counter() + random.random() * interval
        await asyncio.gather(*(connection(client, began + n * interval / CONNECTIONS) for n in range(CONNECTIONS)))
    return statuses


@contextmanager
def bulk_load(admin: Client, url: str, one: Searcher, corpus: list[dict[str, Any]], block: int) -> Iterator[None]:
    """Passages that nobody has embedded yet wait for the worker; what is left at the end goes with its store."""
    passages = random.sample(corpus, LOAD)
    lines = [{"id": f"{block}-{n}", "text": f"{block}. {passage['text']}"} for n, passage in enumerate(passages)]
    with Client(url, key=one.key) as client:
        store_id = client.call("POST", "/v1/vector_stores", json={"name": f"load-{block}"})["id"]
        for line in client.put_documents(store_id, lines):
            if "error" in line:
                raise SystemExit(str(line))
        yield
        left = client.call("GET", f"/v1/vector_stores/{store_id}")["file_counts"]["in_progress"]
        print(f"block {block}: {LOAD - left} of {LOAD} passages were ingested meanwhile", flush=True)
        client.call("DELETE", f"/v1/vector_stores/{store_id}")
    while admin.call("GET", "/v1/status")["keywords_behind"]:
        time.sleep(0.2)


async def block(url: str, quiet: list[Searcher], queries: list[str], seconds: float) -> list[float]:
    """All quiet tenants at once; their times together."""
    ended = await asyncio.gather(*(searching(url, one, queries, seconds) for one in quiet))
    return [taken for times in ended for taken in times]


def p99(taken: list[float]) -> float:
    """The 99th percentile."""
    return sorted(taken)[int(0.99 * len(taken))]


def measure(url: str, admin: Client, seconds: float) -> list[Figure]:
    """Alternate, and compare."""
    data = load("squad_dev", queries=500)
    queries = [query["text"] for query in data.queries]
    quiet = [
        tenant(admin, url, f"quiet-{n}", per_minute=0, corpus=data.corpus[n * PASSAGES : (n + 1) * PASSAGES])
        for n in range(QUIET)
    ]
    loud = tenant(admin, url, "loud", per_minute=LIMIT, corpus=data.corpus[:PASSAGES])
    asyncio.run(block(url, quiet, queries, seconds / 2))  # to warm up
    calm: list[float] = []
    beside: list[float] = []
    loaded: list[float] = []
    for number in range(BLOCKS):
        calm += asyncio.run(block(url, quiet, queries, seconds))
        statuses, taken = asyncio.run(both(url, quiet, loud, queries, seconds))
        beside += taken
        print(f"block {number}: the loud tenant was answered {statuses}", flush=True)
        with bulk_load(admin, url, loud, data.corpus, number):
            statuses, taken = asyncio.run(both(url, quiet, loud, queries, seconds))
        loaded += taken
    return [
        compared("beside one at ten times its limit", beside, calm, seconds),
        compared("beside one at ten times its limit with a bulk load", loaded, calm, seconds),
    ]


def compared(what: str, taken: list[float], calm: list[float], seconds: float) -> Figure:
    """The figure, with what it is made of."""
    detail = f"p99 {p99(taken):.1f} against {p99(calm):.1f} ms, p50 {median(taken):.1f} against {median(calm):.1f} ms"
    return Figure(
        name=f"p99 of other tenants' searches {what}, to their quiet p99",
        value=p99(taken) / p99(calm),
        bar=BAR,
        at_most=True,
        detail=f"{detail}; {QUIET} tenants, {BLOCKS} blocks of {seconds:.0f} s in turns",
    )


async def both(
    url: str, quiet: list[Searcher], loud: Searcher, queries: list[str], seconds: float
) -> tuple[dict[int, int], list[float]]:
    """A loud block: the answers that the loud tenant got, and the others' times."""
    shouts = asyncio.create_task(shouting(url, loud, queries, LEAD + seconds))
    await asyncio.sleep(LEAD)
    taken = await block(url, quiet, queries, seconds)
    return await shouts, taken


def main(seconds: float) -> None:
    """On one server."""
    random.seed(99)
    with running(BOOKWHEEL_CACHE_URL="off:") as server, Client(server.url) as admin:
        report("neighbour", measure(server.url, admin, seconds))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)
