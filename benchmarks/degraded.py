"""What a search costs without vectors, against a whole one: the keyword path must not be slower.

    uv run python benchmarks/degraded.py [PASSAGES]       # of SQuAD dev; 2,000 when not said

Blocks of searches in turn, in one run: with the vector index there, and with its tables locked by another session, so
that whoever asks it hangs. A block begins once the breaker is open, or closed again. Nothing is kept by any cache.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from bookwheel.client import Client
from bookwheel.data_directory import holder
from harness import Figure, Server, ingest, load, median, report, running

PASSAGES = 2_000
BLOCKS = 6  # of each kind
SEARCHES = 200  # of each block
BAR = 1.05
SETTLE_SECONDS = 30.0
STEADY = 20  # searches in a row of the wanted kind, before a block begins


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """The tables of vectors, for everybody else."""
    with psycopg.connect(holder(data_dir)["database_url"]) as connection:
        for (space,) in connection.execute("SELECT id FROM spaces").fetchall():
            connection.execute(f"LOCK TABLE vectors_{space} IN ACCESS EXCLUSIVE MODE".encode())
        yield
        connection.rollback()


def settle(client: Client, store_id: str, queries: list[str], *, degraded: list[str]) -> None:
    """Search until so many answers in a row are degraded thus."""
    deadline, steady = time.perf_counter() + SETTLE_SECONDS, 0
    while steady < STEADY:
        if time.perf_counter() > deadline:
            raise SystemExit(f"searches do not become {degraded or 'whole'} within {SETTLE_SECONDS:.0f} s")
        page = client.search(store_id, queries[steady % len(queries)])
        steady = steady + 1 if page["degraded"] == degraded else 0


def block(client: Client, store_id: str, queries: list[str], *, degraded: list[str]) -> tuple[float, float]:
    """Median and 99th percentile of a block, in milliseconds."""
    settle(client, store_id, queries, degraded=degraded)
    taken = []
    for number in range(SEARCHES):
        began = time.perf_counter()
        page = client.search(store_id, queries[number % len(queries)])
        taken.append(1_000 * (time.perf_counter() - began))
        assert page["data"], queries[number % len(queries)]
        assert page["degraded"] == degraded, page["degraded"]
    return median(taken), sorted(taken)[int(0.99 * len(taken))]


def measure(server: Server, client: Client, store_id: str, queries: list[str]) -> list[Figure]:
    """Alternate, and compare."""
    whole, without = [], []
    for _ in range(BLOCKS):
        whole.append(block(client, store_id, queries, degraded=[]))
        with locked(server.data_dir):
            without.append(block(client, store_id, queries, degraded=["search.dense"]))
    hybrid, keywords = median([one for one, _ in whole]), median([one for one, _ in without])
    slow, slow_keywords = median([one for _, one in whole]), median([one for _, one in without])
    detail = f"p50 {keywords:.2f} ms against {hybrid:.2f} ms hybrid; p99 {slow_keywords:.1f} against {slow:.1f} ms"
    return [
        Figure(
            name="latency of a search by keywords alone, vectors locked away, to a hybrid one",
            value=keywords / hybrid,
            bar=BAR,
            at_most=True,
            detail=f"{detail}; medians of {BLOCKS} blocks of {SEARCHES}",
        )
    ]


def main(passages: int) -> None:
    """On one store."""
    data = load("squad_dev", queries=SEARCHES)
    with running(BOOKWHEEL_CACHE_URL="off:") as server, Client(server.url) as client:
        store_id, _ = ingest(client, "degraded", data.corpus[:passages])
        figures = measure(server, client, store_id, [query["text"] for query in data.queries])
    report("degraded", figures)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PASSAGES)
