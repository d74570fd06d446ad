"""A document as text, and what it is cut into."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of a parsed document: offsets into its text."""

    number: int  #: from 1
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedText:
    """A document as text. All offsets are characters of `text`."""

    text: str
    media_type: str
    format: Literal["markdown", "plain"]  #: how `text` is to be read by the splitter
    title: str | None = None
    pages: tuple[Page, ...] = ()  #: empty where the format has none
    warnings: tuple[str, ...] = ()  #: what was left out, for the owner
    base: int = 0  #: where `text` begins in the document, when it is one segment of a huge one


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The part of a document that a hit shows in place of the small chunk that was found."""

    ordinal: int  #: from 0 within the document version
    start: int
    end: int
    text: str  #: exactly text[start:end] of the parsed text


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A passage cut from a text, not yet a chunk of a document."""

    text: str  #: exactly text[start:end] of the parsed text
    start: int
    end: int
    page: int | None
    heading_path: tuple[str, ...]
    language: str  #: ISO 639-1, or "und"
    embed_text: str  #: what the embedder reads: title and headings before the text
    section: Section | None = None  #: that it is a child of


@dataclass(frozen=True, slots=True, kw_only=True)
class CutText:
    """What is known of a document's text, with the next of its pieces."""

    media_type: str
    title: str | None
    warnings: tuple[str, ...]  #: what was left out, for the owner
    pieces: Sequence[Piece]  #: in order; those of all batches together are the document


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A passage of one document version."""

    id: int  #: 63-bit hash of (document, version, ordinal)
    document_id: UUID
    version: int
    ordinal: int  #: from 0 within the document version
    piece: Piece
    text_hash: bytes  #: 16 bytes: the embedding cache key beside the space. Of the embedded text; of a given vector too
    vector: bytes | None = None  #: packed, where it was given; None where the text is to be embedded
