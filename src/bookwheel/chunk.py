"""Cutting a text into passages: sizes in the embedder's own tokens, offsets in characters, one page for each passage.

A text is tokenised once, block by block, and cut at the best boundary in reach. semantic-text-splitter makes like
passages, but counts every text about twelve times over: 3.9 us of processor time a character against 0.5 here. And a
passage never crosses a page, so that a citation has one exact page; one page in six of real 10-K filings breaks a
sentence, which is the price: 4 % more passages.
"""

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID

from tokenizers import Tokenizer

from bookwheel import language
from bookwheel.types import Chunk, Chunking, Claim, ParsedText, Piece

BLOCK_CHARACTERS = 128  # tokenised at once, for each token of a passage: bounds memory whatever the text
MAX_CHARACTERS = 16  # of a passage, for each of its tokens: a word too long to know counts as one token
CONTEXT_CHARACTERS = 160  # of title and headings before a passage: about 32 tokens

_WORD = re.compile(r"[^\W_]")
_VISIBLE = re.compile(r"\S")
_SPACE = re.compile(r"\s")
_SENTENCE = re.compile(r"[.!?…][\"'”’»)\]]*\s+(?=\S)|[。！？｡]+[」』）]*")
_HEADING_OR_FENCE = re.compile(r"^(?:(#{1,6})[ \t]+(\S[^\n]*)| {0,3}(`{3,}|~{3,}))", re.MULTILINE)
_BLANK_LINE = re.compile(r"\n[ \t]*\n\s*(?=\S)")
_LINE_END = re.compile(r"\n+(?=[^\n])")
_ITEM = re.compile(r"[ \t]*(?:[-*+•◦▪|>]|\(?\w{1,3}[.)][ \t])")
_TABLE = re.compile(r"(?:^[ \t]*\|[^\n]*\n?){2,}", re.MULTILINE)


class _Level(NamedTuple):
    """One kind of boundary in a stretch of text."""

    cuts: Sequence[int]  #: offsets, ascending
    fill: float  #: share of a passage from which on it is worth cutting here
    overlaps: bool  #: whether the next passage repeats the end of this one


class _Stretch(NamedTuple):
    """A part of the text that passages do not cross."""

    start: int
    end: int
    page: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outline:
    """What Markdown says about its text."""

    heads: tuple[int, ...] = ()  #: where headings begin
    paths: tuple[tuple[str, ...], ...] = ()  #: heading path from there on
    whole: tuple[tuple[int, int], ...] = ()  #: code and tables, better not cut

    def path(self, offset: int) -> tuple[str, ...]:
        """The headings that the offset is under."""
        index = bisect_right(self.heads, offset) - 1
        return self.paths[index] if index >= 0 else ()


def chunks(claim: Claim, parsed: ParsedText, *, tokenizer: Tokenizer) -> Iterator[Chunk]:
    """The chunks of one document version, in order."""
    pieces = split(parsed, chunking=claim.chunking, tokenizer=tokenizer, title=claim.title or parsed.title)
    for ordinal, piece in enumerate(pieces):
        yield Chunk(
            id=chunk_id(claim.document_id, claim.version, ordinal),
            document_id=claim.document_id,
            version=claim.version,
            ordinal=ordinal,
            piece=piece,
            text_hash=text_hash(piece.embed_text),
        )


def split(parsed: ParsedText, *, chunking: Chunking, tokenizer: Tokenizer, title: str | None = None) -> Iterator[Piece]:
    """Passages of at most `chunking.max_tokens` tokens, lazily. Together they hold every letter and digit."""
    text = parsed.text
    whole = language.detect(text)
    outline = _outline(text) if parsed.format == "markdown" else _Outline()
    for stretch in _stretches(parsed):
        for start, end in _cut(text, stretch, outline, chunking, tokenizer):
            passage, path = text[start:end], outline.path(start)
            yield Piece(
                text=passage,
                start=start,
                end=end,
                page=stretch.page,
                heading_path=path,
                language=language.of_part(passage, whole),
                embed_text=with_context(title, path, passage),
            )


