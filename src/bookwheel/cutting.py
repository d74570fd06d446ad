"""Cutting a stretch of text into spans: sizes in the embedder's own tokens, offsets in characters.

A text is tokenised once, block by block, and cut at the best boundary in reach. semantic-text-splitter makes like
passages, but counts every text about twelve times over: 3.9 us of processor time a character against 0.5 here.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from tokenizers import Encoding, Tokenizer
from tokenizers.pre_tokenizers import BertPreTokenizer, Whitespace, WhitespaceSplit

from bookwheel.outline import Outline

BLOCK_CHARACTERS = 128  # tokenised at once, for each token of a passage: bounds memory whatever the text
MAX_CHARACTERS = 16  # of a passage, for each of its tokens: a word too long to know counts as one token

KNOWN_WORDS = 50_000  # whose tokens are remembered: some 10 MB
LONGEST_WORD = 24  # characters of a word that may come again
BREAK_AT_SPACE = (BertPreTokenizer, Whitespace, WhitespaceSplit)

_WORD = re.compile(r"[^\W_]")
_VISIBLE = re.compile(r"\S")
_SPACE = re.compile(r"\s")
_WORDS = re.compile(r"\S+")
_SENTENCE = re.compile(r"[.!?…][\"'”’»)\]]*\s+(?=\S)|[。！？｡]+[」』）]*")
_BLANK_LINE = re.compile(r"\n[ \t]*\n\s*(?=\S)")
_LINE_END = re.compile(r"\n+(?=[^\n])")
_ITEM = re.compile(r"[ \t]*(?:[-*+•◦▪|>]|\(?\w{1,3}[.)][ \t])")


class Span(NamedTuple):
    """A part of a text, in characters."""

    start: int
    end: int


class Level(NamedTuple):
    """One kind of boundary in a stretch of text."""

    cuts: Sequence[int]  #: offsets, ascending
    fill: float  #: share of a passage from which on it is worth cutting here
    overlaps: bool  #: whether the next passage repeats the end of this one


Boundaries = Callable[[str, Span, Outline], Sequence[Level]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Knife:
    """How one strategy cuts."""

    tokenizer: Tokenizer
    size: int  #: tokens of a passage at most
    overlap: int  #: tokens that neighbours share at most
    boundaries: Boundaries  #: of a block, best first
    even: bool = True  #: whether the last two passages share what is left evenly
    strict: bool = False  #: whether the overlap gives way before a boundary does


def cut(text: str, within: Span, outline: Outline, knife: Knife) -> Iterator[Span]:
    """Spans of passages, without outer white space, none without a letter or digit."""
    end = _trimmed(text, within.start, within.end)
    start = _visible(text, within.start, end)
    if fits(text, Span(start, end), knife):
        if _WORD.search(text, start, end):
            yield Span(start, end)
        return
    done = start
    while done < end:
        stop = min(end, start + BLOCK_CHARACTERS * knife.size)
        block = _Block(text, Span(start, stop), outline, knife, last=stop == end)
        for passage_start, passage_end in block.passages(done):
            if _WORD.search(text, max(done, passage_start), passage_end):
                yield Span(passage_start, _trimmed(text, passage_start, passage_end))
            done = passage_end
        start, done = _visible(text, block.next_start, end), _visible(text, done, end)


def fits(text: str, span: Span, knife: Knife) -> bool:
    """Whether all of it is one passage. No tokenizer makes more tokens than bytes."""
    if span.end - span.start > MAX_CHARACTERS * knife.size:
        return False
    part = text[span.start : span.end]
    return len(part.encode()) <= knife.size or counter(knife.tokenizer).count(part) <= knife.size


class Counter:
    """Tokens of texts. A tokenizer that breaks at white space first is asked about each word once, which makes counting
    eight times as fast."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._by_words = isinstance(tokenizer.pre_tokenizer, BREAK_AT_SPACE)
        self._known: dict[str, tuple[int, ...]] = {}  #: where each token of a word begins, by word

    def count(self, text: str) -> int:
        """Tokens of a text, without special ones."""
        if not self._by_words:
            return len(self._encoded([text])[0])
        return sum(map(len, self._of_words(text.split())))

    def starts(self, text: str, within: Span) -> list[int]:
        """Where each token of a part of the text begins, in characters of the whole text."""
        if not self._by_words:
            return [within.start + first for first in _starts(self._encoded([text[within.start : within.end]])[0])]
        places = [match.span() for match in _WORDS.finditer(text, *within)]
        tokens = self._of_words([text[start:end] for start, end in places])
        return [start + first for (start, _), word in zip(places, tokens, strict=True) for first in word]

    def _of_words(self, words: Sequence[str]) -> Sequence[tuple[int, ...]]:
        known = self._known  # another thread may put an empty one in its place
        found = list(map(known.get, words))
        return self._learned(words, known) if None in found else found  # type: ignore[return-value]

    def _learned(self, words: Sequence[str], known: dict[str, tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The tokens of each word, some of which are new."""
        new = [word for word in dict.fromkeys(words) if word not in known]
        made = {word: tuple(_starts(code)) for word, code in zip(new, self._encoded(new), strict=True)}
        found = [made[word] if word in made else known[word] for word in words]
        if len(known) + len(new) > KNOWN_WORDS:
            self._known = {}
        self._known.update((word, tokens) for word, tokens in made.items() if len(word) <= LONGEST_WORD)
        return found

    def _encoded(self, texts: Sequence[str]) -> list[Encoding]:
        return self._tokenizer.encode_batch(texts, add_special_tokens=False)


def _starts(code: Encoding) -> Iterator[int]:
    return (first for first, after in code.offsets if after > first)


@lru_cache(maxsize=8)
def counter(tokenizer: Tokenizer) -> Counter:
    """The counter of a tokenizer."""
    return Counter(tokenizer)


def _visible(text: str, start: int, end: int) -> int:
    match = _VISIBLE.search(text, start, end)
    return match.start() if match else end


def _trimmed(text: str, start: int, end: int) -> int:
    return start + len(text[start:end].rstrip())


class _Block:
    """A block of text with its tokens and boundaries. All offsets are characters of the whole text."""

    def __init__(self, text: str, within: Span, outline: Outline, knife: Knife, *, last: bool) -> None:
        self.text, self.end, self.last, self.knife = text, within.end, last, knife
        self.size, self.overlap = knife.size, knife.overlap
        self.next_start = within.start
        self.starts = counter(knife.tokenizer).starts(text, within)
        self.levels = tuple(knife.boundaries(text, within, outline))

    def passages(self, done: int) -> Iterator[tuple[int, int]]:
        """Spans up to where the block's end is too near to choose well, which is where the next block starts."""
        while self.next_start < self.end and (self.last or self._holds_more(self.next_start)):
            start = self.next_start
            stop, overlaps = self._stop(start, done)
            if not stop:  # no boundary within reach behind the overlap: without it there may be one
                self.next_start = _visible(self.text, done, self.end)
                continue
            self.next_start = _visible(self.text, self._resume(start, stop) if overlaps else stop, self.end)
            done = stop
            yield start, stop
            if stop >= self.end:
                self.next_start = self.end

    def _holds_more(self, start: int) -> bool:
        """Whether more than one passage is left of this block."""
        return self._left(start) > self.size or self.end - start > MAX_CHARACTERS * self.size

    def _left(self, start: int) -> int:
        """Tokens from `start` to the block's end."""
        return len(self.starts) - self._token(start)

    def _token(self, start: int) -> int:
        """The token that holds `start`, which may be inside it when a word was too long."""
        return max(0, bisect_right(self.starts, start) - 1)

    def _aim(self, start: int) -> int:
        """Tokens wanted in the passage at `start`: two even ones at the end, rather than a full one and a scrap."""
        left = self._left(start)
        even = (left + self.overlap) // 2 + 1
        near = self.knife.even and self.last and self.size < left <= 1.5 * self.size
        return even if near and even < self.size else self.size

    def _stop(self, start: int, done: int) -> tuple[int, bool]:
        """Where the passage that begins at `start` ends, beyond `done`, and whether the next one may overlap it.

        0 when a strict knife finds no boundary because of the overlap.
        """
        size = self._aim(start)
        limit = self._limit(start, size)
        if limit >= self.end:
            return self.end, False
        for level in self.levels:
            place = last_in(level.cuts, max(done + 1, self._limit(start, int(level.fill * size))), limit)
            if place is not None:
                return place, level.overlaps
        if self.knife.strict and start < done:
            return 0, False
        return max(self._word(max(done, start + (limit - start) // 2), limit), done + 1), True

    def _limit(self, start: int, tokens: int) -> int:
        """The farthest end of a passage of so many tokens; the block's end when it holds no more."""
        index = self._token(start) + tokens
        limit = self.starts[index] if index < len(self.starts) else self.end
        return max(start + 1, min(limit, start + MAX_CHARACTERS * self.size))

    def _word(self, low: int, high: int) -> int:
        """The last place in (low, high] before a word; `high`, a token's beginning, where there are no spaces."""
        for index in range(high, low, -1):
            if self.text[index - 1].isspace():
                return index
        return high

    def _resume(self, start: int, stop: int) -> int:
        """Where the next passage starts: the earliest sentence or word in the last `overlap` tokens of this one."""
        index = bisect_right(self.starts, stop - 1) - self.overlap
        low = min(stop, max(start + 1, self.starts[index] if 0 <= index < len(self.starts) else stop))
        for level in self.levels:
            place = bisect_right(level.cuts, low - 1)
            if level.overlaps and place < len(level.cuts) and level.cuts[place] < stop:
                return level.cuts[place]
        if self.knife.strict:
            return stop
        space = _SPACE.search(self.text, low, stop)
        return space.end() if space else low


def last_in(cuts: Sequence[int], low: int, high: int) -> int | None:
    """The last cut in [low, high]."""
    index = bisect_right(cuts, high) - 1
    return cuts[index] if index >= 0 and cuts[index] >= low else None


def of_structure(text: str, block: Span, outline: Outline) -> Sequence[Level]:
    """Headings, paragraphs and the edges of code and tables, sentences and list items, lines: the best in reach."""
    whole = _whole(block, outline)
    edges = sorted({edge for span in whole for edge in span if block.start < edge < block.end})
    paragraphs = [match.end() for match in _BLANK_LINE.finditer(text, *block)]
    lines = [match.end() for match in _LINE_END.finditer(text, *block)]
    free = sorted({*edges, *(place for place in paragraphs if not _inside(place, whole))})
    return (
        Level(_heads(block, outline), 0.25, overlaps=False),
        Level(free, 0.4, overlaps=True),
        Level(_sentences_and_items(text, block, lines, whole), 0.5, overlaps=True),
        Level(lines, 0.5, overlaps=True),
    )


def of_sentences(text: str, block: Span, outline: Outline) -> Sequence[Level]:
    """Ends of sentences, paragraphs, list items, and lines of code and tables, all alike: the last in reach."""
    lines = [match.end() for match in _LINE_END.finditer(text, *block)]
    ends = set(_sentences_and_items(text, block, lines, _whole(block, outline)))
    paragraphs = {match.end() for match in _BLANK_LINE.finditer(text, *block)}
    return (Level(sorted(ends | paragraphs | set(_heads(block, outline))), 0.0, overlaps=True),)


def of_nothing(text: str, block: Span, outline: Outline) -> Sequence[Level]:  # noqa: ARG001 - it regards nothing
    """No boundaries but words."""
    return ()


def _heads(block: Span, outline: Outline) -> Sequence[int]:
    return outline.heads[bisect_right(outline.heads, block.start) : bisect_right(outline.heads, block.end)]


def _whole(block: Span, outline: Outline) -> Sequence[tuple[int, int]]:
    return [span for span in outline.whole if span[0] < block.end and span[1] > block.start]


def _sentences_and_items(
    text: str, block: Span, lines: Sequence[int], whole: Sequence[tuple[int, int]]
) -> Sequence[int]:
    units = {line for line in lines if _inside(line, whole) or _ITEM.match(text, line)}
    return sorted(units | {match.end() for match in _SENTENCE.finditer(text, *block)})


def _inside(place: int, spans: Sequence[tuple[int, int]]) -> bool:
    index = bisect_right(spans, (place, place)) - 1
    return index >= 0 and place < spans[index][1]
