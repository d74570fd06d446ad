"""Turn a generator's [n] markers into citations that were checked: every quote is text of the document.

    draft    "Dams hold water [2]. They also make power.[2][5]"
    answer   "Dams hold water [1]. They also make power.[1][2]"   and three Citations

`cite` takes a whole draft, `CitationStream` the same draft in pieces; both give the same.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from bookwheel.sentences import NOTE, Span, split_quotes, split_sentences, words
from bookwheel.types import Citation, Hit

_MARKER = re.compile(NOTE)
_UNFINISHED = re.compile(r"[\[【［](?:\d{1,3}[,、;，] ?){0,15}\d{0,3}")
_LONGEST_MARKER = 82  # characters: 16 numbers of three digits, their separators and two brackets
_CLOSERS = ".!?…。！？．\"'”’»)]}）」』】》%*_`"


def cite(draft: str, hits: Sequence[Hit]) -> tuple[str, tuple[Citation, ...]]:
    """The final text and its citations in order.

    Markers are renumbered from 1 in order of first appearance; numbers of no hit are dropped.
    """
    stream = CitationStream(hits)
    parts = stream.feed(draft) + stream.finish()
    text = "".join(part for part in parts if isinstance(part, str))
    return text, tuple(part for part in parts if isinstance(part, Citation))


def verify(citation: Citation, document_text: str) -> bool:
    """Whether the quote stands in the document's text exactly where the citation says, inside its passage."""
    inside = citation.hit.start <= citation.start < citation.end <= citation.hit.end
    return inside and document_text[citation.start : citation.end] == citation.quote


@dataclass(slots=True)
class CitationStream:
    """The streaming form of `cite`: text comes out as early as possible, each citation behind its marker."""

    hits: Sequence[Hit]
    _held: str = field(default="", init=False)  # a possible unfinished marker and the space before it
    _numbers: dict[int, int] = field(default_factory=dict, init=False)  # hit number -> number shown
    _shown: int = field(default=0, init=False)  # characters emitted, markers included
    _since: str = field(default="", init=False)  # text emitted since the last marker
    _claim: str = field(default="", init=False)  # what the last marker stood behind
    _claim_end: int = field(default=0, init=False)  # its end in the final text
    _cited: set[tuple[int, Span]] = field(default_factory=set, init=False)  # of the present claim

    def feed(self, piece: str) -> list[str | Citation]:
        """Take a piece of the draft; returns final text and citations that are certain now."""
        draft, out, position = self._held + piece, list[str | Citation](), 0
        for marker in _MARKER.finditer(draft):
            space = position + len(draft[position : marker.start()].rstrip())
            out += self._text(draft[position:space])
            out += self._mark(draft[space : marker.start()], marker[0])
            position = marker.end()
        hold = _hold_from(draft, position)
        self._held = draft[hold:]
        return out + self._text(draft[position:hold])

    def aside(self, text: str) -> list[str | Citation]:
        """Emit final text that no marker is about, neither one before it nor one behind it."""
        out = self.finish() + self._text(text)
        self._since = self._claim = ""
        return out

    def finish(self) -> list[str | Citation]:
        """The end of the draft: what was held back is plain text after all."""
        held, self._held = self._held, ""
        return self._text(held)

    def _text(self, text: str) -> list[str | Citation]:
        """Emit plain text; an answer does not begin with space."""
        text = text if self._shown else text.lstrip()
        self._shown += len(text)
        self._since += text
        return [text] if text else []

    def _mark(self, space: str, numbers: str) -> list[str | Citation]:
        """Emit the known ones of a marker's numbers and their citations; nothing when none is known."""
        known = [number for number in map(int, re.findall(r"\d+", numbers)) if self._knows(number)]
        if not known:
            return []
        self._close_claim()
        shown = [self._numbers.setdefault(number, len(self._numbers) + 1) for number in known]
        label = (space if self._shown else "") + "".join(f"[{index}]" for index in dict.fromkeys(shown))
        self._shown += len(label)
        return [label, *self._citations(dict(zip(shown, known, strict=True)))]

    def _knows(self, number: int) -> bool:
        return 1 <= number <= len(self.hits) and bool(self.hits[number - 1].text.strip())

    def _close_claim(self) -> None:
        """Text with words since the last marker is a new claim; without, this marker joins the last one."""
        if words(self._since):
            self._claim = self._since.strip()
            self._claim_end = self._shown
            self._cited = set()
        self._since = ""

    def _citations(self, shown: dict[int, int]) -> list[str | Citation]:
        """One citation for each number shown that this claim does not have yet."""
        out: list[str | Citation] = []
        for index, number in shown.items():
            hit = self.hits[number - 1]
            span = supporting_span(self._claim, hit.text)
            if (index, span) not in self._cited:
                self._cited.add((index, span))
                out.append(self._citation(index, hit, span))
        return out

    def _citation(self, index: int, hit: Hit, span: Span) -> Citation:
        start, end = span
        return Citation(
            index=index,
            quote=hit.text[start:end],
            start=hit.start + start,
            end=hit.start + end,
            answer_offset=self._claim_end,
            hit=hit,
        )