def with_context(title: str | None, heading_path: Sequence[str], text: str) -> str:
    """What the embedder reads: the title and headings that the passage does not begin with, then the passage."""
    beginning = text[: 2 * CONTEXT_CHARACTERS]
    names = [name for name in dict.fromkeys((title, *heading_path)) if name and name not in beginning]
    context = " › ".join(names)
    if len(context) > CONTEXT_CHARACTERS:
        context = context[:CONTEXT_CHARACTERS].rpartition(" ")[0] or context[:CONTEXT_CHARACTERS]
    return f"{context}\n{text}" if context else text


def chunk_id(document_id: UUID, version: int, ordinal: int) -> int:
    """A positive 63-bit number, always the same for the same chunk."""
    key = document_id.bytes + version.to_bytes(8) + ordinal.to_bytes(8)
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) >> 1


def text_hash(embed_text: str) -> bytes:
    """16 bytes that stand for the embedded text."""
    return hashlib.blake2b(embed_text.encode(), digest_size=16).digest()


def _outline(text: str) -> _Outline:
    heads: list[tuple[int, tuple[str, ...]]] = []
    code: list[tuple[int, int]] = []
    levels: list[tuple[int, str]] = []
    fence, opened = "", 0
    for match in _HEADING_OR_FENCE.finditer(text):
        if match[3] and not fence:
            fence, opened = match[3], match.start()
        elif match[3] and match[3].startswith(fence):
            code.append((opened, match.end()))
            fence = ""
        elif match[1] and not fence:
            depth, name = len(match[1]), " ".join(match[2].strip().rstrip("#").split())
            levels = [*(level for level in levels if level[0] < depth), (depth, name)]
            heads.append((match.start(), tuple(name for _, name in levels if name)))
    if fence:
        code.append((opened, len(text)))
    tables = [match.span() for match in _TABLE.finditer(text)] if "|" in text else []
    return _Outline(
        heads=tuple(start for start, _ in heads),
        paths=tuple(path for _, path in heads),
        whole=tuple(sorted(code + tables)),
    )


def _stretches(parsed: ParsedText) -> Iterator[_Stretch]:
    """Pages with whatever follows them, or the whole text."""
    if not parsed.pages:
        yield _Stretch(0, len(parsed.text), None)
        return
    starts = [0, *(page.start for page in parsed.pages[1:]), len(parsed.text)]
    for page, (start, end) in zip(parsed.pages, pairwise(starts), strict=True):
        yield _Stretch(start, end, page.number)


def _cut(
    text: str, stretch: _Stretch, outline: _Outline, chunking: Chunking, tokenizer: Tokenizer
) -> Iterator[tuple[int, int]]:
    """Spans of passages, without outer white space, none without a letter or digit."""
    end = _trimmed(text, stretch.start, stretch.end)
    start = _visible(text, stretch.start, end)
    if _fits(text, start, end, chunking.max_tokens, tokenizer):
        if _WORD.search(text, start, end):
            yield start, end
        return
    done = start
    while done < end:
        stop = min(end, start + BLOCK_CHARACTERS * chunking.max_tokens)
        block = _Block(text, start, stop, outline, chunking, tokenizer, last=stop == end)
        for passage_start, passage_end in block.passages(done):
            if _WORD.search(text, max(done, passage_start), passage_end):
                yield passage_start, _trimmed(text, passage_start, passage_end)
            done = passage_end
        start, done = _visible(text, block.next_start, end), _visible(text, done, end)


def _fits(text: str, start: int, end: int, max_tokens: int, tokenizer: Tokenizer) -> bool:
    """Whether all of it is one passage. No tokenizer makes more tokens than bytes."""
    if end - start > MAX_CHARACTERS * max_tokens:
        return False
    part = text[start:end]
    return len(part.encode()) <= max_tokens or len(tokenizer.encode(part, add_special_tokens=False)) <= max_tokens


