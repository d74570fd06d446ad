"""Receipts of offboarded tenants: what they say, in which form, and how anybody can check that it was we who said it.

What is signed is the receipt without its `signature`, as JSON in one canonical form (that of RFC 8785 for what stands
in it): keys in order, no spaces, UTF-8, numbers that are whole. The signature is Ed25519.
"""

import base64
import binascii
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bookwheel.settings import SIGNING_KEY_BYTES
from bookwheel.types import Counts, Departure, Receipt

VERSION: Final = 1  #: of the shape of a statement
MOMENT: Final = "%Y-%m-%dT%H:%M:%SZ"


def new_key() -> bytes:
    """A private key that nobody can guess."""
    return os.urandom(SIGNING_KEY_BYTES)


def public_key(private: bytes) -> str:
    """What receipts of this private key are checked with, as base64."""
    return encoded(Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw())


def receipt_of(departure: Departure, *, left: Counts, private: bytes) -> Receipt:
    """The signed receipt of an offboarding as it stands now."""
    made_at, complete = datetime.now(UTC), not any(left.values())
    audit = departure.audit
    statement = canonical(
        {
            "id": f"receipt_{departure.id.hex}",
            "object": "bookwheel.receipt",
            "version": VERSION,
            "tenant_id": f"tenant_{departure.tenant_id.hex}",
            "tenant_name": departure.name,
            "begun_at": departure.begun_at.astimezone(UTC).strftime(MOMENT),
            "made_at": made_at.strftime(MOMENT),
            "complete": complete,
            "held": dict(departure.held or {}),
            "left": dict(left),
            "audit": {"events": audit.sequence if audit else 0, "head": audit.hash.hex() if audit else ""},
            "public_key": public_key(private),
        }
    )
    return Receipt(
        id=departure.id,
        tenant_id=departure.tenant_id,
        made_at=made_at,
        statement=statement,
        signature=Ed25519PrivateKey.from_private_bytes(private).sign(statement),
        complete=complete,
    )


def shown(receipt: Receipt) -> dict[str, Any]:
    """The receipt as callers see it: the statement and its signature."""
    return {**orjson.loads(receipt.statement), "signature": encoded(receipt.signature)}


def is_genuine(receipt: Mapping[str, Any], *, public: str) -> bool:
    """Whether whoever has the private key to this public one has signed exactly this."""
    key, signature = decoded(public), decoded(str(receipt.get("signature", "")))
    if key is None or len(key) != SIGNING_KEY_BYTES or signature is None:
        return False
    statement = canonical({name: value for name, value in receipt.items() if name != "signature"})
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, statement)
    except InvalidSignature:
        return False
    return True


def canonical(statement: Mapping[str, Any]) -> bytes:
    """The one form of a statement."""
    return orjson.dumps(statement, option=orjson.OPT_SORT_KEYS)


def encoded(data: bytes) -> str:
    """As base64."""
    return base64.b64encode(data).decode()


def decoded(text: str) -> bytes | None:
    """The bytes of base64; None for what is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
