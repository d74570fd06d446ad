"""A file as text: the step that all formats go through. Synchronous and pure; sandbox.py runs it in its own process.

Office files and PDFs are read by kreuzberg; text, web pages, mail and notebooks are read here, for their encoding and
their furniture need more care than a general reader takes.
"""

import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path

from kreuzberg.exceptions import KreuzbergError

from bookwheel import media_types
from bookwheel.decoding import NotTextError, decode, decode_blocks
from bookwheel.email_text import notebook_text, read_mail
from bookwheel.errors import (
    BrokenFileError,
    NeedsOcrError,
    NoTextError,
    UnprocessableFileError,
    UnsupportedFileError,
)
from bookwheel.extraction import INSTALL_OCR, Markers, extract, notes, pdf_pages, translated
from bookwheel.html_text import SHIELD, content_of, decode_html, drawing_text
from bookwheel.media_types import detect, quoted, refusal
from bookwheel.office_text import narrowed, tidy, with_signs, without_references
from bookwheel.pdf_text import readable
from bookwheel.segments import rows, segments
from bookwheel.types import Page, ParsedText

SMALL_BYTES = 1 << 18
MAX_CHARACTERS = 2**31 - 1  # of a document's text: its offsets are 32-bit numbers

_MAX_LINE = 100_000  # JSON with longer lines is printed anew, one value on a line
_TAIL_BYTES = 4096
_MAX_WARNINGS = 20
_MAX_OCR_PAGES = 20  # of a document that has text too: about 2 s each, and most such pages are pictures
_BLANK = " \t\n\v\f\u00a0\u200b\u2060\u3000\ufeff"  # a text of nothing else is empty
_PAGE_GAP = "\n\n"
_EMBEDDED = re.compile(r"data:[\w/+.;=-]{1,100};base64,[A-Za-z0-9+/=\s]{64,}")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufffe\uffff]")
_HEADING = re.compile(r"^#{1,6}[ \t]{1,20}([^\n]{1,300})", re.MULTILINE)
_TOP_HEADING = re.compile(r"^# ", re.MULTILINE)
_LEFT_OUT = "Pictures that were embedded as text (data: links) were left out."
_MADE_BY = re.compile(r"Microsoft \w+ - ")
# What programs write when nobody gave a title.
_NO_TITLE = re.compile(
    r"(untitled|document|powerpoint presentation|presentation|slide|sheet|book|workbook)[ -]?\d*|[\W\d_]*"
    r"|.*\.(docx?|xlsx?|pptx?|pdf|rtf|odt|indd|qxd|tex|dvi|ps|html?|txt|jpe?g|png|tiff?)",
    re.IGNORECASE,
)
_SEGMENTED_TEXT_BYTES = 32 << 20  # plain text and Markdown from this size on are read in segments
_SEGMENTED_TABLE_BYTES = 4 << 20  # a table too: it takes 70 times its size as Markdown is made of it
_SEGMENT_CHARACTERS = 4 << 20
_TABLE_SEGMENT_CHARACTERS = 1 << 18
_TEXT_NAMES = frozenset({".txt", ".md", ".markdown", ".text", ".log", ".rst"})


def parse(path: Path, filename: str, *, ocr: bool) -> ParsedText:
    """The text of the file, its pages and title. `ocr` says whether Tesseract may read images.

    Raises the kinds of UnprocessableFileError, each with one line that names the file.
    """
    with _translating(path, filename):
        if not path.is_file():
            raise _missing(path, filename)
        if not path.stat().st_size:
            raise refusal(NoTextError, filename, "is empty, so there is nothing to index")
        return _read(_Source(path=path, filename=filename, media_type=detect(path, filename), ocr=ocr))


def parse_segments(path: Path, filename: str, *, ocr: bool) -> Iterator[ParsedText]:
    """The text of the file in order: huge text and tables in segments, one at a time, everything else in one.

    Raises like `parse`.
    """
    with _translating(path, filename):
        if not path.is_file() or path.stat().st_size <= min(_SEGMENTED_TABLE_BYTES, _SEGMENTED_TEXT_BYTES):
            yield parse(path, filename, ocr=ocr)
            return
        source = _Source(path=path, filename=filename, media_type=detect(path, filename), ocr=ocr)
        yield from _segments(source) if _is_huge(source) else (_read(source),)


