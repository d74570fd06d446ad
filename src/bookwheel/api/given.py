"""Vectors that callers bring: with the passages of a document line, and in place of a query's own."""

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import WithJsonSchema

from bookwheel.errors import InvalidDocumentError, InvalidRequestError
from bookwheel.given import PACKED, GivenPassage, GivenPassages
from bookwheel.types import Space

MAX_PASSAGES = 10_000  #: of one document
MAX_PASSAGE = 32_768  #: characters: some 8,000 tokens, what the longest windows of embedders hold
MAX_PAGE = 2**31 - 1
MAX_HEADINGS = 32  #: of one passage
MAX_HEADING = 1024  #: characters
SEPARATOR = "\n\n"  #: between the passages in the document's text
FORMS = "a list of numbers, or base64 of little-endian float32"

SCHEMA: dict[str, Any] = {  #: of a vector, for the OpenAPI document
    "anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}],
    "description": f"{FORMS[0].upper()}{FORMS[1:]}.",
}

#: A vector as callers send it, or None: read by `read_vector`, whose errors name the place.
Vector = Annotated[Any, WithJsonSchema({**SCHEMA, "anyOf": [*SCHEMA["anyOf"], {"type": "null"}]})]


def read_given(line: Mapping[str, Any], *, space: Space) -> tuple[str, GivenPassages] | None:
    """The text of a line with its passages, or None where the line gives no vectors. Raises InvalidDocumentError that
    names the place, such as `chunks[3].vector`."""
    chunks, vector = line.get("chunks"), line.get("vector")
    if chunks is None and vector is None:
        return None
    _check_alone(line)
    if chunks is None:
        return _document([{"text": line.get("text"), "vector": vector}], [""], space=space)
    if not isinstance(chunks, list) or not 1 <= len(chunks) <= MAX_PASSAGES:
        raise _refused("chunks", f"must be a list of 1 to {MAX_PASSAGES} passages. Split a longer document.")
    return _document(chunks, [f"chunks[{number}]" for number in range(len(chunks))], space=space)


def _check_alone(line: Mapping[str, Any]) -> None:
    if line.get("chunks") is not None:
        for other in ("vector", "text", "url"):
            if line.get(other) is not None:
                raise _refused(other, "cannot stand beside `chunks`, which bring text and vectors. Leave it out.")
    elif line.get("url") is not None:
        raise _refused("vector", "cannot stand beside `url`: what is fetched is embedded here. Send `text` with it.")


def _document(chunks: Sequence[object], places: Sequence[str], *, space: Space) -> tuple[str, GivenPassages]:
    texts, vectors, passages = list[str](), list[bytes](), list[GivenPassage]()
    start = 0
    for chunk, place in zip(chunks, places, strict=True):
        if not isinstance(chunk, dict):
            raise _refused(place, "must be an object with `text` and `vector`.")
        text = _text(chunk, place)
        vectors.append(
            read_vector(chunk.get("vector"), place=_at(place, "vector"), space=space, error=InvalidDocumentError)
        )
        end = start + len(text)
        headings = _heading_path(chunk, place)
        passages.append(GivenPassage(start=start, end=end, page=_page(chunk, place), heading_path=headings))
        texts.append(text)
        start = end + len(SEPARATOR)
    return SEPARATOR.join(texts), GivenPassages(passages=tuple(passages), vectors=b"".join(vectors))


def _text(chunk: Mapping[str, Any], place: str) -> str:
    text = chunk.get("text")
    if not isinstance(text, str) or not text.strip():
        raise _refused(_at(place, "text"), "must be a string that is not empty: the text that the vector stands for.")
    if len(text) > MAX_PASSAGE:
        here = f"has {len(text)} characters; a passage has at most {MAX_PASSAGE}. Cut it into several `chunks`."
        raise _refused(_at(place, "text"), here)
    return text


def _page(chunk: Mapping[str, Any], place: str) -> int | None:
    page = chunk.get("page")
    if page is None or (type(page) is int and 1 <= page <= MAX_PAGE):
        return page
    raise _refused(_at(place, "page"), "must be a whole number from 1, or left out.")


def _heading_path(chunk: Mapping[str, Any], place: str) -> tuple[str, ...]:
    path = chunk.get("heading_path")
    if path is None:
        return ()
    if not isinstance(path, list) or len(path) > MAX_HEADINGS or not all(map(_is_heading, path)):
        form = f"must be a list of at most {MAX_HEADINGS} strings of 1 to {MAX_HEADING} characters, outermost first."
        raise _refused(_at(place, "heading_path"), form)
    return tuple(path)


def _is_heading(name: object) -> bool:
    return isinstance(name, str) and 1 <= len(name) <= MAX_HEADING and "\0" not in name


def read_vector(
    value: object, *, place: str, space: Space, error: type[InvalidRequestError] = InvalidRequestError
) -> bytes:
    """What a caller sent as a vector, made a unit vector and packed. Raises `error` with the place as its param."""
    numbers = _numbers(value, place, error)
    if len(numbers) != space.dimensions:
        raise error(
            f"`{place}` has {len(numbers)} numbers, but vectors have {space.dimensions} in this store's embedding"
            f" space ({space.model}). Send {space.dimensions}, or leave vectors out to have the text embedded here.",
            param=place,
        )
    if not np.isfinite(numbers).all():
        raise error(f"`{place}` holds numbers that are not finite. Embed the text again.", param=place)
    exact = numbers.astype(np.float64)
    largest = np.abs(exact).max()
    if not largest:
        raise error(f"`{place}` is all zeros, which points nowhere. Embed the text again.", param=place)
    scaled = exact / largest  # so that no square is lost, however large or small the numbers are
    unit: NDArray[np.float32] = (scaled / np.linalg.norm(scaled)).astype(PACKED)
    return unit.tobytes()


def _numbers(value: object, place: str, error: type[InvalidRequestError]) -> NDArray[Any]:
    with suppress(ValueError, OverflowError):  # no base64, no whole number of float32, an integer that no float holds
        if isinstance(value, str):
            return np.frombuffer(base64.b64decode(value, validate=True), PACKED)
        if isinstance(value, list) and {type(number) for number in value} <= {int, float}:
            return np.array(value, np.float64)
    raise error(f"`{place}` must be {FORMS}.", param=place)


def _at(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _refused(place: str, what: str) -> InvalidDocumentError:
    return InvalidDocumentError(f"`{place}` {what}", param=place)
