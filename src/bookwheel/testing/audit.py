"""The contracts of ports.AuditLog and ports.KeyUses."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from bookwheel.audit import chained
from bookwheel.ports import AuditLog, Ports
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import MANY, Desk
from bookwheel.types import NO_HASH, AuditEntry, AuditEvent, AuditFilter, Head, Outcome

WRITERS, EACH = 8, 10
NOW = datetime(2026, 11, 22, 3, 4, 5, 123456, UTC)
ANY = AuditFilter()


def entry(tenant_id: UUID, number: int = 0, *, action: str = "file.create", actor: str = "key_1") -> AuditEntry:
    """An act; a later one for a larger number."""
    return AuditEntry(
        tenant_id=tenant_id,
        at=NOW + timedelta(seconds=number),
        actor=actor,
        actor_role="writer",
        action=action,
        object_type="file",
        object_id=f"file-{number}",
        object_hash="ab" * 32,
        outcome=Outcome.SUCCESS,
        request_id="req_1",
        address="192.0.2.7",
        details={"size": 2**40, "path": 'a "quoted" \\ name', "bulk": True},
    )


async def events_of(desk: Desk, count: int) -> list[AuditEvent]:
    """That many events at the end of the tenant's chain, appended at once."""
    return list(await desk.ports.audit.append([entry(desk.tenant, number) for number in range(count)]))


