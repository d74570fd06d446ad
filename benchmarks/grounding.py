"""The grounding check on planted faults: how many it finds, and how many true sentences it leaves alone.

    uv run python benchmarks/grounding.py          # --half develop --misses 20 while working on the rules

Answers of three to six sentences are made of a gold passage that stands among eight hits (the others: its neighbours in
the same article and the nearest by shared rare words): true sentences, word for word and edited, and false ones of each
kind in planted.py; and true ones whose marker points to another hit. A false sentence is found when it is unsupported;
a moved marker when the citation ends at the gold passage and not at the wrong one. Precision is the share of the
sentences that the check changed, by marking or by moving a marker, that were to be changed. Half of the passages were
used to write the rules; the figures are of the other half.
"""

import argparse
import asyncio
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bookwheel.backends.openvino.embedder import OpenVinoEmbedder, open_embedder
from bookwheel.grounding import check
from bookwheel.sentences import split_sentences, words
from bookwheel.support import Grounder, Verdict
from bookwheel.testing.doubles import a_hit
from bookwheel.types import Hit
from harness import DATA, Figure, read_lines, report
from planted import FALSE, TRUE, Around, statement

HITS = 8
ANSWERS = 400  # of each set
PASSAGE = 1_200  # characters: financebench's pages are cut to what chunks are
SETS = {
    "SQuAD dev": "squad_dev",
    "SQuAD 2 dev": "squad2_dev",
    "qa_wiki_25k": "qa_wiki_25k",
    "filings": "financebench_pdf",
    "JaQuAD": "jaquad",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A passage that answers are made of."""

    name: str
    title: str
    text: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One sentence of an answer."""

    kind: str
    text: str
    hint: int  #: from 1
    gold: int  #: the hit that it was made of
    false: bool = False
    moved: bool = False  #: its marker points to a wrong hit


class Corpus:
    """The passages of a set, and which are like a passage."""

    def __init__(self, folder: str) -> None:
        self.passages = list(_passages(folder))
        self.by_title = defaultdict[str, list[Passage]](list)
        for passage in self.passages:
            self.by_title[passage.title].append(passage)
        self._bags = [{word for word, _, _ in words(passage.text)} for passage in self.passages]
        self._counts = Counter(word for bag in self._bags for word in bag)
        self._having = defaultdict[str, list[int]](list)
        for at, bag in enumerate(self._bags):
            for word in bag:
                if 1 < self._counts[word] <= 300:
                    self._having[word].append(at)
        self._places = {id(passage): at for at, passage in enumerate(self.passages)}

    def nearest(self, passage: Passage) -> list[Passage]:
        """Those that share most rare words with it, the nearest first."""
        shared = Counter[int]()
        for word in self._bags[self._places[id(passage)]]:
            for at in self._having.get(word, ()):
                shared[at] += 1 / self._counts[word] ** 0.5
        return [self.passages[at] for at, _ in shared.most_common(30) if self.passages[at] is not passage]


def _passages(folder: str) -> Iterator[Passage]:
    for line in read_lines(DATA / folder / "corpus.jsonl"):
        for text in _cut(line["text"]):
            found = tuple(text[start:end] for start, end in split_sentences(text))
            yield Passage(name=line["_id"], title=line.get("title") or "", text=text, sentences=found)


def _cut(text: str) -> Iterator[str]:
    """Texts of about PASSAGE characters, cut between sentences."""
    begin, last = 0, 0
    for _, end in split_sentences(text):
        if end - begin > PASSAGE and last > begin:
            yield text[begin:last]
            begin = last
        last = end
    if last > begin:
        yield text[begin:last]


def is_prose(sentence: str) -> bool:
    """A whole sentence of some length on one line, no heading and no table row."""
    if re.search(r"[\u3040-\u30ff]", sentence):
        return sentence.endswith("。") and 15 <= len(sentence) <= 200 and "\n" not in sentence
    return sentence.endswith(".") and sentence[0].isupper() and 8 <= len(sentence.split()) <= 60 and "|" not in sentence


def answers(corpus: Corpus, folder: str, half: str, chance: random.Random) -> Iterator[tuple[list[Hit], list[Case]]]:
    """Answers with their hits, half of their sentences false."""
    questions = _questions(folder)
    golds = [gold for at, gold in enumerate(corpus.passages) if at % 2 == (half == "report")]
    golds = [gold for gold in golds if sum(map(is_prose, gold.sentences)) >= 3]
    for gold in chance.sample(golds, min(ANSWERS, len(golds))):
        others = list(dict.fromkeys(corpus.by_title[gold.title] + corpus.nearest(gold)))
        others = [other for other in others if other is not gold]
        shown = chance.sample(others[:14], min(HITS - 1, len(others[:14])))
        away = [other for other in others if all(other is not one for one in shown)] or corpus.passages[:50]
        hits = [gold, *shown]
        chance.shuffle(hits)
        cases = list(_cases(gold, hits, away, questions.get(gold.name, []), chance))
        chance.shuffle(cases)
        yield [a_hit(one.text, title=one.title, document=at) for at, one in enumerate(hits)], cases[:6]


def _questions(folder: str) -> dict[str, list[tuple[str, str]]]:
    """Questions with an answer, by the passage that has it."""
    found = defaultdict[str, list[tuple[str, str]]](list)
    if folder not in ("squad_dev", "squad2_dev", "qa_wiki_25k"):
        return found
    golds = dict(line.split("\t")[:2] for line in (DATA / folder / "qrels.tsv").read_text().splitlines()[1:])
    for query in read_lines(DATA / folder / "queries.jsonl"):
        if query["metadata"].get("answers") and query["_id"] in golds:
            found[golds[query["_id"]]].append((query["text"], query["metadata"]["answers"][0]))
    return found


def _cases(
    gold: Passage,
    hits: Sequence[Passage],
    away: Sequence[Passage],
    asked: Sequence[tuple[str, str]],
    chance: random.Random,
) -> Iterator[Case]:
    number = hits.index(gold) + 1
    wrong = chance.choice([other for other in range(1, len(hits) + 1) if other != number] or [number])
    used = [sentence for sentence in gold.sentences if is_prose(sentence)]
    chance.shuffle(used)
    for at, original in enumerate(used[:6]):
        sentence = original
        around = Around(
            chance=chance,
            title=gold.title,
            next_sentence=_next(gold, original),
            donors=[one.text for one in (*hits, *away[:5]) if one is not gold],
            stranger=_stranger(away, hits, chance),
        )
        if at % 4 == 1:  # every other fault is planted in a sentence that was edited before
            rewritten = (TRUE[kind](sentence, around) for kind in ("clause dropped", "order changed", "synonyms"))
            sentence = next((text for text in rewritten if text), sentence)
        edits = list((FALSE if at % 2 else TRUE).items())
        chance.shuffle(edits)
        for kind, edit in edits:
            text = edit(sentence, around)
            if (text and text != sentence) or kind == "verbatim":
                yield Case(kind=kind, text=text or sentence, hint=number, gold=number, false=bool(at % 2))
                if at == 0 and wrong != number:
                    yield Case(kind="marker moved", text=text or sentence, hint=wrong, gold=number, moved=True)
                break
    for question, answer in chance.sample(asked, min(1, len(asked))):
        if text := statement(question, answer):
            yield Case(kind="question and answer", text=text, hint=number, gold=number)


def _next(gold: Passage, sentence: str) -> str | None:
    return next((two for one, two in pairwise(gold.sentences) if one == sentence and is_prose(two)), None)


def _stranger(away: Sequence[Passage], hits: Sequence[Passage], chance: random.Random) -> str | None:
    """A sentence of a passage like these that stands in none of them."""
    found = [sentence for one in away[:8] for sentence in one.sentences if is_prose(sentence)]
    found = [sentence for sentence in found if not any(sentence in hit.text for hit in hits)]
    return chance.choice(found) if found else None


@dataclass(slots=True)
class Tally:
    """What became of the cases of one kind."""

    right: int = 0
    wrong: int = 0

    def share(self) -> float:
        """Right ones among all."""
        return self.right / ((self.right + self.wrong) or 1)


def judge(case: Case, verdict: Verdict) -> tuple[bool, bool]:
    """Whether the check changed the sentence or its marker, and whether it did what it should have done."""
    changed = not verdict.supported or case.hint not in verdict.hits
    if case.false:
        return changed, not verdict.supported
    if case.moved:
        return changed, verdict.supported and case.gold in verdict.hits and case.hint not in verdict.hits
    return changed, verdict.supported and case.gold in verdict.hits


async def evaluate(
    name: str, folder: str, *, half: str, embedder: OpenVinoEmbedder | None, misses: int
) -> tuple[Tally, Tally]:
    """Print the table of a set; returns precision's and recall's tallies."""
    chance = random.Random(7)
    corpus = Corpus(folder)
    precision, recall, by_kind = Tally(), Tally(), defaultdict[str, Tally](Tally)
    spent = sentences = 0.0
    for hits, cases in answers(corpus, folder, half, chance):
        began = time.process_time()
        grounder = Grounder(hits)
        verdicts = [await check(case.text, hints=[case.hint], grounder=grounder, embedder=embedder) for case in cases]
        spent, sentences = spent + time.process_time() - began, sentences + len(cases)
        for case, verdict in zip(cases, verdicts, strict=True):
            changed, good = judge(case, verdict)
            fault = case.false or case.moved
            _count(by_kind[f"{'fault' if fault else 'true'}: {case.kind}"], good)
            if fault:
                _count(recall, good)
            if changed:
                _count(precision, fault)
            if not good and misses > 0:
                misses -= 1
                _show(case, verdict, hits)
    micros = f"{1e6 * spent / sentences:.0f} µs of processor time each"
    print(
        f"{name}: precision {precision.share():.3f} recall {recall.share():.3f}, {int(sentences)} sentences, {micros}"
    )
    for kind, tally in sorted(by_kind.items()):
        print(f"  {kind:32} {tally.share():.3f} of {tally.right + tally.wrong}")
    return precision, recall


def _show(case: Case, verdict: Verdict, hits: Sequence[Hit]) -> None:
    """A miss, for who works on the rules."""
    print(f"  {case.kind} | {verdict.reasons} {verdict.score:.2f} {case.hint}->{verdict.hits} gold {case.gold}")
    print(f"    {case.text}\n    {hits[case.gold - 1].text[:1500]!r}")


def _count(tally: Tally, right: bool) -> None:
    if right:
        tally.right += 1
    else:
        tally.wrong += 1


async def main() -> None:
    """All sets, or one while working on the rules."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--half", choices=("develop", "report"), default="report")
    parser.add_argument("--misses", type=int, default=0)
    parser.add_argument("--set", choices=list(SETS))
    parser.add_argument("--words", action="store_true")
    given = parser.parse_args()
    figures = list[Figure]()
    embedder = None if given.words else open_embedder(None, threads=1)
    for name, folder in SETS.items():
        if given.set in (None, name):
            precision, recall = await evaluate(name, folder, half=given.half, embedder=embedder, misses=given.misses)
            figures.append(Figure(name=f"grounding check, {name}: precision", value=precision.share(), bar=0.9))
            figures.append(Figure(name=f"grounding check, {name}: recall", value=recall.share(), bar=0.8))
    report("grounding", figures)


if __name__ == "__main__":
    asyncio.run(main())
