"""From requests to the audit log: what a handler notes, what becomes of it, and how it is written at little cost.

A process writes what its requests have done in batches: while one is on its way the next collects. A request waits
until its own event is kept. What cannot be kept waits in memory for a later one and is told in the log, so that a short
outage of the database loses nothing; the request itself is answered as it went.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from time import monotonic
from typing import Final

import structlog
from cachetools import LRUCache

from bookwheel.audit import safe_details, safe_id
from bookwheel.audit_actions import ACTIONS, OF_THE_SERVER, attempt
from bookwheel.errors import BookwheelError
from bookwheel.key_habits import KeyHabits
from bookwheel.ports import AuditLog, KeyUses
from bookwheel.telemetry import ERRORS, request_id
from bookwheel.types import SERVER_CHAIN, AuditEntry, Caller, DocumentDraft, Outcome, Role

UNKNOWN: Final = "unknown"  #: an actor whom no key or token names
DENIED: Final = frozenset({401, 403})
MOST_WAITING: Final = 10_000  # events that an outage of the database may hold back
REST_SECONDS: Final = 5.0  # after a failed append: requests do not wait for a database that is away
SINGLY: Final = 20  # refused calls of one actor that are written in a minute; more are counted
ACTORS: Final = 10_000  # whose refused calls are counted

log = structlog.get_logger("bookwheel.audit")


@dataclass(slots=True)
class Notes:
    """What the handler of one request says about what it does."""

    object_id: str | None = None
    object_hash: str | None = None
    details: dict[str, object] = field(default_factory=dict)
    postponed: bool = False  #: the handler writes the event itself, when its stream has ended


_notes: ContextVar[Notes | None] = ContextVar("notes", default=None)


def begin() -> Notes:
    """Notes for the request that begins now; handlers add to them with `note`."""
    notes = Notes()
    _notes.set(notes)
    return notes


def note(
    *, object_id: str | None = None, object_hash: bytes | str | None = None, **details: str | int | bool | None
) -> None:
    """Say what is made or changed: ids, hashes, counts and sizes; never text, names of files or secrets."""
    notes = _notes.get()
    if notes is None:  # not in a request
        return
    notes.object_id = object_id or notes.object_id
    notes.object_hash = (object_hash.hex() if isinstance(object_hash, bytes) else object_hash) or notes.object_hash
    notes.details |= {name: value for name, value in details.items() if value is not None}


def postpone() -> Notes:
    """The handler has the event written itself: what it does goes on after it has returned."""
    notes = _notes.get() or Notes()
    notes.postponed = True
    return notes


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One request, as it went."""

    operation: str  #: name of its route function
    path: Mapping[str, str]  #: the parameters in its path, the object's own id last
    status: int
    caller: Caller | None
    address: str | None
    notes: Notes = field(default_factory=Notes)


class Digest:
    """The content of a long upload in one hash: SHA-256 over each document's id and what tells its content, the
    SHA-256 of its text or the id of its file in hex; each of the two ends in a NUL. In the order of the upload."""

    __slots__ = ("_hash", "count")

    def __init__(self) -> None:
        self._hash = sha256()
        self.count = 0

    def add(self, drafts: Iterable[DocumentDraft]) -> None:
        """These documents."""
        for draft in drafts:
            text = "" if draft.text is None else sha256(draft.text.encode()).hexdigest()
            content = draft.file_id.hex if draft.file_id is not None else text
            self._hash.update(f"{draft.external_id}\0{content}\0".encode())
            self.count += 1

    def hex(self) -> str:
        """The hash so far."""
        return self._hash.hexdigest()


