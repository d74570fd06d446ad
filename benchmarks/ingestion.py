"""End-to-end ingestion of passages against the bare embedder alone, in one run.

    uv run python benchmarks/ingestion.py

The bare embedder is the same model on the same texts in one process with nothing else running. End to end means: HTTP
upload as NDJSON, cutting, embedding, chunks and vectors in PostgreSQL, everything published and found by a search.
The two are measured in turns; the figure is the median of the ratios.
"""

import asyncio
import time

from bookwheel.backends.openvino.embedder import open_embedder
from bookwheel.client import Client
from harness import Figure, ingest, load, median, report, running

PASSAGES = 2_000
ROUNDS = 3


def bare(texts: list[str]) -> float:
    """Passages per second of the embedder alone, batched as it likes best."""
    embedder = open_embedder(None, threads=0)
    asyncio.run(embedder.embed(texts[:64]))
    began = time.perf_counter()
    asyncio.run(embedder.embed(texts))
    return len(texts) / (time.perf_counter() - began)


def end_to_end(corpus: list[dict[str, str]]) -> float:
    """Passages per second from the first byte sent to everything searchable."""
    with running() as server, Client(server.url) as client:
        ingest(client, "warm", [{"_id": "warm", "title": "warm", "text": "Warm up the embedder."}])
        store_id, seconds = ingest(client, "passages", corpus)
        found = client.search(store_id, corpus[-1]["text"][:200], limit=1)
        if not found["data"]:
            raise SystemExit("the last passage is not found")
    return len(corpus) / seconds


def main() -> None:
    """Alternate the two, report the median ratio."""
    corpus = load("squad_dev").corpus[:PASSAGES]
    texts = [f"{one['title']}\n{one['text']}" for one in corpus]
    ratios = []
    for _ in range(ROUNDS):
        alone, whole = bare(texts), end_to_end(corpus)
        print(f"bare embedder {alone:.1f}/s, end to end {whole:.1f}/s, ratio {whole / alone:.3f}")
        ratios.append(whole / alone)
    detail = f"median of {ROUNDS}, {len(corpus)} SQuAD passages"
    report(
        "ingestion",
        [
            Figure(
                name="ingestion against the bare embedder", value=100 * median(ratios), bar=85, unit="%", detail=detail
            )
        ],
    )


if __name__ == "__main__":
    main()
