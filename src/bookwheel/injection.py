"""Passages that speak to a model instead of to a reader: found by rules, so that prompts can mark them.

    signs("Ignore all previous instructions and ...")     # ("instructions",)
    visible("he\\u200bllo")                                # "hello"

The rules look for what an attack cannot do without: telling a reader to drop what it was told, giving it a role or a
secret to tell, imitating the marks between a chat's messages or a tool's call. They read a text as a model would:
without characters that nobody sees, with look-alike letters, character references and base64 read first. A mark costs a
reader nothing but care, so a text *about* such attacks is marked as well. A list of phrases stops no determined author:
the fences of prompt.py hold without it. benchmarks/injection.py measures both sides.
"""

import base64
import binascii
import html
import re
import unicodedata
from functools import lru_cache
from typing import Final

from bookwheel.injection_rules import RULES

_SPACELESS: Final = re.compile(
    r"(?:ignore|disregard|forget|override)(?:all|any|the|your|every)*(?:of)?(?:previous|prior|above|earlier|"
    r"system|preceding)"
    r"\w{0,12}?(?:instruction|prompt|rule|message|direction|order|guideline)"
)

_UNSEEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    r"|(?<![^\x00-\u024f])[\u200c\u200d]+(?![^\x00-\u024f])"  # joiners, which some scripts and pictures need
)
_TAGS = re.compile(
    r"(?<![\U0001f3f4\U000e0020-\U000e007e])[\U000e0020-\U000e007e]{2,}"
)  # letters that nobody sees; behind a flag they are its land
_SMUGGLED = re.compile(r"[\U000e0100-\U000e01ef]{4,}|[\u200b-\u200d\u2060-\u2064\ufeff]{8,}|(?:[\ufe00-\ufe0f]){4,}")
_TURNED = re.compile(
    r"[\u202d\u202e][^\u202c\n]{0,40}[A-Za-z]{3}"
)  # Latin words shown in another order than they are read
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/_-]{24,8192}={0,2}")
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:(?:0x|\\x|%)?[0-9A-Fa-f]{2}[ ,]?){20,4096}(?![0-9A-Za-z])")
_SPACED = re.compile(r"(?:\b\w[ .\-_*|]{1,2}){8,}\w\b")
_LEET_WORD = re.compile(r"\b(?=\w*[a-z])(?=\w*[0134578@$])[\w@$]{4,}")
_MIXED = re.compile(r"[a-z][\u0370-\u03ff\u0400-\u04ff]|[\u0370-\u03ff\u0400-\u04ff][a-z]")
_LOOK_ALIKE = str.maketrans("аеорсухіјѕһԁԛԝαεορνικτυ", "aeopcyxijshdqwaeopviktu")
_LEET = str.maketrans("0134578@$", "oieastbas")
_ROT13 = str.maketrans("abcdefghijklmnopqrstuvwxyz", "nopqrstuvwxyzabcdefghijklm")
KEPT = 512  # passages whose signs are known: a prompt and its answer ask for the same ones
LEAST_PRINTABLE = 0.95  # of what base64 and such hold, to be a text


def visible(text: str) -> str:
    """The text without characters that nobody sees: zero-width, direction, tag and control characters."""
    return text if text.isascii() and text.isprintable() else _UNSEEN.sub("", text)


@lru_cache(maxsize=KEPT)
def signs(text: str) -> tuple[str, ...]:
    """What in a passage speaks to a model: instructions, role, tool call, fence, hidden text, encoded. Few have any."""
    lined = _read(visible(text))
    found = dict.fromkeys(_kinds(lined))
    if _disguised(lined):
        found["instructions"] = None
    if not text.isascii() and _is_hidden(text):
        found["hidden text"] = None
    if any(_kinds(_read(inner)) for inner in _encoded(text)):
        found["encoded"] = None
    return tuple(found)


def _read(text: str) -> str:
    """As a model reads it: look-alike forms made one, spaces one, lower case."""
    text = html.unescape(text) if "&" in text else text
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return re.sub(r"[^\S\n]+", " ", text).casefold()


def _kinds(lined: str) -> list[str]:
    flat = re.sub(r"\s+", " ", lined)
    return list(dict.fromkeys(rule.kind for rule in RULES if rule.finds(lined, flat)))


def _disguised(lined: str) -> bool:
    """Orders in look-alike letters, in letters with spaces between, with digits for letters, or turned by 13 places."""
    views = []
    if _MIXED.search(lined):
        views.append(lined.translate(_LOOK_ALIKE))
    if len(_LEET_WORD.findall(lined)) > 1:
        views.append(_LEET_WORD.sub(lambda word: word[0].translate(_LEET), lined))
    if "vtaber" in lined or "qvfertneq" in lined:
        views.append(lined.translate(_ROT13))
    spaced = (re.sub(r"[\W_]", "", run) for run in _SPACED.findall(lined))
    return any("instructions" in _kinds(view) for view in views) or any(map(_SPACELESS.search, spaced))


def _is_hidden(text: str) -> bool:
    return any(rule.search(text) for rule in (_TAGS, _SMUGGLED, _TURNED))


def _encoded(text: str) -> list[str]:
    """The texts inside a text: in tag characters, base64 or hexadecimal digits."""
    inner = ["".join(chr(ord(letter) - 0xE0000) for letter in run) for run in _TAGS.findall(text)]
    blobs = [_unbase64(run) for run in _BASE64.findall(text)]
    blobs += [_unhex(run) for run in _HEX.findall(text)]
    return inner + [blob for blob in blobs if blob]


def _unbase64(run: str) -> str:
    packed = run.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return _printable(base64.b64decode(packed + "=" * (-len(packed) % 4)))
    except binascii.Error:
        return ""


def _unhex(run: str) -> str:
    digits = re.sub(r"0x|\\x|[% ,]", "", run)
    return _printable(bytes.fromhex(digits[: len(digits) // 2 * 2]))


def _printable(data: bytes) -> str:
    """The text that these bytes are, or nothing."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return ""
    return (
        text if sum(letter.isprintable() or letter.isspace() for letter in text) >= LEAST_PRINTABLE * len(text) else ""
    )
