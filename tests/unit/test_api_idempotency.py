"""Idempotency-Key over HTTP: a request that comes twice is done once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import Request
from starlette.responses import Response, StreamingResponse

from bookwheel.api import create_app, idempotency, roles
from bookwheel.api.wiring import JSON, router
from bookwheel.backends.memory import MemoryDatabase
from bookwheel.errors import DatabaseUnavailableError
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.testing import memory_ports
from bookwheel.types import Role

KEY = {"idempotency-key": "k-1"}
MAX_LINE = 5 << 20


class Counted:
    """Routes that count what they did."""

    def __init__(self) -> None:
        self.calls = 0
        self.answers: list[Any] = []  #: what the next calls do, in order; then 200
        self.called = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def call(self) -> Response:
        """One call."""
        self.calls += 1
        self.called.set()
        await self.gate.wait()
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        return JSON({"calls": self.calls}, status_code=answer)


@pytest.fixture
def counted() -> Counted:
    """Not yet called."""
    return Counted()


@pytest.fixture
def database() -> MemoryDatabase:
    """An empty database."""
    return MemoryDatabase()


@pytest.fixture
def ports(database: MemoryDatabase) -> Ports:
    """Ports over it."""
    return memory_ports(database)


@pytest.fixture
async def client(ports: Ports, counted: Counted, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the door with a counted route beside its own."""
    for name in ("count", "stream"):
        monkeypatch.setitem(roles.ROLES, name, Role.READER)  # type: ignore[arg-type]
    app = create_app(ports, Settings(max_line_bytes=MAX_LINE))
    routes = router("test", streams=True)

    @routes.post("/v1/counted")
    async def count(request: Request) -> Response:
        await request.body()
        return await counted.call()

    @routes.post("/v1/streamed")
    async def stream() -> Response:
        counted.calls += 1
        return StreamingResponse(iter([b"data: 1\n\n", b"data: 2\n\n"]), media_type="text/event-stream")

    app.include_router(routes)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