def parse_small_text(path: Path, filename: str) -> ParsedText | None:
    """The text of a small plain or Markdown file, quick and safe to read in any process; None for all others.

    Raises like `parse`.
    """
    if Path(filename).suffix.lower() not in _TEXT_NAMES:
        return None
    with _translating(path, filename):
        if not path.is_file() or not 0 < path.stat().st_size <= SMALL_BYTES:
            return None
        media_type = detect(path, filename)
        if media_type not in (media_types.PLAIN, media_types.MARKDOWN):
            return None
        return _read(_Source(path=path, filename=filename, media_type=media_type, ocr=False))


@contextmanager
def _translating(path: Path, filename: str) -> Iterator[None]:
    try:
        yield
    except NotTextError:
        reason = "holds binary data or text in an unknown encoding. Convert it to UTF-8 text, PDF, DOCX or HTML"
        raise refusal(UnsupportedFileError, filename, reason) from None
    except KreuzbergError as error:
        raise translated(error, filename) from error
    except FileNotFoundError:
        raise _missing(path, filename) from None
    except OSError as error:
        reason = f"cannot be read ({error.strerror or 'input error'}). Check its permissions and its disk"
        raise refusal(UnprocessableFileError, filename, reason) from error


def _missing(path: Path, filename: str) -> UnprocessableFileError:
    if path.exists():
        return refusal(UnprocessableFileError, filename, "is not a regular file. Add files only")
    return refusal(UnprocessableFileError, filename, "is gone: moved or deleted before it was read. Add it again")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A file whose type is known."""

    path: Path
    filename: str
    media_type: str
    ocr: bool

    def text(self) -> str:
        return decode(self.path.read_bytes())


def _is_huge(source: _Source) -> bool:
    size = source.path.stat().st_size
    if source.media_type in _TABLES:
        return size > _SEGMENTED_TABLE_BYTES
    return source.media_type in (media_types.PLAIN, media_types.MARKDOWN) and size > _SEGMENTED_TEXT_BYTES


def _segments(source: _Source) -> Iterator[ParsedText]:
    """Segments of a text or table that have text. Their bases count all, with a line end behind each table."""
    base, title, empty = 0, None, True
    for part in _read_segments(source):
        if base + len(part.text) > MAX_CHARACTERS:
            reason = f"has more than {MAX_CHARACTERS:,} characters of text. Split it, then add its parts"
            raise refusal(UnprocessableFileError, source.filename, reason)
        title = title or part.title
        if part.text.strip(_BLANK):
            empty = False
            yield replace(part, base=base, title=title)
        base += len(part.text)
    if empty:
        raise refusal(NoTextError, source.filename, "has no text, so there is nothing to index")


def _read_segments(source: _Source) -> Iterator[ParsedText]:
    blocks = (_clean(block) for block in decode_blocks(source.path))
    if source.media_type in _TABLES:
        for segment in rows(blocks, characters=_TABLE_SEGMENT_CHARACTERS):
            yield _part(_table(segment, source) + "\n", source, markdown=True)
        return
    markdown = source.media_type == media_types.MARKDOWN
    for segment in segments(blocks, characters=_SEGMENT_CHARACTERS):
        yield _part(segment, source, markdown=markdown)


def _part(text: str, source: _Source, *, markdown: bool) -> ParsedText:
    shortened = _EMBEDDED.sub("", text)
    return ParsedText(
        text=shortened,
        media_type=source.media_type,
        format="markdown" if markdown else "plain",
        title=_title(None, shortened if markdown else ""),
        warnings=(_LEFT_OUT,) if shortened != text else (),
    )


def _read(source: _Source) -> ParsedText:
    if source.media_type.startswith("image/") and source.media_type != media_types.SVG:
        return _read_image(source)
    return _READERS.get(source.media_type, _read_office)(source)


def _finished(
    text: str, source: _Source, *, markdown: bool, title: str | None = None, warnings: Sequence[str] = ()
) -> ParsedText:
    """The parsed text of a format without pages. Raises NoTextError."""
    clean = _clean(text)
    shortened = _EMBEDDED.sub("", clean)
    if shortened != clean:
        warnings = (*warnings, _LEFT_OUT)
    if not shortened.strip(_BLANK):
        raise refusal(NoTextError, source.filename, "has no text, so there is nothing to index")
    return ParsedText(
        text=shortened,
        media_type=source.media_type,
        format="markdown" if markdown else "plain",
        title=_title(title, shortened if markdown else ""),
        warnings=tuple(warnings)[:_MAX_WARNINGS],
    )


def _clean(text: str) -> str:
    """Line ends as \\n; no controls, which PostgreSQL or JSON cannot hold, and no half characters."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROLS.sub("", text).encode("utf-8", "replace").decode()


