"""The contract of ports.IdempotencyKeys."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from bookwheel.errors import IdempotencyKeyBusyError, IdempotencyKeyReusedError
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import MANY, Desk
from bookwheel.types import KeptResponse

ONE, OTHER = b"1" * 32, b"2" * 32  #: fingerprints
ANSWER = KeptResponse(status=201, headers={"content-type": "application/json"}, body=b'{"\xc3\xa4": "\\u0000"}')
DEAD = -1.0  # a lease that has run out


class IdempotencyKeysContract(PortsContract):
    """Subclass it for a backend that fills ports.IdempotencyKeys."""

    async def test_the_answer_comes_back(self, desk: Desk) -> None:
        """The first request goes on; the same one gets its answer, to the byte, as often as it comes."""
        keys, owner = desk.ports.idempotency_keys, uuid4()
        assert await _begin(desk, owner=owner) is None
        await keys.finish("key", ANSWER, scope=desk.scope(), owner=owner)
        for _ in range(2):
            assert await _begin(desk) == ANSWER

    async def test_another_request_is_refused(self, desk: Desk) -> None:
        """While the first one runs and when it is answered; the error names the key."""
        keys, owner = desk.ports.idempotency_keys, uuid4()
        await _begin(desk, owner=owner)
        for _ in range(2):
            with pytest.raises(IdempotencyKeyReusedError, match="'key'"):
                await _begin(desk, OTHER)
            await keys.finish("key", ANSWER, scope=desk.scope(), owner=owner)

    async def test_a_running_request_is_waited_for(self, desk: Desk) -> None:
        """The same request is told to come again, and may run once the first gave up."""
        keys, owner = desk.ports.idempotency_keys, uuid4()
        await _begin(desk, owner=owner)
        with pytest.raises(IdempotencyKeyBusyError, match="'key'"):
            await _begin(desk)
        await keys.forget("key", scope=desk.scope(), owner=owner)
        assert await _begin(desk) is None

    async def test_one_of_many_goes_on(self, desk: Desk) -> None:
        """However many come at once."""
        tries = await asyncio.gather(*(_begin(desk) for _ in range(8)), return_exceptions=True)
        assert [one for one in tries if not isinstance(one, IdempotencyKeyBusyError)] == [None]

    async def test_a_dead_try_is_taken_over(self, desk: Desk) -> None:
        """By the same request only; then the dead one can neither answer nor give back nor renew."""
        keys, dead, live = desk.ports.idempotency_keys, uuid4(), uuid4()
        await _begin(desk, owner=dead, lease_seconds=DEAD)
        with pytest.raises(IdempotencyKeyReusedError):
            await _begin(desk, OTHER)
        assert await _begin(desk, owner=live) is None
        await keys.finish("key", ANSWER, scope=desk.scope(), owner=dead)
        await keys.forget("key", scope=desk.scope(), owner=dead)
        await keys.renew("key", scope=desk.scope(), owner=dead, lease_seconds=DEAD)
        with pytest.raises(IdempotencyKeyBusyError):
            await _begin(desk)

    async def test_renewing_keeps_it_busy(self, desk: Desk) -> None:
        """A lease that was renewed has not run out."""
        owner = uuid4()
        await _begin(desk, owner=owner, lease_seconds=DEAD)
        await desk.ports.idempotency_keys.renew("key", scope=desk.scope(), owner=owner, lease_seconds=60.0)
        with pytest.raises(IdempotencyKeyBusyError):
            await _begin(desk)

    async def test_old_answers_are_forgotten(self, desk: Desk) -> None:
        """After their time the key is free for any request; cleaning removes those that nobody asks for."""
        keys, owner = desk.ports.idempotency_keys, uuid4()
        await _begin(desk, owner=owner)
        await keys.finish("key", ANSWER, scope=desk.scope(), owner=owner)
        assert await _begin(desk, OTHER, keep_seconds=-1.0, lease_seconds=DEAD) is None
        assert await keys.clean(older_than_seconds=3600.0, limit=MANY) == 0
        assert await keys.clean(older_than_seconds=-1.0, limit=MANY) >= 1
        assert await _begin(desk) is None

    async def test_running_requests_are_not_cleaned(self, desk: Desk) -> None:
        """However old."""
        await _begin(desk)
        await desk.ports.idempotency_keys.clean(older_than_seconds=-1.0, limit=MANY)
        with pytest.raises(IdempotencyKeyBusyError):
            await _begin(desk)

    async def test_tenants_have_keys_of_their_own(self, desk: Desk, stranger: Desk) -> None:
        """The same key of another tenant is another key."""
        await _begin(desk)
        assert await _begin(stranger) is None


async def _begin(
    desk: Desk, fingerprint: bytes = ONE, *, owner: UUID | None = None, **seconds: Any
) -> KeptResponse | None:
    lease = {"lease_seconds": 60.0, "keep_seconds": 3600.0, **seconds}
    return await desk.ports.idempotency_keys.begin(
        "key", fingerprint, scope=desk.scope(), owner=owner or uuid4(), **lease
    )
