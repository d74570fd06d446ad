"""A document's text as passages, by the store's strategy; then as chunks with their ids.

A passage never crosses a page, so that a citation has one exact page; one page in six of real 10-K filings breaks a
sentence, which is the price: 4 % more passages.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import UUID

from tokenizers import Tokenizer

from bookwheel import language
from bookwheel.cutting import Boundaries, Knife, Span, cut, of_nothing, of_sentences, of_structure
from bookwheel.given import GivenPassages
from bookwheel.outline import Headings, Outline
from bookwheel.types import Chunk, Chunking, Claim, ParsedText, Piece, Section

CONTEXT_CHARACTERS = 160  # of title and headings before a passage: about 32 tokens
GROUPS = 8  # groups of sentences in a semantic passage of full size: what the distances are measured between
MAX_GAP = 200  # characters of white space between two groups that may become one passage
BATCH_PIECES = 256
BATCH_CHARACTERS = 1 << 20

_Part = tuple[Span, Section | None]


class Cutter:
    """Cuts one document, whose text may come in segments. Offsets and section numbers are of the whole document."""

    def __init__(self, *, chunking: Chunking, tokenizer: Tokenizer, title: str | None = None) -> None:
        self._chunking = chunking
        self._knife = knife_of(chunking, tokenizer)
        self._parent = Knife(
            tokenizer=tokenizer, size=chunking.parent_tokens, overlap=0, boundaries=of_structure, even=False
        )
        self._title = title
        self._headings = Headings()
        self._sections = itertools.count()

    def pieces(self, parsed: ParsedText) -> Iterator[Piece]:
        """Passages of the next segment, lazily. Together they hold every letter and digit.

        For the strategy `semantic` they are groups of sentences with the white space behind them, still to be joined.
        """
        text, base, title = parsed.text, parsed.base, self._title or parsed.title
        whole = language.detect(text)
        outline = self._headings.outline(text) if parsed.format == "markdown" else Outline()
        for page, stretch in _stretches(parsed):
            for (start, end), section in self._parts(text, stretch, outline, base):
                passage, path = text[start:end], outline.path(start)
                yield Piece(
                    text=passage,
                    start=base + start,
                    end=base + end,
                    page=page,
                    heading_path=path,
                    language=language.of_part(passage, whole),
                    embed_text=with_context(title, path, passage),
                    section=section,
                )

    def _parts(self, text: str, stretch: Span, outline: Outline, base: int) -> Iterator[_Part]:
        match self._chunking.strategy:
            case "parent_child":
                yield from self._children(text, stretch, outline, base)
            case "semantic":
                for under_one_heading in _between_headings(text, stretch, outline):
                    for span in _joinable(cut(text, under_one_heading, outline, self._knife)):
                        yield span, None
            case _:
                for span in cut(text, stretch, outline, self._knife):
                    yield span, None

    def _children(self, text: str, stretch: Span, outline: Outline, base: int) -> Iterator[_Part]:
        for under_one_heading in _between_headings(text, stretch, outline):
            for parent in cut(text, under_one_heading, outline, self._parent):
                section = Section(
                    ordinal=next(self._sections),
                    start=base + parent.start,
                    end=base + parent.end,
                    text=text[parent.start : parent.end],
                )
                for child in cut(text, parent, outline, self._knife):
                    yield child, section


def knife_of(chunking: Chunking, tokenizer: Tokenizer) -> Knife:
    """How passages of this strategy are cut."""
    size, overlap = chunking.max_tokens, chunking.overlap_tokens
    boundaries: Boundaries = of_structure
    match chunking.strategy:
        case "fixed":
            boundaries = of_nothing
        case "sentence":
            boundaries = of_sentences
        case "semantic":
            boundaries, size, overlap = of_sentences, max(1, size // GROUPS), 0
    exact = chunking.strategy in ("fixed", "sentence", "semantic")
    return Knife(
        tokenizer=tokenizer,
        size=size,
        overlap=overlap,
        boundaries=boundaries,
        even=not exact,
        strict=boundaries is of_sentences,
    )


def split(parsed: ParsedText, *, chunking: Chunking, tokenizer: Tokenizer, title: str | None = None) -> Iterator[Piece]:
    """The pieces of a text that is whole: see Cutter."""
    return Cutter(chunking=chunking, tokenizer=tokenizer, title=title).pieces(parsed)


def batches(pieces: Iterator[Piece]) -> Iterator[list[Piece]]:
    """Pieces in lists of at most 256, and about a million characters with their sections."""
    batch: list[Piece] = []
    characters, section = 0, None
    for piece in pieces:
        batch.append(piece)
        characters += len(piece.text)
        if piece.section is not section and piece.section is not None:
            characters += len(piece.section.text)
        section = piece.section
        if len(batch) >= BATCH_PIECES or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def numbered(claim: Claim, pieces: Sequence[Piece], *, first: int) -> list[Chunk]:
    """The next pieces as chunks of the claimed version, numbered from `first`."""
    chunks = [
        Chunk(
            id=chunk_id(claim.document_id, claim.version, ordinal),
            document_id=claim.document_id,
            version=claim.version,
            ordinal=ordinal,
            piece=piece,
            text_hash=text_hash(piece.embed_text),
        )
        for ordinal, piece in enumerate(pieces, first)
    ]
    return chunks if claim.given is None else [_with_vector(chunk, claim.given) for chunk in chunks]


def given_pieces(text: str, given: GivenPassages) -> Iterator[Piece]:
    """The passages of a text as its owner cut it, lazily."""
    whole = language.detect(text)
    for place in given.passages:
        passage = text[place.start : place.end]
        yield Piece(
            text=passage,
            start=place.start,
            end=place.end,
            page=place.page,
            heading_path=place.heading_path,
            language=language.of_part(passage, whole),
            embed_text=passage,
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


def given_hash(text: str, vector: bytes) -> bytes:
    """16 bytes that stand for a text with the vector that it was given: never those of a text that is embedded here."""
    return hashlib.blake2b(vector + text.encode(), digest_size=16, person=b"given").digest()


def _with_vector(chunk: Chunk, given: GivenPassages) -> Chunk:
    vector = given.vector(chunk.ordinal)
    return replace(chunk, vector=vector, text_hash=given_hash(chunk.piece.text, vector))


def _stretches(parsed: ParsedText) -> Iterator[tuple[int | None, Span]]:
    """Pages with whatever follows them, or the whole text: what passages do not cross."""
    if not parsed.pages:
        yield None, Span(0, len(parsed.text))
        return
    starts = [0, *(page.start for page in parsed.pages[1:]), len(parsed.text)]
    for page, (start, end) in zip(parsed.pages, itertools.pairwise(starts), strict=True):
        yield page.number, Span(start, end)


def _between_headings(text: str, stretch: Span, outline: Outline) -> Iterator[Span]:
    """Parts of the stretch under one heading each; headings that follow each other at once stay together."""
    start, line = stretch.start, stretch.start
    for head in outline.heads:
        if not stretch.start < head < stretch.end:
            continue
        body = text.find("\n", line, head)
        if body >= 0 and not text[body:head].isspace():
            yield Span(start, head)
            start = head
        line = head
    yield Span(start, stretch.end)


def _joinable(spans: Iterator[Span]) -> Iterator[Span]:
    """Spans up to the next one, unless that is far away."""
    held: Span | None = None
    for span in spans:
        if held is not None:
            yield Span(held.start, span.start if span.start - held.end <= MAX_GAP else held.end)
        held = span
    if held is not None:
        yield held
