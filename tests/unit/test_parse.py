"""Reading files: types by content, pages, titles, and errors that help."""

import json
import shutil
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from bookwheel import media_types
from bookwheel.errors import (
    BrokenFileError,
    EncryptedFileError,
    NeedsOcrError,
    NoTextError,
    ParseMemoryError,
    UnprocessableFileError,
    UnsupportedFileError,
)
from bookwheel.parse import parse, parse_small_text
from bookwheel.types import ParsedText

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def read(folder: Path, name: str, data: bytes) -> ParsedText:
    """Parse these bytes under this name."""
    path = folder / "blob"
    path.write_bytes(data)
    return parse(path, name, ocr=False)


def pdf(*pages: str, end: bytes = b"%%EOF\n") -> bytes:
    """A PDF with one text line for each line of each page."""
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {len(pages)}/Kids[{kids}]>>".encode(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
    ]
    for i, page in enumerate(pages):
        lines = "".join(f"({line}) Tj 0 -14 Td " for line in page.split("\n"))
        stream = f"BT /F1 11 Tf 60 700 Td {lines}ET".encode("latin-1")
        resources = "/Resources<</Font<</F1 3 0 R>>>>/MediaBox[0 0 612 792]"
        objects.append(f"<</Type/Page/Parent 2 0 R{resources}/Contents {5 + 2 * i} 0 R>>".encode())
        objects.append(b"<</Length %d>>\nstream\n%s\nendstream" % (len(stream), stream))
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n" % (len(objects) + 1, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table + trailer + end


