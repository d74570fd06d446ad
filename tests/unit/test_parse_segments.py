"""Huge texts and tables: read in segments whose offsets are those of the whole document."""

import csv
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bookwheel import parse as parsing
from bookwheel.chunk import Cutter
from bookwheel.decoding import NotTextError, decode, decode_blocks
from bookwheel.errors import NoTextError, UnprocessableFileError, UnsupportedFileError
from bookwheel.parse import parse, parse_segments
from bookwheel.segments import _first_row, rows, segments
from bookwheel.testing import HashEmbedder
from bookwheel.types import Chunking, ParsedText

CHARACTERS = 3000


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is huge, in the sizes of a test."""
    monkeypatch.setattr(parsing, "_SEGMENTED_TEXT_BYTES", 5000)
    monkeypatch.setattr(parsing, "_SEGMENTED_TABLE_BYTES", 5000)
    monkeypatch.setattr(parsing, "_SEGMENT_CHARACTERS", CHARACTERS)
    monkeypatch.setattr(parsing, "_TABLE_SEGMENT_CHARACTERS", CHARACTERS)
    monkeypatch.setattr("bookwheel.decoding._BLOCK_BYTES", 1001)


def read(path: Path) -> list[ParsedText]:
    """All segments of a file."""
    return list(parse_segments(path, path.name, ocr=False))


def assert_adjoining(parts: list[ParsedText]) -> str:
    """Each segment begins where the one before it ended; returns the whole text."""
    assert len(parts) > 2
    for before, after in pairwise(parts):
        assert before.base + len(before.text) == after.base
    return "".join(part.text for part in parts)


@pytest.mark.parametrize(("name", "line_end"), [("a.txt", "\n"), ("a.md", "\r\n"), ("a.log", "\r"), ("a.jsonl", "\n")])
def test_segments_are_the_whole_text(tmp_path: Path, name: str, line_end: str) -> None:
    """Together they are what the file holds, line ends as \\n; each ends behind a line."""
    text = "".join(f"# Line {number} of Größe 🐳\nand more\n\n" for number in range(500))
    (tmp_path / name).write_bytes(text.replace("\n", line_end).encode())
    parts = read(tmp_path / name)
    assert assert_adjoining(parts) == text
    assert all(part.text.endswith("\n\n") for part in parts)
    assert all(len(part.text) <= CHARACTERS for part in parts)


def test_pieces_of_segments_have_offsets_of_the_whole(tmp_path: Path) -> None:
    """text[start:end] of the whole file is the piece's text."""
    text = "\n".join(f"Line {number} is about a whale, and it ends." for number in range(2000))
    (tmp_path / "a.txt").write_text(text)
    cutter = Cutter(chunking=Chunking(max_tokens=64, overlap_tokens=8), tokenizer=HashEmbedder().tokenizer)
    pieces = [piece for part in read(tmp_path / "a.txt") for piece in cutter.pieces(part)]
    assert all(piece.text == text[piece.start : piece.end] for piece in pieces)
    assert pieces[0].text.startswith("Line 0 ")
    assert pieces[-1].text.endswith("Line 1999 is about a whale, and it ends.")


def test_every_segment_of_a_table_has_the_header(tmp_path: Path) -> None:
    """Rows are kept whole, also with a line end in quotes, and each segment is a table with its header row."""
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["captain", "ship"])
        writer.writerows([f"Ahab\n{number}", f"Pequod {number}"] for number in range(900))
    parts = read(tmp_path / "a.csv")
    text = assert_adjoining(parts)
    assert all(part.text.splitlines()[0] == "| captain | ship |" for part in parts)
    assert all(f"Pequod {number} |" in text for number in range(900))
    assert text.count("\n| Ahab") + text.count("\n|Ahab") == 900


def test_small_files_are_one_segment(tmp_path: Path) -> None:
    """What is not huge is read as ever."""
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    assert read(tmp_path / "a.csv") == [parse(tmp_path / "a.csv", "a.csv", ocr=False)]


def test_one_value_is_one_segment(tmp_path: Path) -> None:
    """A JSON value cannot be cut before it is read."""
    (tmp_path / "a.json").write_text("[" + "1,\n" * 5000 + "1]")
    assert len(read(tmp_path / "a.json")) == 1


