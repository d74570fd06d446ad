"""Answers without a language model: the best sentences of the best passages, each with its [n].

A sentence is scored by its cosine with the question, the question's rare words in it and beside it, its passage's score
and whether it holds what the question asks for (a name, a date, a number). Weights are round numbers near a fit on
SQuAD questions; benchmarks/answers_lab.py judges them. Hits that hardly speak of the question get no answer;
hits on its subject that lack the answer are not told apart.
"""

import re
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

from bookwheel.errors import EmbedderUnavailableError
from bookwheel.followup import self_contained
from bookwheel.parts import Part
from bookwheel.ports import Embedder, Vectors
from bookwheel.sentences import NOTE, SPACELESS, split_quotes, words
from bookwheel.types import Hit, Prompt

HITS = 8  # passages that are read
EMBEDDED = 16  # sentences whose cosine is computed, the best by words: 40 cost 2.4 times as much and find 0.3 % more
SENTENCES = 3  # written at most
SUPPORT = 0.42  # less, and the hits do not speak of the question: 1 % of SQuAD's own questions, 96 % of strangers
SUPPORT_BY_WORDS = 0.30  # the same where words alone must tell: Japanese with MiniLM, or no embedder
WEIGHTS = (3.0, 2.0, 1.0, 2.0, 0.8)  # of cosine, words, context, passage, expected kind


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STEM = 6  # letters that must agree: enough for founded and founding
# Function words and the words that questions are made of.
_STOP_WORDS = _set(
    "a an the of in on at to for from by with as and or but if is are was were be been being do does did done has have"
    " had what which who whom whose when where why how many much that this these those it its their his her he she they"
    " there can could would should will may might about into than then also not no s t i you we me my your our name"
    " named called kind type"
)
_SPACELESS = re.compile(rf"[{SPACELESS}]")
_HIRAGANA = re.compile(r"[\u3041-\u309f]")
_NOTE = re.compile(rf"\s?{NOTE}(?P<glued>(?=[^\W{SPACELESS}]))?")
_MARKUP = re.compile(r"^(?:[#>]+\s+|[-*+•]\s+)+")