class AuditContract(PortsContract):
    """Subclass it for a backend that fills ports.AuditLog, and override `rewrite`."""

    async def rewrite(self, ports: Ports, tenant_id: UUID, events: Sequence[AuditEvent]) -> None:
        """Put these in the place of the tenant's chain, as someone would who is master of the store."""
        raise NotImplementedError

    def writers(self, ports: Ports) -> list[AuditLog]:
        """Several logs over the same store; better ones that share nothing else."""
        return [ports.audit] * WRITERS

    async def broken(self, desk: Desk, events: Sequence[AuditEvent], *, expected: bytes | None = None) -> int | None:
        """Where the chain is found broken when these are all that the store holds."""
        await self.rewrite(desk.ports, desk.tenant, events)
        return (await desk.ports.audit.verify(scope=desk.scope(), expected=expected)).broken

    async def test_events_come_back_as_they_were_appended(self, desk: Desk) -> None:
        """Every field, chained to the one before; an empty chain holds too."""
        audit, scope = desk.ports.audit, desk.scope()
        empty = await audit.verify(scope=scope)
        assert (empty.count, empty.head, empty.broken) == (0, NO_HASH, None)
        made = await events_of(desk, 2) + await events_of(desk, 1)
        assert [event.sequence for event in made] == [1, 2, 3]
        assert made[0].previous_hash == NO_HASH
        assert [event.previous_hash for event in made[1:]] == [event.hash for event in made[:2]]
        assert list(await audit.list(scope=scope, limit=MANY, newest=False, filter=ANY)) == made
        assert made[0].details == entry(desk.tenant).details
        verified = await audit.verify(scope=scope, expected=made[1].hash)
        assert (verified.count, verified.head, verified.broken) == (3, made[-1].hash, None)

    async def test_tenants_have_chains_of_their_own(self, desk: Desk, stranger: Desk) -> None:
        """One call may append to several; nobody sees or counts another's."""
        mine, theirs = entry(desk.tenant), entry(stranger.tenant)
        made = await desk.ports.audit.append([mine, theirs, mine])
        assert [(event.tenant_id, event.sequence) for event in made] == [
            (desk.tenant, 1),
            (stranger.tenant, 1),
            (desk.tenant, 2),
        ]
        shown = await stranger.ports.audit.list(scope=stranger.scope(), limit=MANY, filter=ANY)
        assert list(shown) == [made[1]]
        assert (await stranger.ports.audit.verify(scope=stranger.scope())).count == 1
        heads = {head.tenant_id: head for head in await desk.ports.audit.heads()}
        assert heads[desk.tenant] == Head(tenant_id=desk.tenant, sequence=2, hash=made[2].hash)
        assert heads[stranger.tenant].sequence == 1

    async def test_list_walks_in_pages(self, desk: Desk) -> None:
        """In either order, behind a sequence."""
        made, audit, scope = await events_of(desk, 5), desk.ports.audit, desk.scope()
        assert list(await audit.list(scope=scope, limit=2, filter=ANY)) == [made[4], made[3]]
        assert list(await audit.list(scope=scope, limit=2, after=4, filter=ANY)) == [made[2], made[1]]
        assert list(await audit.list(scope=scope, limit=9, after=3, newest=False, filter=ANY)) == made[3:]

    async def test_filters_narrow(self, desk: Desk) -> None:
        """By time, action and actor, in lists and exports."""
        acts = [("file.create", "key_1"), ("file.delete", "key_1"), ("file.create", "key_2")]
        entries = [
            entry(desk.tenant, number, action=action, actor=actor) for number, (action, actor) in enumerate(acts)
        ]
        await desk.ports.audit.append(entries)

        async def found(filter: AuditFilter) -> list[int]:
            listed = await desk.ports.audit.list(scope=desk.scope(), limit=MANY, newest=False, filter=filter)
            exported = [event async for event in desk.ports.audit.export(scope=desk.scope(), filter=filter)]
            assert list(listed) == exported
            return [event.sequence for event in exported]

        assert await found(AuditFilter(action="file.create")) == [1, 3]
        assert await found(AuditFilter(action="file.create", actor="key_2")) == [3]
        assert await found(AuditFilter(since=NOW + timedelta(seconds=1))) == [2, 3]
        assert await found(AuditFilter(until=NOW + timedelta(seconds=1))) == [1]
        assert await found(AuditFilter(actor="nobody")) == []

    async def test_an_edited_event_is_found(self, desk: Desk) -> None:
        """Whatever field was changed, also when its own hash was computed anew."""
        made = await events_of(desk, 4)
        changes: dict[str, Any] = {
            "at": NOW + timedelta(days=1),
            "actor": "key_2",
            "actor_role": None,
            "action": "file.delete",
            "object_type": "store",
            "object_id": None,
            "object_hash": "cd" * 32,
            "outcome": Outcome.FAILURE,
            "request_id": "req_2",
            "address": "192.0.2.8",
            "details": {},
        }
        for name, value in changes.items():
            changed = replace(made[1], **{name: value})
            assert await self.broken(desk, [made[0], changed, *made[2:]]) == 2
        head = Head(tenant_id=desk.tenant, sequence=1, hash=made[0].hash)
        (forged,) = chained([entry(desk.tenant, 1, actor="key_2")], head=head)
        assert await self.broken(desk, [made[0], forged, *made[2:]]) == 3
        assert await self.broken(desk, made) is None

    async def test_a_removed_event_is_found(self, desk: Desk) -> None:
        """From the middle or the beginning, also when the others were numbered anew."""
        made = await events_of(desk, 4)
        assert await self.broken(desk, [made[0], *made[2:]]) == 2
        assert await self.broken(desk, made[1:]) == 1
        closed = [replace(event, sequence=event.sequence - 1) for event in made[2:]]
        assert await self.broken(desk, [made[0], *closed]) == 2

    async def test_a_swapped_pair_is_found(self, desk: Desk) -> None:
        """Two events that took each other's place."""
        made = await events_of(desk, 4)
        swapped = [replace(made[2], sequence=2), replace(made[1], sequence=3)]
        assert await self.broken(desk, [made[0], *swapped, made[3]]) == 2

    async def test_an_inserted_event_is_found(self, desk: Desk) -> None:
        """Those behind it moved up."""
        made = await events_of(desk, 3)
        head = Head(tenant_id=desk.tenant, sequence=1, hash=made[0].hash)
        (added,) = chained([entry(desk.tenant, 9)], head=head)
        moved = [replace(event, sequence=event.sequence + 1) for event in made[1:]]
        assert await self.broken(desk, [made[0], added, *moved]) == 3

    async def test_a_cut_tail_is_found_by_a_kept_head(self, desk: Desk) -> None:
        """Without it nobody can know; with it also a chain that was written anew from its beginning is found."""
        made = await events_of(desk, 4)
        kept = made[-1].hash
        assert await self.broken(desk, made[:2]) is None
        assert await self.broken(desk, made[:2], expected=kept) == 3
        assert await self.broken(desk, [], expected=kept) == 1
        anew = chained([entry(desk.tenant, 9)] * 4, head=Head(tenant_id=desk.tenant))
        assert await self.broken(desk, anew) is None
        assert await self.broken(desk, anew, expected=kept) == 5

    async def test_a_chain_goes_on_from_where_it_ends(self, desk: Desk) -> None:
        """Also when that is no longer where this writer left it."""
        made = await events_of(desk, 3)
        await self.rewrite(desk.ports, desk.tenant, made[:1])
        (next_one,) = await events_of(desk, 1)
        assert (next_one.sequence, next_one.previous_hash) == (2, made[0].hash)

    async def test_parallel_writers_make_one_chain(self, desk: Desk) -> None:
        """No gap, no fork, and each writer's events in its order."""

        async def write(log: AuditLog, number: int) -> None:
            for act in range(EACH):
                await log.append([entry(desk.tenant, act, actor=f"key_{number}")])

        await asyncio.gather(*(write(log, number) for number, log in enumerate(self.writers(desk.ports))))
        verified = await desk.ports.audit.verify(scope=desk.scope())
        assert (verified.count, verified.broken) == (WRITERS * EACH, None)
        for number in range(WRITERS):
            mine = AuditFilter(actor=f"key_{number}")
            ids = [event.object_id async for event in desk.ports.audit.export(scope=desk.scope(), filter=mine)]
            assert ids == [f"file-{act}" for act in range(EACH)]

    async def test_a_long_chain_is_walked_whole(self, desk: Desk) -> None:
        """However many pages it takes."""
        made = await events_of(desk, 1_001)
        exported = [event async for event in desk.ports.audit.export(scope=desk.scope(), filter=ANY)]
        assert exported == made
        assert (await desk.ports.audit.verify(scope=desk.scope(), expected=made[-1].hash)).count == 1_001

    async def test_offboarding_removes_one_chain(self, desk: Desk, stranger: Desk) -> None:
        """And says where it ended; the others hold as before, and a chain may begin again."""
        made, _ = await events_of(desk, 3), await events_of(stranger, 2)
        audit = desk.ports.audit
        assert await audit.offboard(scope=desk.scope()) == Head(tenant_id=desk.tenant, sequence=3, hash=made[-1].hash)
        assert list(await audit.list(scope=desk.scope(), limit=MANY, filter=ANY)) == []
        assert await audit.offboard(scope=desk.scope()) == Head(tenant_id=desk.tenant)
        verified = await audit.verify(scope=stranger.scope())
        assert (verified.count, verified.broken) == (2, None)
        (again,) = await events_of(desk, 1)
        assert again.sequence == 1

    async def test_nothing_to_append_is_no_fault(self, desk: Desk) -> None:
        """A request that did nothing worth a line."""
        assert list(await desk.ports.audit.append([])) == []


