"""Webhooks from a running Bookwheel, verified by the official OpenAI client."""

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import openai
import pytest

from tests.service.conftest import LiveServer

DEADLINE = 60.0
TEXT = b"The bookwheel was described by Agostino Ramelli in 1588."


class Receiver(ThreadingHTTPServer):
    """Takes requests; answers 500 as often as it is told to, then 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.failures = 0
        self.url = f"http://127.0.0.1:{self.server_port}/hook"

    def of(self, event_type: str) -> list[tuple[dict[str, str], bytes]]:
        """Requests that told of this."""
        return [one for one in self.received if f'"{event_type}"'.encode() in one[1]]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Note the request."""
        assert isinstance(self.server, Receiver)
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
        failing = self.server.failures > 0
        self.server.failures -= failing
        self.send_response(500 if failing else 200)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A place that webhooks are sent to."""
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(trusting_server: LiveServer) -> Iterator[openai.OpenAI]:
    """The blocking client."""
    with openai.OpenAI(base_url=f"{trusting_server.url}/v1", api_key="anything", max_retries=0) as made:
        yield made


def wait_for(condition: Callable[[], Any]) -> Any:
    """What the condition gives once it is true."""
    deadline = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def ask(client: openai.OpenAI) -> str:
    """A background response about a new file; its id."""
    store = client.vector_stores.create(name="hooks")
    client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("a.txt", TEXT), poll_interval_ms=100, max_wait_seconds=DEADLINE
    )
    return client.responses.create(model=f"bookwheel/{store.id}", input="Who described it?", background=True).id


def deliveries(server: LiveServer, endpoint_id: str) -> list[dict[str, Any]]:
    """The log of an endpoint, newest first."""
    url = f"{server.url}/v1/webhook_endpoints/{endpoint_id}/deliveries"
    data: list[dict[str, Any]] = httpx.get(url, timeout=DEADLINE).json()["data"]
    return data


def test_a_finished_response_is_told(client: openai.OpenAI, trusting_server: LiveServer, receiver: Receiver) -> None:
    """After a failure it is sent again under the same id, and the client verifies it with the secret shown once."""
    receiver.failures = 1
    made = client.webhooks.create(name="mine", url=receiver.url, event_types=["response.completed"])
    assert made.signing_secret.startswith("whsec_")
    assert "signing_secret" not in client.webhooks.retrieve(made.id).to_dict()
    assert made.id in [one.id for one in client.webhooks.list()]
    response_id = ask(client)
    wait_for(lambda: len(receiver.received) == 2)
    (first_headers, first), (headers, body) = receiver.received
    assert (headers["webhook-id"], body) == (first_headers["webhook-id"], first)
    verifier = openai.OpenAI(api_key="x", webhook_secret=made.signing_secret)
    event = verifier.webhooks.unwrap(body, headers)
    assert (event.type, event.data.id) == ("response.completed", response_id)  # type: ignore[union-attr]
    (line,) = wait_for(lambda: [one for one in deliveries(trusting_server, made.id) if one["status"] == "delivered"])
    assert (line["id"], line["attempts"], line["event_type"]) == (headers["webhook-id"], 2, "response.completed")
    assert client.webhooks.delete(made.id).deleted


def test_ingestion_is_told(client: openai.OpenAI, trusting_server: LiveServer, receiver: Receiver) -> None:
    """A file that is searchable, and one that failed."""
    types: Any = ["vector_store.file.completed", "vector_store.file.failed"]
    made = client.webhooks.create(name="files", url=receiver.url, event_types=types)
    store = client.vector_stores.create(name="told")
    good = client.vector_stores.files.upload(vector_store_id=store.id, file=("good.txt", TEXT))
    bad = client.vector_stores.files.upload(vector_store_id=store.id, file=("bad.pdf", b"%PDF-1.4 nothing"))
    for file, event_type in ((good, types[0]), (bad, types[1])):
        ((headers, body),) = wait_for(lambda event_type=event_type: receiver.of(event_type))
        verifier = openai.OpenAI(api_key="x", webhook_secret=made.signing_secret)
        data = verifier.webhooks.unwrap(body, headers).to_dict()["data"]
        assert (data["id"], data["vector_store_id"]) == (file.id, store.id)  # type: ignore[index]
    client.webhooks.delete(made.id)


def test_an_endpoint_is_tried_out(client: openai.OpenAI, receiver: Receiver) -> None:
    """The test call says whether the endpoint takes it; changes hold at once."""
    made = client.webhooks.create(name="a", url="http://127.0.0.1:9/", event_types=["response.failed"])
    with pytest.raises(openai.InternalServerError):
        client.webhooks.test(made.id, event_type="response.failed")
    assert client.webhooks.update(made.id, url=receiver.url).url == receiver.url
    assert client.webhooks.test(made.id, event_type="response.failed").status_code == 200
    assert len(receiver.of("response.failed")) == 1
    assert "vector_store.file.completed" in client.webhooks.event_types.list().data
    client.webhooks.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.webhooks.retrieve(made.id)


def test_a_secret_is_rotated(client: openai.OpenAI, receiver: Receiver) -> None:
    """What is sent from then on is signed with the new one alone; keeping the old one is refused with the remedy."""
    made = client.webhooks.create(name="a", url=receiver.url, event_types=["response.failed"])
    rotated = client.webhooks.rotate_secret(made.id)
    assert (rotated.id, rotated.url) == (made.id, made.url)
    assert rotated.signing_secret not in ("", made.signing_secret)
    assert rotated.signing_secret.endswith((rotated.signing_secret_hint or "?")[-5:])
    client.webhooks.test(made.id, event_type="response.failed")
    ((headers, body),) = receiver.of("response.failed")
    openai.OpenAI(api_key="x", webhook_secret=rotated.signing_secret).webhooks.verify_signature(body, headers)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        openai.OpenAI(api_key="x", webhook_secret=made.signing_secret).webhooks.verify_signature(body, headers)
    with pytest.raises(openai.BadRequestError, match="Only one secret"):
        client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
    client.webhooks.delete(made.id)


def test_private_addresses_are_refused(live_server: LiveServer, receiver: Receiver) -> None:
    """A server that is not told to trust its network sends nothing into it, and says how to allow it. (A name that only
    resolves to such an address is refused when something is sent: tests/unit/test_fetching.py.)"""
    with openai.OpenAI(base_url=f"{live_server.url}/v1", api_key="anything", max_retries=0) as client:
        for url in (receiver.url, receiver.url.replace("127.0.0.1", "localhost")):
            with pytest.raises(openai.BadRequestError, match="BOOKWHEEL_FETCH_ALLOW_PRIVATE"):
                client.webhooks.create(name="a", url=url, event_types=["response.failed"])
    assert receiver.received == []
