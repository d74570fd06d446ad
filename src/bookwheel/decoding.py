"""Bytes of a text file to text: byte order marks, UTF-8, UTF-16 and UTF-32 without marks, then legacy encodings."""

import codecs
import io
import re
from collections.abc import Iterator
from pathlib import Path

from chardetng_py import detect as guess

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# The web's labels that Python reads more narrowly, or under another name.
_CODECS = {
    "ascii": "cp1252",
    "us-ascii": "cp1252",
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "windows-1252": "cp1252",
    "shift_jis": "cp932",
    "x-sjis": "cp932",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "iso-8859-8-i": "iso-8859-8",
    "windows-874": "cp874",
    "x-mac-cyrillic": "mac-cyrillic",
}
_SAMPLE_BYTES = 1 << 16
_GUESS_BYTES = 4 << 20
_BLOCK_BYTES = 1 << 20  # read at once of a file that is not held in memory
_EBCDIC, _EBCDIC_SPACE, _EBCDIC_BREAKS = "cp500", 0x40, (0x15, 0x25)
_CONTROLS = bytes(set(range(32)) - {8, 9, 10, 12, 13, 27})
_C1 = re.compile(r"[\x80-\x9f]+")
# What a page may say of itself; Python knows codecs, such as idna, that hostile bytes keep busy for hours.
_TRUSTED = re.compile(
    r"(us-)?ascii|latin1|iso-8859-\d{1,2}(-i)?|(windows-|cp)\d{3,4}|koi8-[ru]|ibm866|mac-?(intosh|cyrillic|roman)"
    r"|x-mac-cyrillic|shift[_-]jis|x-sjis|euc-(jp|kr)|ks_c_5601-1987|gb2312|gbk|gb18030|big5(-hkscs)?",
    re.IGNORECASE,
)
_MAX_BINARY_SHARE = 0.02
_FEW_CONTROLS = 3  # that a short text may hold
_MAX_UNDECODED_SHARE = 0.05


class NotTextError(ValueError):
    """The bytes are not text in any encoding that is read here."""


def decode(data: bytes, declared: str | None = None) -> str:
    """The text of the bytes; `declared` is what the document says of itself, believed when it fits.

    Raises NotTextError.
    """
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(codec, "replace")
    if b"\0" in data:
        return _wide(data)
    if b"\x1b$" in data or b"\x1b(" in data:
        return data.decode("iso2022_jp", "replace")
    return _utf8(data) or _declared(data, declared) or _ebcdic(data) or _legacy(data)


def decode_blocks(path: Path) -> Iterator[str]:
    """The text of a file block by block, line ends as \\n; the encoding is judged as `decode` does, on all of it.

    Raises NotTextError and OSError.
    """
    mark, codec = _codec_of(path)
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(codec)("replace"), translate=True)
    with path.open("rb") as file:
        file.seek(mark)
        while block := file.read(_BLOCK_BYTES):
            text = decoder.decode(block)
            yield text.replace("\x85", "\n") if codec == _EBCDIC else text
    yield decoder.decode(b"", final=True)


def _codec_of(path: Path) -> tuple[int, str]:
    """The length of the byte order mark, and the codec."""
    with path.open("rb") as file:
        head = file.read(_GUESS_BYTES)
    for mark, codec in _MARKS:
        if head.startswith(mark):
            return len(mark), codec
    found = _Survey(path)
    if found.nuls:
        return 0, _wide_codec(head)
    if b"\x1b$" in head or b"\x1b(" in head:
        return 0, "iso2022_jp"
    if found.is_utf8:
        return 0, "utf-8"
    if _ebcdic(head) is not None:
        return 0, _EBCDIC
    _legacy(found.sample)
    return 0, _legacy_codec(found.sample)