async def test_the_same_request_is_done_once(client: httpx.AsyncClient) -> None:
    """The answer is the first one, marked, with its own request id; without a key each request is done."""
    first, second = [await client.post("/v1/vector_stores", json={"name": "a"}, headers=KEY) for _ in range(2)]
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert second.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    for name in ("content-type", "etag"):
        assert second.headers[name] == first.headers[name]
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    await client.post("/v1/vector_stores", json={"name": "a"})
    assert len((await client.get("/v1/vector_stores")).json()["data"]) == 2


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/counted", b'{"a": 2}'), ("/v1/counted?b=1", b'{"a": 1}'), ("/v1/vector_stores", b"{}")]
)
async def test_a_key_is_of_one_request(client: httpx.AsyncClient, counted: Counted, path: str, body: bytes) -> None:
    """Another body or path under the same key is a conflict that names it, and that clients need not repeat."""
    headers = {**KEY, "content-type": "application/json"}
    assert (await client.post("/v1/counted", content=b'{"a": 1}', headers=headers)).status_code == 200
    other = await client.post(path, content=body, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")
    assert "'k-1'" in other.json()["error"]["message"]
    assert other.headers["x-should-retry"] == "false"
    assert counted.calls == 1


async def test_a_running_request_is_waited_for(client: httpx.AsyncClient, counted: Counted) -> None:
    """The second is told to come again; it does not run beside the first."""
    counted.gate.clear()
    running = asyncio.create_task(client.post("/v1/counted", headers=KEY))
    await counted.called.wait()
    second = await client.post("/v1/counted", headers=KEY)
    assert (second.status_code, second.json()["error"]["code"]) == (409, "idempotency_key_in_use")
    assert second.headers["retry-after"] == "1"
    counted.gate.set()
    assert (await running).json() == {"calls": 1}
    assert (await client.post("/v1/counted", headers=KEY)).json() == {"calls": 1}


@pytest.mark.parametrize("failure", [500, 503, 429, 409, DatabaseUnavailableError(), RuntimeError("a bug")])
async def test_what_may_pass_is_not_kept(client: httpx.AsyncClient, counted: Counted, failure: Any) -> None:
    """The same request is done again after such a failure."""
    counted.answers = [failure]
    assert (await client.post("/v1/counted", headers=KEY)).is_error
    again = await client.post("/v1/counted", headers=KEY)
    assert (again.status_code, again.json()) == (200, {"calls": 2})


async def test_a_wrong_request_stays_wrong(client: httpx.AsyncClient) -> None:
    """An error that the request itself caused is its answer."""
    answers = [await client.post("/v1/vector_stores", json={"name": 3}, headers=KEY) for _ in range(2)]
    assert [one.status_code for one in answers] == [400, 400]
    assert answers[1].headers["idempotent-replayed"] == "true"


async def test_an_upload_is_done_once(client: httpx.AsyncClient) -> None:
    """By the form's content, whose boundary is another each time."""

    async def upload(data: bytes, purpose: str = "assistants") -> httpx.Response:
        form = {"file": ("a.txt", data)}
        return await client.post("/v1/files", files=form, data={"purpose": purpose}, headers=KEY)

    first, second = await upload(b"one"), await upload(b"one")
    assert second.json() == first.json()
    assert second.headers["idempotent-replayed"] == "true"
    assert len((await client.get("/v1/files")).json()["data"]) == 1
    for other in (await upload(b"two"), await upload(b"one", "user_data")):
        assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")


async def test_lines_are_refused(client: httpx.AsyncClient) -> None:
    """A stream of documents needs no key."""
    store = (await client.post("/v1/vector_stores", json={})).json()
    for kind in ({"content-type": "application/x-ndjson"}, {}):
        response = await client.post(
            f"/v1/vector_stores/{store['id']}/documents", content=b'{"id": "a", "text": "b"}', headers={**KEY, **kind}
        )
        assert (response.status_code, response.json()["error"]["param"]) == (400, "idempotency-key")


async def test_one_document_as_json_may_be_long(client: httpx.AsyncClient) -> None:
    """The key does not lower the limit of its route."""
    store = (await client.post("/v1/vector_stores", json={})).json()
    path = f"/v1/vector_stores/{store['id']}/documents"
    long = {"id": "a", "text": "x" * (MAX_LINE - 100)}
    assert (await client.post(path, json=long, headers=KEY)).status_code == 200
    long["text"] += "x" * 200
    response = await client.post(path, json=long, headers={"idempotency-key": "k-2"})
    assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")


async def test_streamed_answers_are_refused(client: httpx.AsyncClient, counted: Counted) -> None:
    """Before anything is done; a stream that nobody asked for passes and is not kept."""
    response = await client.post("/v1/counted", json={"stream": True}, headers=KEY)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "idempotency-key")
    assert "stream: false" in response.json()["error"]["message"]
    assert counted.calls == 0
    for _ in range(2):
        assert (await client.post("/v1/streamed", headers=KEY)).content == b"data: 1\n\ndata: 2\n\n"
    assert counted.calls == 2


@pytest.mark.parametrize("key", ["", "a\tb", "x" * 256])
async def test_wrong_keys(client: httpx.AsyncClient, counted: Counted, key: str) -> None:
    """A key that could not be told from another is refused."""
    response = await client.post("/v1/counted", headers={"idempotency-key": key})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "idempotency-key")
    assert counted.calls == 0


async def test_reading_takes_no_key(client: httpx.AsyncClient) -> None:
    """GET is done each time."""
    for count in range(2):
        assert len((await client.get("/v1/vector_stores", headers=KEY)).json()["data"]) == count
        await client.post("/v1/vector_stores", json={})


async def test_a_long_request_stays_busy(
    client: httpx.AsyncClient, counted: Counted, database: MemoryDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is renewed while it runs, so that nobody takes it over."""
    monkeypatch.setattr(idempotency, "RENEW_SECONDS", 0.01)
    counted.gate.clear()
    running = asyncio.create_task(client.post("/v1/counted", headers=KEY))
    await counted.called.wait()
    now = database.clock() + 2 * idempotency.LEASE_SECONDS
    monkeypatch.setattr(database, "clock", lambda: now)
    async with asyncio.timeout(30):
        while next(iter(database.idempotency_keys.values())).busy_until < now:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
    assert (await client.post("/v1/counted", headers=KEY)).json()["error"]["code"] == "idempotency_key_in_use"
    counted.gate.set()
    assert (await running).status_code == 200
    assert counted.calls == 1
