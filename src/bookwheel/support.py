"""Whether a sentence rests on the passages: the passages found, the sentences in them, and what speaks against it.

A sentence that stands in a passage word for word, with its signs and units, is supported and costs a lookup. Any other
is compared with the sentences of all passages: the few (of at most three hits) that cover most of its content words are
its support, rare words weighing more. It is unsupported where too little is covered, a number or name is missing or
stands where the support has another one, a number has another unit, two things changed places, or the support says the
opposite. Rules and their figures: docs/decisions/0011-grounding.md.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cached_property
from math import log
from typing import Literal

from bookwheel.claims import claims, plain
from bookwheel.evidence import Part, Passage
from bookwheel.measures import mismatched
from bookwheel.names import has, names, opening_name, tokens
from bookwheel.places import swapped
from bookwheel.polarity import contradicts, opposed
from bookwheel.quantities import keys_of, normalised, quantities, stands
from bookwheel.sentences import Span, words
from bookwheel.terms import in_order, terms
from bookwheel.types import Hit

Reason = Literal["numbers", "names", "words", "meaning"]
Similarity = Callable[[str, Sequence[str]], float]  # the greatest cosine of a sentence and any of these texts

COVERED = 0.6  # share of the content words, by weight: enough alone
LIKELY = 0.4  # enough where the meaning agrees
MEANS = 0.75  # cosine from which the meaning agrees
RUN = 3  # content words in a row that nowhere stand: something was added
PARTS = 4  # sentences of the passages that one sentence may rest on
HITS = 3  # passages that one sentence may rest on
GAIN = 2  # content words that a further sentence must bring
ALIKE = 0.6  # share of a sentence's words in the same order: what differs then stands in place of something
SWAPPED = 8  # words at most that stand in place of others
SCRAP = 4  # words in a row: fewer prove nothing by standing in a passage
AS_GOOD = 0.05  # a hinted passage this near the best is kept
NAME_WEIGHT = 1.5  # of a number or a name, against a word

_CUT_BEFORE = re.compile(r"\d[.,'’ \u00a0\u2009\u202f]$")  # before a number: it is the end of a longer one
_CUT_BEHIND = re.compile(
    r"[.,'’]\d|[ \u00a0\u2009\u202f]\d{3}(?!\d)|[ -](?:thousand|million|billion|trillion)\b|[千万億兆]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is known of one sentence."""

    claims: bool  #: False for what needs no support: greetings, headings, "I could not find ..."
    supported: bool = False
    score: float = 0.0  #: 0 to 1: the share of its content that the passages cover; 0 when something contradicts it
    hits: tuple[int, ...] = ()  #: numbers, from 1, of those it rests on, best first; what claims nothing may be quoted
    spans: tuple[Span, ...] = ()  #: for each of the hits: its best part, characters of the hit's text
    reasons: tuple[Reason, ...] = ()  #: why it is not supported
    near: tuple[str, ...] = ()  #: texts whose meaning may still decide for it: see `Grounder.judge`


