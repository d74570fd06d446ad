"""Bytes of a text file to text: byte order marks, UTF-8, UTF-16 and UTF-32 without marks, then legacy encodings."""

import codecs
import re

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
_EBCDIC_SPACE, _EBCDIC_BREAKS = 0x40, (0x15, 0x25)
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


# Where the NULs of these encodings stand: the width of a unit, and the place of its highest byte.
_WIDE = {"utf-32-le": (4, 3), "utf-32-be": (4, 0), "utf-16-le": (2, 1), "utf-16-be": (2, 0)}
_MIN_ALIGNED_SHARE = 0.7


def _wide(data: bytes) -> str:
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
    return data.decode(codec, "replace")


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
    return data.decode("cp500").replace("\x85", "\n")


def _legacy(data: bytes) -> str:
    _refuse_controls(data)
    label = guess(data[:_GUESS_BYTES]).lower()
    text = data.decode(_CODECS.get(label, label), "replace")
    if _undecoded(text) > _MAX_UNDECODED_SHARE:
        raise NotTextError
    return text


def _undecoded(text: str) -> float:
    """The share of replaced and C1 control characters: what a wrong reading is full of."""
    bad = text.count("\ufffd") + len(text) - len(_C1.sub("", text))
    return bad / max(len(text), 1)
