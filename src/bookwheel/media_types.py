"""What a file is, judged by its content before its name.

`detect` refuses what is never read (archives, programs, sound), what is locked and what would unpack into a bomb,
so that the readers in parse.py only meet files of the type they expect.
"""

import zipfile
from pathlib import Path
from typing import BinaryIO, TypeVar

from bookwheel.errors import (
    BrokenFileError,
    EncryptedFileError,
    ParseMemoryError,
    TooManyChunksError,
    UnprocessableFileError,
    UnsupportedFileError,
)

_Refusal = TypeVar("_Refusal", bound=UnprocessableFileError)

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
ODT = "application/vnd.oasis.opendocument.text"
ODS = "application/vnd.oasis.opendocument.spreadsheet"
ODP = "application/vnd.oasis.opendocument.presentation"
EPUB = "application/epub+zip"
DOC = "application/msword"
PPT = "application/vnd.ms-powerpoint"
XLS = "application/vnd.ms-excel"
MSG = "application/vnd.ms-outlook"
RTF = "application/rtf"
HTML = "text/html"
SVG = "image/svg+xml"
MARKDOWN = "text/markdown"
PLAIN = "text/plain"
CSV = "text/csv"
TSV = "text/tab-separated-values"
JSON = "application/json"
NOTEBOOK = "application/x-ipynb+json"
EMAIL = "message/rfc822"

HEAD_BYTES = 8192
MAX_UNPACKED_BYTES = 512 << 20
MAX_RATIO = 200  # real office files unpack 5 to 60 times, bombs a thousand
RATIO_FLOOR_BYTES = 64 << 20  # small files may compress as well as they like
MAX_MEMBERS = 20_000

_TEXT_SUFFIXES = {
    ".htm": HTML,
    ".html": HTML,
    ".xhtml": HTML,
    ".svg": SVG,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".csv": CSV,
    ".tsv": TSV,
    ".json": JSON,
    ".ipynb": NOTEBOOK,
    ".eml": EMAIL,
}
# A file with one of these names that holds something else is damaged, not text.
_BINARY_SUFFIXES = frozenset({".pdf", ".docx", ".docm", ".pptx", ".pptm", ".xlsx", ".xlsm", ".odt", ".ods", ".odp"}) | {
    *(".epub", ".ppt", ".xls", ".msg", ".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".bmp", ".webp", ".mp3"),
    *(".mp4", ".wav", ".ogg", ".flac", ".avi", ".mov", ".mkv", ".zip", ".gz", ".tar", ".7z", ".rar", ".exe", ".dll"),
}
_ARCHIVE = "is an archive. Unpack it first, then add the files inside"
CUT_OFF_ZIP = "is a damaged or cut-off zip container. Save it again, then add it again"
_SOUND = "is audio or video, which has no text to read. Add a transcript instead"
_PROGRAM = "is a program, not a document. Add documents only"
_REFUSED_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x1f\x8b", _ARCHIVE),
    (0, b"BZh", _ARCHIVE),
    (0, b"\xfd7zXZ\0", _ARCHIVE),
    (0, b"7z\xbc\xaf\x27\x1c", _ARCHIVE),
    (0, b"Rar!\x1a\x07", _ARCHIVE),
    (0, b"\x28\xb5\x2f\xfd", _ARCHIVE),
    (257, b"ustar", _ARCHIVE),
    (0, b"ID3", _SOUND),
    (0, b"\xff\xfb", _SOUND),
    (0, b"\xff\xf3", _SOUND),
    (0, b"OggS", _SOUND),
    (0, b"fLaC", _SOUND),
    (0, b"\x1aE\xdf\xa3", _SOUND),
    (4, b"ftyp", _SOUND),
    (8, b"WAVEfmt", _SOUND),
    (8, b"AVI LIST", _SOUND),
    (0, b"\x7fELF", _PROGRAM),
    (0, b"MZ", _PROGRAM),
    (0, b"\xca\xfe\xba\xbe", _PROGRAM),
    (0, b"\xcf\xfa\xed\xfe", _PROGRAM),
    (0, b"\0asm", _PROGRAM),
)
_IMAGE_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"BM", "image/bmp"),
    (8, b"WEBPVP8", "image/webp"),
    (4, b"jP  \r\n", "image/jp2"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftypavif", "image/avif"),
)
_OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_STREAMS = (("__properties_version1.0", MSG), ("WordDocument", DOC), ("PowerPoint Document", PPT))
_OLE_BOOKS = ("Workbook", "Book")
_OOXML_PARTS = (("word/", DOCX), ("ppt/", PPTX), ("xl/", XLSX))
_ZIP_TYPES = frozenset({ODT, ODS, ODP, EPUB})


