"""docs/audit.md: its worked example is computed anew."""

import re
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import orjson

from bookwheel.audit import canonical, digest
from bookwheel.types import AuditEvent, Outcome

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "audit.md").read_text()


def test_the_example_has_the_hash_that_the_page_says() -> None:
    """With nothing but SHA-256, and with our own canonical form of the same event."""
    found = re.search(r"<!-- example -->\n```json\n(.+)\n```\n\nhas the hash `([0-9a-f]{64})`", PAGE)
    assert found is not None
    form, told = found[1].encode(), bytes.fromhex(found[2])
    assert sha256(form).digest() == told
    fields = orjson.loads(form)
    event = AuditEvent(
        **{
            **fields,
            "tenant_id": UUID(fields["tenant_id"]),
            "at": datetime.fromisoformat(fields["at"]),
            "outcome": Outcome(fields["outcome"]),
            "previous_hash": bytes.fromhex(fields["previous_hash"]),
            "hash": told,
        }
    )
    assert canonical(event) == form
    assert digest(event) == told
