"""Reranking and diversity over what searches find: the fused order against rerankers, mixtures, MMR, copies collapsed.

    uv run python benchmarks/reranking.py [--kept FOLDER] [SET ...]

200 questions of each set (candidates.py), the first 30 passages of each reranked. A mixture adds the reranker's score
times one weight for all sets to the fused score; every second question chooses it, the others are reported.
With --kept a folder keeps what searches found, and the next run begins from there. Prints Markdown tables.
"""

import argparse
import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import ge
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any
from uuid import UUID

import numpy as np

from bookwheel.backends.lexical import LexicalReranker
from bookwheel.backends.openvino.embedder import OpenVinoEmbedder, open_embedder
from bookwheel.backends.openvino.late import LateReranker, highest_cosines, open_late_reranker, scores_of
from bookwheel.chunk import with_context
from bookwheel.diversify import collapse, cut_tail, mmr
from bookwheel.settings import Settings
from bookwheel.types import Hit
from candidates import DOCUMENTS, candidates, hits_of, ranked_documents
from harness import Figure, ndcg, recall, report

DEPTH = 30  # passages reranked
SHOWN = 10  # passages that a caller gets
WEIGHTS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
BALANCES = (0.7, 0.5)
SHARES = (0.4, 0.5, 0.6, 0.7)
TIMED = 10  # questions whose reranking is timed

Pick = Callable[["Asked"], Sequence[Hit]]


@dataclass(slots=True, kw_only=True)
class Asked:
    """A question with its passages, best first, and what each reranker says of them."""

    query: str
    grades: Mapping[str, int]
    hits: list[Hit]
    coverage: float  #: of the question by the embedder
    vectors: Mapping[int, Any]  #: by chunk id
    scores: Mapping[str, Sequence[float]]  #: by reranker

    def ordered(self, scores: Sequence[float]) -> list[Hit]:
        """The hits by other scores; equal ones in their order."""
        places = sorted(range(len(self.hits)), key=lambda place: -scores[place])
        return [replace(self.hits[place], score=scores[place]) for place in places]

    def mixed(self, reranker: str, weight: float) -> list[Hit]:
        """Fused score and the reranker's, this weighted; the sum is from 0 to 1."""
        trust = weight * self.coverage
        pairs = zip(self.hits, self.scores[reranker], strict=True)
        return self.ordered([(hit.score + trust * score) / (1 + trust) for hit, score in pairs])


class Remembering:
    """An embedder that reads each text once, however many questions find it."""

    def __init__(self, embedder: OpenVinoEmbedder) -> None:
        self._embedder = embedder
        self.coverage = embedder.coverage
        self.known: dict[str, Any] = {}

    async def embed(self, texts: Sequence[str]) -> Any:
        """As the embedder's."""
        new = list(dict.fromkeys(text for text in texts if text not in self.known))
        self.known |= zip(new, await self._embedder.embed(new), strict=True)
        return np.array([self.known[text] for text in texts])


def shown(hit: Hit) -> str:
    """What a reranker reads of a passage."""
    return with_context(hit.title, hit.heading_path, hit.text)


async def late_scores(late: LateReranker, asked: Sequence[tuple[str, list[Hit]]]) -> list[list[float]]:
    """As late.rerank for each question, with each text read once."""
    texts = list(dict.fromkeys(shown(hit) for _, hits in asked for hit in hits))
    rows: dict[str, Any] = {}
    for start in range(0, len(texts), 256):
        part = texts[start : start + 256]
        rows |= {text: row.astype(np.float16) for text, row in zip(part, await late.token_vectors(part), strict=True)}
    queries = await late.token_vectors([query for query, _ in asked])
    return [
        scores_of(np.array([highest_cosines(query, rows[shown(hit)].astype(np.float32)) for hit in hits]))
        for query, (_, hits) in zip(queries, asked, strict=True)
    ]


async def read(name: str, embedder: Remembering, late: LateReranker, *, kept: Path | None) -> list[Asked]:
    """The questions of a set, judged by every reranker."""
    rows = candidates(name, kept=kept)
    asked = [(row["query"], hits_of(row)[:DEPTH]) for row in rows]
    await embedder.embed([shown(hit) for _, hits in asked for hit in hits])
    lexical, of_late = LexicalReranker(embedder), await late_scores(late, asked)
    return [
        Asked(
            query=query,
            grades=row["grades"],
            hits=hits,
            coverage=embedder.coverage(query),
            vectors={hit.chunk_id: embedder.known[shown(hit)] for hit in hits},
            scores={"lexical": await lexical.rerank(query, [shown(hit) for hit in hits]), "late": scores},
        )
        for row, (query, hits), scores in zip(rows, asked, of_late, strict=True)
    ]