def quoted(filename: str) -> str:
    """The name in quotes on one line: control, direction and broken characters escaped, at most 200 characters."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in filename)
    return f'"{shown[:197]}..."' if len(shown) > 200 else f'"{shown}"'


def refusal(kind: type[_Refusal], filename: str, reason: str) -> _Refusal:
    """An error of this kind whose message is one line: the file, the reason and what to do."""
    return kind(f"{quoted(filename)} {reason}.")


def too_many_chunks(filename: str, limit: int) -> TooManyChunksError:
    """The error for a document past `max_chunks_per_document`."""
    reason = f"makes more than {limit:,} passages. Split it, or raise BOOKWHEEL_MAX_CHUNKS_PER_DOCUMENT"
    return refusal(TooManyChunksError, filename, reason)


def detect(path: Path, filename: str) -> str:
    """The media type of the file, whatever its name says.

    Raises UnsupportedFileError, EncryptedFileError, BrokenFileError, ParseMemoryError and OSError.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            return _inside_zip(file, filename)
        if head.startswith(_OLE_MAGIC):
            return _inside_ole(file, filename)
    if _is_pdf(head, filename):
        return PDF
    if head.startswith(b"{\\rtf"):
        return RTF
    return _by_magic(head, filename) or _by_name(head, filename)


def _is_pdf(head: bytes, filename: str) -> bool:
    """PDF may have junk before its beginning; a text that tells of PDF is none."""
    if head.lstrip(b"\xef\xbb\xbf \t\r\n\0").startswith(b"%PDF-"):
        return True
    return b"%PDF-" in head[:1024] and (filename.lower().endswith(".pdf") or b"\0" in head)


def _by_magic(head: bytes, filename: str) -> str | None:
    if b"\0" not in head and not head.startswith((b"\xff\xd8\xff", b"\x1f\x8b", b"BZh", b"\xff\xfb", b"ID3")):
        return None  # short magic such as "MZ" or "BM" also begins honest text, which has no NUL
    for offset, magic, media_type in _IMAGE_MAGIC:
        if head.startswith(magic, offset):
            return media_type
    for offset, magic, reason in _REFUSED_MAGIC:
        if head.startswith(magic, offset) and not _is_ascii(head):
            raise refusal(UnsupportedFileError, filename, reason)
    return None


def _is_ascii(head: bytes) -> bool:
    return head.isascii() and b"\0" not in head


def _by_name(head: bytes, filename: str) -> str:
    suffix = Path(filename).suffix.lower()
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return HTML
    if head.strip() and suffix in _BINARY_SUFFIXES:
        name = suffix.removeprefix(".").upper()
        reason = f"is named {suffix} but is not a {name} file. Open it in its program, save it again, then add it again"
        raise refusal(BrokenFileError, filename, reason)
    return _TEXT_SUFFIXES.get(suffix, PLAIN)


def _inside_ole(file: BinaryIO, filename: str) -> str:
    file.seek(0)
    data = file.read()
    if _utf16("EncryptedPackage") in data:
        raise refusal(
            EncryptedFileError, filename, "is protected by a password. Remove the password, then add it again"
        )
    for stream, media_type in _OLE_STREAMS:
        if _utf16(stream) in data:
            return media_type
    if any(_utf16(stream) in data for stream in _OLE_BOOKS):
        return XLS
    raise refusal(UnsupportedFileError, filename, "is an Office container of an unknown kind. Save it as DOCX or PDF")


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-le")


def _inside_zip(file: BinaryIO, filename: str) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            media_type = _zip_type(archive)
            if media_type is None:
                raise refusal(UnsupportedFileError, filename, _ARCHIVE)
            _check_lock(archive, filename)
            _check_size(archive, filename)
            return media_type
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError, RuntimeError) as error:
        raise refusal(BrokenFileError, filename, CUT_OFF_ZIP) from error


def _zip_type(archive: zipfile.ZipFile) -> str | None:
    names = archive.namelist()
    if "mimetype" in names and archive.getinfo("mimetype").file_size < 200:
        declared = archive.read("mimetype").decode("ascii", "replace").strip()
        return declared if declared in _ZIP_TYPES else None
    if "[Content_Types].xml" in names:
        return next((kind for part, kind in _OOXML_PARTS if any(n.startswith(part) for n in names)), None)
    return None


def _check_lock(archive: zipfile.ZipFile, filename: str) -> None:
    locked = any(member.flag_bits & 1 for member in archive.infolist())
    manifest = "META-INF/manifest.xml"
    if not locked and manifest in archive.namelist():
        with archive.open(manifest) as part:
            locked = b"encryption-data" in part.read(1 << 20)
    if locked or "META-INF/rights.xml" in archive.namelist():
        raise refusal(
            EncryptedFileError, filename, "is protected by a password. Remove the password, then add it again"
        )


def _check_size(archive: zipfile.ZipFile, filename: str) -> None:
    members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    bomb = unpacked > RATIO_FLOOR_BYTES and unpacked > MAX_RATIO * max(packed, 1)
    if bomb or unpacked > MAX_UNPACKED_BYTES or len(members) > MAX_MEMBERS:
        size = f"{unpacked / (1 << 20):,.0f} MiB in {len(members):,} parts"
        limit = f"{MAX_UNPACKED_BYTES >> 20} MiB, {MAX_RATIO} times its size or {MAX_MEMBERS:,} parts"
        raise refusal(ParseMemoryError, filename, f"unpacks to {size}, past the limit of {limit}. Split it")