class KeyUsesContract(PortsContract):
    """Subclass it for a backend that fills ports.KeyUses."""

    async def test_uses_are_kept_by_network(self, ports: Ports) -> None:
        """First and last; a use that is told late changes neither wrongly."""
        actor, uses = f"key_{uuid4().hex}", ports.key_uses
        assert await uses.networks(actor) == {}
        for hours in (1, 3, 2):
            await uses.used(actor, "192.0.2.0/24", at=NOW + timedelta(hours=hours), keep=4)
        first, last = NOW + timedelta(hours=1), NOW + timedelta(hours=3)
        assert await uses.networks(actor) == {"192.0.2.0/24": (first, last)}
        assert await uses.networks("key_other") == {}

    async def test_old_networks_are_forgotten(self, ports: Ports) -> None:
        """Those used last are kept."""
        actor = f"key_{uuid4().hex}"
        for number in range(4):
            await ports.key_uses.used(actor, f"192.0.{number}.0/24", at=NOW + timedelta(hours=number), keep=2)
        assert set(await ports.key_uses.networks(actor)) == {"192.0.2.0/24", "192.0.3.0/24"}

    async def test_actors_are_forgotten(self, ports: Ports) -> None:
        """Those that are named, with all of their networks."""
        gone, other = f"key_{uuid4().hex}", f"key_{uuid4().hex}"
        for actor in (gone, other):
            await ports.key_uses.used(actor, "192.0.2.0/24", at=NOW, keep=2)
        await ports.key_uses.forget([gone, "key_unknown"])
        assert await ports.key_uses.networks(gone) == {}
        assert set(await ports.key_uses.networks(other)) == {"192.0.2.0/24"}