_NUMBER = re.compile(
    r"\d[\d.,]*|\b(?:two|three|four|five|six|seven|eight|nine|ten|hundred|thousand|million|billion|half)\b"
)
_DATE = re.compile(
    r"\b\d{3,4}s?\b|\d+(?:st|nd|rd|th) century|\b(?:January|February|March|April|May|June|July|August|September|October"
    r"|November|December)\b|[\d〇一二三四五六七八九十]+[年月日世]"
)
_NAME = re.compile(r"(?<![.!?] )(?<!^)\b[A-Z][\w’'-]+|[\u30a1-\u30fa\u30fc]{3,}|[\u4e00-\u9fff]{2,}")
_KINDS = (
    (
        re.compile(r"\b(?:when|(?:what|which) (?:year|date|day|month|decade|century))\b|いつ|何年|何月|何日|何世紀"),
        _DATE,
    ),
    (
        re.compile(
            r"\bhow (?:many|much|old|long|far|tall|high|large|big|often|fast)\b|\bpercent"
            r"|何人|何個|何回|いくつ|いくら|どのくらい|どれくらい"
        ),
        _NUMBER,
    ),
    (
        re.compile(
            r"\b(?:who|whom|whose|where|(?:what|which) (?:city|country|state|team|company|person|place))\b|誰|だれ|どこ"
        ),
        _NAME,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A sentence that may answer."""

    hit: int  #: position among the hits, from 0
    start: int  #: characters of the hit's text
    text: str  #: as it is written: one line, without markup and footnote numbers
    terms: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The question's sentences with what they were judged by."""

    sentences: Sequence[Sentence]
    features: NDArray[np.float64]  #: (sentences, 5) in the order of WEIGHTS
    support: float  #: 0 to 1: how much of the question the hits speak of
    needed: float  #: the support without which nothing is written


class ExtractiveGenerator:
    """Fills the Generator port. Costs one embedding batch of at most EMBEDDED short texts."""

    model = "bookwheel-extractive"
    writes_json = False

    def __init__(self, embedder: Embedder, *, part: Part | None = None) -> None:
        """With `part` the embedder is asked as a part of a search: in time, and not while it is left alone."""
        self._embedder = embedder
        self._part = part

    async def ping(self) -> None:
        """See ports.Generator: it always answers, if need be without the embedder."""

    async def generate(self, prompt: Prompt) -> AsyncGenerator[str, None]:
        """At most three sentences, best first, those of one passage together in its order; none without support."""
        scored = await self.score(self_contained(prompt.question, prompt.history), prompt.hits)
        for number, sentence in enumerate(choose(scored)):
            yield f"{' ' if number else ''}{sentence.text} [{sentence.hit + 1}]"

    async def score(self, question: str, hits: Sequence[Hit]) -> Scored:
        """Judge the sentences of the first hits: what `generate` chooses from."""
        wanted = terms(question)
        sentences = _likeliest(_sentences(hits[:HITS]), wanted, hits)
        if not sentences:
            return Scored(sentences=(), features=np.empty((0, len(WEIGHTS))), support=0.0, needed=SUPPORT)
        cosines, trust = await self._cosines(question, sentences)
        features = _features(question, wanted, sentences, hits, cosines * trust)
        return Scored(
            sentences=sentences,
            features=features,
            support=_support(wanted, hits, cosines, trust),
            needed=SUPPORT_BY_WORDS + (SUPPORT - SUPPORT_BY_WORDS) * trust,
        )

    async def _cosines(self, question: str, sentences: Sequence[Sentence]) -> tuple[NDArray[np.float32], float]:
        """Cosines of sentences and question, and their worth: 0 without embedder, 1 in a language that it knows."""
        trust = self._embedder.coverage(question)
        if not trust:
            return np.zeros(len(sentences), np.float32), 0.0
        try:
            vectors = await self._embedded([question, *(sentence.text for sentence in sentences)])
        except EmbedderUnavailableError:
            return np.zeros(len(sentences), np.float32), 0.0
        return vectors[1:] @ vectors[0], trust

    async def _embedded(self, texts: Sequence[str]) -> Vectors:
        if self._part is None:
            return await self._embedder.embed(texts)
        return await self._part.call(lambda: self._embedder.embed(texts))


def choose(scored: Scored) -> list[Sentence]:
    """The best sentences in reading order: passages by their best sentence, each in its own order."""
    if scored.support < scored.needed:
        return []
    totals = scored.features @ np.array(WEIGHTS)
    best: list[Sentence] = []
    for index in np.argsort(-totals, kind="stable"):
        sentence = scored.sentences[index]
        if len(best) < SENTENCES and not any(_repeats(sentence, other) for other in best):
            best.append(sentence)
    order = list(dict.fromkeys(sentence.hit for sentence in best))
    return sorted(best, key=lambda sentence: (order.index(sentence.hit), sentence.start))


def _repeats(one: Sentence, other: Sentence) -> bool:
    """Neighbouring chunks overlap, so a sentence may come twice, or once whole and once cut."""
    return one.text in other.text or other.text in one.text


def terms(text: str) -> frozenset[str]:
    """What texts are compared by: word stems without function words; pairs of characters where no spaces are."""
    found, before = set[str](), ("", -1)
    for word, start, end in words(text):
        if _SPACELESS.match(word):
            pair = before[0] + word
            if before[1] == start and not _HIRAGANA.match(before[0]):
                found.add(pair)
            before = (word, end)
        elif word not in _STOP_WORDS:
            found.add(_stem(word))
    return frozenset(found)


def _stem(word: str) -> str:
    """Enough of a word to find its other forms; numbers stay whole."""
    if word[0].isdigit():
        return word
    return word.removesuffix("s")[:_STEM] if len(word) > 3 else word


def _sentences(hits: Sequence[Hit]) -> Iterable[Sentence]:
    for number, hit in enumerate(hits):
        for start, end in split_quotes(hit.text):
            text = _readable(hit.text[start:end])
            yield Sentence(hit=number, start=start, text=text, terms=terms(text))


def _readable(sentence: str) -> str:
    """One line without list marks, heading marks and footnote numbers, which would read as citations."""
    line, notes = " ".join(sentence.split()), 1
    while notes:  # again, because [[1]2] leaves [2]
        line, notes = _NOTE.subn(lambda note: "" if note["glued"] is None else " ", line)
    return _MARKUP.sub("", line.strip())


def _likeliest(sentences: Iterable[Sentence], wanted: frozenset[str], hits: Sequence[Hit]) -> list[Sentence]:
    """At most EMBEDDED sentences, by the share of the question's words in them and their passage's score."""
    ranked = sorted(
        (sentence for sentence in sentences if sentence.terms),
        key=lambda sentence: -(len(sentence.terms & wanted) / (len(wanted) or 1) + hits[sentence.hit].score),
    )
    return sorted(ranked[:EMBEDDED], key=lambda sentence: (sentence.hit, sentence.start))


def _features(
    question: str,
    wanted: frozenset[str],
    sentences: Sequence[Sentence],
    hits: Sequence[Hit],
    cosines: NDArray[np.float32],
) -> NDArray[np.float64]:
    """One row for each sentence, in the order of WEIGHTS, each 0 to 1."""
    weights = _rarity(wanted, sentences)
    own = [_share(sentence.terms, weights) for sentence in sentences]
    context = [_share(around, weights) for around in _surroundings(sentences, hits)]
    kinds = [pattern for asked, pattern in _KINDS if asked.search(question.casefold())]
    known = frozenset(word for word, _, _ in words(question))
    rows = [
        (cosine, own[index], context[index], hits[sentence.hit].score, _answers(sentence.text, kinds, known))
        for index, (sentence, cosine) in enumerate(zip(sentences, cosines, strict=True))
    ]
    return np.array(rows)


def _rarity(wanted: frozenset[str], sentences: Sequence[Sentence]) -> dict[str, float]:
    """The weight of each of the question's terms: the rarer among the sentences, the more."""
    counts = Counter(term for sentence in sentences for term in sentence.terms & wanted)
    return {term: log(1 + len(sentences) / (1 + counts[term])) for term in wanted}


def _share(present: frozenset[str], weights: dict[str, float]) -> float:
    """The weighted share of the question's terms that are present."""
    return sum(weight for term, weight in weights.items() if term in present) / (sum(weights.values()) or 1.0)


def _surroundings(sentences: Sequence[Sentence], hits: Sequence[Hit]) -> list[frozenset[str]]:
    """The terms of each sentence, its neighbours and its headings."""
    heads = [terms(" ".join((hit.title or "", *hit.heading_path))) for hit in hits[:HITS]]
    around = []
    for index, sentence in enumerate(sentences):
        near = sentences[max(0, index - 1) : index + 2]
        around.append(heads[sentence.hit].union(*(other.terms for other in near if other.hit == sentence.hit)))
    return around


def _answers(text: str, kinds: Sequence[re.Pattern[str]], known: frozenset[str]) -> float:
    """1 when the sentence holds something of an expected kind that the question does not say itself."""
    found = (match for pattern in kinds for match in pattern.finditer(text))
    return float(any(match[0].casefold() not in known for match in found))


def _support(wanted: frozenset[str], hits: Sequence[Hit], cosines: NDArray[np.float32], trust: float) -> float:
    """How much of the question the hits speak of, by words and by meaning; words alone where vectors say little."""
    passages = (terms(" ".join((hit.title or "", *hit.heading_path, hit.text))) for hit in hits[:HITS])
    share = max(len(wanted & passage) / (len(wanted) or 1) for passage in passages)
    meaning = 2 / 3 * trust
    return (1 - meaning) * share + meaning * float(cosines.max())
