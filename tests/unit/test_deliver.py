"""Webhooks: signed so that the official client verifies them, tried again at growing distances, never redirected."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import openai
import pytest

from bookwheel.deliver import (
    AT_ONCE,
    EVENT_TYPES,
    FIRST_WAIT_SECONDS,
    GIVEN_UP_SECONDS,
    JITTER,
    LONGEST_WAIT_SECONDS,
    attempted,
    deliver_webhooks,
    wait_seconds,
)
from bookwheel.fetching import Fetcher
from bookwheel.settings import Settings
from bookwheel.testing import memory_ports
from bookwheel.testing.desk import MANY, Desk
from bookwheel.testing.responses import a_response
from bookwheel.types import Delivery, DeliveryStatus, WebhookEndpoint

NOW = datetime.now(UTC)
SECRET = bytes(range(32))
PAYLOAD = '{"id":"evt_1","object":"event","type":"response.completed","created_at":1,"data":{"id":"resp_ü"}}'


class Receiver:
    """A server that takes requests and answers from a script."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = [line.partition(": ") for line in head.split("\r\n")[1:] if line]
        headers = {name.lower(): value for name, _, value in lines}
        self.received.append((headers, await reader.readexactly(int(headers["content-length"]))))
        status = self.answers.pop(0) if self.answers else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@asynccontextmanager
async def receiving(*answers: str) -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    receiver = Receiver(*answers)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with server:
        yield receiver


@pytest.fixture
def settings() -> Settings:
    """Private addresses allowed, since the receiver is on this machine."""
    return Settings(fetch_allow_private=True)


def endpoint(url: str) -> WebhookEndpoint:
    """An endpoint at this place."""
    return WebhookEndpoint(
        id=UUID(int=1),
        tenant_id=UUID(int=2),
        name="",
        url=url,
        event_types=("response.completed",),
        secret=SECRET,
        created_at=NOW,
        updated_at=NOW,
    )


def delivery(attempts: int = 1) -> Delivery:
    """A claimed delivery."""
    return Delivery(
        id=uuid4(),
        endpoint_id=UUID(int=1),
        event_type="response.completed",
        payload=PAYLOAD,
        status=DeliveryStatus.PENDING,
        attempts=attempts,
        next_try_at=NOW,
        http_status=None,
        error=None,
        created_at=NOW,
        updated_at=NOW,
    )


async def attempt(settings: Settings, url: str, *, attempts: int = 1, age: float = 0.0) -> Any:
    """How one attempt went."""
    async with Fetcher(settings) as fetcher:
        return await attempted(delivery(attempts), endpoint(url), fetcher=fetcher, age=age)


async def test_the_official_client_verifies_it(settings: Settings) -> None:
    """What arrives is the payload to the letter, with a signature that the OpenAI client accepts."""
    async with receiving("204 No Content") as receiver:
        outcome = await attempt(settings, receiver.url)
    assert (outcome.status, outcome.http_status, outcome.retry_in) == (DeliveryStatus.DELIVERED, 204, None)
    ((headers, body),) = receiver.received
    assert body.decode() == PAYLOAD
    secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    client = openai.OpenAI(api_key="x", webhook_secret=secret)
    assert client.webhooks.unwrap(body, headers).type == "response.completed"
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(body + b" ", headers)


@pytest.mark.parametrize(
    ("answer", "status", "http_status"),
    [
        ("500 Oops", DeliveryStatus.PENDING, 500),
        ("404 Not Found", DeliveryStatus.PENDING, 404),
        ("302 Found\r\nlocation: http://127.0.0.1:1/elsewhere", DeliveryStatus.PENDING, 302),
        ("410 Gone", DeliveryStatus.FAILED, 410),
    ],
)
async def test_anything_but_success_is_tried_again(
    settings: Settings, answer: str, status: DeliveryStatus, http_status: int
) -> None:
    """Redirects are not followed, and an endpoint that is gone for good is left alone."""
    async with receiving(answer) as receiver:
        outcome = await attempt(settings, receiver.url)
    assert (outcome.status, outcome.http_status) == (status, http_status)
    assert len(receiver.received) == 1
    assert str(http_status) in outcome.error


