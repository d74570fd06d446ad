"""Fit and judge the extractive generator without a server: retrieval here is exact cosine and BM25, fused.

    uv run python benchmarks/answers_lab.py

Writes nothing but its cache of embeddings under the system's temporary directory.
"""

import asyncio
import hashlib
import json
import pickle
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import tantivy

from bookwheel.backends.extractive import WEIGHTS, ExtractiveGenerator, choose
from bookwheel.backends.openvino import open_embedder
from bookwheel.backends import extractive
from bookwheel.citations import cite, verify
from bookwheel.fuse import fuse
from bookwheel.types import Candidate, Hit

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
CACHE = Path(tempfile.gettempdir()) / "bookwheel-answers-lab"


def lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


class CachedEmbedder:
    """The real embedder, each text once."""

    def __init__(self) -> None:
        self.inner = open_embedder(None, threads=2)
        self.path = CACHE / "embeddings.pkl"
        self.known: dict[str, Any] = pickle.loads(self.path.read_bytes()) if self.path.exists() else {}
        self.model, self.revision = self.inner.model, self.inner.revision
        self.dimensions, self.window = self.inner.dimensions, self.inner.window
        self.token_counts, self.coverage, self.ping = self.inner.token_counts, self.inner.coverage, self.inner.ping

    async def embed(self, texts: Sequence[str]) -> Any:
        new = list(dict.fromkeys(text for text in texts if text not in self.known))
        if new:
            for text, vector in zip(new, await self.inner.embed(new), strict=True):
                self.known[text] = vector
        return np.stack([self.known[text] for text in texts])

    def save(self) -> None:
        CACHE.mkdir(exist_ok=True)
        self.path.write_bytes(pickle.dumps(self.known))


class Corpus:
    """Passages with exact dense search and BM25."""

    def __init__(self, name: str, embedder: CachedEmbedder) -> None:
        self.rows = lines(DATA / name / "corpus.jsonl")
        self.embedder = embedder
        schema = tantivy.SchemaBuilder()
        schema.add_text_field("text", tokenizer_name="en_stem")
        schema.add_integer_field("id", stored=True)
        self.index = tantivy.Index(schema.build())
        writer = self.index.writer()
        for number, row in enumerate(self.rows):
            document = tantivy.Document()
            document.add_text("text", f"{row['title']} {row['text']}")
            document.add_integer("id", number)
            writer.add_document(document)
        writer.commit()
        self.index.reload()

    async def open(self) -> "Corpus":
        self.vectors = await self.embedder.embed([f"{row['title']}\n{row['text']}" for row in self.rows])
        return self

    async def search(self, question: str, limit: int = 8) -> list[Hit]:
        vector = (await self.embedder.embed([question]))[0]
        cosines = self.vectors @ vector
        query, _ = self.index.parse_query_lenient(question, ["text"])
        searcher = self.index.searcher()
        bm25 = [(s, searcher.doc(a)["id"][0]) for s, a in searcher.search(query, 50).hits]
        near = set(np.argsort(-cosines)[:50].tolist()) | {number for _, number in bm25}
        dense = [Candidate(chunk_id=number, score=float(cosines[number])) for number in near]
        keyword = [Candidate(chunk_id=number, score=score) for score, number in bm25]
        return [self.hit(one) for one in fuse(dense, keyword)[:limit]]

    def hit(self, one: Any) -> Hit:
        row, nobody = self.rows[one.chunk_id], UUID(int=0)
        return Hit(
            chunk_id=one.chunk_id, score=one.score, dense=one.dense, keyword=one.keyword, text=row["text"], start=0,
            end=len(row["text"]), page=None, heading_path=(), ordinal=0, document_id=nobody, store_id=nobody,
            file_id=None, external_id=row["_id"], filename="f", title=row["title"], version=1, attributes={},
        )  # fmt: skip


def norm(text: str) -> str:
    return " ".join(text.casefold().split())


def has_gold(text: str, answers: Sequence[str]) -> bool:
    return any(norm(answer) in norm(text) for answer in answers)


async def judge(corpus: Corpus, generator: ExtractiveGenerator, queries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    out = []
    for query in queries:
        hits = await corpus.search(query["text"])
        out.append((query, hits, await generator.score(query["text"], hits)))
    return out
