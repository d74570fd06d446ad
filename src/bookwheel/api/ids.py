"""Ids as callers see them: a prefix that says what it is, and a UUID without dashes."""

import re
from typing import Final, Literal
from uuid import UUID

from bookwheel.errors import NotFoundError

Kind = Literal[
    "store", "file", "document", "batch", "source", "response", "webhook", "delivery", "key", "tenant", "receipt"
]

PREFIXES: Final[dict[Kind, str]] = {
    "store": "vs_",
    "file": "file-",
    "document": "doc_",
    "batch": "vsfb_",
    "source": "src_",
    "response": "resp_",
    "webhook": "we_",
    "delivery": "wh_",
    "key": "key_",
    "tenant": "tenant_",
    "receipt": "receipt_",
}
NAMES: Final[dict[Kind, str]] = {
    "store": "vector store",
    "file": "file",
    "document": "document",
    "batch": "file batch",
    "source": "source",
    "response": "response",
    "webhook": "webhook endpoint",
    "delivery": "delivery",
    "key": "key",
    "tenant": "tenant",
    "receipt": "receipt",
}
_HEX = re.compile(r"[0-9a-f]{32}")


def public(kind: Kind, id: UUID) -> str:
    """The id as a caller sees it, such as `vs_0198c0de...`."""
    return PREFIXES[kind] + id.hex


def parse(kind: Kind, text: str) -> UUID:
    """The UUID inside. Raises NotFoundError for an ill-formed id, since nothing can have it."""
    digits = text.removeprefix(PREFIXES[kind])
    if len(digits) == len(text) or not _HEX.fullmatch(digits):
        raise NotFoundError(f"No {NAMES[kind]} has the id {text[:80]!r}; such ids begin with {PREFIXES[kind]}.")
    return UUID(hex=digits)