def quality(questions: Sequence[Asked], pick: Pick) -> tuple[float, float, float]:
    """Mean nDCG@10 and recall@10 of the documents picked, and how many passages they were, at most SHOWN."""
    picked = [(pick(one), one.grades) for one in questions]
    documents = [(ranked_documents(hits), grades) for hits, grades in picked]
    return (
        mean(ndcg(*pair) for pair in documents),
        mean(recall(*pair) for pair in documents),
        mean(min(SHOWN, len(hits)) for hits, _ in picked),
    )


def mixture(reranker: str, weight: float) -> Pick:
    """The fused order mixed with a reranker's."""
    return partial(Asked.mixed, reranker=reranker, weight=weight)


def chosen_weight(sets: Mapping[str, list[Asked]], reranker: str) -> float:
    """By every second question: the weight of the best mean nDCG@10 among those with which no set loses."""

    def worth(pick: Pick) -> list[float]:
        return [quality(questions[1::2], pick)[0] for questions in sets.values()]

    fused = worth(fused_order)
    found = {weight: worth(mixture(reranker, weight)) for weight in WEIGHTS}
    safe = {weight: one for weight, one in found.items() if all(map(ge, one, fused))}
    return max(safe, key=lambda weight: mean(safe[weight]), default=min(WEIGHTS))


def table(title: str, sets: Mapping[str, list[Asked]], picks: Mapping[str, Pick], *, passages: bool = False) -> None:
    """A row for each pick with nDCG@10 and recall@10, or recall@10 and the passages kept, for each set."""
    print(f"\n{title}\n\n| | {' | '.join(sets)} | mean |\n|---|{'---:|' * (len(sets) + 1)}")
    for name, pick in picks.items():
        found = [quality(questions, pick) for questions in sets.values()]
        cells = [_cell(one, passages=passages) for one in (*found, tuple(map(mean, zip(*found, strict=True))))]
        print(f"| {name} | {' | '.join(cells)} |")


def _cell(found: Sequence[float], *, passages: bool) -> str:
    return f"{found[1]:.3f}, {found[2]:.1f}" if passages else f"{found[0]:.3f} / {found[1]:.3f}"


def with_copies(one: Asked) -> list[Hit]:
    """The first SHOWN passages, each followed by a copy in another document that lacks its first three words."""
    made: list[Hit] = []
    for hit in one.hits[:SHOWN]:
        text = hit.text.split(maxsplit=3)[-1]
        copy = replace(hit, text=text, document_id=UUID(int=hit.chunk_id), chunk_id=hit.chunk_id + DEPTH)
        made += [hit, copy]
    return made


def collapsed_copies(questions: Sequence[Asked]) -> tuple[float, float]:
    """The shares of planted copies and of the passages themselves that are left out."""
    copies = own = count = 0
    for one in questions:
        left_out = [hit for group in collapse(with_copies(one)) for hit in group.copies]
        copies += sum(hit.chunk_id >= DEPTH for hit in left_out)
        own += sum(hit.chunk_id < DEPTH for hit in left_out)
        count += len(one.hits[:SHOWN])
    return copies / count, own / count


async def timed(late: LateReranker, questions: Sequence[Asked], depth: int) -> float:
    """Median milliseconds of late interaction over so many passages."""
    took = []
    for one in questions[:TIMED]:
        began = perf_counter()
        await late.rerank(one.query, [shown(hit) for hit in one.hits[:depth]])
        took.append(1000 * (perf_counter() - began))
    return float(np.median(took))


