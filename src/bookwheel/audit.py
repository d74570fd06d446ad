"""The chain of the audit log: its one canonical form, its hashes, its verification; and what may stand in it."""

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import orjson

from bookwheel.types import AuditEntry, AuditEvent, Head, Verified

MAX_TEXT: Final = 200  #: characters of a value in the details
MAX_DETAILS: Final = 16
MAX_NUMBER: Final = 2**53 - 1  #: the largest that every reader of JSON keeps exactly
MOMENT: Final = "%Y-%m-%dT%H:%M:%S.%fZ"
_ID: Final = re.compile(r"[A-Za-z0-9_.:@/+-]{1,128}")
_UNSAFE: Final = re.compile(r"[^\x20-\x7e]")
_FIELDS: Final = tuple(field.name for field in fields(AuditEvent) if field.name != "hash")


def canonical(event: AuditEvent) -> bytes:
    """All fields but `hash` as JSON in the form of RFC 8785: keys in order, no spaces, UTF-8. Times are UTC with six
    digits of a second, hashes lower-case hex."""
    return orjson.dumps({name: _plain(getattr(event, name)) for name in _FIELDS}, option=orjson.OPT_SORT_KEYS)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime(MOMENT)
    if isinstance(value, bytes):
        return value.hex()
    return dict(value) if isinstance(value, Mapping) else value


def digest(event: AuditEvent) -> bytes:
    """The hash that the event must have."""
    return sha256(canonical(event)).digest()


def chained(entries: Iterable[AuditEntry], *, head: Head) -> list[AuditEvent]:
    """The entries of one chain as its next events."""
    made: list[AuditEvent] = []
    sequence, previous = head.sequence, head.hash
    for entry in entries:
        sequence += 1
        event = _event(entry, sequence, previous)
        previous = event.hash
        made.append(event)
    return made


def _event(entry: AuditEntry, sequence: int, previous: bytes) -> AuditEvent:
    values = {field.name: getattr(entry, field.name) for field in fields(AuditEntry)}
    open_end = AuditEvent(**values, sequence=sequence, previous_hash=previous, hash=b"")
    return AuditEvent(**values, sequence=sequence, previous_hash=previous, hash=digest(open_end))


async def check(events: AsyncIterator[AuditEvent], *, expected: bytes | None = None) -> Verified:
    """Walk a chain from its beginning. `expected` must be the hash of one of its events, or what the first follows."""
    walk = _Walk(expected)
    async for event in events:
        walk.step(event)
    return walk.end()


class _Walk:
    """How far a verification has come."""

    __slots__ = ("broken", "count", "expected", "head", "met", "reason", "sequence")

    def __init__(self, expected: bytes | None) -> None:
        self.expected = expected
        self.count = self.sequence = 0
        self.head = bytes(32)
        self.met = expected is None or expected == self.head
        self.broken: int | None = None
        self.reason: str | None = None

    def step(self, event: AuditEvent) -> None:
        if self.broken is None:
            self._judge(event)
        self.count += 1
        self.sequence, self.head = event.sequence, event.hash
        self.met = self.met or event.hash == self.expected

    def _judge(self, event: AuditEvent) -> None:
        wanted = self.sequence + 1
        if event.sequence != wanted:
            self.broken, self.reason = wanted, f"event {wanted} is missing"
        elif event.previous_hash != self.head:
            self.broken, self.reason = wanted, f"event {wanted} does not follow the one before it"
        elif event.hash != digest(event):
            self.broken, self.reason = wanted, f"event {wanted} is not what was written"

    def end(self) -> Verified:
        if self.broken is None and not self.met:
            self.broken = self.sequence + 1
            self.reason = (
                f"the head that was kept is not in the chain: it ends at event {self.sequence}, so later ones were"
                " removed, or all were written anew"
            )
        return Verified(count=self.count, head=self.head, broken=self.broken, reason=self.reason)


def safe_id(text: object) -> str | None:
    """An id as it may stand in the log; None for what does not look like one, since it could be anything."""
    return text if isinstance(text, str) and _ID.fullmatch(text) else None


def safe_details(given: Mapping[str, object]) -> dict[str, str | int | bool]:
    """Numbers, and texts that are short and printable ASCII; None is left out, and what is neither."""
    kept: dict[str, str | int | bool] = {}
    for name, value in list(given.items())[:MAX_DETAILS]:
        if isinstance(value, str):
            kept[name] = _UNSAFE.sub("?", value[:MAX_TEXT])
        elif isinstance(value, int) and abs(value) <= MAX_NUMBER:
            kept[name] = value
    return kept


def as_json(event: AuditEvent) -> dict[str, Any]:
    """The event as callers see it: the fields of the canonical form with the hash, so that they can compute it."""
    return {name: _json(value) for name, value in asdict(event).items()}


def _json(value: Any) -> Any:
    plain = _plain(value)
    return str(plain) if plain is not None and not isinstance(plain, str | int | dict) else plain