class Recorder:
    """Writes what is done into the log. One for each process."""

    def __init__(self, log: AuditLog, uses: KeyUses) -> None:
        self._log = log
        self._habits = KeyHabits(uses)
        self._waiting: deque[AuditEntry] = deque()
        self._kept: asyncio.Future[None] | None = None  #: done when what is collected now has been written
        self._writing: asyncio.Task[None] | None = None
        self._rests_until = 0.0
        self._refusals: LRUCache[str, _Refusals] = LRUCache(ACTORS)

    async def audited(self, act: Act) -> None:
        """Write what the request did or tried, if that is to be kept, and what is unusual about it. Never raises a
        BookwheelError."""
        entry = None if act.notes.postponed else self._entry(act)
        unusual = await self._unusual(act)
        await self.record([one for one in (entry, unusual) if one is not None])

    async def record(self, entries: Sequence[AuditEntry]) -> None:
        """Keep these, with what else waits. Never raises a BookwheelError."""
        self._waiting.extend(entries)
        while len(self._waiting) > MOST_WAITING:
            _tell_lost(self._waiting.popleft())
        if not entries or monotonic() < self._rests_until:
            return
        if self._kept is None:
            self._kept = asyncio.get_running_loop().create_future()
        kept = self._kept
        if self._writing is None or self._writing.done():
            # In the name of no caller: a batch holds the events of several tenants.
            self._writing = asyncio.create_task(self._write_all(), context=Context())
        await asyncio.shield(kept)  # a request that ends early does not end what others wait for

    async def _write_all(self) -> None:
        """Until nothing waits or the log is away; each batch is what has come since the one before it."""
        written = True
        while written and self._waiting:
            kept, self._kept = self._kept, None
            try:
                written = await self._write()
            finally:
                _let_go(kept)
        _let_go(self._kept)
        self._kept = None

    async def _write(self) -> bool:
        batch = list(self._waiting)
        self._waiting.clear()
        try:
            await self._log.append(batch)
        except BookwheelError as error:
            self._waiting.extendleft(reversed(batch))
            self._rests_until = monotonic() + REST_SECONDS
            ERRORS.labels("audit", type(error).__name__).inc()
            log.error("audit events wait", count=len(batch), reason=error.message)  # noqa: TRY400 - the reason is known
            return False
        return True

    def _entry(self, act: Act) -> AuditEntry | None:
        """What stands in the log; None for what changed nothing and was not refused."""
        if act.status < 400:
            return entry_of(act, Outcome.SUCCESS) if act.operation in ACTIONS else None
        outcome = Outcome.DENIED if act.status in DENIED else Outcome.FAILURE
        if outcome is Outcome.FAILURE and act.operation not in ACTIONS:
            return None
        before = self._refusals_of(act).next()
        if before is None:
            return None
        act.notes.details |= {"status": act.status, **({"not_written_before": before} if before else {})}
        return entry_of(act, outcome)

    def _refusals_of(self, act: Act) -> "_Refusals":
        whose = act.caller.id if act.caller else str(act.address)
        if whose not in self._refusals:
            self._refusals[whose] = _Refusals()
        return self._refusals[whose]

    async def _unusual(self, act: Act) -> AuditEntry | None:
        if act.caller is None:
            return None
        try:
            found = await self._habits.unusual(act.caller.id, act.address, denied=act.status in DENIED)
        except BookwheelError as error:
            ERRORS.labels("audit", type(error).__name__).inc()
            return None
        if found is None:
            return None
        return _written(act, "key.unusual", "key", act.caller.id, Outcome.SUCCESS, {**found, "status": act.status})


class _Refusals:
    """Refused calls of one actor in this minute: nobody may fill the log by being refused."""

    __slots__ = ("left_out", "minute", "written")

    def __init__(self) -> None:
        self.minute = self.written = self.left_out = 0

    def next(self) -> int | None:
        """How many were left out before this one; None when this one is left out too."""
        minute = int(datetime.now(UTC).timestamp() // 60)
        if minute != self.minute:
            self.minute, self.written = minute, 0
        if self.written >= SINGLY:
            self.left_out += 1
            return None
        self.written += 1
        before, self.left_out = self.left_out, 0
        return before


def entry_of(act: Act, outcome: Outcome) -> AuditEntry:
    """The entry of a request, with what its handler noted."""
    action, around = attempt(act.operation), list(act.path)
    own = None if action.makes or not around else act.path[around.pop()]
    places = {name: safe_id(act.path[name]) for name in around}
    details = {"operation": act.operation, **places, **act.notes.details}
    return _written(act, action.name, action.object_type, act.notes.object_id or own, outcome, details)


def _written(
    act: Act, action: str, object_type: str, object_id: str | None, outcome: Outcome, details: Mapping[str, object]
) -> AuditEntry:
    caller = act.caller
    operates = caller is not None and caller.role is Role.OPERATOR and act.operation in OF_THE_SERVER
    return AuditEntry(
        tenant_id=SERVER_CHAIN if caller is None or operates else caller.scope.tenant_id,
        at=datetime.now(UTC),
        actor=(safe_id(caller.id) or UNKNOWN) if caller else UNKNOWN,
        actor_role=caller.role.value if caller else None,
        action=action,
        object_type=object_type,
        object_id=safe_id(object_id),
        object_hash=act.notes.object_hash,
        outcome=outcome,
        request_id=request_id.get(),
        address=safe_id(act.address),
        details=safe_details(details),
    )


def by_hand(action: str, object_id: str, **details: str | int | bool) -> AuditEntry:
    """The entry of an act at the machine itself, outside of any request."""
    return AuditEntry(
        tenant_id=SERVER_CHAIN,
        at=datetime.now(UTC),
        actor="local",
        actor_role=Role.OPERATOR.value,
        action=action,
        object_type=action.partition(".")[0],
        object_id=safe_id(object_id),
        outcome=Outcome.SUCCESS,
        request_id="",
        details=safe_details(details),
    )


def _let_go(kept: asyncio.Future[None] | None) -> None:
    """Those who wait for a batch go on."""
    if kept is not None and not kept.done():
        kept.set_result(None)


def _tell_lost(entry: AuditEntry) -> None:
    ERRORS.labels("audit", "lost").inc()
    log.error("audit event lost", action=entry.action, actor=entry.actor, object=entry.object_id, at=str(entry.at))