def _title(given: str | None, markdown: str) -> str | None:
    """The given title unless a program made it up, else the first heading, at most 300 characters."""
    heading = _HEADING.search(markdown)
    for candidate in (given, heading.group(1).strip("# \t") if heading else None):
        name = _MADE_BY.sub("", " ".join(_clean((candidate or "")[:1000]).split()))
        if not _NO_TITLE.fullmatch(name):
            return name[:300]
    return None


def _read_plain(source: _Source) -> ParsedText:
    return _finished(source.text(), source, markdown=False)


def _read_markdown(source: _Source) -> ParsedText:
    return _finished(source.text(), source, markdown=True)


def _read_json(source: _Source) -> ParsedText:
    text = source.text()
    if "\\u" in text or max(map(len, text.split("\n"))) > _MAX_LINE:
        text = _reprinted(text)
    return _finished(text, source, markdown=False)


def _reprinted(text: str) -> str:
    """JSON with its characters in the clear and one value on a line; as it is when it is not valid JSON."""
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=1)
    except (ValueError, RecursionError):
        return text


def _read_table(source: _Source) -> ParsedText:
    return _finished(_table(_clean(source.text()), source), source, markdown=True)


def _table(text: str, source: _Source) -> str:
    return tidy(extract(text.encode(), source.media_type, "markdown").content)


def _read_html(source: _Source) -> ParsedText:
    page = content_of(decode_html(source.path.read_bytes()))
    text = _markdown(page.html)
    if page.title and not _TOP_HEADING.search(text) and _title(None, text) != page.title:
        text = f"# {page.title}\n\n{text}"  # the title is often the only place that says what a page is about
    return _finished(text, source, markdown=True, title=page.title)


def _markdown(html: str) -> str:
    return narrowed(extract(_clean(html).encode(), media_types.HTML, "markdown").content).replace(SHIELD, "")


def _read_drawing(source: _Source) -> ParsedText:
    return _finished(drawing_text(decode_html(source.path.read_bytes())), source, markdown=False)


def _read_notebook(source: _Source) -> ParsedText:
    try:
        text = notebook_text(source.text())
    except (NotTextError, ValueError, RecursionError) as error:
        reason = "is not a valid notebook. Open it in Jupyter, save it again, then add it again"
        raise refusal(BrokenFileError, source.filename, reason) from error
    return _finished(text, source, markdown=True)


def _read_mail(source: _Source) -> ParsedText:
    mail = read_mail(source.path.read_bytes())
    body = _markdown(content_of(mail.html).html) if mail.html.strip() else mail.text
    if not (body.strip() or mail.subject):
        raise refusal(NoTextError, source.filename, "has no text, so there is nothing to index")
    subject = f"Subject: {mail.subject}\n" if mail.subject else ""
    names = ", ".join(quoted(name) for name in mail.attachments[:_MAX_WARNINGS])
    warnings = (f"Attachments were left out ({names}). Add them as files of their own.",) if names else ()
    text = f"{subject}{mail.head}\n\n{body}"
    markdown = bool(mail.html.strip())
    return _finished(text, source, markdown=markdown, title=mail.subject, warnings=warnings)


def _read_image(source: _Source) -> ParsedText:
    if not source.ocr:
        raise refusal(NeedsOcrError, source.filename, f"is an image, so it has no text layer. {INSTALL_OCR}")
    result = extract(source.path, source.media_type, "plain", ocr=True)
    return _finished(result.content, source, markdown=False)