class Grounder:
    """Judges the sentences of one answer against its hits. Each hit is read once, and only when it is needed."""

    def __init__(self, hits: Sequence[Hit]) -> None:
        self._passages = [Passage(hit) for hit in hits]

    def judge(self, sentence: str, *, hints: Sequence[int] = (), similarity: Similarity | None = None) -> Verdict:
        """Judge one sentence, given with or without markup and markers. `hints` are the hits, from 1, that its writer
        named; wrong ones are replaced. Where words leave it open, and only there, `similarity` is asked; without one
        the verdict is "words" and `near` holds the texts to compare the sentence with."""
        claim = plain(sentence)
        known = [hint for hint in dict.fromkeys(hints) if 1 <= hint <= len(self._passages)]
        if not claims(sentence):
            quoted = self._verbatim(claim, known) if known and words(claim) else None
            return replace(quoted, claims=False, supported=False) if quoted else Verdict(claims=False)
        return self._verbatim(claim, known) or self._covered(claim, known, similarity)

    def quotes(self, claim: str, number: int) -> bool:
        """Whether a text is quoted from the hit of this number, from 1: a whole sentence, or SCRAP words in a row."""
        if not 1 <= number <= len(self._passages):
            return False
        passage, own = self._passages[number - 1], [word for word, _, _ in words(claim)]
        wanted = f" {' '.join(own)} "
        if wanted not in (passage.joined if len(own) >= SCRAP else passage.wholes):
            return False
        return _is_quoted(claim, passage, wanted)

    def _verbatim(self, claim: str, hints: Sequence[int]) -> Verdict | None:
        """The verdict where the claim stands in a passage: all hints where it does, or the first other hit."""
        wanted = f" {' '.join(word for word, _, _ in words(claim))} "
        found = [hint for hint in hints if _is_quoted(claim, self._passages[hint - 1], wanted)]
        if not found:
            numbers = range(1, len(self._passages) + 1)
            found = [number for number in numbers if _is_quoted(claim, self._passages[number - 1], wanted)][:1]
        if not found:
            return None
        spans = tuple(self._passages[number - 1].span_of(wanted) for number in found)
        return Verdict(claims=True, supported=True, score=1.0, hits=tuple(found), spans=spans)

    def _covered(self, claim: str, hints: Sequence[int], similarity: Similarity | None) -> Verdict:
        """The verdict over the sentences that cover most of the claim."""
        subject = _Claim(claim, self._rarity)
        alone = [self._cover(subject, [passage]) for passage in self._passages]
        best = max(alone, key=lambda cover: (bool(cover.parts), cover.share), default=None)
        if best is None or not best.parts:
            return Verdict(claims=True, reasons=("words",))
        chosen = self._preferred(alone, best, hints)
        reasons, near = self._doubts(subject, chosen, similarity)
        if reasons and chosen is not best:
            chosen = best
            reasons, near = self._doubts(subject, chosen, similarity)
        if reasons and reasons != ("meaning",):
            wider = self._cover(subject, sorted(self._passages, key=lambda one: one is not chosen.parts[0].passage))
            if wider.share > chosen.share:
                again, near_again = self._doubts(subject, wider, similarity)
                if not again:
                    chosen, reasons, near = wider, again, near_again
        return self._verdict(chosen, reasons, near, [alone[hint - 1] for hint in hints])

    def _preferred(self, alone: Sequence["_Cover"], best: "_Cover", hints: Sequence[int]) -> "_Cover":
        """The first hinted passage that is as good as the best, else the best."""
        hinted = (alone[hint - 1] for hint in hints)
        return next((one for one in hinted if one.parts and one.share >= best.share - AS_GOOD), best)

    def _verdict(
        self, cover: "_Cover", reasons: tuple[Reason, ...], near: tuple[str, ...], hinted: Sequence["_Cover"]
    ) -> Verdict:
        parts = {self._passages.index(part.passage) + 1: part.span for part in reversed(cover.parts)}
        if not reasons and len(parts) == 1:  # other hints that say it as well are kept
            for other in hinted:
                if other.parts and other.share >= cover.share - AS_GOOD:
                    parts.setdefault(self._passages.index(other.parts[0].passage) + 1, other.parts[0].span)
        order = list(dict.fromkeys(self._passages.index(part.passage) + 1 for part in cover.parts))
        order += [number for number in parts if number not in order]
        return Verdict(
            claims=True,
            supported=not reasons,
            score=min(cover.share, 1.0) if not reasons or reasons == ("words",) else 0.0,
            hits=tuple(order),
            spans=tuple(parts[number] for number in order),
            reasons=reasons,
            near=near,
        )

    @cached_property
    def _rarity(self) -> Callable[[str], float]:
        """The weight of a term: the fewer sentences have it, the more."""
        counts = Counter(term for passage in self._passages for part in passage.parts for term in part.terms)
        total = sum(len(passage.parts) for passage in self._passages)
        return lambda term: log(2 + total / (1 + counts[term]))

    def _cover(self, claim: "_Claim", passages: Sequence[Passage]) -> "_Cover":
        """The sentences that cover most of the claim, taken one after another, each with the most that is new."""
        covered, parts = frozenset[str](), list[Part]()
        heads = frozenset[str]()
        while len(parts) < PARTS and covered < claim.terms:
            at_hand = _at_hand(passages, parts)
            part = max(at_hand, key=lambda one: claim.weigh((one.terms & claim.terms) - covered), default=None)
            new = (part.terms & claim.terms) - covered - heads if part else frozenset[str]()
            enough = len([term for term in new if term[0] != "#"]) >= GAIN if parts else bool(new)
            if part is None or not enough:
                break
            parts.append(part)
            heads |= part.passage.head_terms & claim.terms
            covered |= part.terms & claim.terms
        cover = _Cover(parts=tuple(parts), share=0.0)
        known = covered | heads
        known |= {
            term for name, own in claim.names.items() if not own <= known and cover.has_name(name) for term in own
        }
        return replace(cover, share=claim.weigh(known) / (claim.weight or 1))

    def _doubts(
        self, claim: "_Claim", cover: "_Cover", similarity: Similarity | None
    ) -> tuple[tuple[Reason, ...], tuple[str, ...]]:
        """What speaks against the claim, and the texts whose meaning may still speak for it."""
        reasons: list[Reason] = []
        sources = [part.text for part in cover.parts]
        if not cover.has_numbers(claim) or (claim.numbers and mismatched(claim.text, sources)):
            reasons.append("numbers")
        if not cover.has_names(claim) or self._is_foreign(claim.opening, cover):
            reasons.append("names")
        for reason in _replaced(claim, cover):
            if reason not in reasons:
                reasons.append(reason)
        if contradicts(claim.text, " \n".join(sources)) or swapped(claim.text, sources[0]):
            reasons.append("meaning")
        if reasons:
            return tuple(reasons), ()
        if cover.share < LIKELY or claim.longest_gap(cover.known) >= RUN:
            return ("words",), ()
        if cover.share >= COVERED:
            return (), ()
        near = tuple(dict.fromkeys(text for part in cover.parts[:2] for text in part.windows()))
        if similarity is None:
            return ("words",), near
        return (() if similarity(claim.text, near) >= MEANS else ("words",)), near

    def _is_foreign(self, opening: str | None, cover: "_Cover") -> bool:
        """Whether the claim's first word is a name, as other passages show, and not one of these."""
        if opening is None or cover.has_name(opening):
            return False
        return any(opening.casefold() in passage.capitalised for passage in self._passages)


