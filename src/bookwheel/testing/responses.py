"""The contracts of ports.Responses and ports.ResponseRuns."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from bookwheel.errors import NotFoundError
from bookwheel.ports import Ports
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import LEASE_SECONDS, MANY, Desk
from bookwheel.types import LOCAL_CALLER, ModelResponse, ResponseEvent

ONE_DAY_SECONDS = 86_400.0
AWKWARD = 'NUL \x00, "quotes", \\u0000, ü and 語'  #: text that a database may refuse


def a_response(desk: Desk, *, status: str = "queued", previous: UUID | None = None, **changes: Any) -> ModelResponse:
    """A background response that nobody has kept yet."""
    response_id = uuid4()
    values: dict[str, Any] = {
        "id": response_id,
        "tenant_id": desk.tenant,
        "caller_id": LOCAL_CALLER,
        "principals": ("group:a", "user:b"),
        "previous_id": previous,
        "request": {"input": AWKWARD},
        "body": {"id": f"resp_{response_id.hex}", "status": status, "output": [], "instructions": AWKWARD},
        "background": True,
        "created_at": datetime.now(UTC),
    }
    return ModelResponse(**values | changes)


def events_of(*numbers: int) -> list[ResponseEvent]:
    """Events with these numbers."""
    return [{"type": "response.some", "sequence_number": number, "delta": AWKWARD} for number in numbers]


async def keep(desk: Desk, *events: int, **changes: Any) -> ModelResponse:
    """A kept response with events of these numbers."""
    response = a_response(desk, **changes)
    await desk.ports.responses.create(response, scope=desk.scope(), events=events_of(*events))
    return response


async def told(desk: Desk, response: ModelResponse, *, after: int = -1) -> list[int]:
    """The numbers of its events."""
    found = await desk.ports.responses.events(response.id, scope=desk.scope(), after=after, limit=MANY)
    return [event["sequence_number"] for event in found]


async def take(desk: Desk, *, owner: str, lease_seconds: float = LEASE_SECONDS) -> list[ModelResponse]:
    """What an owner can claim of this tenant's."""
    found = await desk.ports.response_runs.claim(owner=owner, lease_seconds=lease_seconds, limit=MANY)
    return [one for one in found if one.tenant_id == desk.tenant]


