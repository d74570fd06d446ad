"""Tags of what two people may change: they differ when an edit made a difference. Counters and states do not count."""

import hashlib
import json
from collections.abc import Collection
from typing import Any

from bookwheel.errors import PreconditionFailedError
from bookwheel.types import Document, Store


def store_tag(store: Store) -> str:
    """Of its name, metadata, expiry, pause and lists."""
    lists = (store.access, store.denied)
    return _tag(store.id.hex, store.name, dict(store.metadata), store.expires_after_days, store.paused, lists)


def document_tag(document: Document) -> str:
    """Of its attributes, lists, file and wanted version."""
    file = document.file_id.hex if document.file_id else None
    lists = (document.access, document.denied)
    return _tag(document.id.hex, document.version, file, dict(document.attributes), lists)


def check_tag(tag: str, if_match: Collection[str] | None) -> None:
    """Raises PreconditionFailedError unless the tag is one of these; None asks for nothing."""
    if if_match is not None and tag not in if_match:
        raise PreconditionFailedError


def _tag(*parts: Any) -> str:
    written = json.dumps(parts, sort_keys=True).encode()
    return hashlib.blake2b(written, digest_size=16).hexdigest()
