"""Markdown as kreuzberg writes it from office files, made readable: no escapes, link targets or empty table cells."""

import re
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import groupby
from pathlib import Path

_FENCE = re.compile(r"^(```|~~~)", re.MULTILINE)
_LINK = re.compile(r"""!?\\?!?\[((?:\\.|[^\[\]\\\n]){0,2000})\]\((?:<[^<>\n]*>|[^\s()]*)(?:\s+"[^"\n]*")?\)""")
# `#`, `|` and the backquote keep theirs: without it they would become headings, cells and code.
_ESCAPE = re.compile(r"""\\([!"$%&'()*+,\-./:;<=>?@\[\]^_{}~])""")
_UNDERLINE = re.compile(r"</?u>")
_CELL_BREAK = re.compile(r"(?<!\\)\|")
_RULE_CELL = re.compile(r":?-{3,}:?")


_REFERENCE = re.compile(rb"&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|(amp|lt|gt|quot|apos));")
_MARKUP = "&<>\"'"
_NAMED = {b"amp": "&", b"lt": "<", b"gt": ">", b"quot": '"', b"apos": "'"}
# kreuzberg 4.10 drops character references of DOCX, so "R&amp;D" would become "RD": these stand for them meanwhile.
_STAND_INS = str.maketrans({sign: chr(0xFDD1 + i) for i, sign in enumerate(_MARKUP)})
_SIGNS = str.maketrans({chr(0xFDD1 + i): sign for i, sign in enumerate(_MARKUP)})


def without_references(docx: Path) -> bytes:
    """The same DOCX with stand-ins for character references and without its pictures. Raises OSError, ValueError and
    zipfile's errors for a damaged file."""
    out = BytesIO()
    with zipfile.ZipFile(docx) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
        for name in dict.fromkeys(source.namelist()):
            if name.startswith("word/media/"):
                continue
            data = source.read(name)
            target.writestr(name, _REFERENCE.sub(_stand_in, data) if name.endswith(".xml") else data)
    return out.getvalue()


def _stand_in(reference: re.Match[bytes]) -> bytes:
    decimal, hexadecimal, name = reference.groups()
    code = int(decimal or b"0") if hexadecimal is None else int(hexadecimal, 16)
    sign = _NAMED[name] if name else chr(code) if 9 <= code < 0x110000 and not 0xD800 <= code < 0xE000 else ""
    return sign.translate(_STAND_INS).encode()


def with_signs(text: str) -> str:
    """The text with what the stand-ins stood for."""
    return text.translate(_SIGNS)


def tidy(markdown: str) -> str:
    """The same Markdown as a person would have typed it. Code between fences is not touched."""
    return narrowed(_outside_code(markdown, _typed))


def narrowed(markdown: str) -> str:
    """The same Markdown with tables that have no empty rows, empty columns or padding."""
    return _outside_code(markdown, lambda text: "\n".join(_tables_narrowed(text)))


def _outside_code(markdown: str, change: Callable[[str], str]) -> str:
    parts = _FENCE.split(markdown)
    # split keeps the fences: text, fence, code, fence, text, ...
    return "".join(change(part) if index % 4 == 0 else part for index, part in enumerate(parts))


def _typed(text: str) -> str:
    text = _LINK.sub(r"\1", _LINK.sub(r"\1", text))  # twice: an image inside a link
    return _UNDERLINE.sub("", _ESCAPE.sub(r"\1", text))


def _tables_narrowed(text: str) -> Iterator[str]:
    for is_table, lines in groupby(text.split("\n"), key=lambda line: line.startswith("|")):
        if is_table:
            yield from _used_cells([_cells(line) for line in lines])
        else:
            yield from lines


def _cells(line: str) -> list[str]:
    return [_cell(cell.strip()) for cell in _CELL_BREAK.split(line.strip())[1:-1]]


def _cell(cell: str) -> str:
    return "---" if _RULE_CELL.fullmatch(cell) else _ESCAPE.sub(r"\1", cell)


def _used_cells(rows: list[list[str]]) -> Iterator[str]:
    """The rows without those, and without the columns, that hold nothing; one column is text, not a table."""
    used = sorted({i for row in rows for i, cell in enumerate(row) if cell and not _RULE_CELL.fullmatch(cell)})
    for row in rows:
        cells = [row[i] if i < len(row) else "" for i in used]
        if len(used) == 1:
            yield from () if cells[0] in ("", "---") else (cells[0], "")
        elif any(cells):
            yield f"| {' | '.join(cells)} |"