class ResponsesContract(PortsContract):
    """Subclass it for a backend that fills ports.Responses. Its ports also need ResponseRuns of the same database."""

    async def test_response_comes_back_as_it_was_kept(self, desk: Desk) -> None:
        """Request, body, whose rights it has and events are what was given, whatever characters they hold."""
        response = await keep(desk, 0, 1, granted=(uuid4(), uuid4()), rule={"department": ["sales", "ü"]})
        assert await desk.ports.responses.get(response.id, scope=desk.scope()) == response
        assert list(await desk.ports.responses.events(response.id, scope=desk.scope(), limit=MANY)) == events_of(0, 1)

    async def test_another_tenants_response_is_not_there(self, desk: Desk, stranger: Desk) -> None:
        """No verb finds, follows, ends or removes another tenant's response, nor continues it."""
        response = await keep(desk, 0)
        responses, scope = stranger.ports.responses, stranger.scope()
        with pytest.raises(NotFoundError):
            await responses.get(response.id, scope=scope)
        with pytest.raises(NotFoundError):
            await responses.conversation(response.id, scope=scope, limit=10)
        with pytest.raises(NotFoundError):
            await responses.cancel(response.id, scope=scope)
        with pytest.raises(NotFoundError):
            await responses.delete(response.id, scope=scope)
        assert list(await responses.events(response.id, scope=scope, limit=10)) == []
        following = await keep(stranger, previous=response.id)
        assert list(await responses.conversation(following.id, scope=scope, limit=10)) == [following]
        assert await desk.ports.responses.get(response.id, scope=desk.scope()) == response

    async def test_another_callers_response_is_not_there(self, desk: Desk) -> None:
        """Of one tenant too: nobody else finds, follows, continues or ends it. Who manages may delete it, unread."""
        response = await keep(desk, 0, caller_id="key_a")
        responses, reader = desk.ports.responses, replace(desk.scope(), manages=False)
        for scope in (desk.scope(), reader):
            with pytest.raises(NotFoundError):
                await responses.get(response.id, scope=scope, caller_id="key_b")
            with pytest.raises(NotFoundError):
                await responses.conversation(response.id, scope=scope, limit=10, caller_id="key_b")
            with pytest.raises(NotFoundError):
                await responses.cancel(response.id, scope=scope, caller_id="key_b")
            assert list(await responses.events(response.id, scope=scope, limit=10, caller_id="key_b")) == []
        with pytest.raises(NotFoundError):
            await responses.delete(response.id, scope=reader, caller_id="key_b")
        following = await keep(desk, previous=response.id, caller_id="key_b")
        chain = await responses.conversation(following.id, scope=reader, limit=10, caller_id="key_b")
        assert list(chain) == [following]
        assert await responses.get(response.id, scope=reader, caller_id="key_a") == response
        await responses.delete(response.id, scope=desk.scope(), caller_id="key_b")
        with pytest.raises(NotFoundError):
            await responses.get(response.id, scope=reader, caller_id="key_a")

    async def test_events_are_read_from_any_place(self, desk: Desk) -> None:
        """Events behind a number come in order, at most as many as asked for."""
        response = await keep(desk, 0, 1, 2, 3, 4)
        assert await told(desk, response, after=1) == [2, 3, 4]
        assert await told(desk, response, after=4) == []
        page = await desk.ports.responses.events(response.id, scope=desk.scope(), after=0, limit=2)
        assert [event["sequence_number"] for event in page] == [1, 2]

    async def test_conversation_goes_back(self, desk: Desk) -> None:
        """The responses before one come oldest first, as many as asked for, and end where one is gone."""
        first = await keep(desk)
        second = await keep(desk, previous=first.id)
        third = await keep(desk, previous=second.id)
        conversation = desk.ports.responses.conversation
        assert list(await conversation(third.id, scope=desk.scope(), limit=10)) == [first, second, third]
        assert list(await conversation(third.id, scope=desk.scope(), limit=2)) == [second, third]
        await desk.ports.responses.delete(second.id, scope=desk.scope())
        assert list(await conversation(third.id, scope=desk.scope(), limit=10)) == [third]

    async def test_cancel_ends_what_has_not_ended(self, desk: Desk) -> None:
        """A cancelled response is not claimed; one that has ended stays as it is; again is harmless."""
        waiting, done = await keep(desk), await keep(desk, status="completed")
        cancel = desk.ports.responses.cancel
        assert (await cancel(waiting.id, scope=desk.scope())).status == "cancelled"
        assert (await cancel(waiting.id, scope=desk.scope())).status == "cancelled"
        assert await cancel(done.id, scope=desk.scope()) == done
        assert await take(desk, owner=uuid4().hex) == []

    async def test_deleted_is_gone(self, desk: Desk) -> None:
        """A deleted response has no events and cannot be deleted again."""
        response = await keep(desk, 0)
        await desk.ports.responses.delete(response.id, scope=desk.scope())
        assert await told(desk, response) == []
        with pytest.raises(NotFoundError):
            await desk.ports.responses.get(response.id, scope=desk.scope())
        with pytest.raises(NotFoundError):
            await desk.ports.responses.delete(response.id, scope=desk.scope())


