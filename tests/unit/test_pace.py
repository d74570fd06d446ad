"""How long a slow client is waited for, and how many connections there may be."""

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import pytest
from starlette.types import Message

from bookwheel.api.body_pace import BodyPace
from bookwheel.connections import Connection, Door
from bookwheel.errors import RequestTimeoutError
from bookwheel.pace import Pace, Patience

PATIENCE = Patience(stall_seconds=10.0, bytes_per_second=100.0)


def test_silence_ends_patience() -> None:
    """However fast it was before."""
    pace = Pace(PATIENCE)
    pace.moved(1_000_000)
    pace.waited(9.0)
    assert pace.left_seconds == 1.0
    pace.waited(1.0)
    assert pace.left_seconds <= 0


def test_any_byte_ends_silence_but_not_slowness() -> None:
    """A trickle is waited for as long as silence, a fair pace for ever."""
    trickle, fair = Pace(PATIENCE), Pace(PATIENCE)
    for _ in range(11):
        trickle.waited(1.0)
        trickle.moved(1)
        fair.waited(1.0)
        fair.moved(100)
    assert trickle.left_seconds <= 0
    assert fair.left_seconds == 10.0


async def _served(messages: list[Message | float], *, begins: bool = False) -> list[Message]:
    """What is sent when the body comes so; a number is a pause."""
    script, sent = iter(messages), list[Message]()

    async def receive() -> Message:
        message = next(script)
        while isinstance(message, float):
            await asyncio.sleep(message)
            message = next(script)
        return message

    async def send(message: Message) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begins:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive()).get("more_body"):  # noqa: ASYNC110 - nothing is polled
            await asyncio.sleep(0.15)  # a slow route is not the client's fault
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    scope = {"type": "http", "method": "POST", "headers": [(b"transfer-encoding", b"chunked")]}
    await BodyPace(app, patience=Patience(stall_seconds=0.2, bytes_per_second=100.0))(scope, receive, send)
    return sent


PART = {"type": "http.request", "body": b"x" * 50, "more_body": True}
LAST = {"type": "http.request", "body": b"", "more_body": False}
LEFT = {"type": "http.disconnect"}


async def test_only_waiting_for_bytes_counts() -> None:
    """A slow route, and whatever comes after the body, may take any time."""
    sent = await _served([PART, PART, PART, LAST, 0.5, LEFT])
    assert sent[0]["status"] == 200


async def test_a_silent_body_is_told() -> None:
    """408, and the connection is to be closed; once an answer has begun the error goes on."""
    sent = await _served([PART, 5.0, LAST])
    assert (sent[0]["status"], (b"connection", b"close") in sent[0]["headers"]) == (408, True)
    with pytest.raises(RequestTimeoutError):
        await _served([PART, 5.0, LAST], begins=True)


@dataclass(frozen=True, eq=False)
class _Peer:
    address: str


def _from(address: str) -> Connection:
    return cast("Connection", _Peer(address=address))


def test_one_address_has_a_share() -> None:
    """Others get in while there is room; a proxy on this machine has all; who leaves makes room."""
    door = Door(patience=PATIENCE, header_seconds=1, most=6, most_per_address=2)
    first, second, third = _from("10.0.0.1"), _from("10.0.0.1"), _from("10.0.0.1")
    assert [door.admit(one) for one in (first, second, third)] == [True, True, False]
    assert door.admit(_from("10.0.0.2"))
    door.leave(third)
    door.leave(second)
    assert door.admit(third)
    assert [door.admit(_from("127.0.0.1")) for _ in range(4)] == [True, True, True, False]
