"""Chunking strategies compared: nDCG@10 and the number of chunks, on short documents and on long ones.

    uv run python benchmarks/chunking.py [--few] [STRATEGY ...]

`short`: SciFact abstracts, which are about one passage each, scored by document. `long`: real 10-K filings as PDF,
scored by page, so that a strategy gets no credit for finding the right file of 150 pages. `--few` is a quick check.
"""

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bookwheel.client import Client
from harness import DATA, DataSet, Figure, load, ndcg, report, running

STRATEGIES = ("structure", "fixed", "sentence", "parent_child", "semantic")
HITS = 30  # asked for: the first ten documents or pages among them count
SHORT_DOCUMENTS, SHORT_QUERIES = 1_500, 300
FILINGS = (
    "3M_2022_10K",
    "AMCOR_2023_10K",
    "BESTBUY_2023_10K",
    "BESTBUY_2024Q2_10Q",
    "BOEING_2022_10K",
    "Pfizer_2023Q2_10Q",
    "ULTABEAUTY_2023Q4_EARNINGS",
)
FEW = 40  # documents and queries of a quick check; and one filing


def short(*, few: bool) -> DataSet:
    """SciFact, with every judged document of the queries and others up to the number."""
    data = load("scifact", queries=FEW // 4 if few else SHORT_QUERIES)
    judged = {document for query in data.queries for document in data.qrels[query["_id"]]}
    documents = sorted(data.corpus, key=lambda one: one["_id"] not in judged)
    return DataSet(data.name, documents[: FEW if few else SHORT_DOCUMENTS], data.queries, data.qrels)


def long(*, few: bool) -> DataSet:
    """Filings, with the questions about them; their grades are by page."""
    data = load("financebench_pdf")
    names = FILINGS[-1:] if few else FILINGS
    queries = [query for query in data.queries if _filing(next(iter(data.qrels[query["_id"]]))) in names]
    return DataSet(data.name, [{"_id": name} for name in names], queries, data.qrels)


def _filing(page: str) -> str:
    return page.partition("#")[0]


def fill(client: Client, data: DataSet, strategy: str) -> tuple[str, float]:
    """Put the set into a new store of this strategy; returns its id and the seconds until it was searchable."""
    body = {"name": strategy, "chunking_strategy": {"type": strategy}}
    store_id = client.call("POST", "/v1/vector_stores", json=body)["id"]
    began = time.perf_counter()
    if data.name == "scifact":
        lines = [{"id": one["_id"], "title": one.get("title") or None, "text": one["text"]} for one in data.corpus]
        if failed := [line for line in client.put_documents(store_id, lines) if "error" in line]:
            raise SystemExit(str(failed[0]))
    else:
        for one in data.corpus:
            client.add_file(store_id, DATA / data.name / "files" / f"{one['_id']}.pdf", external_id=one["_id"])
    counts = client.wait(store_id)
    if counts["completed"] != len(data.corpus) or not client.wait_for_keywords(seconds=600):
        raise SystemExit(f"{data.name}, {strategy}: {counts}")
    return store_id, time.perf_counter() - began


def score(client: Client, store_id: str, data: DataSet) -> float:
    """Mean nDCG@10 over the queries."""

    def one(query: dict[str, str]) -> float:
        found = client.search(store_id, query["text"], limit=HITS)["data"]
        return ndcg(list(dict.fromkeys(_judged(hit["document"]) for hit in found)), data.qrels[query["_id"]])

    with ThreadPoolExecutor(2) as pool:
        scores = list(pool.map(one, data.queries))
    return sum(scores) / len(scores)


def _judged(document: dict[str, str]) -> str:
    """The id that the grades use: a page of a PDF, else the document."""
    page = document["page"]
    return f"{document['external_id']}#p{page}" if page else document["external_id"]


def measure(data: DataSet, strategy: str, name: str) -> Figure:
    """One strategy on a server of its own, so that stores do not share word statistics or embeddings."""
    with running() as server, Client(server.url) as client:
        store_id, seconds = fill(client, data, strategy)
        quality = score(client, store_id, data)
        chunks = client.call("GET", f"/v1/vector_stores/{store_id}")["chunk_count"]
    detail = f"{chunks:,} chunks in {seconds:.0f} s; {len(data.corpus)} documents, {len(data.queries)} queries"
    return Figure(name=f"nDCG@10 {name} {strategy}", value=quality, bar=0.0, detail=detail)


def main(strategies: Sequence[str], *, few: bool) -> None:
    """Every strategy on both sets."""
    for name, data in (("short", short(few=few)), ("long", long(few=few))):
        for strategy in strategies:
            report("chunking", [measure(data, strategy, name)])


if __name__ == "__main__":
    named = [argument for argument in sys.argv[1:] if argument != "--few"]
    main(named or STRATEGIES, few="--few" in sys.argv)