class _Survey:
    """One pass over a file: whether it has NULs, whether it is UTF-8, and a sample of what is not ASCII.

    Raises NotTextError for one with too many controls.
    """

    def __init__(self, path: Path) -> None:
        self.nuls, self.sample = False, b""
        size = controls = broken = strange = 0
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                self.nuls = self.nuls or b"\0" in block
                size += len(block)
                controls += len(block) - len(block.translate(None, _CONTROLS))
                text = decoder.decode(block)
                if not block.isascii():
                    self.sample += block if len(self.sample) < _GUESS_BYTES else b""
                    broken += text.count("\ufffd")
                    strange += len(text) - len(text.encode("ascii", "ignore"))
        self.is_utf8 = strange >= 20 * broken
        if not self.nuls and controls > _MAX_BINARY_SHARE * size + _FEW_CONTROLS:
            raise NotTextError


# Where the NULs of these encodings stand: the width of a unit, and the place of its highest byte.
_WIDE = {"utf-32-le": (4, 3), "utf-32-be": (4, 0), "utf-16-le": (2, 1), "utf-16-be": (2, 0)}
_MIN_ALIGNED_SHARE = 0.7


def _wide(data: bytes) -> str:
    return data.decode(_wide_codec(data), "replace")


def _wide_codec(data: bytes) -> str:
    """UTF-16 or UTF-32 without a mark: the reading with the most ASCII in it, for every script has spaces or breaks."""
    sample = data[:_SAMPLE_BYTES]
    readings = {c: sample.decode(c, "replace") for c in _WIDE}
    codec = max(readings, key=lambda c: _ascii_share(readings[c]))
    text = readings[codec]
    width, place = _WIDE[codec]
    if sample[place::width].count(0) < _MIN_ALIGNED_SHARE * sample.count(0) / (width - 1):
        raise NotTextError
    strange = sum(not (c.isprintable() or c.isspace()) or c == "\ufffd" for c in text)
    if _ascii_share(text) < 0.02 or strange > _MAX_BINARY_SHARE * len(text) or "\0" in text:
        raise NotTextError
    return codec


def _ascii_share(text: str) -> float:
    return sum("\t" <= c <= "~" for c in text) / max(len(text), 1)


def _utf8(data: bytes) -> str | None:
    """The text as UTF-8; a few broken bytes among many good ones are replaced, a cut-off last character too."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
        broken = text.count("\ufffd")
        if len(text) - len(text.encode("ascii", "ignore")) < 20 * broken:
            return None
    _refuse_controls(data)
    return text


def _refuse_controls(data: bytes) -> None:
    controls = len(data) - len(data.translate(None, _CONTROLS))
    if controls > _MAX_BINARY_SHARE * len(data) + _FEW_CONTROLS:
        raise NotTextError


def _declared(data: bytes, label: str | None) -> str | None:
    if not label or not _TRUSTED.fullmatch(label):
        return None
    try:
        text = data.decode(_CODECS.get(label.lower(), label))
    except (LookupError, UnicodeError):
        return None
    return None if _undecoded(text) > _MAX_UNDECODED_SHARE else text


def _ebcdic(data: bytes) -> str | None:
    """IBM mainframe text: its space is 0x40 and there is hardly an ASCII space."""
    sample = data[:_SAMPLE_BYTES]
    breaks = sum(sample.count(b) for b in _EBCDIC_BREAKS)
    if sample.count(_EBCDIC_SPACE) < 0.08 * len(sample) or sample.count(b" ") > 0.01 * len(sample) or not breaks:
        return None
    return data.decode(_EBCDIC).replace("\x85", "\n")


def _legacy(data: bytes) -> str:
    _refuse_controls(data)
    text = data.decode(_legacy_codec(data), "replace")
    if _undecoded(text) > _MAX_UNDECODED_SHARE:
        raise NotTextError
    return text


def _legacy_codec(data: bytes) -> str:
    label = guess(data[:_GUESS_BYTES]).lower()
    return _CODECS.get(label, label)


def _undecoded(text: str) -> float:
    """The share of replaced and C1 control characters: what a wrong reading is full of."""
    bad = text.count("\ufffd") + len(text) - len(_C1.sub("", text))
    return bad / max(len(text), 1)
