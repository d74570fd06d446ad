"""Passages that speak to a model: how many planted attacks are marked, and how many real passages for nothing.

    uv run python benchmarks/injection.py            # --every 20 while working on the rules; --marked prints them

The attacks are hand-written (tests/unit/data/injections.jsonl), in nine languages; the first look at them marked 84 of
87, and three rules were widened after it. The real passages are all of the data sets' and the files of two more, cut to
1,200 characters: each mark there counts as false.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from bookwheel.injection import signs
from harness import DATA, Figure, read_lines, report

ATTACKS = Path(__file__).parents[1] / "tests" / "unit" / "data" / "injections.jsonl"
FILES = ("debian_docs", "awkward_files")
PASSAGE = 1_200  # characters of a file's passages
FALSE_MARKS = 0.001  # most of the real passages that may be marked


def passages(every: int) -> Iterator[tuple[str, str, str]]:
    """Data set, id and text of each real passage, or of one in so many."""
    for corpus in sorted(DATA.glob("*/corpus.jsonl")):
        for line in islice(read_lines(corpus), 0, None, every):
            yield corpus.parent.name, line["_id"], line["text"]
    for name in FILES:
        for path in islice(sorted((DATA / name / "files").rglob("*")), 0, None, every):
            if path.is_file() and path.suffix in (".html", ".md", ".txt", ".htm", ".rst", ""):
                text = path.read_text("utf-8", "replace")
                yield from ((name, path.name, text[at : at + PASSAGE]) for at in range(0, len(text), PASSAGE))


def main() -> None:
    """Print what was missed and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="look at one real passage in so many")
    parser.add_argument("--marked", action="store_true", help="print each real passage that is marked")
    options = parser.parse_args()
    attacks = read_lines(ATTACKS)
    missed = [attack for attack in attacks if not signs(attack["text"])]
    for attack in missed:
        print(f"missed: {attack['kind']}, {attack['language']}: {attack['text'][:100]!r}")
    seen, marked = Counter[str](), Counter[str]()
    start = time.perf_counter()
    for name, key, text in passages(options.every):
        seen[name] += 1
        if found := signs(text):
            marked[name] += 1
            if options.marked:
                print(f"marked: {name} {key}: {', '.join(found)}: {text[:100]!r}")
    seconds = time.perf_counter() - start
    print("\n".join(f"{name:20} {count:7,} passages, {marked[name]:3} marked" for name, count in seen.items()))
    report("injection", figures(len(attacks), len(missed), seen.total(), marked.total(), seconds))


def figures(attacks: int, missed: int, seen: int, marked: int, seconds: float) -> list[Figure]:
    """What is reported."""
    return [
        Figure(name="attacks that are marked", value=(attacks - missed) / attacks, bar=0.9, detail=f"of {attacks}"),
        Figure(
            name="real passages that are marked",
            value=marked / seen,
            bar=FALSE_MARKS,
            at_most=True,
            detail=f"{marked} of {seen:,}",
        ),
        Figure(name="time for one passage", value=seconds / seen * 1000, bar=3.0, unit="ms", at_most=True),
    ]


if __name__ == "__main__":
    main()
