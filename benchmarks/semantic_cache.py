"""The semantic cache's second gate: false hits on questions that only look alike, hits on paraphrases.

Two questions hit when the cosine of their MiniLM vectors reaches the threshold and, with the check, `same_question`
agrees. The pairs are those of semantic_pairs.py; the figures are of their second half. The rules were made on the first
half; what the second gave at the first look, and what was changed after it, is told in docs/decisions/0010.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bookwheel.backends.openvino.embedder import open_embedder
from bookwheel.likeness import same_question
from harness import Figure, median, report
from semantic_pairs import Pair, all_pairs, half, natural_candidates

THRESHOLDS = (0.80, 0.85, 0.90, 0.92, 0.95, 0.98)
DEFAULT = 0.90
NATURAL = 0.85  # cosine from which an unanswerable question counts as a near duplicate


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A pair with what the two gates say."""

    pair: Pair
    cosine: float
    alike: bool


def main() -> None:
    """Print both tables and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=("develop", "report"), default="report")
    parser.add_argument("--wrong", action="store_true", help="print each pair that the check takes for the other class")
    options = parser.parse_args()
    judged = judge([pair for pair in (*all_pairs(), *natural_candidates()) if half(pair) == options.half])
    others = [one for one in judged if not one.pair.same]
    sames = [one for one in judged if one.pair.same]
    print(thresholds(others, sames))
    print(by_kind(others, sames))
    if options.wrong:
        print("\n".join(f"{one.cosine:.3f} {one.pair}" for one in judged if one.alike != one.pair.same))
    report("semantic_cache", [*figures(others, sames), speed(judged)])


def judge(pairs: Sequence[Pair]) -> list[Judged]:
    """Both gates on each pair, without natural pairs that are far apart."""
    cosines = embed(pairs)
    return [
        Judged(pair=pair, cosine=cosine, alike=same_question(pair.one, pair.other))
        for pair, cosine in zip(pairs, cosines, strict=True)
        if pair.source != "squad2" or cosine >= NATURAL
    ]


def embed(pairs: Sequence[Pair]) -> list[float]:
    """The cosine of each pair."""
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.one, pair.other)))
    embedder = open_embedder(None, threads=0, bulk=True)
    vectors = dict(zip(texts, asyncio.run(embedder.embed(texts)), strict=True))
    embedder.close()
    return [float(vectors[pair.one] @ vectors[pair.other]) for pair in pairs]


def share(judged: Sequence[Judged], threshold: float, *, checked: bool) -> float:
    """The share of pairs that hit, in percent."""
    hits = [one for one in judged if one.cosine >= threshold and (one.alike or not checked)]
    return 100 * len(hits) / len(judged) if judged else 0.0


def above(judged: Sequence[Judged], threshold: float) -> list[Judged]:
    """The pairs that the first gate lets through."""
    return [one for one in judged if one.cosine >= threshold]


def thresholds(others: Sequence[Judged], sames: Sequence[Judged]) -> str:
    """The table over thresholds."""
    lines = [
        f"{len(others)} pairs that ask something else, {len(sames)} paraphrases",
        "| cosine at least | false hits, cosine alone | with the check | hits on paraphrases, cosine alone"
        " | with the check | with the check, of those above the threshold |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for at in THRESHOLDS:
        cells = [share(rows, at, checked=checked) for rows in (others, sames) for checked in (False, True)]
        cells.append(share(above(sames, at), at, checked=True))
        lines.append(f"| {at:.2f} | " + " | ".join(f"{cell:.1f} %" for cell in cells) + " |")
    return "\n".join(lines)


def by_kind(others: Sequence[Judged], sames: Sequence[Judged]) -> str:
    """Each kind at the default threshold."""
    lines = ["| class | source | kind | pairs | above .9 | hits with the check |", "|---|---|---|---:|---:|---:|"]
    for name, rows in (("other", others), ("same", sames)):
        for source, kind in sorted({(one.pair.source, one.pair.kind) for one in rows}):
            group = [one for one in rows if (one.pair.source, one.pair.kind) == (source, kind)]
            near = above(group, DEFAULT)
            hits = sum(one.alike for one in near)
            lines.append(f"| {name} | {source} | {kind} | {len(group)} | {len(near)} | {hits} |")
    return "\n".join(lines)


def figures(others: Sequence[Judged], sames: Sequence[Judged]) -> list[Figure]:
    """The two bars, and what of them people or data wrote, not rules."""
    false = share(others, DEFAULT, checked=True)
    near = above(sames, DEFAULT)
    by_hand = [one for one in near if one.pair.source == "hand"]
    far = len(above(others, DEFAULT))
    return [
        Figure(
            name="semantic cache: false hits on adversarial pairs",
            value=false,
            bar=1,
            unit="%",
            at_most=True,
            detail=f"{len(others)} pairs, {far} of them above the threshold",
        ),
        Figure(
            name="semantic cache: hits on paraphrases above the threshold",
            value=share(near, DEFAULT, checked=True),
            bar=90,
            unit="%",
            detail=f"{len(near)} pairs",
        ),
        Figure(
            name="semantic cache: the same, written by hand",
            value=share(by_hand, DEFAULT, checked=True),
            bar=90,
            unit="%",
            detail=f"{len(by_hand)} pairs",
        ),
    ]


def speed(judged: Sequence[Judged]) -> Figure:
    """Microseconds of processor time for a pair that the first gate lets through: the median of five rounds."""
    pairs = [one.pair for one in above(judged, DEFAULT)]
    rounds = []
    for _ in range(5):
        began = time.process_time()
        for pair in pairs:
            same_question(pair.one, pair.other)
        rounds.append(1e6 * (time.process_time() - began) / len(pairs))
    return Figure(name="semantic cache: the check of a pair", value=median(rounds), bar=200, unit="us", at_most=True)


if __name__ == "__main__":
    main()