def _at_hand(passages: Sequence[Passage], parts: Sequence[Part]) -> Iterator[Part]:
    """The sentences that may come next: once HITS passages are taken only theirs."""
    taken = list(dict.fromkeys(id(part.passage) for part in parts))
    for passage in passages:
        if len(taken) < HITS or id(passage) in taken:
            yield from passage.parts


def _is_quoted(claim: str, passage: Passage, wanted: str) -> bool:
    """Whether the claim's words stand in the passage, and no number, sign or unit is cut or changed."""
    if wanted not in passage.joined:
        return False
    if not any(letter.isdigit() for letter in claim):
        return True
    start, end = passage.span_of(wanted)
    text = passage.hit.text
    if _CUT_BEFORE.search(text, max(0, start - 2), start) and text[start].isdigit():
        return False
    if text[end - 1].isdigit() and _CUT_BEHIND.match(text, end):
        return False
    return not mismatched(claim, [text[max(0, start - 2) : end + 2]])


class _Claim:
    """A sentence to be judged."""

    def __init__(self, text: str, rarity: Callable[[str], float]) -> None:
        self.text = text
        self.numbers = [number for number in quantities(text) if number.firm]
        rounded = [number for number in self.numbers if number.about]
        self.terms = terms(text) - {f"#{key}" for key in keys_of(rounded)}  # those are looked for by their size
        self.is_rounded = any(number.about for number in self.numbers)
        self.names = {name: {term for term, _, _ in in_order(name)} for name in names(text)}
        self.opening = opening_name(text)
        named = set[str]().union(*self.names.values())
        self._weights = {
            term: rarity(term) * (NAME_WEIGHT if term in named or term[0] == "#" else 1.0) for term in self.terms
        }
        self.weight = sum(self._weights.values())

    def weigh(self, covered: Iterable[str]) -> float:
        """The weight of those of the claim's terms that are covered; rounded, because sets have no order."""
        return round(sum(self._weights.get(term, 0.0) for term in covered), 9)

    def longest_gap(self, known: frozenset[str]) -> int:
        """The most content words in a row that are not known."""
        longest = run = 0
        for term, _, _ in in_order(self.text):
            run = 0 if term in known else run + 1
            longest = max(longest, run)
        return longest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cover:
    """Sentences that a claim may rest on, the best first."""

    parts: tuple[Part, ...]
    share: float  #: of the claim's weight

    @property
    def passages(self) -> list[Passage]:
        return list({id(part.passage): part.passage for part in self.parts}.values())

    @property
    def known(self) -> frozenset[str]:
        return frozenset[str]().union(*(passage.terms for passage in self.passages))

    def has_numbers(self, claim: _Claim) -> bool:
        """Whether each number of the claim stands in one of the sentences or in a heading."""
        if not claim.numbers:
            return True
        keys = {term[1:] for part in self.parts for term in part.terms | part.passage.head_terms if term[0] == "#"}
        loose = [number for part in self.parts for number in quantities(part.text)]
        keys.update(key for number in loose for key in number.keys)
        return all(stands(number, frozenset(keys), loose) for number in claim.numbers)

    def has_names(self, claim: _Claim) -> bool:
        """Whether each name of the claim stands in one of the passages or in a heading."""
        return all(self.has_name(name) for name in claim.names)

    def has_name(self, name: str) -> bool:
        """Whether the name stands in one of the passages or in a heading."""
        return any(has(name, passage.plain_words, passage.text, passage.initials) for passage in self.passages)