class ResponseRunsContract(PortsContract):
    """Subclass it for a backend that fills ports.ResponseRuns. Its ports also need Responses of the same database.

    Claims see all tenants, so what other tests left is forgotten before each test."""

    @pytest.fixture(autouse=True)
    async def _alone(self, ports: Ports) -> None:
        await ports.response_runs.forget(older_than_seconds=-ONE_DAY_SECONDS, limit=MANY)

    async def test_claim_takes_what_waits_once(self, desk: Desk) -> None:
        """Background responses that have not ended are taken, oldest first, by one owner; each claim is an attempt."""
        now = datetime.now(UTC)
        second = await keep(desk, created_at=now)
        first = await keep(desk, created_at=now - timedelta(seconds=1))
        await keep(desk, status="completed")
        await keep(desk, background=False)
        assert [one.id for one in await take(desk, owner=uuid4().hex)] == [first.id, second.id]
        assert await take(desk, owner=uuid4().hex) == []
        kept = await desk.ports.responses.get(first.id, scope=desk.scope())
        assert kept == replace(first, attempts=1)

    async def test_a_dead_owners_response_is_taken_over(self, desk: Desk) -> None:
        """When the lease has run out another owner takes it, and the first can write nothing more."""
        response, first, second = await keep(desk, 0), uuid4().hex, uuid4().hex
        await take(desk, owner=first, lease_seconds=-1.0)
        (again,) = await take(desk, owner=second)
        assert (again.id, again.attempts) == (response.id, 2)
        runs = desk.ports.response_runs
        assert not await runs.record(response.id, events_of(1), owner=first)
        assert not await runs.renew(first, lease_seconds=LEASE_SECONDS)
        assert await told(desk, response) == [0]
        assert await runs.record(response.id, events_of(1), owner=second)
        assert await told(desk, response) == [0, 1]

    async def test_renewed_leases_hold(self, desk: Desk) -> None:
        """An owner that tells it is alive keeps what it has."""
        await keep(desk)
        owner = uuid4().hex
        await take(desk, owner=owner, lease_seconds=-1.0)
        assert await desk.ports.response_runs.renew(owner, lease_seconds=LEASE_SECONDS)
        assert await take(desk, owner=uuid4().hex) == []

    async def test_record_with_its_end(self, desk: Desk) -> None:
        """Events and body change together; with its end the lease goes, and nothing more can be written."""
        response, owner, runs = await keep(desk, 0), uuid4().hex, desk.ports.response_runs
        await take(desk, owner=owner)
        for number, status in ((1, "in_progress"), (2, "completed")):
            body = {**response.body, "status": status}
            assert await runs.record(response.id, events_of(number), owner=owner, body=body)
            assert (await desk.ports.responses.get(response.id, scope=desk.scope())).body == body
        assert not await runs.record(response.id, events_of(3), owner=owner)
        assert not await runs.renew(owner, lease_seconds=LEASE_SECONDS)
        assert await told(desk, response) == [0, 1, 2]

    @pytest.mark.parametrize("how", ["cancel", "delete"])
    async def test_a_worker_learns_of_the_end(self, desk: Desk, how: str) -> None:
        """Cancelled or deleted while it is written, it takes no more events, and the owner holds nothing."""
        response, owner = await keep(desk, 0), uuid4().hex
        await take(desk, owner=owner)
        await getattr(desk.ports.responses, how)(response.id, scope=desk.scope())
        assert not await desk.ports.response_runs.renew(owner, lease_seconds=LEASE_SECONDS)
        assert not await desk.ports.response_runs.record(response.id, events_of(1), owner=owner)

    async def test_given_back_is_free(self, desk: Desk) -> None:
        """What is given back can be taken at once, or not before its time; an uncounted attempt was none."""
        await keep(desk)
        one, two, runs = uuid4().hex, uuid4().hex, desk.ports.response_runs
        await take(desk, owner=one)
        await runs.release(one, uncounted=True)
        (again,) = await take(desk, owner=two)
        assert again.attempts == 1
        await runs.release(two, retry_in=60.0)
        assert await take(desk, owner=uuid4().hex) == []

    async def test_old_ones_are_forgotten(self, desk: Desk) -> None:
        """Responses older than the limit go with their events; younger ones stay."""
        old = await keep(desk, 0, created_at=datetime.now(UTC) - timedelta(days=400))
        young = await keep(desk, 0)
        assert await desk.ports.response_runs.forget(older_than_seconds=399 * ONE_DAY_SECONDS, limit=MANY) >= 1
        assert (await told(desk, old), await told(desk, young)) == ([], [0])
