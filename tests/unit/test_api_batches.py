"""File batches and expiry over HTTP, over the memory backend."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import orjson
import pytest

from bookwheel.api import create_app
from bookwheel.api.ids import parse
from bookwheel.backends.memory import MemoryDatabase
from bookwheel.errors import StoreExpiredError
from bookwheel.expiry import ACTIVE_SECONDS, note_search, remove_expired
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.testing import memory_ports
from bookwheel.types import DEFAULT_TENANT, Scope

DAY = 24 * 3600


class Clock:
    """Seconds that a test turns."""

    def __init__(self) -> None:
        self.seconds = 1_000_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    """The database's clock."""
    return Clock()


@pytest.fixture
def database(clock: Clock) -> MemoryDatabase:
    """An empty database."""
    return MemoryDatabase(clock=clock)


@pytest.fixture
def ports(database: MemoryDatabase) -> Ports:
    """Ports over it."""
    return memory_ports(database)


@pytest.fixture
async def client(ports: Ports) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the door."""
    transport = httpx.ASGITransport(app=create_app(ports, Settings()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


async def made_store(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    """A store."""
    response = await client.post("/v1/vector_stores", json={"name": "s", **body})
    assert response.status_code == 200, response.text
    made: dict[str, Any] = response.json()
    return made


async def files(client: httpx.AsyncClient, count: int) -> list[str]:
    """Ids of new files."""
    ids = []
    for number in range(count):
        form = {"file": (f"{number}.txt", f"text {number}".encode())}
        ids.append((await client.post("/v1/files", files=form, data={"purpose": "assistants"})).json()["id"])
    return ids


async def test_batch_of_ids_shares_attributes_and_chunking(client: httpx.AsyncClient) -> None:
    """Each file once, each with the batch's attributes and chunking."""
    store, ids = await made_store(client), await files(client, 2)
    path = f"/v1/vector_stores/{store['id']}/file_batches"
    body = {"file_ids": [*ids, ids[0]], "attributes": {"a": 1}, "chunking_strategy": {"type": "sentence"}}
    made = (await client.post(path, json=body)).json()
    assert made["id"].startswith("vsfb_")
    assert (made["object"], made["status"], made["percent"]) == ("vector_store.files_batch", "in_progress", 0.0)
    assert made["file_counts"] == {"in_progress": 2, "completed": 0, "failed": 0, "cancelled": 0, "total": 2}
    assert (await client.get(f"{path}/{made['id']}")).json() == made
    listed = (await client.get(f"{path}/{made['id']}/files", params={"order": "asc"})).json()["data"]
    assert [one["id"] for one in listed] == ids
    assert {one["chunking_strategy"]["type"] for one in listed} == {"sentence"}
    assert [one["attributes"] for one in listed] == [{"a": 1}] * 2


async def test_batch_of_files_has_its_own_fields(client: httpx.AsyncClient) -> None:
    """With `files` each says its own attributes; the shared ones are for ids only."""
    store, ids = await made_store(client), await files(client, 2)
    path = f"/v1/vector_stores/{store['id']}/file_batches"
    given = [{"file_id": ids[0], "attributes": {"b": 2}}, {"file_id": ids[1]}]
    made = (await client.post(path, json={"files": given, "attributes": {"a": 1}})).json()
    page = (await client.get(f"{path}/{made['id']}/files", params={"limit": 1, "order": "asc"})).json()
    rest = (await client.get(f"{path}/{made['id']}/files", params={"after": page["last_id"], "order": "asc"})).json()
    assert (page["has_more"], rest["has_more"]) == (True, False)
    assert [one["attributes"] for one in page["data"] + rest["data"]] == [{"b": 2}, {}]


async def test_cancelled_batch_says_so(client: httpx.AsyncClient) -> None:
    """Its files are listed by their status."""
    store, ids = await made_store(client), await files(client, 2)
    path = f"/v1/vector_stores/{store['id']}/file_batches"
    made = (await client.post(path, json={"file_ids": ids})).json()
    cancelled = (await client.post(f"{path}/{made['id']}/cancel")).json()
    assert (cancelled["status"], cancelled["file_counts"]["cancelled"], cancelled["percent"]) == ("cancelled", 2, 100.0)
    for status, count in (("cancelled", 2), ("completed", 0)):
        listed = await client.get(f"{path}/{made['id']}/files", params={"filter": status})
        assert len(listed.json()["data"]) == count


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "file_ids"),
        ({"file_ids": []}, 400, "file_ids"),
        ({"file_ids": ["file-1"], "files": []}, 400, "file_ids"),
        ({"files": [{"file_id": "file-" + "0" * 32, "attributes": {"a": {}}}]}, 400, "attributes.a"),
        ({"file_ids": ["file-" + "0" * 32]}, 404, None),
        ({"file_ids": ["x"] * 2001}, 400, "file_ids"),
    ],
)
async def test_wrong_batches(client: httpx.AsyncClient, body: dict[str, Any], status: int, param: str | None) -> None:
    """A batch is refused whole, and the field is named."""
    store = await made_store(client)
    response = await client.post(f"/v1/vector_stores/{store['id']}/file_batches", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)
    assert (await client.get(f"/v1/vector_stores/{store['id']}")).json()["file_counts"]["total"] == 0


