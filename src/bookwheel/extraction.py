"""The border to kreuzberg: how it is asked, what its pages really are, what its errors mean."""

import re
import secrets
from collections.abc import Sequence
from pathlib import Path

import kreuzberg
from kreuzberg.exceptions import KreuzbergError, MissingDependencyError, OCRError, ValidationError

from bookwheel.errors import (
    BrokenFileError,
    EncryptedFileError,
    NeedsOcrError,
    UnprocessableFileError,
    UnsupportedFileError,
)
from bookwheel.media_types import refusal
from bookwheel.pdf_text import CUT

INSTALL_OCR = "Install Tesseract (apt install tesseract-ocr), then add it again"

_LOCKED = ("password", "encrypted", "decrypt")
_MAX_NOTE = 200


class Markers:
    """Lines that kreuzberg puts before each page; random, so that no document can hold one."""

    def __init__(self) -> None:
        self._token = f"PAGE-{secrets.token_hex(8)}-"
        self.template = f"\n\n{self._token}{{page_num}}-\n\n"

    def pages(self, content: str) -> list[str]:
        """The text after each marker, page 1 first; empty when there are no markers."""
        return [page.strip("\n") for page in re.split(rf"{self._token}\d+-", content)[1:]]


def extract(
    source: Path | bytes,
    media_type: str,
    output: str,
    *,
    markers: Markers | None = None,
    ocr: bool = False,
    ocr_pages: Sequence[int] = (),
) -> kreuzberg.ExtractionResult:
    """Read one file; `output` is "plain" or "markdown". Nothing is cached on disk. Raises KreuzbergError.

    `ocr` is for images; of a PDF only `ocr_pages` are given to Tesseract, for by itself kreuzberg sends good pages too.
    """
    config = kreuzberg.ExtractionConfig(
        use_cache=False,
        enable_quality_processing=False,  # it rewrites text, and quotes must be the document's own
        output_format=output,
        html_options={"extract_metadata": False},  # else a block of meta tags precedes the text
        ocr=kreuzberg.OcrConfig(backend="tesseract") if ocr or ocr_pages else None,
        force_ocr_pages=list(ocr_pages) or None,
        pages=_page_config(markers),
        concurrency=kreuzberg.ConcurrencyConfig(max_threads=1),
    )
    if isinstance(source, bytes):
        return kreuzberg.extract_bytes_sync(source, media_type, config=config)
    return kreuzberg.extract_file_sync(source, media_type, config=config)


def _page_config(markers: Markers | None) -> kreuzberg.PageConfig | None:
    if markers is None:
        return None
    return kreuzberg.PageConfig(extract_pages=True, insert_page_markers=True, marker_format=markers.template)


def pdf_pages(result: kreuzberg.ExtractionResult, markers: Markers) -> list[str]:
    """The text of each page. Line-end hyphens, which kreuzberg's own pages lack, stay as CUT."""
    own = [page["content"] for page in result.pages or ()]
    marked = markers.pages(result.content)
    if len(marked) != len(own):
        return own
    # What OCR read stands between the markers only; kreuzberg's own page is empty then.
    return [_same_text(marks, page) if page.strip() else marks for marks, page in zip(marked, own, strict=True)]


def _same_text(marked: str, own: str) -> str:
    """`marked` when it is the page and nothing else, cut where tables of the whole document follow; else `own`."""
    bare, own = marked.replace(CUT, "").strip(), own.strip()
    if bare == own:
        return marked
    if not bare.startswith(own):
        return own
    left = len(own)
    for index, character in enumerate(marked.lstrip()):
        left -= character != CUT
        if left < 0:
            return marked.lstrip()[:index]
    return own


def notes(result: kreuzberg.ExtractionResult) -> Sequence[str]:
    """What kreuzberg left out, one line each."""
    return [_note(warning.message) for warning in result.processing_warnings]


def _note(message: str) -> str:
    """The part before the chain of inner errors."""
    line = " ".join(message.split())
    head, colon, _ = line.partition("': ")
    return (head + "'." if colon else line)[:_MAX_NOTE]


def translated(error: KreuzbergError, filename: str) -> UnprocessableFileError:
    """Our error for kreuzberg's: the kind, the file and what to do, never its inner messages."""
    message = str(error).lower()
    if any(word in message for word in _LOCKED):
        reason = "is protected by a password. Remove the password, then add it again"
        return refusal(EncryptedFileError, filename, reason)
    if isinstance(error, OCRError | MissingDependencyError):
        return refusal(NeedsOcrError, filename, f"could not be read by OCR. {INSTALL_OCR}")
    if isinstance(error, ValidationError):
        return refusal(UnsupportedFileError, filename, "is of a type that is not supported. Convert it to PDF or DOCX")
    reason = "is damaged and cannot be read. Open it in its program, save it again, then add it again"
    return refusal(BrokenFileError, filename, reason)
