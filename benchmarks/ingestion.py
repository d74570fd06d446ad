"""End-to-end ingestion against the bare embedder alone, and the same again unchanged, in one run.

    uv run python benchmarks/ingestion.py [--passages N] [--files N] [--rounds N]

The bare embedder is the same model in one process with nothing else running, on an even sample of the texts, once to
meet them and once timed. End to end means, for
passages: HTTP upload as NDJSON, cutting, embedding, chunks and vectors in PostgreSQL, everything published and in
both indexes. For files: `bookwheel add` of a folder of real HTML pages (a fixed sample of shared data, debian_docs),
which are uploaded one by one and read as well; the embedder alone gets exactly the texts that the system embeds, each
once, read and cut beforehand by the system's own functions. The embedder is measured before and after the system, as
the machine's speed drifts, and the figure is the median of the ratios. Workers run the embedder in several streams, a
tenth faster than the one stream that the API uses; both are told. Re-ingestion is the same client calls with the same
content again: how many times faster they are. For each round the processor time of every part is told too, in
milliseconds a text: what is left between the embedder alone and the whole.
"""

import argparse
import asyncio
import os
import random
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bookwheel.adding import add_sources
from bookwheel.backends.openvino.embedder import open_embedder
from bookwheel.chunk import split
from bookwheel.client import Client
from bookwheel.parse import parse
from bookwheel.types import Chunking
from harness import DATA, Figure, Server, load, median, report, running

PASSAGES, FILES, ROUNDS = 12_000, 300, 5  # starting and ending take a second: 1 to 2 % of so many
ALONE = 1_500  # texts for the embedder alone
REST_SECONDS = 5.0  # between the first time and the next: the vector index of the first is built when nothing comes
LARGEST_FILE = 400_000  # bytes: a sample of pages, not of books
PASSAGES_BAR, FILES_BAR, AGAIN_BAR = 90, 85, 20
MENTIONED = 0.005  # milliseconds a text
FIRST_BAR = 85  # of issue "1 of 6", when workers ran the embedder in one stream too


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement: texts a second of the embedder alone and of the whole, and how much faster it went again."""

    alone: float  #: as workers run it, in several streams
    one_stream: float  #: as the API runs it
    whole: float
    again: float
    costs: dict[str, float]  #: of the whole: milliseconds of processor time for each text, by part

    @property
    def ratio(self) -> float:
        """Percent of the embedder's speed."""
        return 100 * self.whole / self.alone

    @property
    def ratio_to_one_stream(self) -> float:
        """Percent of the speed that the embedder has with one stream."""
        return 100 * self.whole / self.one_stream


