"""Retrieval quality through the real API: nDCG@10 and recall@10 on the sets of ../shared/data.

uv run python benchmarks/quality.py [SET ...]
"""

import sys
from concurrent.futures import ThreadPoolExecutor

from bookwheel.client import Client
from harness import DataSet, Figure, ingest, load, ndcg, recall, report, running

QUERIES = 500
HITS = 30  # chunks asked for: the first ten documents among them count
BARS = {
    "scifact": ("nDCG@10", 0.735),
    "squad_dev": ("nDCG@10", 0.94),
    "cranfield": ("nDCG@10", 0.39),
    "jaquad": ("recall@10", 0.90),
}


def ranking(client: Client, store_id: str, query: str, **options: object) -> list[str]:
    """The caller's ids of the documents found, best first."""
    page = client.search(store_id, query, limit=HITS, **options)
    return list(dict.fromkeys(hit["document"]["external_id"] for hit in page["data"]))


def score(client: Client, store_id: str, data: DataSet, **options: object) -> dict[str, float]:
    """Mean nDCG@10 and recall@10 over the set's queries."""
    with ThreadPoolExecutor(4) as pool:
        ranked = list(pool.map(lambda query: ranking(client, store_id, query["text"], **options), data.queries))
    grades = [data.qrels[query["_id"]] for query in data.queries]
    pairs = list(zip(ranked, grades, strict=True))
    return {
        "nDCG@10": sum(ndcg(*pair) for pair in pairs) / len(pairs),
        "recall@10": sum(recall(*pair) for pair in pairs) / len(pairs),
    }


def main(names: list[str]) -> None:
    """Measure the named sets, each on a server of its own: in one keyword index sets would share word statistics."""
    for name in names:
        data = load(name, queries=QUERIES)
        with running() as server, Client(server.url) as client:
            store_id, seconds = ingest(client, name, data.corpus)
            scores = score(client, store_id, data)
        metric, bar = BARS[name]
        other = ", ".join(f"{key} {value:.3f}" for key, value in scores.items() if key != metric)
        detail = f"{other}; {len(data.queries)} queries, {len(data.corpus)} documents in {seconds:.0f} s"
        report("quality", [Figure(name=f"{metric} {name}", value=scores[metric], bar=bar, detail=detail)])


if __name__ == "__main__":
    main(sys.argv[1:] or list(BARS))