def _hold_from(draft: str, position: int) -> int:
    """Where the tail begins that the next piece may turn into a marker, with the space before it."""
    bracket = max(draft.rfind(opener, max(position, len(draft) - _LONGEST_MARKER)) for opener in "[【［")
    end = bracket if bracket >= 0 and _UNFINISHED.fullmatch(draft, bracket) else len(draft)
    return position + len(draft[position:end].rstrip())


def supporting_span(claim: str, passage: str) -> Span:
    """The part of the passage that supports a claim.

    The claim itself where it stands there (but for space, markup and case), else its last sentence, else the passage's
    sentence that shares most words with it; all of the passage when nothing is shared.
    """
    last = _last_sentence(claim)
    return _standing(claim, passage) or _standing(last, passage) or _closest(last, passage) or _all(passage)


def _last_sentence(claim: str) -> str:
    spans = split_sentences(claim)
    return claim[slice(*spans[-1])] if spans else claim


def _standing(claim: str, passage: str) -> Span | None:
    """Where the claim's words stand in the passage one after another."""
    start = passage.find(claim) if claim else -1
    if start >= 0:
        return start, start + len(claim)
    wanted, present = [word for word, _, _ in words(claim)], words(passage)
    place = _find([word for word, _, _ in present], wanted)
    if place is None:
        return None
    return present[place][1], _closed(passage, present[place + len(wanted) - 1][2])


def _find(present: list[str], wanted: list[str]) -> int | None:
    """The first index of the run `wanted` in `present`."""
    if not wanted:
        return None
    joined = f" {' '.join(present)} "
    place = joined.find(f" {' '.join(wanted)} ")
    return None if place < 0 else joined.count(" ", 0, place)


def _closed(passage: str, end: int) -> int:
    """The end moved over the punctuation that closes a sentence."""
    while end < len(passage) and passage[end] in _CLOSERS:
        end += 1
    return end


def _closest(claim: str, passage: str) -> Span | None:
    """The sentence with the greatest overlap of words, rare ones of the passage first; None when nothing is shared."""
    spans = split_quotes(passage)
    bags = [{word for word, _, _ in words(passage[start:end])} for start, end in spans]
    wanted = {word for word, _, _ in words(claim)}
    if not any(bag & wanted for bag in bags):
        return None
    weight = {word: 1 / sum(word in bag for bag in bags) for word in wanted if any(word in bag for bag in bags)}
    scores = [sum(weight[word] for word in bag & wanted) / (len(bag) + 5) ** 0.25 for bag in bags]
    return spans[scores.index(max(scores))]


def _all(passage: str) -> Span:
    start = len(passage) - len(passage.lstrip())
    return start, len(passage.rstrip())
