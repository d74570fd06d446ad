"""What searches find for the questions of the quality sets, before anything reranks: the input of reranking.py.

Each set has a server of its own with one thread for embedding. Corpora are capped: the judged documents of the
questions asked, then others in the set's order.
"""

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from bookwheel.client import Client
from bookwheel.types import Hit
from harness import DataSet, ingest, load, read_lines, running

QUERIES = 200
HITS = 50  # passages of each question
DOCUMENTS = {
    "scifact": 2000,
    "squad_dev": 2067,
    "cranfield": 1398,
    "jaquad": 2000,
    "multihop_wiki_22k": 6000,
    "qa_wiki_25k": 6000,
}

Row = Mapping[str, Any]


def sampled(name: str) -> DataSet:
    """The set with QUERIES questions from its whole length and as many documents as DOCUMENTS says."""
    data = load(name)
    step = max(1, len(data.queries) // QUERIES)
    queries = data.queries[::step][:QUERIES]
    judged = {document for query in queries for document in data.qrels[query["_id"]]}
    documents = sorted(data.corpus, key=lambda one: one["_id"] not in judged)[: DOCUMENTS[name]]
    return DataSet(name, documents, queries, data.qrels)


def candidates(name: str, *, kept: Path | None = None) -> list[Row]:
    """A row for each question: its text, grades by document, and the passages found, best first.

    With `kept`, a folder, rows are read from there when they are there, else written there.
    """
    path = kept / f"{name}.jsonl" if kept else Path(os.devnull)
    if path.is_file():
        return read_lines(path)
    rows = _searched(sampled(name))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def _searched(data: DataSet) -> list[Row]:
    with running(BOOKWHEEL_EMBED_THREADS="1") as server, Client(server.url) as client:
        store_id, seconds = ingest(client, data.name, data.corpus)
        print(f"{data.name}: {len(data.corpus)} documents in {seconds:.0f} s")
        with ThreadPoolExecutor(2) as pool:
            pages = list(pool.map(lambda query: client.search(store_id, query["text"], limit=HITS), data.queries))
    return [
        {"query": query["text"], "grades": data.qrels[query["_id"]], "found": page["data"]}
        for query, page in zip(data.queries, pages, strict=True)
    ]


def hits_of(row: Row) -> list[Hit]:
    """The passages of a row as hits; `external_id` is the set's own id of the document."""
    return [_hit(number, one) for number, one in enumerate(row["found"])]


def _hit(number: int, one: Row) -> Hit:
    document = one["document"]
    return Hit(
        chunk_id=number,
        score=one["score"],
        dense=None,
        keyword=None,
        text=one["content"][0]["text"],
        start=document["start"],
        end=document["end"],
        page=document["page"],
        heading_path=tuple(document["heading_path"]),
        language=document["language"],
        ordinal=document["ordinal"],
        document_id=UUID(document["id"].rpartition("_")[2]),
        store_id=UUID(int=0),
        file_id=None,
        external_id=document["external_id"],
        filename=one["filename"],
        title=document["title"],
        version=document["version"],
        sha256=bytes.fromhex(document["hash"]),
        attributes=one["attributes"],
        access=None,
        created_at=datetime.fromtimestamp(document["created_at"], UTC),
        updated_at=datetime.fromtimestamp(document["updated_at"], UTC),
    )


def ranked_documents(hits: Sequence[Hit]) -> list[str]:
    """The documents of hits in their order, each once."""
    return list(dict.fromkeys(str(hit.external_id) for hit in hits))
