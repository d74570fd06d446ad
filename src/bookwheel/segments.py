"""Huge texts in segments: a file of any size is read with the memory of one of them."""

from collections.abc import Callable, Iterable, Iterator

MAX_HEADER = 1 << 16  # characters of a header row that is repeated


def segments(blocks: Iterable[str], *, characters: int) -> Iterator[str]:
    """The blocks as texts of at most so many characters, cut behind a blank line, else a line, else a word."""
    return _cut(blocks, characters, _paragraph_end)


def rows(blocks: Iterable[str], *, characters: int) -> Iterator[str]:
    """The lines of a table in segments, each with the header row first; a row with a line end in quotes stays whole."""
    header: str | None = None
    for segment in _cut(blocks, characters, _row_end):
        yield (header or "") + segment
        if header is None:
            header = _first_row(segment)


def _cut(blocks: Iterable[str], characters: int, end_of: Callable[[str], int]) -> Iterator[str]:
    held = ""
    for block in blocks:
        held += block
        while len(held) >= characters:
            end = end_of(held[:characters])
            yield held[:end]
            held = held[end:]
    if held:
        yield held


def _paragraph_end(text: str) -> int:
    """The last good place to cut in the second half of the text."""
    for mark in ("\n\n", "\n", " "):
        place = text.rfind(mark, len(text) // 2)
        if place >= 0:
            return place + len(mark)
    return len(text)


def _row_end(text: str) -> int:
    """The last line end in the second half that is not inside quotes, for a quote may be missing else any."""
    quotes, end = text.count('"'), len(text)
    while (place := text.rfind("\n", len(text) // 2, end)) >= 0:
        quotes -= text.count('"', place, end)
        if quotes % 2 == 0:
            return place + 1
        end = place
    return _paragraph_end(text)


def _first_row(text: str) -> str:
    """The header row with its line end; "" when it is too long to repeat."""
    end = text.find("\n") + 1
    while 0 < end <= MAX_HEADER and text.count('"', 0, end) % 2:
        end = text.find("\n", end) + 1
    return text[:end] if 0 < end <= MAX_HEADER else ""
