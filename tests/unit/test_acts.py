"""From a request to its event: who did what and how it ended, in few trips, whatever happens to the log."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from bookwheel import acts
from bookwheel.acts import Act, Notes, Recorder
from bookwheel.backends.memory.audit import MemoryAuditLog
from bookwheel.backends.memory.database import MemoryDatabase
from bookwheel.errors import DatabaseUnavailableError
from bookwheel.testing import memory_ports
from bookwheel.testing.audit import entry
from bookwheel.testing.desk import Desk
from bookwheel.types import (
    DEFAULT_TENANT,
    SERVER_CHAIN,
    AuditEntry,
    AuditEvent,
    AuditFilter,
    Caller,
    Outcome,
    Role,
    Scope,
)

WRITER = Caller(id="key_1", role=Role.WRITER, scope=Scope(tenant_id=DEFAULT_TENANT))
ANY = AuditFilter()


async def chain(desk: Desk, tenant_id: Any = DEFAULT_TENANT) -> list[AuditEvent]:
    """All events, oldest first."""
    return [event async for event in desk.ports.audit.export(scope=Scope(tenant_id=tenant_id), filter=ANY)]


async def only(desk: Desk) -> AuditEvent:
    """The one event of the default tenant."""
    (event,) = await chain(desk)
    return event


def act(status: int = 200, *, operation: str = "upload", caller: Caller | None = WRITER, **path: str) -> Act:
    """A request that ended so."""
    return Act(operation=operation, path=path, status=status, caller=caller, address="192.0.2.7", notes=Notes())


def made_recorder() -> tuple[Recorder, Desk]:
    """A recorder over empty ports."""
    desk = Desk(ports=memory_ports(), tenant=DEFAULT_TENANT)
    return Recorder(desk.ports.audit, desk.ports.key_uses), desk


async def test_a_foreign_id_is_no_denial() -> None:
    """What is another tenant's fails like what is not there: the log must not tell more than the answer."""
    recorder, desk = made_recorder()
    await recorder.audited(act(404, operation="delete_file", file_id="file-1"))
    assert ((await only(desk)).outcome, (await only(desk)).object_id) == (Outcome.FAILURE, "file-1")


async def test_denied_reads_are_told_too() -> None:
    """A role that does not suffice, whatever was asked for; in the caller's chain."""
    recorder, desk = made_recorder()
    await recorder.audited(act(403, operation="list_keys"))
    await recorder.audited(act(404, operation="get_file", file_id="file-1"))
    await recorder.audited(act(200, operation="get_file", file_id="file-1"))
    event = await only(desk)
    assert (event.action, event.outcome, event.actor) == ("access.list_keys", Outcome.DENIED, "key_1")


async def test_unknown_callers_are_told_in_the_servers_chain() -> None:
    """No tenant is known; the address is."""
    recorder, desk = made_recorder()
    await recorder.audited(act(401, operation="upload", caller=None))
    (event,) = await chain(desk, SERVER_CHAIN)
    assert (event.actor, event.actor_role, event.address) == ("unknown", None, "192.0.2.7")
    assert (event.action, event.outcome) == ("file.create", Outcome.DENIED)


async def test_operators_acts_are_the_servers() -> None:
    """A tenant's own chain may be gone after them; a writer who tries stays in its own."""
    recorder, desk = made_recorder()
    operator = replace(WRITER, role=Role.OPERATOR)
    await recorder.audited(act(operation="offboard_tenant", caller=operator, tenant_id="tenant_1"))
    await recorder.audited(act(403, operation="offboard_tenant", tenant_id="tenant_1"))
    (done,), (tried,) = await chain(desk, SERVER_CHAIN), await chain(desk)
    assert (done.action, done.object_id, done.outcome) == ("tenant.delete", "tenant_1", Outcome.SUCCESS)
    assert tried.outcome is Outcome.DENIED


async def test_nobody_fills_the_log_by_being_refused() -> None:
    """Twenty a minute are written one by one; the next that is written says how many were not."""
    recorder, desk = made_recorder()
    person = replace(WRITER, id="user_1")
    for _ in range(acts.SINGLY + 5):
        await recorder.audited(act(403, operation="list_keys", caller=person))
    assert len(await chain(desk)) == acts.SINGLY
    recorder._refusals_of(act(caller=person)).minute = 0  # a minute later
    await recorder.audited(act(403, operation="list_keys", caller=person))
    assert (await chain(desk))[-1].details["not_written_before"] == 5


class SlowLog(MemoryAuditLog):
    """Counts its appends, each of which takes a turn of the loop; can be away."""

    def __init__(self) -> None:
        super().__init__(MemoryDatabase())
        self.batches: list[int] = []
        self.away = False

    async def append(self, entries: Sequence[AuditEntry]) -> Sequence[AuditEvent]:
        """See ports.AuditLog."""
        await asyncio.sleep(0.001)
        if self.away:
            raise DatabaseUnavailableError
        self.batches.append(len(entries))
        return await super().append(entries)


async def test_requests_share_appends() -> None:
    """While one batch is on its way the next collects: ten times thirty requests take few trips, and each goes on only
    when its own event is kept."""
    log = SlowLog()
    recorder = Recorder(log, memory_ports().key_uses)

    async def write(number: int) -> None:
        for _ in range(10):
            await recorder.record([entry(DEFAULT_TENANT, number)])
            kept = log.database.audit_events[DEFAULT_TENANT]
            assert f"file-{number}" in {event.object_id for event in kept[-60:]}

    await asyncio.gather(*(write(number) for number in range(30)))
    assert sum(log.batches) == 300
    assert len(log.batches) <= 12


async def test_a_request_that_ends_early_stops_nobody() -> None:
    """Its event is kept all the same."""
    log = SlowLog()
    recorder = Recorder(log, memory_ports().key_uses)
    leaving = asyncio.create_task(recorder.record([entry(DEFAULT_TENANT, 1)]))
    staying = asyncio.create_task(recorder.record([entry(DEFAULT_TENANT, 2)]))
    await asyncio.sleep(0)
    leaving.cancel()
    await staying
    assert log.batches == [2]


async def test_what_cannot_be_written_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request goes on; the events come first when the log is back, and meanwhile nobody waits for it."""
    log, times = SlowLog(), [100.0]
    monkeypatch.setattr(acts, "monotonic", lambda: times[0])
    recorder = Recorder(log, memory_ports().key_uses)
    log.away = True
    for number in range(3):
        await recorder.record([entry(DEFAULT_TENANT, number)])
    log.away, times[0] = False, times[0] + acts.REST_SECONDS
    await recorder.record([entry(DEFAULT_TENANT, 3)])
    ids = [event.object_id async for event in log.export(scope=Scope(tenant_id=DEFAULT_TENANT), filter=ANY)]
    assert ids == ["file-0", "file-1", "file-2", "file-3"]


async def test_a_long_outage_loses_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded; what is lost is told in the log of the process."""
    monkeypatch.setattr(acts, "MOST_WAITING", 2)
    log = SlowLog()
    log.away = True
    recorder = Recorder(log, memory_ports().key_uses)
    for number in range(4):
        await recorder.record([entry(DEFAULT_TENANT, number)])
    log.away = False
    monkeypatch.setattr(recorder, "_rests_until", 0.0)
    await recorder.record([entry(DEFAULT_TENANT, 4)])
    ids = [event.object_id async for event in log.export(scope=Scope(tenant_id=DEFAULT_TENANT), filter=ANY)]
    assert ids == ["file-3", "file-4"]
