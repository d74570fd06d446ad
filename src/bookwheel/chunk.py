"""Cutting a text into passages: sizes in the embedder's own tokens, offsets in characters, pages never mixed."""

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from semantic_text_splitter import MarkdownSplitter, TextSplitter
from tokenizers import Tokenizer

from bookwheel import language
from bookwheel.types import Chunk, Chunking, Claim, ParsedText, Piece

BLOCK = 64_000  # characters handed to the splitter at once: its time and memory grow faster than the text
CONTEXT = 160  # characters of title and headings before a passage
SURELY_LONG = 12  # characters a token, at most, in text that could fit: longer needs no counting

HEADING = re.compile(r"^(#{1,6})[ \t]+(\S.*?)[ \t]*#*$", re.MULTILINE)
FENCE = re.compile(r"^(```|~~~).*?(?:^\1|\Z)", re.MULTILINE | re.DOTALL)
LETTERS = re.compile(r"\w")
BREAKS = ("\n\n", "\n", ". ", "。", " ")  # where a block may end, best first


def chunks(claim: Claim, parsed: ParsedText, *, tokenizer: Tokenizer) -> Iterator[Chunk]:
    """The chunks of one document version, in order."""
    title = claim.title or parsed.title
    pieces = split(parsed, chunking=claim.chunking, tokenizer=tokenizer, title=title)
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
    """Passages of at most `chunking.max_tokens`, cut at the best boundary of the format; together they hold every word.

    A passage lies on one page, so that a citation has exactly one.
    """
    main = language.detect(parsed.text)
    headings = _Headings(parsed.text) if parsed.format == "markdown" else None
    for start, end, page in _sections(parsed):
        for at, text in _cut(parsed.text[start:end], parsed.format, chunking, tokenizer):
            if not LETTERS.search(text):
                continue
            begin = start + at
            path = headings.path(begin) if headings else ()
            yield Piece(
                text=text,
                start=begin,
                end=begin + len(text),
                page=page,
                heading_path=path,
                language=language.within(text, main),
                embed_text=with_context(title, path, text),
            )


def with_context(title: str | None, heading_path: Sequence[str], text: str) -> str:
    """What the embedder reads: where the passage stands, then the passage. A heading it begins with is not repeated."""
    parts = [part for part in dict.fromkeys((title, *heading_path)) if part and part not in text[: len(part) + 8]]
    context = " › ".join(parts)
    return f"{context[:CONTEXT]}\n{text}" if context else text


def chunk_id(document_id: UUID, version: int, ordinal: int) -> int:
    """A positive 63-bit number that the same chunk always gets."""
    key = document_id.bytes + version.to_bytes(4, "big") + ordinal.to_bytes(4, "big")
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1


def text_hash(embed_text: str) -> bytes:
    """16 bytes that stand for the embedded text."""
    return hashlib.blake2b(embed_text.encode(), digest_size=16).digest()


def _sections(parsed: ParsedText) -> Iterator[tuple[int, int, int | None]]:
    """(start, end, page) of stretches that are cut by themselves: pages, or the whole text; large ones in blocks."""
    stretches: list[tuple[int, int, int | None]] = [(page.start, page.end, page.number) for page in parsed.pages]
    for start, end, page in stretches or [(0, len(parsed.text), None)]:
        at = start
        while end - at > BLOCK:
            stop = _block_end(parsed.text, at, at + BLOCK)
            yield at, stop, page
            at = stop
        yield at, end, page


def _block_end(text: str, start: int, limit: int) -> int:
    """The last good place to cut before the limit."""
    for mark in BREAKS:
        found = text.rfind(mark, start + BLOCK // 2, limit)
        if found >= 0:
            return found + len(mark)
    return limit


def _cut(text: str, format: str, chunking: Chunking, tokenizer: Tokenizer) -> Sequence[tuple[int, str]]:
    """(offset, passage) in one stretch."""
    whole = text.strip()
    if len(whole) <= chunking.max_tokens * SURELY_LONG and _fits(whole, chunking.max_tokens, tokenizer):
        return [(text.find(whole), whole)] if whole else []
    return _splitter(format, chunking.max_tokens, chunking.overlap_tokens, tokenizer).chunk_indices(text)


def _fits(text: str, tokens: int, tokenizer: Tokenizer) -> bool:
    return len(text.encode()) <= tokens or len(tokenizer.encode(text, add_special_tokens=False).ids) <= tokens


@lru_cache(maxsize=64)
def _splitter(format: str, size: int, overlap: int, tokenizer: Tokenizer) -> MarkdownSplitter | TextSplitter:
    kind = MarkdownSplitter if format == "markdown" else TextSplitter
    return kind.from_huggingface_tokenizer(tokenizer, size, overlap)


@dataclass(frozen=True, slots=True)
class _Heading:
    start: int
    path: tuple[str, ...]


class _Headings:
    """The heading path at any place of a Markdown text; code blocks have no headings."""

    def __init__(self, text: str) -> None:
        self._headings = list(_outline(text))
        self._starts = [heading.start for heading in self._headings]

    def path(self, offset: int) -> tuple[str, ...]:
        """Headings above the offset, from the outermost; a heading that begins there counts."""
        index = bisect_right(self._starts, offset)
        return self._headings[index - 1].path if index else ()


def _outline(text: str) -> Iterator[_Heading]:
    code = [match.span() for match in FENCE.finditer(text)]
    code_starts = [start for start, _ in code]
    open_levels: list[tuple[int, str]] = []
    for match in HEADING.finditer(text):
        block = bisect_right(code_starts, match.start()) - 1
        if block >= 0 and match.start() < code[block][1]:
            continue
        level, title = len(match[1]), " ".join(match[2].split())
        open_levels = [*((depth, name) for depth, name in open_levels if depth < level), (level, title)]
        yield _Heading(match.start(), tuple(name for _, name in open_levels))