def bare(texts: list[str], *, bulk: bool = True) -> float:
    """Texts a second of the embedder alone on a sample of the texts, batched as it likes best."""
    embedder = open_embedder(None, threads=0, bulk=bulk)
    texts = texts[:: max(1, len(texts) // ALONE)]
    asyncio.run(embedder.embed(texts))
    began, worked = time.perf_counter(), time.process_time()
    asyncio.run(embedder.embed(texts))
    rate = len(texts) / (time.perf_counter() - began)
    print(f"  embedder {rate:.1f}/s, {1000 * (time.process_time() - worked) / len(texts):.2f} ms a text")
    embedder.close()
    return rate


class Costs:
    """Processor time for each text, of the system and of this client, and what was idle or went to other programs."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.before, self.client, self.began = server.processor_seconds(), time.process_time(), time.perf_counter()

    def told(self, texts: int) -> dict[str, float]:
        """Milliseconds a text, by part, since the beginning."""
        took = time.perf_counter() - self.began
        spent = {name: now - self.before.get(name, 0.0) for name, now in self.server.processor_seconds().items()}
        spent["client"] = time.process_time() - self.client
        spent["idle or others"] = took * (os.cpu_count() or 1) - sum(spent.values())
        return {name: 1000 * seconds / texts for name, seconds in spent.items()}


def put_passages(client: Client, store_id: str, corpus: list[dict[str, Any]]) -> float:
    """Seconds from the first byte sent to everything searchable."""
    began = time.perf_counter()
    lines = ({"id": one["_id"], "title": one["title"], "text": one["text"]} for one in corpus)
    for result in client.put_documents(store_id, lines):
        if "error" in result:
            raise SystemExit(f"passages: {result}")
    settled(client, store_id, len(corpus))
    return time.perf_counter() - began


def add_folder(client: Client, store_id: str, folder: Path, files: int) -> float:
    """Seconds of `bookwheel add FOLDER`, which ends when everything is searchable."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device
        began = time.perf_counter()
        added = add_sources(client, store_id, [str(folder)], Console(file=nowhere))
        settled(client, store_id, files)
        took = time.perf_counter() - began
    if added.failures:
        raise SystemExit(f"files: {added.failures[:3]}")
    return took


def settled(client: Client, store_id: str, documents: int) -> None:
    """Wait until all documents are published and in the keyword index."""
    counts = client.wait(store_id)
    if counts["completed"] != documents or not client.wait_for_keywords(seconds=600):
        raise SystemExit(f"of {documents} documents: {counts}")


def chunk_count(client: Client, store_id: str) -> int:
    """Chunks of all documents of a store."""
    return sum(document["chunk_count"] for document in client.pages(f"/v1/vector_stores/{store_id}/documents"))


def warm(client: Client) -> None:
    """Load what is loaded on first use, the reader of HTML too."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "warm.html").write_text("<p>Warm up the embedder and the reader.</p>")
        add_folder(client, client.store("warm"), Path(folder), 1)


def passages_round(corpus: list[dict[str, Any]], texts: list[str]) -> Round:
    """Passages, then the same passages again."""
    before, one_stream = bare(texts), bare(texts, bulk=False)
    with running() as server, Client(server.url) as client:
        warm(client)
        store_id = client.store("passages")
        costs = Costs(server)
        first = put_passages(client, store_id, corpus)
        spent = costs.told(len(corpus))
        time.sleep(REST_SECONDS)
        second = put_passages(client, store_id, corpus)
        if not client.search(store_id, corpus[-1]["text"][:200], limit=1)["data"]:
            raise SystemExit("the last passage is not found")
    return Round((before + bare(texts)) / 2, one_stream, len(corpus) / first, first / second, spent)


def files_round(folder: Path, files: int, texts: list[str]) -> Round:
    """A folder, then the same folder again. Rates are in chunks, the repeated ones counted once."""
    once = list(dict.fromkeys(texts))
    before, one_stream = bare(once), bare(once, bulk=False)
    with running() as server, Client(server.url) as client:
        warm(client)
        store_id = client.store("files")
        costs = Costs(server)
        first = add_folder(client, store_id, folder, files)
        spent = costs.told(len(once))
        time.sleep(REST_SECONDS)
        second = add_folder(client, store_id, folder, files)
        if chunk_count(client, store_id) != len(texts):
            raise SystemExit(f"the system made {chunk_count(client, store_id)} chunks, the benchmark {len(texts)}")
    return Round((before + bare(once)) / 2, one_stream, len(once) / first, first / second, spent)


def sample(files: int, folder: Path) -> list[Path]:
    """The same real HTML pages every time, copied under names of their own."""
    root = DATA / "debian_docs" / "files"
    pages = [path for path in sorted(root.rglob("*.html")) if path.is_file() and path.stat().st_size <= LARGEST_FILE]
    chosen = random.Random(150).sample(pages, files)
    return [Path(shutil.copy(path, folder / f"{number:03}-{path.name}")) for number, path in enumerate(chosen)]


def embedded_texts(paths: list[Path]) -> list[str]:
    """What the system embeds of these files, made by its own functions."""
    embedder = open_embedder(None, threads=0, bulk=True)
    texts = []
    for path in paths:
        parsed = parse(path, path.name, ocr=False)
        pieces = split(parsed, chunking=Chunking(), tokenizer=embedder.tokenizer, title=parsed.title)
        texts += [piece.embed_text for piece in pieces]
    embedder.close()
    return texts


def figures(kind: str, rounds: list[Round], *, bar: int, detail: str) -> list[Figure]:
    """The ratio to the embedder, and how much faster it goes again."""
    ratio, again = median([one.ratio for one in rounds]), median([one.again for one in rounds])
    first = median([one.ratio_to_one_stream for one in rounds])
    return [
        Figure(name=f"ingestion of {kind} against the embedder in one stream", value=first, bar=FIRST_BAR, unit="%"),
        Figure(name=f"ingestion of {kind} against the bare embedder", value=ratio, bar=bar, unit="%", detail=detail),
        Figure(name=f"the same {kind} again, unchanged, against the first time", value=again, bar=AGAIN_BAR, unit="x"),
    ]


def told(one: Round) -> Round:
    """Print a round."""
    embedder = f"bare {one.alone:.1f}/s, in one stream {one.one_stream:.1f}/s"
    print(f"{embedder}, end to end {one.whole:.1f}/s, {one.ratio:.1f} %, again {one.again:.1f}x faster")
    parts = sorted(one.costs.items(), key=lambda part: -part[1])
    print("  ms a text: " + ", ".join(f"{name} {cost:.2f}" for name, cost in parts if cost >= MENTIONED))
    return one


def main(passages: int, files: int, rounds: int) -> None:
    """Both kinds in turn."""
    corpus = load("qa_wiki_25k").corpus[:passages]
    texts = [f"{one['title']}\n{one['text']}" for one in corpus]
    detail = f"median of {rounds}, {len(corpus)} Wikipedia passages"
    done = [told(passages_round(corpus, texts)) for _ in range(rounds)]
    report("ingestion", figures("passages", done, bar=PASSAGES_BAR, detail=detail))
    with tempfile.TemporaryDirectory(prefix="bookwheel-bench-") as folder:
        texts = embedded_texts(sample(files, Path(folder)))
        detail = f"median of {rounds}, {files} files of {len(texts)} chunks"
        done = [told(files_round(Path(folder), files, texts)) for _ in range(rounds)]
    report("ingestion", figures("HTML files", done, bar=FILES_BAR, detail=detail))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Ingestion against the bare embedder.")
    parser.add_argument("--passages", type=int, default=PASSAGES)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    main(options.passages, options.files, options.rounds)
