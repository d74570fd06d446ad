"""How long a document that a worker had in hand waits after kill -9 of that worker, until another worker has it.

    uv run python benchmarks/takeover.py [ROUNDS]           # 20 when not said

Two workers share one database: the one that `up` started, and one of our own, `bookwheel work` on a data directory of
its own (the texts come as NDJSON and live in the database, so it needs no blobs, and it writes no keyword index of
`up`'s). Each round puts one long text. When our worker has claimed it, which the table of leases tells, the worker is
killed with kill -9 somewhere in the middle: at that moment the lease must be its own and the document unfinished. The
clock runs from the kill until the lease of this document has another owner, or the document is published, whichever
is seen first by looking every 10 ms. Where `up`'s worker was the faster one to claim, the document is deleted and
another one is put. The dead worker is not started again before the document is taken over, so nobody but the survivor
can help.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import psycopg

from bookwheel.client import Client
from bookwheel.data_directory import holder
from harness import Figure, load, median, report, running

ROUNDS = 20
BAR_SECONDS = 15.0
PASSAGES = 250  # of a document: some seconds of embedding
HOLD_SECONDS = (0.2, 1.5)  # from the claim to the kill
POLL_SECONDS = 0.01
START_SECONDS = 60.0
LOST_SECONDS = 120.0

Connection = psycopg.Connection[Any]


@contextlib.contextmanager
def worker(database: Connection, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of our own, ready to claim; killed at the end when it still lives."""
    with tempfile.TemporaryDirectory(prefix="bookwheel-bench-", ignore_cleanup_errors=True) as directory:
        before = newest_worker(database)
        process = subprocess.Popen(
            [sys.executable, "-m", "bookwheel.cli", "work", "--data-dir", directory],
            env={**os.environ, "BOOKWHEEL_DATABASE_URL": url, "BOOKWHEEL_LOG_LEVEL": "error"},
        )
        try:
            _until_ready(database, before, process)
            yield process
        finally:
            process.kill()
            process.wait()


def _until_ready(database: Connection, before: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if newest_worker(database) > before:
            return
        time.sleep(0.05)
    raise SystemExit("The second worker did not start; its message is above.")


def newest_worker(database: Connection) -> int:
    """The number of the worker that came last to the queue."""
    found = database.execute("SELECT coalesce(max(id), 0) FROM procrastinate_workers").fetchone()
    return int(found[0]) if found else 0


def owner(database: Connection, document: str) -> str | None:
    """Who holds the document now."""
    found = database.execute("SELECT owner FROM leases WHERE document_id = %s", (document,)).fetchone()
    return str(found[0]) if found else None


def status(database: Connection, document: str) -> str:
    """The document's status."""
    found = database.execute("SELECT status FROM documents WHERE id = %s", (document,)).fetchone()
    return str(found[0]) if found else "deleted"


def text(passages: list[str]) -> str:
    """A text that nothing embedded before: sentences in an order of its own."""
    sentences = [sentence for passage in random.sample(passages, PASSAGES) for sentence in passage.split(". ")]
    random.shuffle(sentences)
    return ". ".join(sentences)


def put(client: Client, store_id: str, name: str, passages: list[str]) -> str:
    """Put a long text; returns the document's id as the database knows it."""
    (result,) = client.put_documents(store_id, [{"id": name, "text": text(passages)}])
    return str(result["document_id"]).removeprefix("doc_")


def claimed_by(database: Connection, document: str, pid: int) -> bool:
    """Wait until somebody has it; whether that is our worker."""
    deadline = time.monotonic() + LOST_SECONDS
    while time.monotonic() < deadline:
        if name := owner(database, document):
            return f"-{pid}-" in name
        time.sleep(POLL_SECONDS)
    raise SystemExit("Nobody claims the document.")


def taken_over(database: Connection, document: str, dead: str) -> float:
    """Seconds until another worker has the document or has published it."""
    began = time.perf_counter()
    while (took := time.perf_counter() - began) < LOST_SECONDS:
        if owner(database, document) not in (dead, None) or status(database, document) == "completed":
            return took
        time.sleep(POLL_SECONDS)
    return LOST_SECONDS


def one_round(client: Client, store_id: str, database: Connection, url: str, passages: list[str]) -> float:
    """Seconds that the document waited."""
    with worker(database, url) as process:
        for attempt in range(100):
            name = f"round-{process.pid}-{attempt}"
            document = put(client, store_id, name, passages)
            if claimed_by(database, document, process.pid):
                time.sleep(random.uniform(*HOLD_SECONDS))
                holding = owner(database, document)
                if holding and f"-{process.pid}-" in holding and status(database, document) == "in_progress":
                    process.send_signal(signal.SIGKILL)
                    took = taken_over(database, document, holding)
                    client.wait(store_id)
                    if status(database, document) != "completed":
                        raise SystemExit(f"{name} is {status(database, document)} after the takeover")
                    return took
            client.delete_document(store_id, name)
            client.wait(store_id)
    raise SystemExit("Our worker never has a document in hand.")


def main(rounds: int) -> None:
    """All rounds on one database."""
    random.seed(20)
    passages = [one["text"] for one in load("squad_dev").corpus]
    taken = []
    with running() as server, Client(server.url) as client:
        url = holder(server.data_dir)["database_url"]
        store_id = client.store("takeover")
        with psycopg.connect(url, autocommit=True) as database:
            for number in range(rounds):
                taken.append(one_round(client, store_id, database, url, passages))
                print(f"round {number + 1}: {taken[-1]:.2f} s")
    detail = f"median {median(taken):.1f} s, {rounds} rounds of kill -9 with a document in hand"
    name = "killed worker's document claimed by another, longest"
    report("takeover", [Figure(name=name, value=max(taken), bar=BAR_SECONDS, unit="s", at_most=True, detail=detail)])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