async def test_store_expires_and_is_renewed(client: httpx.AsyncClient, ports: Ports, clock: Clock) -> None:
    """Once over, it says so before any worker came; a change renews it, and null takes the policy away."""
    policy = {"anchor": "last_active_at", "days": 2}
    store = await made_store(client, expires_after=policy)
    path = f"/v1/vector_stores/{store['id']}"
    assert (store["expires_after"], store["expires_at"]) == (policy, store["last_active_at"] + 2 * DAY)
    clock.seconds += 2 * DAY - 1
    assert (await client.get(path)).json()["status"] == "completed"
    clock.seconds += 1
    assert (await client.get(path)).json()["status"] == "expired"
    assert await remove_expired(ports) == {"stores": 1}
    assert (await client.get(path)).json()["status"] == "expired"
    renewed = (await client.post(path, json={"metadata": {}})).json()
    assert (renewed["status"], renewed["expires_at"]) == ("completed", renewed["last_active_at"] + 2 * DAY)
    never = (await client.post(path, json={"expires_after": None})).json()
    assert (never["expires_after"], never["expires_at"]) == (None, None)


async def test_searching_an_expired_store_says_how_to_renew_it(ports: Ports, client: httpx.AsyncClient) -> None:
    """The error names the store."""
    store = await made_store(client, expires_after={"anchor": "last_active_at", "days": 1})
    scope = Scope(tenant_id=DEFAULT_TENANT, store_ids=(parse("store", store["id"]),))
    found = await ports.stores.get(scope.store_ids[0], scope=scope)
    with pytest.raises(StoreExpiredError, match=rf"{store['id']} expired after 1 days.*modify it"):
        await note_search([replace(found, expired=True)], scope=scope, ports=ports)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/vector_stores/{id}/search", {"query": "a"}),
        ("/v1/search", {"query": "a", "vector_store_ids": ["{id}"]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "model": "bookwheel/{id}"}),
        ("/v1/responses", {"input": "a", "model": "bookwheel/{id}"}),
    ],
)
async def test_no_door_searches_an_expired_store(
    client: httpx.AsyncClient, clock: Clock, path: str, body: dict[str, Any]
) -> None:
    """Each says so; a search over all stores leaves it out."""
    store = await made_store(client, expires_after={"anchor": "last_active_at", "days": 1})
    clock.seconds += DAY
    named = orjson.dumps(body).replace(b"{id}", store["id"].encode())
    headers = {"content-type": "application/json"}
    response = await client.post(path.format(id=store["id"]), content=named, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "vector_store_expired")
    assert (await client.post("/v1/search", json={"query": "a"})).json()["results"] == []


async def test_searches_keep_a_store_alive(ports: Ports, clock: Clock, client: httpx.AsyncClient) -> None:
    """A search after a minute of rest is activity."""
    store = await made_store(client, expires_after={"anchor": "last_active_at", "days": 1})
    scope = Scope(tenant_id=DEFAULT_TENANT, store_ids=(parse("store", store["id"]),))
    clock.seconds += ACTIVE_SECONDS + 1
    found = await ports.stores.get(scope.store_ids[0], scope=scope)
    await note_search([found], scope=scope, ports=ports)
    moved = await ports.stores.get(scope.store_ids[0], scope=scope)
    assert moved.last_active_at == found.last_active_at + timedelta(seconds=ACTIVE_SECONDS + 1)


@pytest.mark.parametrize(
    "policy", [{"anchor": "created_at", "days": 1}, {"anchor": "last_active_at", "days": 0}, {"days": 1}, 3]
)
async def test_wrong_store_expiry(client: httpx.AsyncClient, policy: Any) -> None:
    """A policy that OpenAI would refuse is refused."""
    response = await client.post("/v1/vector_stores", json={"expires_after": policy})
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("expires_after")


async def test_file_expires(client: httpx.AsyncClient, ports: Ports, clock: Clock) -> None:
    """A file with an end says when; then it goes."""
    data = {"purpose": "assistants", "expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = (await client.post("/v1/files", files={"file": ("a.txt", b"text")}, data=data)).json()
    assert file["expires_at"] == file["created_at"] + 3600
    clock.seconds += 3600
    assert await remove_expired(ports) == {"files": 1}
    assert (await client.get(f"/v1/files/{file['id']}")).status_code == 404


@pytest.mark.parametrize(
    ("anchor", "seconds", "param"),
    [
        ("last_active_at", "3600", "anchor"),
        (None, "3600", "anchor"),
        ("created_at", None, "seconds"),
        ("created_at", "3599", "seconds"),
        ("created_at", "2592001", "seconds"),
        ("created_at", "1e4", "seconds"),
        ("created_at", "٣٦٠٠", "seconds"),
    ],
)
async def test_wrong_file_expiry(
    client: httpx.AsyncClient, anchor: str | None, seconds: str | None, param: str
) -> None:
    """The field is named."""
    fields = {"expires_after[anchor]": anchor, "expires_after[seconds]": seconds}
    data = {name: value for name, value in fields.items() if value is not None}
    response = await client.post("/v1/files", files={"file": ("a.txt", b"text")}, data=data)
    assert (response.status_code, response.json()["error"]["param"]) == (400, f"expires_after.{param}")
