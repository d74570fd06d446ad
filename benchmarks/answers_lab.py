"""Judge the extractive generator without a server: retrieval here is exact cosine and BM25, fused as in the product.

    uv run python benchmarks/answers_lab.py

Prints, for SQuAD: how many answers hold a gold answer, and how many questions get no answer over thresholds of
support: questions with an answer, SQuAD 2's unanswerable ones, and strangers (SQuAD's asked of Cranfield's abstracts).
Takes some minutes of CPU, nearly all for embeddings of the passages.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import tantivy

from bookwheel.backends.extractive import ExtractiveGenerator, Scored, choose
from bookwheel.backends.openvino.embedder import OpenVinoEmbedder, open_embedder
from bookwheel.citations import cite, verify
from bookwheel.fuse import Fused, fuse
from bookwheel.types import Candidate, Hit
from harness import DATA, read_lines

HITS = 8
CANDIDATES = 50
THRESHOLDS = (0.30, 0.36, 0.42, 0.50, 0.60)

Row = Mapping[str, Any]


@dataclass(slots=True)
class Corpus:
    """Passages with exact dense search and BM25."""

    rows: Sequence[Row]
    embedder: OpenVinoEmbedder
    vectors: Any = None
    keywords: tantivy.Index = field(init=False)

    async def open(self) -> "Corpus":
        """Index all passages."""
        texts = [f"{row['title']}\n{row['text']}" for row in self.rows]
        self.vectors = await self.embedder.embed(texts)
        schema = tantivy.SchemaBuilder()
        schema.add_text_field("text", tokenizer_name="en_stem")
        schema.add_integer_field("id", stored=True)
        self.keywords = tantivy.Index(schema.build())
        writer = self.keywords.writer()
        for number, text in enumerate(texts):
            document = tantivy.Document()
            document.add_text("text", text)
            document.add_integer("id", number)
            writer.add_document(document)
        writer.commit()
        self.keywords.reload()
        return self

    async def search(self, question: str) -> list[Hit]:
        """The best HITS passages."""
        cosines = self.vectors @ (await self.embedder.embed([question]))[0]
        query, _ = self.keywords.parse_query_lenient(question, ["text"])
        searcher = self.keywords.searcher()
        found = searcher.search(query, CANDIDATES).hits
        keyword = [Candidate(chunk_id=searcher.doc(at)["id"][0], score=score) for score, at in found]
        near = {int(number) for number in np.argsort(-cosines)[:CANDIDATES]} | {one.chunk_id for one in keyword}
        dense = [Candidate(chunk_id=number, score=float(cosines[number])) for number in near]
        return [passage(self.rows[one.chunk_id], one) for one in fuse(dense, keyword)[:HITS]]


def passage(row: Row, fused: Fused) -> Hit:
    """A whole passage as a hit."""
    nobody = UUID(int=0)
    return Hit(
        chunk_id=fused.chunk_id,
        score=fused.score,
        dense=fused.dense,
        keyword=fused.keyword,
        text=row["text"],
        start=0,
        end=len(row["text"]),
        page=None,
        heading_path=(),
        language="en",
        ordinal=0,
        document_id=nobody,
        store_id=nobody,
        file_id=None,
        external_id=row["_id"],
        filename=row["_id"],
        title=row["title"],
        version=1,
        sha256=bytes(32),
        attributes={},
        access=None,
        created_at=datetime.fromtimestamp(0, UTC),
        updated_at=datetime.fromtimestamp(0, UTC),
    )


def normalised(text: str) -> str:
    """For comparison only: case folded, white space collapsed."""
    return " ".join(text.casefold().split())


def holds_gold(query: Row, hits: Sequence[Hit], scored: Scored) -> bool:
    """Whether one of the quotes has a gold answer in it; all quotes must be true."""
    draft = " ".join(f"{sentence.text} [{sentence.hit + 1}]" for sentence in choose(scored))
    _, citations = cite(draft, hits)
    assert len(citations) <= 3
    assert all(verify(citation, citation.hit.text) for citation in citations)
    return any(
        normalised(gold) in normalised(citation.quote)
        for gold in query["metadata"].get("answers", ())
        for citation in citations
    )


async def judge(name: str, corpus: Corpus, queries: Sequence[Row]) -> None:
    """Print one line."""
    generator = ExtractiveGenerator(corpus.embedder)
    gold, support, silent = list[bool](), list[float](), list[bool]()
    for query in queries:
        hits = await corpus.search(query["text"])
        scored = await generator.score(query["text"], hits)
        gold.append(holds_gold(query, hits, scored))
        support.append(scored.support)
        silent.append(not choose(scored))
    shares = "  ".join(f"{threshold:.2f}: {np.mean(np.array(support) < threshold):6.1%}" for threshold in THRESHOLDS)
    print(f"{name:22} {len(queries):5}  gold {np.mean(gold):6.1%}  no answer {np.mean(silent):6.1%}   {shares}")


async def main() -> None:
    """All lines."""
    embedder = open_embedder(None, threads=0)
    queries = {name: read_lines(DATA / name / "queries.jsonl") for name in ("squad_dev", "squad2_dev")}
    open_questions = [query for query in queries["squad2_dev"] if query["metadata"]["unanswerable"]]
    squad = await Corpus(read_lines(DATA / "squad_dev" / "corpus.jsonl"), embedder).open()
    await judge("first 500", squad, queries["squad_dev"][:500])
    await judge("spread over the rest", squad, queries["squad_dev"][700::32])
    squad2 = await Corpus(read_lines(DATA / "squad2_dev" / "corpus.jsonl"), embedder).open()
    await judge("unanswerable", squad2, open_questions[::30])
    cranfield = await Corpus(read_lines(DATA / "cranfield" / "corpus.jsonl"), embedder).open()
    await judge("strangers", cranfield, queries["squad_dev"][::70])
    embedder.close()


if __name__ == "__main__":
    asyncio.run(main())
