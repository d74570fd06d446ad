"""Documents that come cut and embedded: passages with a vector each, which are taken as they are.

A vector travels as a unit vector of little-endian float32, packed: four bytes for each dimension.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

PACKED = "<f4"  # how numpy calls it


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenPassage:
    """Where a given passage stands, and what its owner says of the place."""

    start: int  #: characters of the document's text
    end: int
    page: int | None = None  #: from 1
    heading_path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenPassages:
    """The passages of one document in order, at least one."""

    passages: tuple[GivenPassage, ...]
    vectors: bytes  #: theirs, packed, one after the other

    def vector(self, ordinal: int) -> bytes:
        """The packed vector of one passage, counted from 0."""
        size = len(self.vectors) // len(self.passages)
        return self.vectors[ordinal * size : (ordinal + 1) * size]


def passages_json(passages: Sequence[GivenPassage]) -> bytes:
    """Passages without their vectors, as JSON."""
    return orjson.dumps(passages)


def passages_of(stored: Sequence[Mapping[str, Any]], vectors: bytes) -> GivenPassages:
    """What `passages_json` and the vectors were made of."""
    passages = (GivenPassage(**{**one, "heading_path": tuple(one["heading_path"])}) for one in stored)
    return GivenPassages(passages=tuple(passages), vectors=vectors)


def source_of(text: str, title: str | None, given: GivenPassages | None = None) -> tuple[int, bytes]:
    """Size in bytes and SHA-256 of what a document is made of that was put as text: the hash is of the text, a NUL and
    the title; where passages are given, then of a NUL, their JSON, a NUL and their vectors. None of them has a NUL but
    the vectors."""
    content = text.encode()
    digest = hashlib.sha256(content + b"\0" + (title or "").encode())
    if given is None:
        return len(content), digest.digest()
    places = passages_json(given.passages)
    digest.update(b"\0" + places + b"\0")
    digest.update(given.vectors)
    return len(content) + len(places) + len(given.vectors), digest.digest()