def _replaced(claim: _Claim, cover: _Cover) -> Iterator[Reason]:
    """Names, numbers and directions that stand where the best sentence, otherwise alike, has other ones."""
    own, theirs = tokens(normalised(claim.text)), tokens(normalised(cover.parts[0].text))
    folded, their_folded = [word.casefold() for word, _ in own], [word.casefold() for word, _ in theirs]
    codes = SequenceMatcher(None, folded, their_folded, autojunk=False).get_opcodes()
    if sum(b - a for kind, a, b, _, _ in codes if kind == "equal") < ALIKE * len(own):
        return
    present, their_present = set(folded), set(their_folded)
    for kind, a, b, c, d in codes:
        if kind == "replace" and max(b - a, d - c) <= SWAPPED:
            new = [token for token, word in zip(own[a:b], folded[a:b], strict=True) if word not in their_present]
            old = [token for token, word in zip(theirs[c:d], their_folded[c:d], strict=True) if word not in present]
            yield from (one for one in _differences(new, old) if one != "numbers" or not claim.is_rounded)
            if opposed(folded[a:b], their_folded[c:d]):
                yield "meaning"


def _differences(new: Sequence[tuple[str, bool]], old: Sequence[tuple[str, bool]]) -> Iterator[Reason]:
    """Whether words put in place of others change a number or a name."""
    here, there = (quantities(" ".join(word for word, _ in side)) for side in (new, old))
    numbers, others = ([one for one in side if one.value is not None] for side in (here, there))
    if numbers and others and not keys_of(numbers) & keys_of(others):
        yield "numbers"
    short, spelled = {word for word, named in new if named}, "".join(word[0] for word, named in old if named)
    if short - {spelled} and spelled:
        yield "names"
