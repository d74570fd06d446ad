"""The worker's memory while it reads many large filings.

    uv run python benchmarks/memory.py [--filings N] [--megabytes M]        # 200 of about 10 MB when not said

The filings are HTML as the SEC's EDGAR serves it: inline XBRL, where every line and figure stands in styled spans and
tagged elements, so that a file of 10 MB holds some hundred pages of text. The text is that of real annual reports
(shared data, financebench_pdf), taken in turn; in each copy two words change places in about one paragraph of a
hundred, so that the embedding cache carries the rest and the run measures memory, not the embedder. The resident
memory of the worker process is sampled five times a second from the first upload until the last filing is searchable.
The process that reads files is a child with limits of its own and is told in the detail.
"""

import argparse
import html
import random
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil

from bookwheel.client import Client
from harness import DATA, Figure, Server, read_lines, report, running

FILINGS = 200
MEGABYTES = 10.0
SAMPLE_SECONDS = 0.2
CHANGED = 0.01  # of the paragraphs of each copy
LINES_PER_PARAGRAPH = 6
SMALLEST_TEXT, LARGEST_TEXT = 150_000, 400_000  # characters: an annual report and no press release; some 120 pages
GROWTH_BAR, PEAK_BAR = 10.0, 700.0
AHEAD = 6  # filings uploaded before they are read: the disk need not hold them all
MB = 1_000_000

STYLE = (
    "font-family:'Times New Roman',sans-serif;font-size:10pt;font-weight:400;line-height:120%;color:#000000;"
    "text-indent:0pt;padding-left:0pt;text-align:justify;margin-top:6pt;margin-bottom:6pt"
)


def reports() -> list[list[str]]:
    """The paragraphs of each annual report."""
    lines: dict[str, list[str]] = defaultdict(list)
    for page in read_lines(DATA / "financebench_pdf" / "corpus.jsonl"):
        lines[page["_id"].partition("#")[0]] += [line for line in page["text"].splitlines() if line.strip()]
    whole = [some for some in lines.values() if sum(map(len, some)) > SMALLEST_TEXT]
    return [_paragraphs("\n".join(some)[:LARGEST_TEXT].splitlines()) for some in whole]


def _paragraphs(lines: list[str]) -> list[str]:
    return [" ".join(lines[at : at + LINES_PER_PARAGRAPH]) for at in range(0, len(lines), LINES_PER_PARAGRAPH)]


def filing(paragraphs: list[str], *, name: str, size: int) -> bytes:
    """An HTML file of about `size` bytes with these paragraphs, a few of them changed."""
    words = [_swapped(text) if random.random() < CHANGED else text for text in paragraphs]
    markup = max(1, (size - sum(map(len, words))) // len(words))
    body = "\n".join(_paragraph(number, text, markup) for number, text in enumerate(words))
    head = f"<!DOCTYPE html><html><head><meta charset='utf-8'><title>{html.escape(name)}</title></head>"
    return f"{head}<body>{body}</body></html>".encode()


def _paragraph(number: int, text: str, markup: int) -> str:
    """The text in so many spans that the markup has about `markup` characters."""
    one = f'<span style="{STYLE}"><ix:nonNumeric contextRef="c-{number}" name="us-gaap:Text" id="f-{number}">'
    close = "</ix:nonNumeric></span>"
    words = text.split(" ")
    spans = max(1, min(len(words), markup // (len(one) + len(close))))
    step = -(-len(words) // spans)
    parts = [html.escape(" ".join(words[at : at + step])) for at in range(0, len(words), step)]
    missing = markup - len(parts) * (len(one) + len(close))
    spacer = f'<div style="{STYLE}"></div>' * max(0, missing // (len(STYLE) + 19))
    return "<p>" + " ".join(f"{one}{part}{close}" for part in parts) + "</p>" + spacer


def _swapped(text: str) -> str:
    words = text.split(" ")
    if len(words) > 1:
        at = random.randrange(len(words) - 1)
        words[at], words[at + 1] = words[at + 1], words[at]
    return " ".join(words)


class Sampler(threading.Thread):
    """Resident bytes of the worker and of its parsers, five times a second."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.worker = next(process for process in server.processes() if "work" in process.cmdline())
        self.samples: list[int] = []
        self.parser_peak = 0
        self.done = threading.Event()

    def run(self) -> None:
        """The thread's body. A worker that ends ends the benchmark's meaning, so its error is not caught."""
        while not self.done.wait(SAMPLE_SECONDS):
            self.samples.append(self.worker.memory_info().rss)
            for parser in self.worker.children():
                self.parser_peak = max(self.parser_peak, _resident(parser))


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # replaced meanwhile
        return 0


def add_all(client: Client, store_id: str, filings: int, size: int) -> None:
    """Upload filings, a few ahead of the worker, and wait until all are searchable."""
    texts = reports()
    with tempfile.TemporaryDirectory(prefix="bookwheel-bench-") as folder:
        path = Path(folder) / "filing.html"
        for number in range(filings):
            path.write_bytes(filing(texts[number % len(texts)], name=f"Filing {number}", size=size))
            client.add_file(store_id, path, external_id=f"filing-{number:03}")
            while in_progress(client, store_id) > AHEAD:
                time.sleep(SAMPLE_SECONDS)
    counts = client.wait(store_id)
    if counts["completed"] != filings:
        raise SystemExit(f"of {filings} filings: {counts}")


def in_progress(client: Client, store_id: str) -> int:
    """Filings that are not searchable yet."""
    counts: dict[str, Any] = client.call("GET", f"/v1/vector_stores/{store_id}")["file_counts"]
    return int(counts["in_progress"])


def main(filings: int, megabytes: float) -> None:
    """One run."""
    random.seed(10)
    with running() as server, Client(server.url) as client:
        store_id = client.store("filings")
        sampler = Sampler(server)
        sampler.start()
        began = time.perf_counter()
        add_all(client, store_id, filings, int(megabytes * MB))
        took = time.perf_counter() - began
        sampler.done.set()
        sampler.join()
        if not sampler.worker.is_running():
            raise SystemExit("The worker was replaced during the run: the samples are of a dead process.")
    tenth = max(1, len(sampler.samples) // 10)
    tenths = [sum(sampler.samples[at : at + tenth]) / tenth / MB for at in range(0, 10 * tenth, tenth)]
    print("each tenth: " + ", ".join(f"{mean:.0f}" for mean in tenths) + " MB")
    first, last = tenths[0], tenths[-1]
    detail = f"{first:.0f} MB in the first tenth, {last:.0f} MB in the last, {filings} filings of {megabytes:g} MB"
    peak = f"{len(sampler.samples)} samples in {took:.0f} s; the parsers' peak {sampler.parser_peak / MB:.0f} MB"
    report(
        "memory",
        [
            Figure(
                name="the worker's memory, last tenth over first tenth",
                value=100 * (last / first - 1),
                bar=GROWTH_BAR,
                unit="%",
                at_most=True,
                detail=detail,
            ),
            Figure(
                name="the worker's peak memory over large filings",
                value=max(sampler.samples) / MB,
                bar=PEAK_BAR,
                unit="MB",
                at_most=True,
                detail=peak,
            ),
        ],
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The worker's memory over many large filings.")
    parser.add_argument("--filings", type=int, default=FILINGS)
    parser.add_argument("--megabytes", type=float, default=MEGABYTES)
    options = parser.parse_args()
    main(options.filings, options.megabytes)
