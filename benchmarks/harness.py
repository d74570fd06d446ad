"""What every benchmark here shares: a Bookwheel of its own on a free port, the data sets, the metrics, the report."""

import contextlib
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from bookwheel.client import Client
from bookwheel.data_directory import holder

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
START_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Server:
    """A running Bookwheel."""

    url: str
    data_dir: Path
    process: subprocess.Popen[bytes]

    def processes(self) -> list[psutil.Process]:
        """`up` and everything that it started."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def processor_seconds(self) -> dict[str, float]:
        """Seconds of processor time so far, by what the processes are for."""
        spent: dict[str, float] = defaultdict(float)
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                # What sessions of the database took that have ended since is counted with its first process.
                spent[_role(process.cmdline())] += sum(times[:2] if process.pid == self.process.pid else times[:4])
        return spent


def _role(command: Sequence[str]) -> str:
    text = " ".join(command)
    roles = {"postgres": "database", "parse_process": "readers", " work ": "worker", " serve ": "API", " up ": "up"}
    return next((role for part, role in roles.items() if part in f"{text} "), "other")


@contextlib.contextmanager
def running(**environment: str) -> Iterator[Server]:
    """`bookwheel up` on an empty data directory and a free port, stopped and removed at the end."""
    with tempfile.TemporaryDirectory(prefix="bookwheel-bench-") as directory:
        process = subprocess.Popen(
            [sys.executable, "-m", "bookwheel.cli", "up", "--data-dir", directory, "--port", "0"],
            env={**os.environ, "BOOKWHEEL_LOG_LEVEL": "warning", **environment},
            stdout=subprocess.DEVNULL,
        )
        try:
            yield Server(_wait_for(Path(directory), process), Path(directory), process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _wait_for(directory: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        facts = holder(directory)
        if "url" in facts:
            return str(facts["url"])
        time.sleep(0.05)
    raise SystemExit("Bookwheel did not start; its message is above.")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A JSON lines file."""
    with path.open() as file:
        return [json.loads(line) for line in file]


@dataclass(frozen=True, slots=True)
class DataSet:
    """A set in BEIR's shape; see the README beside it."""

    name: str
    corpus: list[dict[str, Any]]
    queries: list[dict[str, Any]]
    qrels: dict[str, dict[str, int]]


def load(name: str, *, queries: int | None = None) -> DataSet:
    """A set with its first `queries` judged queries."""
    folder = DATA / name
    qrels: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, score = line.split("\t")
        qrels.setdefault(query, {})[document] = int(score)
    judged = [query for query in read_lines(folder / "queries.jsonl") if query["_id"] in qrels]
    return DataSet(name, read_lines(folder / "corpus.jsonl"), judged[:queries], qrels)


def ingest(client: Client, name: str, corpus: Sequence[Mapping[str, Any]]) -> tuple[str, float]:
    """Put a corpus into a new store; returns its id and the seconds until everything was searchable."""
    store_id = client.call("POST", "/v1/vector_stores", json={"name": name})["id"]
    began = time.perf_counter()
    lines = ({"id": one["_id"], "title": one.get("title") or None, "text": one["text"]} for one in corpus)
    for result in client.put_documents(store_id, lines):
        if "error" in result:
            raise SystemExit(f"{name}: {result}")
    counts = client.wait(store_id)
    took = time.perf_counter() - began
    if counts["completed"] != len(corpus):
        print(f"{name}: {counts} of {len(corpus)}", file=sys.stderr)
    if not client.wait_for_keywords(seconds=600):
        raise SystemExit("the keyword index does not catch up")
    return store_id, took


def ndcg(ranked: Sequence[str], grades: Mapping[str, int], k: int = 10) -> float:
    """nDCG@k with linear gains, as trec_eval computes it."""
    gains = [grades.get(document, 0) / math.log2(rank + 2) for rank, document in enumerate(ranked[:k])]
    best = sorted(grades.values(), reverse=True)[:k]
    ideal = sum(grade / math.log2(rank + 2) for rank, grade in enumerate(best))
    return sum(gains) / ideal if ideal else 0.0


def recall(ranked: Sequence[str], grades: Mapping[str, int], k: int = 10) -> float:
    """The share of relevant documents among the first k."""
    relevant = {document for document, grade in grades.items() if grade > 0}
    return len(relevant & set(ranked[:k])) / len(relevant)


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def machine() -> str:
    """The machine in a line, without its name."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "",
    )
    memory = psutil.virtual_memory().total / (1 << 30)
    return f"{os.cpu_count()} cores ({cpu}), {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured figure against its bar."""

    name: str
    value: float
    bar: float
    unit: str = ""
    at_most: bool = False
    detail: str = ""

    @property
    def met(self) -> bool:
        """Whether the bar is reached."""
        return self.value <= self.bar if self.at_most else self.value >= self.bar


def report(benchmark: str, figures: Sequence[Figure]) -> None:
    """Print a line for each figure, for people, and one JSON line for each, for `benchmarks/run.py`."""
    for figure in figures:
        sign = "≤" if figure.at_most else "≥"
        mark = "met" if figure.met else "NOT MET"
        print(
            f"{figure.name:58} {figure.value:9.3f} {figure.unit:6} bar {sign} {figure.bar:g}  {mark}  {figure.detail}"
        )
    if path := os.environ.get("BOOKWHEEL_BENCHMARK_LINES"):
        with Path(path).open("a") as file:
            for figure in figures:
                facts = {name: getattr(figure, name) for name in figure.__slots__}
                at = datetime.now(UTC).date().isoformat()
                file.write(json.dumps({"benchmark": benchmark, **facts, "met": figure.met, "date": at}) + "\n")
