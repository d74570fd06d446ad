"""A draft with [n] markers, released sentence by sentence, each once it was checked and its citations are true.

    stream = GroundedStream(hits, embedder=embedder, policy="mark")
    async for piece in draft:
        for part in await stream.feed(piece):    # str: final text; Citation: behind the marker that shows it
            ...
    for part in await stream.finish():
        ...
    stream.grounding                             # 0 to 1: the supported share of what the answer claims, by length
    stream.sentences                             # a CheckedSentence for each, with its place in the final text

A sentence comes out when it is complete, which takes up to LOOKAHEAD characters behind it, and its check has ended.
However the draft is cut into pieces, the parts joined, the citations and the sentences are the same. Time is linear in
the draft; a sentence of more than LONGEST characters is taken as several. What happens to a sentence:

* supported: its markers name the passages that it rests on. Right ones stay where they are; wrong ones are replaced and
  missing ones added, behind the sentence.
* not supported: "mark" writes UNSUPPORTED behind it and takes its markers away; "drop" leaves it out; "keep" sends it
  as it was drafted. It lowers the grounding and stands in `sentences` in each case, when dropped as an empty stretch.
* no claim (claims.py): as drafted, with a marker only where it is quoted from that passage. Code stays as it is. In a
  table markers stay in their cell, none is added, and no row is dropped but marked.

Lines stay lines. A draft without false sentences or wrong markers, as the extractive generator writes it, comes out
as citations.CitationStream makes it, and nothing is embedded for it. Answers in JSON are not for this.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bookwheel.citations import CitationStream
from bookwheel.claims import plain
from bookwheel.errors import EmbedderUnavailableError
from bookwheel.ports import Embedder
from bookwheel.sentences import NOTE, split_sentences, words
from bookwheel.support import Grounder, Verdict
from bookwheel.types import CheckedSentence, Citation, Hit, UnsupportedPolicy

Part = str | Citation

UNSUPPORTED = " [unsupported]"
LOOKAHEAD = 26  # characters behind a sentence's end that tell whether it is one
KNOWN = 0.5  # share of a sentence that the embedder must know to have a say
LONGEST = 2_000  # characters of a sentence that are looked at together
_BEHIND = 40  # characters before a full stop that tell whether it ends a sentence: an abbreviation fits
_MARKERS = re.compile(rf"(?:[ \t]*{NOTE})+")
_NUMBERS = re.compile(NOTE)
_ONE_MARKER = re.compile(rf"(?P<space>[ \t]*)(?P<numbers>{NOTE})")
_CANDIDATE = re.compile(r"[.!?…]{1,8}|[。！？｡．॥।؟۔։]|\n")
_CLOSERS = re.compile(r"(?:[\"'”’»)}）」』】》〉*_`]|\](?!\())*")
_OPEN_MARKER = re.compile(r"[ \t]*[\[【［][\d,、;， ]{0,80}$")
_FENCE = re.compile(r"[ \t>]*(?:```|~~~)")
_ALONE = re.compile(r"[ \t>]*(?:#{1,6}[ \t]|\|)")
_BEGINS = re.compile(r"[ \t>]*(?:#{1,6}[ \t]|\||[-*+•][ \t]|\(?\d{1,3}[.)][ \t]|```|~~~)|[ \t]*>|[ \t]*\n|[ \t]*$")
_RULE = re.compile(r"[ \t>]*\|?[ \t]*:?-{2,}[-:| \t]*$")
_LIST_NUMBER = re.compile(r"[ \t>]*\(?\d{1,3}\.$")


@dataclass(slots=True)
class GroundedStream:
    """Feed it the draft; see above. Raises nothing of its own: an embedder that is down costs only its judgement."""

    hits: Sequence[Hit]
    embedder: Embedder | None = None  #: asked only where words leave it open and it knows the language
    policy: UnsupportedPolicy = "mark"
    sentences: list[CheckedSentence] = field(default_factory=list, init=False)  #: released so far, headings too
    _grounder: Grounder = field(init=False)
    _citing: CitationStream = field(init=False)
    _cutter: "_Cutter" = field(init=False)
    _blank: list[str] = field(default_factory=list, init=False)  # empty lines since the last sentence
    _shown: int = field(default=0, init=False)  # characters of final text
    _claimed: int = field(default=0, init=False)  # characters of the draft that claim something
    _supported: int = field(default=0, init=False)  # of these

    def __post_init__(self) -> None:
        self._grounder, self._citing, self._cutter = Grounder(self.hits), CitationStream(self.hits), _Cutter()

    @property
    def grounding(self) -> float:
        """The supported share of what was claimed so far, by length; 1 when nothing was."""
        return self._supported / self._claimed if self._claimed else 1.0

    async def feed(self, piece: str) -> list[Part]:
        """Take a piece of the draft; returns the sentences that are complete and checked now."""
        return [part for unit in self._cutter.feed(piece) for part in await self._release(unit)]

    async def finish(self) -> list[Part]:
        """The end of the draft: what was held back."""
        out = [part for unit in self._cutter.finish() for part in await self._release(unit)]
        return out + self._note([*self._blanks(), *self._citing.finish()])

    def _blanks(self) -> list[Part]:
        """Empty lines go on together: one by one they would be copied as often as there are lines."""
        blank, self._blank = "".join(self._blank), []
        return self._citing.feed(blank) if blank else []

    async def _release(self, unit: "_Unit") -> list[Part]:
        if unit.text.isspace():
            self._blank.append(unit.text)
            return []
        return self._note(self._blanks()) + await self._checked(unit)

    async def _checked(self, unit: "_Unit") -> list[Part]:
        hints = [int(number) for marker in _NUMBERS.findall(unit.text) for number in re.findall(r"\d+", marker)]
        verdict = await self._judged(unit, hints)
        start = self._shown
        if unit.is_code:
            parts = self._note(self._citing.aside(unit.text))
        elif verdict.claims and not verdict.supported:
            parts = self._unsupported(unit)
        else:
            parts = self._note(self._citing.feed(_cited(unit, verdict, hints)))
        if not unit.is_code and words(unit.text):
            self._tell(unit, verdict, start, parts)
        return parts

    async def _judged(self, unit: "_Unit", hints: Sequence[int]) -> Verdict:
        if unit.is_code or unit.is_head:
            return Verdict(claims=False)
        if len(hints) > 1 and self._is_quoted(unit.text):
            return Verdict(claims=True, supported=True, score=1.0, hits=tuple(dict.fromkeys(hints)))
        return await check(unit.text, hints=hints, grounder=self._grounder, embedder=self.embedder)

    def _is_quoted(self, text: str) -> bool:
        """Whether what stands before each marker stands in each passage that it names, and is not a mere scrap."""
        position = 0
        for marker in _ONE_MARKER.finditer(text):
            claim = plain(text[position : marker.start()])
            numbers = [int(number) for number in re.findall(r"\d+", marker["numbers"])]
            if not words(claim) or not all(self._grounder.quotes(claim, number) for number in numbers):
                return False
            position = marker.end()
        return not words(text[position:])

    def _unsupported(self, unit: "_Unit") -> list[Part]:
        if self.policy == "keep":
            return self._note(self._citing.feed(unit.text))
        bare = _MARKERS.sub("", unit.text)
        if self.policy == "drop" and not unit.is_row:
            return self._note(self._citing.aside(_space_of(bare)))
        head, tail = _ending(bare, unit)
        return self._note(self._citing.aside(f"{head}{UNSUPPORTED}{tail}"))

    def _note(self, parts: list[Part]) -> list[Part]:
        self._shown += sum(len(part) for part in parts if isinstance(part, str))
        return parts

    def _tell(self, unit: "_Unit", verdict: Verdict, start: int, parts: Sequence[Part]) -> None:
        text = "".join(part for part in parts if isinstance(part, str))
        begin = start + len(text) - len(text.lstrip())
        weight = len(plain(unit.text)) if verdict.claims else 0
        self._claimed += weight
        self._supported += weight if verdict.supported else 0
        self.sentences.append(
            CheckedSentence(
                start=begin if text.strip() else start,
                end=start + len(text.rstrip()),
                claims=verdict.claims,
                supported=verdict.supported,
                score=verdict.score,
                citations=tuple(dict.fromkeys(part.index for part in parts if isinstance(part, Citation))),
                reason=", ".join(verdict.reasons),
            )
        )


async def check(sentence: str, *, hints: Sequence[int], grounder: Grounder, embedder: Embedder | None) -> Verdict:
    """Judge a sentence by words, and where they leave it open by meaning, if the embedder knows its language."""
    verdict = grounder.judge(sentence, hints=hints)
    if not verdict.near or embedder is None or embedder.coverage(sentence) < KNOWN:
        return verdict
    try:
        vectors = await embedder.embed([plain(sentence), *verdict.near])
    except EmbedderUnavailableError:
        return verdict
    cosine = float((vectors[1:] @ vectors[0]).max())
    return grounder.judge(sentence, hints=hints, similarity=lambda _claim, _texts: cosine)


def _cited(unit: "_Unit", verdict: Verdict, hints: Sequence[int]) -> str:
    """The sentence with markers of the hits that it rests on, none of them before its first word."""
    if unit.is_row and not hints:
        return unit.text
    if not verdict.hits:  # nothing is claimed, so nothing can be cited
        return _MARKERS.sub("", unit.text)
    markers = list(_MARKERS.finditer(unit.text))
    leads = bool(markers) and not words(unit.text[: markers[0].start()])
    if not leads and set(hints) == set(verdict.hits):
        return unit.text
    if not leads and set(verdict.hits) <= set(hints):  # some were too many: the others keep their places
        return _ONE_MARKER.sub(lambda marker: _kept(marker, verdict.hits), unit.text)
    label = "".join(f"[{number}]" for number in verdict.hits)
    if markers and words(unit.text[: markers[-1].start()]):
        last = markers[-1]
        space = last[0][: len(last[0]) - len(last[0].lstrip())]
        return _MARKERS.sub("", unit.text[: last.start()]) + space + label + unit.text[last.end() :]
    head, tail = _ending(_MARKERS.sub("", unit.text), unit)
    return f"{head} {label}{tail}"


def _kept(marker: re.Match[str], numbers: Sequence[int]) -> str:
    """A marker with only these of its numbers, or nothing."""
    kept = [number for number in re.findall(r"\d+", marker["numbers"]) if int(number) in numbers]
    return f"{marker['space']}[{', '.join(kept)}]" if kept else ""


def _ending(text: str, unit: "_Unit") -> tuple[str, str]:
    """The text cut where something is put behind its last word: before the space, in a table before the last bar."""
    head = text.rstrip()
    if unit.is_row and head.endswith("|"):
        head = head[:-1].rstrip()
    return head, text[len(head) :]


def _space_of(text: str) -> str:
    """What is left of a sentence that is dropped: the line breaks behind it."""
    behind = text[len(text.rstrip()) :]
    return behind[behind.find("\n") :] if "\n" in behind else ""


@dataclass(frozen=True, slots=True)
class _Unit:
    """A sentence, heading, row or line of code with the space behind it."""

    text: str
    is_code: bool = False
    is_row: bool = False
    is_head: bool = False  #: of a table


@dataclass(slots=True)
class _Cutter:
    """Cuts a draft into units as it comes. Each decision looks at most LOOKAHEAD characters ahead and _BEHIND back."""

    _draft: str = field(default="", init=False)  # of the units that are not complete
    _from: int = field(default=0, init=False)  # where the next end is looked for
    _fenced: bool = field(default=False, init=False)
    _fresh: bool = field(default=True, init=False)  # at the beginning of a line

    def feed(self, piece: str) -> Iterator[_Unit]:
        """The units that are complete now."""
        self._draft += piece
        return self._units(last=False)

    def finish(self) -> Iterator[_Unit]:
        """The rest."""
        return self._units(last=True)

    def _units(self, *, last: bool) -> Iterator[_Unit]:
        begin = 0
        while (end := self._end(begin, last=last)) is not None and end > begin:
            yield self._unit(self._draft[begin:end], self._draft[end : end + LOOKAHEAD])
            begin = self._from = end
        self._draft, self._from = self._draft[begin:], self._from - begin

    def _unit(self, text: str, following: str) -> _Unit:
        fence = self._fresh and bool(_FENCE.match(text))
        is_code = self._fenced or fence
        self._fenced ^= fence
        is_row = self._fresh and not is_code and text.lstrip(" \t>").startswith("|")
        self._fresh = text.endswith("\n")
        is_head = is_row and bool(_RULE.match(following.partition("\n")[0]))
        return _Unit(text, is_code=is_code, is_row=is_row, is_head=is_head)

    def _end(self, begin: int, *, last: bool) -> int | None:
        """Where the unit ends that begins there; None when the draft does not tell yet."""
        if not last and len(self._draft) - begin <= LOOKAHEAD:
            return None
        at, alone = max(self._from, begin), self._fresh and bool(_ALONE.match(self._draft, begin))
        alone = alone or self._fenced or (self._fresh and bool(_FENCE.match(self._draft, begin)))
        for match in _CANDIDATE.finditer(self._draft, at):
            if match.start() - begin >= LONGEST:
                break
            if alone and match[0] != "\n":
                continue
            end = self._behind(match)
            if not last and end + LOOKAHEAD > len(self._draft):
                self._from = match.start()
                return None
            if self._ends(begin, match, end, alone=alone):
                return end
        return self._long(begin, last=last)

    def _long(self, begin: int, *, last: bool) -> int | None:
        """The end where no candidate is one: what is too long is cut, the rest waits."""
        if len(self._draft) - begin >= LONGEST + _BEHIND + LOOKAHEAD:
            self._from = begin
            place = self._draft.rfind(" ", begin + LONGEST // 2, begin + LONGEST)
            return place if place > 0 else begin + LONGEST
        if last:
            return len(self._draft)
        self._from = max(begin, self._from)
        return None

    def _behind(self, match: re.Match[str]) -> int:
        """The end of the closing quotes, markers and space behind a terminator; one line break belongs to it."""
        end = match.end()
        if match[0] == "\n":
            return end
        while True:
            closed = _CLOSERS.match(self._draft, end)
            after = closed.end() if closed else end
            marker = _MARKERS.match(self._draft, after)
            if marker is None:
                break
            end = marker.end()
        open_marker = _OPEN_MARKER.match(self._draft, after)
        if open_marker:
            return len(self._draft)
        return after

    def _ends(self, begin: int, match: re.Match[str], end: int, *, alone: bool) -> bool:
        following = self._draft[end : end + LOOKAHEAD]
        if match[0] == "\n":
            line = self._draft[begin : match.start()].rstrip()
            return alone or bool(_BEGINS.match(following)) or not line or _MARKERS.sub("", line)[-1:] in (":", "：")
        if self._fresh and _LIST_NUMBER.match(self._draft[begin : match.end()]):
            return False
        closed = _CLOSERS.match(self._draft, match.end())
        stop = closed.end() if closed else match.end()
        tail = self._draft[max(begin, stop - _BEHIND) : stop]
        marked = end > stop and bool(_MARKERS.search(self._draft, stop, end))
        following = " The" if marked else following
        return any(place == len(tail) for _, place in split_sentences(tail + following))
