"""From the upload of one small document to the first search that finds it, on an idle system.

    uv run python benchmarks/freshness.py [DOCUMENTS]       # of each kind; 100 when not said

Three ways in: an NDJSON document found by its meaning (vectors alone), the same found by a word that no other
document has (the keyword index alone), and a Markdown file found by meaning. The clock starts before the first byte
is sent. The search itself is asked every 20 ms; the status of a document says nothing here.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bookwheel.client import Client
from harness import Figure, load, report, running

DOCUMENTS = 100
BAR_SECONDS = 2.0
POLL_SECONDS = 0.02
LOST_SECONDS = 60.0
BACKGROUND = 500  # passages that are there already
MEANING = {"hybrid_search": {"embedding_weight": 1.0, "text_weight": 0.0}}
WORDS = {"hybrid_search": {"embedding_weight": 0.0, "text_weight": 1.0}}


def until_found(client: Client, store_id: str, name: str, query: str, ranking: dict[str, Any]) -> None:
    """Ask until the document is among the first ten hits."""
    deadline = time.perf_counter() + LOST_SECONDS
    while time.perf_counter() < deadline:
        asked = time.perf_counter()
        page = client.search(store_id, query, ranking_options=ranking)
        if any(hit["document"]["external_id"] == name for hit in page["data"]):
            return
        time.sleep(max(0.0, POLL_SECONDS - (time.perf_counter() - asked)))
    raise SystemExit(f"{name} is not found within {LOST_SECONDS:.0f} s")


def timed(send: Callable[[], None], find: Callable[[], None], client: Client, store_id: str) -> float:
    """Seconds from before sending to found; then everything comes to rest again."""
    began = time.perf_counter()
    send()
    find()
    took = time.perf_counter() - began
    client.wait(store_id)
    client.wait_for_keywords()
    return took


def measure(client: Client, store_id: str, texts: list[str], folder: Path) -> dict[str, list[float]]:
    """Seconds of each document, by way."""
    taken: dict[str, list[float]] = {"by meaning": [], "by a rare keyword": [], "a Markdown file": []}

    def put(name: str, text: str) -> None:
        for result in client.put_documents(store_id, [{"id": name, "text": text}]):
            assert "error" not in result, result

    def add(name: str, text: str) -> None:
        path = folder / f"{name}.md"
        path.write_text(f"# {name}\n\n{text}\n")
        client.add_file(store_id, path, external_id=name)

    ways = (("by meaning", put, MEANING), ("by a rare keyword", put, WORDS), ("a Markdown file", add, MEANING))
    for number, text in enumerate(texts):
        way, send, ranking = ways[number % len(ways)]
        name, word = f"fresh{number}", f"zyx{number}qua"
        query = word if ranking is WORDS else text
        took = timed(
            lambda send=send, name=name, text=text, word=word: send(name, f"{text} {word}"),
            lambda name=name, query=query, ranking=ranking: until_found(client, store_id, name, query, ranking),
            client,
            store_id,
        )
        taken[way].append(took)
    return taken


def figure(way: str, seconds: list[float]) -> Figure:
    """p95 against the bar; the median in the detail."""
    ranked = sorted(seconds)
    p50, p95 = ranked[len(ranked) // 2], ranked[min(len(ranked) - 1, int(0.95 * len(ranked)))]
    detail = f"p50 {p50:.2f} s, longest {ranked[-1]:.2f} s, {len(ranked)} documents on an idle system"
    name = f"upload to searchable p95, {way}"
    return Figure(name=name, value=p95, bar=BAR_SECONDS, unit="s", at_most=True, detail=detail)


def main(documents: int) -> None:
    """All three ways in turn."""
    corpus = load("squad_dev").corpus
    background, fresh = corpus[:BACKGROUND], corpus[BACKGROUND : BACKGROUND + 3 * documents]
    with running() as server, Client(server.url) as client, tempfile.TemporaryDirectory() as folder:
        store_id = client.store("freshness")
        lines = ({"id": one["_id"], "text": one["text"]} for one in background)
        assert all("error" not in result for result in client.put_documents(store_id, lines))
        client.wait(store_id)
        client.wait_for_keywords()
        taken = measure(client, store_id, [one["text"] for one in fresh], Path(folder))
    report("freshness", [figure(way, seconds) for way, seconds in taken.items()])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else DOCUMENTS)