def _visible(text: str, start: int, end: int) -> int:
    match = _VISIBLE.search(text, start, end)
    return match.start() if match else end


def _trimmed(text: str, start: int, end: int) -> int:
    return start + len(text[start:end].rstrip())


class _Block:
    """A block of text with its tokens and boundaries. All offsets are characters of the whole text."""

    def __init__(
        self,
        text: str,
        start: int,
        end: int,
        outline: _Outline,
        chunking: Chunking,
        tokenizer: Tokenizer,
        *,
        last: bool,
    ) -> None:
        self.text, self.end, self.last = text, end, last
        self.size, self.overlap = chunking.max_tokens, chunking.overlap_tokens
        self.next_start = start
        offsets = tokenizer.encode(text[start:end], add_special_tokens=False).offsets
        self.starts = [start + first for first, after in offsets if after > first]
        self.levels = tuple(_levels(text, start, end, outline))

    def passages(self, done: int) -> Iterator[tuple[int, int]]:
        """Spans up to where the block's end is too near to choose well, which is where the next block starts."""
        while self.next_start < self.end and (self.last or self._holds_more(self.next_start)):
            start = self.next_start
            stop, overlaps = self._stop(start, done)
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
        return len(self.starts) - bisect_right(self.starts, start - 1)

    def _aim(self, start: int) -> int:
        """Tokens wanted in the passage at `start`: two even ones at the end, rather than a full one and a scrap."""
        left = self._left(start)
        even = (left + self.overlap) // 2 + 1
        return even if self.last and self.size < left <= 1.5 * self.size and even < self.size else self.size

    def _stop(self, start: int, done: int) -> tuple[int, bool]:
        """Where the passage that begins at `start` ends, beyond `done`, and whether the next one may overlap it."""
        size = self._aim(start)
        limit = self._limit(start, size)
        if limit >= self.end:
            return self.end, False
        for level in self.levels:
            cut = _last(level.cuts, max(done + 1, self._limit(start, int(level.fill * size))), limit)
            if cut is not None:
                return cut, level.overlaps
        return max(self._word(max(done, start + (limit - start) // 2), limit), done + 1), True

    def _limit(self, start: int, tokens: int) -> int:
        """The farthest end of a passage of so many tokens; the block's end when it holds no more."""
        index = bisect_right(self.starts, start - 1) + tokens
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
        space = _SPACE.search(self.text, low, stop)
        return space.end() if space else low


def _last(cuts: Sequence[int], low: int, high: int) -> int | None:
    """The last cut in [low, high]."""
    index = bisect_right(cuts, high) - 1
    return cuts[index] if index >= 0 and cuts[index] >= low else None


def _levels(text: str, start: int, end: int, outline: _Outline) -> Iterator[_Level]:
    """Boundaries of a block, best first."""
    heads = outline.heads[bisect_right(outline.heads, start) : bisect_right(outline.heads, end)]
    whole = [span for span in outline.whole if span[0] < end and span[1] > start]
    edges = sorted({edge for span in whole for edge in span if start < edge < end})
    paragraphs = [match.end() for match in _BLANK_LINE.finditer(text, start, end)]
    lines = [match.end() for match in _LINE_END.finditer(text, start, end)]
    units = {line for line in lines if _inside(line, whole) or _ITEM.match(text, line)}
    sentences = {match.end() for match in _SENTENCE.finditer(text, start, end)}
    yield _Level(heads, 0.25, overlaps=False)
    yield _Level(sorted({*edges, *(cut for cut in paragraphs if not _inside(cut, whole))}), 0.4, overlaps=True)
    yield _Level(sorted(units | sentences), 0.5, overlaps=True)
    yield _Level(lines, 0.5, overlaps=True)


def _inside(cut: int, spans: Sequence[tuple[int, int]]) -> bool:
    index = bisect_right(spans, (cut, cut)) - 1
    return index >= 0 and cut < spans[index][1]