def test_huge_nothing_is_no_text(tmp_path: Path) -> None:
    """White space alone is refused, as in small files; blank stretches count in the offsets."""
    (tmp_path / "blank.txt").write_text("\n" * 10_000)
    with pytest.raises(NoTextError, match=r'^"blank\.txt" has no text'):
        read(tmp_path / "blank.txt")
    (tmp_path / "gap.txt").write_text("begin\n" + "\n" * 10_000 + "end\n")
    first, last = read(tmp_path / "gap.txt")
    assert first.text.startswith("begin")
    assert last.base + last.text.index("end") == 6 + 10_000


def test_huge_binary_is_refused(tmp_path: Path) -> None:
    """A binary file is not text, however large."""
    (tmp_path / "a.txt").write_bytes(bytes(range(1, 32)) * 1000)
    with pytest.raises(UnsupportedFileError, match="binary data"):
        read(tmp_path / "a.txt")


def test_offsets_beyond_31_bits_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table's offsets end at 2,147,483,647."""
    assert parsing.MAX_CHARACTERS == 2**31 - 1
    monkeypatch.setattr(parsing, "MAX_CHARACTERS", 9000)
    (tmp_path / "a.txt").write_text("whale\n" * 3000)
    with pytest.raises(UnprocessableFileError, match=r"more than 9,000 characters of text\. Split it"):
        read(tmp_path / "a.txt")


TEXTS = {
    "utf-8": "Größe 🐳 und Meer\n",
    "utf-8-sig": "Größe und Meer\n",
    "utf-16": "Größe 🐳 und Meer\n",
    "utf-16-le": "Size and sea\n",
    "cp1252": "Die Größe des Meeres und die Wale für alle Länder\n",
    "shift_jis": "鯨は海を泳いでいる。エイハブ船長は鯨を追う。\n",
    "cp500": "THE SIZE OF THE SEA\n",
    "iso2022_jp": "鯨は海を泳いでいる。\n",
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_blocks_are_decoded_as_a_whole_is(tmp_path: Path, encoding: str) -> None:
    """Characters cut by the end of a block are whole, in every encoding that is read."""
    data = (TEXTS[encoding] * 300).encode(encoding)
    (tmp_path / "a").write_bytes(data)
    assert "".join(decode_blocks(tmp_path / "a")) == decode(data) == TEXTS[encoding] * 300


def test_an_encoding_shows_late(tmp_path: Path) -> None:
    """The whole file is looked at: one that is ASCII for megabytes may not be UTF-8 after all."""
    data = b"plain words here\n" * 400_000 + "Größe für alle Länder\n".encode("cp1252") * 50
    (tmp_path / "a").write_bytes(data)
    assert "".join(decode_blocks(tmp_path / "a")).endswith("Größe für alle Länder\n")


def test_controls_are_refused_in_blocks(tmp_path: Path) -> None:
    """As in `decode`."""
    (tmp_path / "a").write_bytes(b"\1\2\3" * 1000)
    with pytest.raises(NotTextError):
        list(decode_blocks(tmp_path / "a"))


LINES = st.lists(st.text(st.sampled_from('ab ,"\n'), max_size=30), max_size=60)


@settings(max_examples=80, deadline=None)
@given(blocks=LINES, characters=st.integers(1, 40))
def test_segments_lose_nothing(blocks: list[str], characters: int) -> None:
    """Whatever the blocks, the segments together are the text, and none is larger than asked."""
    made = list(segments(blocks, characters=characters))
    assert "".join(made) == "".join(blocks)
    assert all(0 < len(segment) <= characters for segment in made)


@settings(max_examples=80, deadline=None)
@given(blocks=LINES, characters=st.integers(1, 40))
def test_rows_lose_nothing(blocks: list[str], characters: int) -> None:
    """Whatever the quotes, the rows behind the repeated header are the text."""
    made = list(rows(blocks, characters=characters))
    header = _first_row(made[0]) if made else ""
    assert all(segment.startswith(header) for segment in made)
    assert "".join(made[:1] + [segment.removeprefix(header) for segment in made[1:]]) == "".join(blocks)