def figures(sets: Mapping[str, list[Asked]], weight: float) -> list[Figure]:
    """The mixture with late interaction against the fused order, over the questions that chose nothing."""
    halves = [questions[0::2] for questions in sets.values()]
    fused = [quality(half, fused_order)[0] for half in halves]
    mixed = [quality(half, mixture("late", weight))[0] for half in halves]
    copies = [collapsed_copies(questions) for questions in sets.values()]
    gains = ", ".join(f"{name} {new - old:+.3f}" for name, new, old in zip(sets, mixed, fused, strict=True))
    own = 100 * mean(share for _, share in copies)
    return [
        Figure(
            name="nDCG@10 fused mixed with late interaction, mean of sets",
            value=mean(mixed),
            bar=round(mean(fused), 4),
            detail=f"the bar is the fused order; weight {weight:g}; {gains}",
        ),
        Figure(
            name="planted near-duplicates collapsed",
            value=100 * mean(share for share, _ in copies),
            bar=95,
            unit="%",
            detail=f"of the passages themselves {own:.1f} %",
        ),
    ]


def fused_order(one: Asked) -> Sequence[Hit]:
    """As the search ranks them."""
    return one.hits


def first(one: Asked) -> Sequence[Hit]:
    """The first SHOWN passages."""
    return one.hits[:SHOWN]


def various(one: Asked, *, balance: float, vectors: bool) -> Sequence[Hit]:
    """SHOWN passages by MMR."""
    return mmr(one.hits, balance=balance, limit=SHOWN, vectors=one.vectors if vectors else None)


def without_copies(one: Asked) -> Sequence[Hit]:
    """The first SHOWN passages of those that stay."""
    return [group.hit for group in collapse(one.hits, vectors=one.vectors)][:SHOWN]


def cut(one: Asked, *, share: float, weight: float) -> Sequence[Hit]:
    """The first SHOWN passages without the tail; a weight of 0 is the fused order."""
    return cut_tail(one.mixed("late", weight)[:SHOWN], share=share)


def diversities() -> dict[str, Pick]:
    """What is done to the fused order for variety."""
    made: dict[str, Pick] = {"fused": first, "copies collapsed": without_copies}
    for balance in BALANCES:
        made[f"MMR {balance}, vectors"] = partial(various, balance=balance, vectors=True)
        made[f"MMR {balance}, shingles"] = partial(various, balance=balance, vectors=False)
    return made


def tails(weight: float) -> dict[str, Pick]:
    """Where the tail is cut."""
    made: dict[str, Pick] = {"all ten": first}
    for share in SHARES:
        made[f"fused, {share} of the best"] = partial(cut, share=share, weight=0.0)
        made[f"mixed, {share} of the best"] = partial(cut, share=share, weight=weight)
    return made


def orders(weights: Mapping[str, float]) -> dict[str, Pick]:
    """Fused, and each reranker alone and mixed."""
    made: dict[str, Pick] = {"fused": fused_order}
    for reranker, chosen in weights.items():
        made[f"{reranker} alone"] = partial(alone, reranker=reranker)
        for weight in sorted({0.5, 1.0, chosen}):
            mark = ", chosen" if weight == chosen else ""
            made[f"fused + {weight:g} x {reranker}{mark}"] = mixture(reranker, weight)
    return made


def alone(one: Asked, *, reranker: str) -> Sequence[Hit]:
    """By the reranker only."""
    return one.ordered(one.scores[reranker])


async def main(names: Sequence[str], *, kept: Path | None) -> None:
    """All tables."""
    model = open_embedder(None, threads=1)
    late = open_late_reranker("late:", Settings(embed_threads=1))
    sets = {name: await read(name, Remembering(model), late, kept=kept) for name in names}
    rest = {name: questions[0::2] for name, questions in sets.items()}
    weights = {reranker: chosen_weight(sets, reranker) for reranker in ("lexical", "late")}
    table("nDCG@10 / recall@10, every second question:", rest, orders(weights))
    table("First ten passages, nDCG@10 / recall@10, all questions:", sets, diversities())
    table("recall@10, passages kept of ten, all questions:", sets, tails(weights["late"]), passages=True)
    for depth in (10, 20, 30):
        took = {name: await timed(late, questions, depth) for name, questions in sets.items()}
        print(f"\nlate interaction over {depth} passages, one thread, median:")
        print(", ".join(f"{name} {milliseconds:.0f} ms" for name, milliseconds in took.items()))
    report("reranking", figures(sets, weights["late"]))
    late.close()
    model.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=list(DOCUMENTS))
    parser.add_argument("--kept", type=Path)
    given = parser.parse_args()
    asyncio.run(main(given.sets, kept=given.kept))