def _read_office(source: _Source) -> ParsedText:
    markers = Markers() if source.media_type == media_types.PPTX else None
    result = extract(source.path, source.media_type, "markdown", markers=markers)
    title, left_out = result.metadata.get("title") or result.metadata.get("subject"), notes(result)
    slides = [_clean(tidy(slide)) for slide in markers.pages(result.content)] if markers else []
    if any(slide.strip() for slide in slides):
        return _paged(slides, source, markdown=True, title=title, warnings=left_out)
    text = tidy(unescape(result.content) if source.media_type == media_types.MSG else result.content)
    return _finished(text, source, markdown=True, title=title, warnings=left_out)


def _read_docx(source: _Source) -> ParsedText:
    try:
        data = without_references(source.path)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError, RuntimeError) as error:
        raise refusal(BrokenFileError, source.filename, media_types.CUT_OFF_ZIP) from error
    result = extract(data, source.media_type, "markdown")
    title = with_signs(result.metadata.get("title") or "")
    text = with_signs(tidy(result.content))
    return _finished(text, source, markdown=True, title=title, warnings=notes(result))


def _read_pdf(source: _Source) -> ParsedText:
    markers = Markers()
    result = extract(source.path, source.media_type, "plain", markers=markers)
    pages = pdf_pages(result, markers)
    if source.ocr and (scanned := _scanned(pages)):
        markers = Markers()
        result = extract(source.path, source.media_type, "plain", markers=markers, ocr_pages=scanned)
        pages = pdf_pages(result, markers)
    pages = [_clean(page) for page in readable(pages)]
    if not any(page.strip() for page in pages):
        raise _textless(source)
    warnings = (*_pdf_warnings(source.path, pages), *notes(result))
    return _paged(pages, source, markdown=False, title=result.metadata.get("title"), warnings=warnings)


def _scanned(pages: Sequence[str]) -> list[int]:
    """Numbers of the pages to give to OCR: all of a scan, a few of a document that also has text."""
    textless = [number for number, page in enumerate(pages, 1) if not page.strip()]
    return textless if len(textless) == len(pages) else textless[:_MAX_OCR_PAGES]


def _textless(source: _Source) -> UnprocessableFileError:
    if source.ocr:
        return refusal(NoTextError, source.filename, "has no text, and OCR found none either")
    return refusal(NeedsOcrError, source.filename, f"has no text layer: it is a scan, or damaged. {INSTALL_OCR}")


def _pdf_warnings(path: Path, pages: Sequence[str]) -> Iterator[str]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        if b"%%EOF" not in file.read():
            yield "The PDF is cut off: its end is missing, so pages may be missing too."
    blank = [str(number) for number, page in enumerate(pages, 1) if not page.strip()]
    if blank:
        more = ", ..." if len(blank) > _MAX_WARNINGS else ""
        yield f"{len(blank)} of {len(pages)} pages have no text: {', '.join(blank[:_MAX_WARNINGS])}{more}."


def _paged(
    pages: Sequence[str], source: _Source, *, markdown: bool, title: str | None, warnings: Sequence[str]
) -> ParsedText:
    """The pages as one text with a blank line between them; every page is exactly text[start:end]."""
    spans: list[Page] = []
    start = 0
    stripped = [page.strip() for page in pages]
    for number, page in enumerate(stripped, 1):
        spans.append(Page(number=number, start=start, end=start + len(page)))
        start += len(page) + len(_PAGE_GAP)
    text = _PAGE_GAP.join(stripped)
    return ParsedText(
        text=text,
        media_type=source.media_type,
        format="markdown" if markdown else "plain",
        title=_title(title, text if markdown else ""),
        pages=tuple(spans),
        warnings=tuple(warnings)[:_MAX_WARNINGS],
    )


_TABLES = frozenset({media_types.CSV, media_types.TSV})
_READERS: dict[str, Callable[[_Source], ParsedText]] = {
    media_types.PLAIN: _read_plain,
    media_types.MARKDOWN: _read_markdown,
    media_types.JSON: _read_json,
    media_types.CSV: _read_table,
    media_types.TSV: _read_table,
    media_types.HTML: _read_html,
    media_types.SVG: _read_drawing,
    media_types.NOTEBOOK: _read_notebook,
    media_types.EMAIL: _read_mail,
    media_types.PDF: _read_pdf,
    media_types.DOCX: _read_docx,
}