async def test_nobody_there_is_tried_again(settings: Settings) -> None:
    """A refused connection is an attempt that failed, with the reason."""
    outcome = await attempt(settings, "http://127.0.0.1:1/")
    assert (outcome.status, outcome.http_status) == (DeliveryStatus.PENDING, None)
    assert outcome.error


async def test_private_addresses_are_refused() -> None:
    """Unless the operator allows them, nothing is sent into the own network."""
    async with receiving() as receiver:
        outcome = await attempt(Settings(), receiver.url)
    assert receiver.received == []
    assert outcome.status is DeliveryStatus.PENDING
    assert "not a public address" in outcome.error


async def test_given_up_after_a_day(settings: Settings) -> None:
    """When the next attempt would come later than that."""
    outcome = await attempt(settings, "http://127.0.0.1:1/", attempts=9, age=GIVEN_UP_SECONDS - 1)
    assert (outcome.status, outcome.retry_in) == (DeliveryStatus.FAILED, None)


def test_waits_grow_and_differ() -> None:
    """From some seconds to hours, never the same for all."""
    for attempts, middle in ((1, FIRST_WAIT_SECONDS), (2, 20.0), (4, 320.0), (1_000_000, LONGEST_WAIT_SECONDS)):
        waits = [wait_seconds(attempts) for _ in range(50)]
        assert all(middle * (1 - JITTER) <= wait <= middle * (1 + JITTER) for wait in waits)
        assert len(set(waits)) > 1


async def test_a_worker_delivers_under_one_id(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled response is told, tried again after a failure under the same webhook-id, and logged."""
    monkeypatch.setattr("bookwheel.deliver.FIRST_WAIT_SECONDS", 0.05)
    ports = memory_ports()
    desk, stop = Desk(ports=ports, tenant=UUID(int=7)), asyncio.Event()
    async with receiving("500 Oops", "200 OK") as receiver, asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        place = await ports.webhooks.create(
            "", scope=desk.scope(), url=receiver.url, event_types=["response.cancelled"], secret=SECRET
        )
        response = a_response(desk)
        await ports.responses.create(response, scope=desk.scope(), events=[])
        await ports.responses.cancel(response.id, scope=desk.scope())
        tasks.create_task(deliver_webhooks(ports, settings, stop))
        log = partial(ports.webhooks.deliveries, place.id, scope=desk.scope(), limit=MANY)
        while (await log())[0].status is not DeliveryStatus.DELIVERED:  # noqa: ASYNC110 - a catalog has no events
            await asyncio.sleep(0.05)
        stop.set()
    (first, second), (kept,) = receiver.received, await log()
    assert first[0]["webhook-id"] == second[0]["webhook-id"] == f"wh_{kept.id.hex}"
    assert first[1] == second[1] == kept.payload.encode()
    assert (kept.attempts, kept.http_status, kept.error) == (2, 200, None)


async def test_a_slow_endpoint_holds_up_no_other(settings: Settings) -> None:
    """One that does not answer gets few attempts at once, however much waits for it."""
    ports = memory_ports()
    desk, stop, events = Desk(ports=ports, tenant=UUID(int=7)), asyncio.Event(), 2 * AT_ONCE

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stop.wait()
        writer.close()

    slow = await asyncio.start_server(silent, "127.0.0.1", 0)
    slow_url = f"http://127.0.0.1:{slow.sockets[0].getsockname()[1]}/"
    async with receiving() as quick, slow, asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        for url in (slow_url, quick.url):
            await ports.webhooks.create("", scope=desk.scope(), url=url, event_types=EVENT_TYPES, secret=SECRET)
        for _ in range(events):
            response = a_response(desk)
            await ports.responses.create(response, scope=desk.scope(), events=[])
            await ports.responses.cancel(response.id, scope=desk.scope())
        tasks.create_task(deliver_webhooks(ports, settings, stop))
        while len(quick.received) < events:  # noqa: ASYNC110 - a catalog has no events
            await asyncio.sleep(0.05)
        stop.set()