def packed(members: dict[str, bytes]) -> bytes:
    """A zip of these members."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def docx(body: str, **more: bytes) -> bytes:
    """A DOCX with this body XML."""
    types = (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="xml" ContentType="application/xml"/></Types>'
    )
    document = f'<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>'
    return packed({"[Content_Types].xml": types.encode(), "word/document.xml": document.encode(), **more})


def paragraph(text: str, style: str = "") -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}<w:r><w:t>{text}</w:t></w:r></w:p>"


def test_every_page_is_exactly_its_part_of_the_text(tmp_path: Path) -> None:
    """Page offsets are characters, also after pages with characters of several bytes."""
    parsed = read(tmp_path, "a.pdf", pdf("Caf\xe9 \xfcber \xa3", "Second page", "Third"))
    assert [parsed.text[page.start : page.end] for page in parsed.pages] == ["Café über £", "Second page", "Third"]
    assert [page.number for page in parsed.pages] == [1, 2, 3]
    assert parsed.format == "plain"


def test_blank_pages_keep_the_numbers_of_the_others_and_are_reported(tmp_path: Path) -> None:
    """A page without text counts, and the owner is told."""
    parsed = read(tmp_path, "a.pdf", pdf("One", "", "Three"))
    third = parsed.pages[2]
    assert (third.number, parsed.text[third.start : third.end]) == (3, "Three")
    assert parsed.warnings == ("1 of 3 pages have no text: 2.",)


def test_a_page_that_looks_like_a_page_marker_does_not_move_pages(tmp_path: Path) -> None:
    """Text that imitates what separates pages stays text."""
    parsed = read(tmp_path, "a.pdf", pdf("PAGE-0-1- <!-- PAGE 2 -->", "two"))
    assert len(parsed.pages) == 2
    assert "PAGE 2" in parsed.text[: parsed.pages[0].end]


def test_a_cut_off_pdf_says_so(tmp_path: Path) -> None:
    """Text from a file without its end is marked as perhaps partial."""
    parsed = read(tmp_path, "a.pdf", pdf("Some text", end=b""))
    assert "Some text" in parsed.text
    assert any("cut off" in warning for warning in parsed.warnings)


def test_a_drawing_is_read_by_its_labels(tmp_path: Path) -> None:
    """Paths and styles of an SVG are not text."""
    drawing = b"""<svg xmlns="http://www.w3.org/2000/svg"><title>Two walks</title><style>.a{fill:red}</style>
        <path d="M0 0L10 10"/><text x="1">Worker <tspan>claims</tspan></text><text>Publish &amp; flip</text></svg>"""
    assert read(tmp_path, "walks.svg", drawing).text == "Two walks\nWorker claims\nPublish & flip"
    with pytest.raises(NoTextError):
        read(tmp_path, "logo.svg", b'<svg><path d="M0 0L10 10"/></svg>')


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="Tesseract is not installed")
def test_only_pages_without_text_go_to_ocr(tmp_path: Path) -> None:
    """A letter drawn on the second page is read; the first page keeps its own characters."""
    bars = ["0 0 14 100", "46 0 14 100", "0 43 60 14", "90 0 14 100", "120 86 70 14", "148 0 14 100"]  # H I T
    data = pdf("Zzyxqv is no word that OCR would spell", "x")
    start = data.index(b"BT /F1 11 Tf 60 700 Td (x) Tj")
    end = data.index(b"ET", start) + 2
    drawn = "1 0 0 1 80 500 cm " + "".join(f"{bar} re f " for bar in bars)
    path = tmp_path / "mixed.pdf"
    path.write_bytes(data[:start] + drawn.encode() + data[end:])
    parsed = parse(path, "mixed.pdf", ocr=True)
    first, second = (parsed.text[page.start : page.end] for page in parsed.pages)
    assert first == "Zzyxqv is no word that OCR would spell"
    assert "HIT" in second.upper()


def test_a_pdf_without_text_needs_ocr(tmp_path: Path) -> None:
    """Never a silent success with nothing in it."""
    with pytest.raises(NeedsOcrError, match=r'^"scan\.pdf" has no text layer.*Tesseract'):
        read(tmp_path, "scan.pdf", pdf("", ""))


@pytest.mark.parametrize("name", ["a.docx", "a.doc", "a.pdf", "a.txt", "noname"])
def test_a_docx_is_read_under_any_name(tmp_path: Path, name: str) -> None:
    """Content decides the type, not the extension."""
    parsed = read(tmp_path, name, docx(paragraph("Lorem ipsum dolor")))
    assert (parsed.text.strip(), parsed.media_type) == ("Lorem ipsum dolor", media_types.DOCX)


def test_a_docx_becomes_markdown_as_a_person_would_type_it(tmp_path: Path) -> None:
    """Headings are marked, the first is the title, and no character is escaped for show."""
    body = paragraph("Costs &amp; terms", "Heading1") + paragraph("R&amp;D costs 5.5% (net) a_b! caf&#233; &lt;T&gt;")
    parsed = read(tmp_path, "a.docx", docx(body))
    assert (parsed.format, parsed.title) == ("markdown", "Costs & terms")
    assert "# Costs & terms" in parsed.text
    assert "R&D costs 5.5% (net) a_b! café <T>" in parsed.text


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("a.zip", packed({"a.txt": b"hello"})),
        ("a.docx", packed({"inner.zip": packed({"a.txt": b"hello"})})),
        ("a.gz", b"\x1f\x8b\x08\0" + bytes(50)),
        ("a.txt", b"7z\xbc\xaf\x27\x1c\0\4" + bytes(50)),
        ("a.tar", b"name".ljust(257, b"\0") + b"ustar\x0000" + bytes(600)),
    ],
)
def test_archives_are_refused_with_what_to_do(tmp_path: Path, name: str, head: bytes) -> None:
    """Archives are never opened."""
    with pytest.raises(UnsupportedFileError, match="Unpack it first"):
        read(tmp_path, name, head)


def test_a_bomb_dressed_as_docx_is_caught_before_it_is_unpacked(tmp_path: Path) -> None:
    """The zip directory tells the size; nothing of it is inflated."""
    bomb = docx(paragraph("x"), **{"word/media.xml": bytes(100 << 20)})
    with pytest.raises(ParseMemoryError, match=r'^"a\.docx" unpacks to 100 MiB'):
        read(tmp_path, "a.docx", bomb)


@pytest.mark.parametrize("cut", [30, 300])
def test_a_cut_off_docx_is_broken(tmp_path: Path, cut: int) -> None:
    """Half a zip is damage, not an unknown type, and not text."""
    with pytest.raises(BrokenFileError, match=r'^"a\.docx" is a damaged'):
        read(tmp_path, "a.docx", docx(paragraph("Lorem"))[:cut])


def test_office_files_with_a_password_are_refused(tmp_path: Path) -> None:
    """An encrypted OLE container and an encrypted ODF manifest are both locked."""
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512) + "EncryptedPackage".encode("utf-16-le") + bytes(512)
    odt = packed({"mimetype": media_types.ODT.encode(), "META-INF/manifest.xml": b"<m:encryption-data/>"})
    for name, data in (("a.docx", ole), ("a.odt", odt)):
        with pytest.raises(EncryptedFileError, match="password"):
            read(tmp_path, name, data)


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.mp3", b"ID3\x03\0\0\0\0\0\x10" + bytes(99), UnsupportedFileError),
        ("a.txt", b"\x7fELF\x02\x01\x01" + bytes(99), UnsupportedFileError),
        ("a.md", b"MZ\x90\0\x03\0\0\0" + bytes(range(256)), UnsupportedFileError),
        ("a.txt", bytes(range(256)) * 20, UnsupportedFileError),
        ("a.csv", b"\0\0\0\0abc\xff\xfe" * 99, UnsupportedFileError),
        ("a.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(99), NeedsOcrError),
        ("a.odt", b"This is not a zip file.", BrokenFileError),
        ("a.pdf", b"%PD", BrokenFileError),
        ("a.ipynb", b'{"nbformat": 4}', BrokenFileError),
        ("a.txt", b"", NoTextError),
        ("a.md", b" \n\t\r\n \xef\xbb\xbf", NoTextError),
        ("a.html", b"<html><script>var x = 1;</script></html>", NoTextError),
    ],
)
def test_what_has_no_text_is_refused_by_kind(
    tmp_path: Path, name: str, data: bytes, kind: type[UnprocessableFileError]
) -> None:
    """Binary bytes are never indexed as text, and the message starts with the file."""
    with pytest.raises(kind) as raised:
        read(tmp_path, name, data)
    assert raised.value.message.startswith(f'"{name}" ')


def test_text_that_starts_like_a_program_is_text(tmp_path: Path) -> None:
    """Two letters do not make a program or a picture."""
    for start in ("MZ marks", "BM the bookmark", "BZh is", "ID3 tags", "GIF89a is"):
        assert read(tmp_path, "a.txt", f"{start} of old formats".encode()).text == f"{start} of old formats"


@pytest.mark.parametrize("name", ["a\nb.zip", "a\x1b[31m.zip", "\u202egpj.zip", "\udcff.zip", "x" * 5000 + ".zip"])
def test_a_hostile_name_cannot_break_the_line(tmp_path: Path, name: str) -> None:
    """The message is one short printable line whatever the file is called."""
    with pytest.raises(UnsupportedFileError) as raised:
        read(tmp_path, name, packed({"a": b"b"}))
    assert raised.value.message.isprintable()
    assert len(raised.value.message) < 400


def test_a_file_that_is_gone_or_no_file_is_one_clear_line(tmp_path: Path) -> None:
    """What happens between listing and reading is reported, not a traceback."""
    with pytest.raises(UnprocessableFileError, match=r'^"a\.pdf" is gone'):
        parse(tmp_path / "none", "a.pdf", ocr=False)
    with pytest.raises(UnprocessableFileError, match=r'^"a\.pdf" is not a regular file'):
        parse(tmp_path, "a.pdf", ocr=False)


def test_text_comes_out_as_it_went_in(tmp_path: Path) -> None:
    """Only line ends and controls change; decomposed letters, white space and Markdown signs stay."""
    text = "  # not a title\r\n\tcafe\u0301 \\* a_b\x07\rend  \n\n\n\n.\n"
    expected = "  # not a title\n\tcafe\u0301 \\* a_b\nend  \n\n\n\n.\n"
    assert read(tmp_path, "a.txt", text.encode()).text == expected


def test_markdown_keeps_its_text_and_gives_its_title(tmp_path: Path) -> None:
    """Markdown is not rewritten."""
    text = "Intro\n\n## The *first* heading ##\n\n[a](b) | x\n"
    parsed = read(tmp_path, "a.md", text.encode())
    assert (parsed.text, parsed.format, parsed.title) == (text, "markdown", "The *first* heading")


def test_pictures_inside_text_are_left_out_and_reported(tmp_path: Path) -> None:
    """Base64 data must not drown the text."""
    parsed = read(tmp_path, "a.md", b"See ![x](data:image/png;base64," + b"iVBORw0KGgo" * 500 + b") here")
    assert parsed.text == "See ![x]() here"
    assert "embedded" in parsed.warnings[0]


def test_json_shows_its_characters(tmp_path: Path) -> None:
    """Escapes are decoded, so that words can be found; half characters do not pass; JSON Lines stay as they are."""
    assert '"K\u00f6ln"' in read(tmp_path, "a.json", json.dumps({"city": "Köln"}).encode()).text
    assert "\ud800" not in read(tmp_path, "a.json", b'{"a": "\\ud800 text"}').text
    assert read(tmp_path, "a.json", b'{"a": 1}\n{"a": 2}\n').text == '{"a": 1}\n{"a": 2}\n'


def test_csv_becomes_a_table_whatever_its_encoding(tmp_path: Path) -> None:
    """Quoted commas stay in their cell; Shift-JIS is read."""
    text = 'name,city\n"Sato, Taro",東京都に住んでいます\n'
    assert "| Sato, Taro | 東京都に住んでいます |" in read(tmp_path, "a.csv", text.encode("cp932")).text


def test_a_notebook_gives_text_code_and_output(tmp_path: Path) -> None:
    """Cells in order; pictures in outputs are left out."""
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Words"]},
        {"cell_type": "code", "source": "x = 1", "outputs": [{"text": ["one\n"]}, {"data": {"image/png": "iVBOR"}}]},
    ]
    parsed = read(tmp_path, "a.ipynb", json.dumps({"cells": cells}).encode())
    assert parsed.text == "# Title\nWords\n\n```\nx = 1\n```\n\n```\none\n```"


def test_mail_gives_subject_people_and_text_and_names_attachments(tmp_path: Path) -> None:
    """Encoded words and bodies are decoded; the HTML twin of a text is neither repeated nor called an attachment."""
    mail = (
        "From: Ann <ann@example.com>\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nMIME-Version: 1.0\n"
        "Content-Type: multipart/mixed; boundary=B\n\n--B\nContent-Type: multipart/alternative; boundary=A\n\n"
        "--A\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nSch=F6n\n"
        "--A\nContent-Type: text/html\n\n<p>twin</p>\n--A--\n"
        "--B\nContent-Type: image/png; name=p.png\nContent-Transfer-Encoding: base64\n\niVBOR\n--B--\n"
    )
    parsed = read(tmp_path, "a.eml", mail.encode())
    assert parsed.title == "Grüße"
    assert parsed.text.split("\n\n") == ["Subject: Grüße\nFrom: Ann <ann@example.com>", "Schön"]
    assert parsed.warnings == ('Attachments were left out ("p.png"). Add them as files of their own.',)


def test_only_small_text_is_read_outside_the_sandbox(tmp_path: Path) -> None:
    """The short way takes text under a text's name; all else, and what pretends to be text, goes to the sandbox."""
    path = tmp_path / "blob"
    path.write_bytes(b"plain words")
    assert parse_small_text(path, "a.txt") == parse(path, "a.txt", ocr=False)
    assert parse_small_text(path, "a.html") is None
    path.write_bytes(pdf("text"))
    assert parse_small_text(path, "a.txt") is None
    path.write_bytes(b"x" * (1 << 20) + b"y")
    assert parse_small_text(path, "a.txt") is None


@pytest.mark.parametrize(
    ("filename", "data", "media_type"),
    [
        ("a.pdf", b"%PDF-1.7\n", media_types.PDF),
        ("a.bin", b"\xef\xbb\xbf\r\n%PDF-1.7\n", media_types.PDF),
        ("a.pdf", b"sent by a scanner\r\n%PDF-1.4\n", media_types.PDF),
        ("a.bin", b"\x01\0\0mac%PDF-1.4\n", media_types.PDF),
        ("a.md", b'The beginning of a PDF is `b"%PDF-1.7"`.', "text/markdown"),
    ],
)
def test_a_text_that_tells_of_pdf_is_none(tmp_path: Path, filename: str, data: bytes, media_type: str) -> None:
    """Junk before the beginning of a PDF is let pass where the name or the bytes say that it is none of text."""
    path = tmp_path / "stored"
    path.write_bytes(data)
    assert media_types.detect(path, filename) == media_type
