"""Secrets are shown nowhere: what looks like a password in a text, and what is known to be one, becomes `***`."""

import json
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

HIDDEN: Final = "***"
LEAST = 6  # characters of a secret that is known by itself; a shorter one would tear words apart

# Greedy up to the last @: a password with @ or / in it, which should be percent-encoded and is not, is hidden whole.
_USER_INFO = re.compile(
    r"(?P<scheme>(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,30}://)(?P<user>[^\s:@/'\"<>]{0,200}):[^\s'\"<>]{0,2000}@",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"(?P<name>(?:[?&](?:[\w-]*(?:key|token|secret|password))|\b(?:password|passwd|pwd|sslpassword|api_?key|secret))=)"
    r"(?!SecretStr)(?:'[^']*'|[^\s&'\"<>]+)",
    re.IGNORECASE,
)
_NAMED_PART = re.compile(r"key|token|secret|passw", re.IGNORECASE)
_PLAIN_WORD = re.compile(r"[a-z]+")

_known: list[str] = []  #: of this process's settings, longest first


def redacted(text: str) -> str:
    """The text without its secrets."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    if "=" in text:
        text = _NAMED.sub(rf"\g<name>{HIDDEN}", text)
    return _USER_INFO.sub(rf"\g<scheme>\g<user>:{HIDDEN}@", text) if "@" in text else text


def remember(secrets: Iterable[str]) -> None:
    """Hide these wherever they stand, also as JSON and in a URL they are written; they replace those of before.

    Short ones and plain words (`postgres`) are not hidden by themselves, only where they stand as a password: every
    message that has the word would be torn apart."""
    forms = {form for secret in secrets for form in _forms(secret)}
    _known[:] = sorted((one for one in forms if _tells(one)), key=len, reverse=True)


def passwords(url: str) -> list[str]:
    """The secrets in a setting that holds URLs, several separated by spaces."""
    found = []
    for one in url.split():
        address = one[one.find("://") + 3 :] if "://" in one else ""
        user_info = address.rpartition("@")[0]
        found += [user_info.partition(":")[2]]
        found += [value for name, value in parse_qsl(_query(one)) if _NAMED_PART.search(name)]
    return [secret for secret in found if secret]


def _query(url: str) -> str:
    try:
        return urlsplit(url).query
    except ValueError:  # what is no URL is told by who opens it
        return url.partition("?")[2]


def _forms(secret: str) -> set[str]:
    return {secret, unquote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1]}


def _tells(secret: str) -> bool:
    return len(secret) >= LEAST and not _PLAIN_WORD.fullmatch(secret)
