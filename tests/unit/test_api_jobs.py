"""Jobs over HTTP: seen, retried, cancelled, dropped; stores paused and resumed; orphans counted."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from bookwheel.api import create_app
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.testing import memory_ports
from bookwheel.testing.desk import Desk
from bookwheel.types import DEFAULT_TENANT, Document, Store


@pytest.fixture
def ports() -> Ports:
    """Empty ports in memory."""
    return memory_ports()


@pytest.fixture
def desk(ports: Ports) -> Desk:
    """The tenant that the API serves."""
    return Desk(ports=ports, tenant=DEFAULT_TENANT)


@pytest.fixture
async def client(ports: Ports) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the door."""
    transport = httpx.ASGITransport(app=create_app(ports, Settings()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


async def dead(desk: Desk, store: Store, *, external_id: str) -> Document:
    """A document that could not be read."""
    document = await desk.put(store, "text", external_id=external_id)
    await desk.ports.ingestion.fail(await desk.claim(document), code="broken_file", message="It is damaged.")
    return document


async def jobs(client: httpx.AsyncClient, **parameters: str) -> list[dict[str, Any]]:
    """The listed jobs."""
    response = await client.get("/v1/jobs", params=parameters)
    assert response.status_code == 200, response.text
    listed: list[dict[str, Any]] = response.json()["data"]
    return listed


async def test_a_dead_letter_says_why(client: httpx.AsyncClient, desk: Desk) -> None:
    """The document, its state and the reason; filters by state and store."""
    store, other = await desk.store(), await desk.store()
    document = await dead(desk, store, external_id="a")
    await desk.put(other, "waits", external_id="b")
    (job,) = await jobs(client, state="failed")
    assert (job["id"], job["external_id"], job["state"]) == (f"doc_{document.id.hex}", "a", "failed")
    assert job["last_error"] == {"code": "broken_file", "message": "It is damaged."}
    assert [one["external_id"] for one in await jobs(client, store_id=f"vs_{other.id.hex}")] == ["b"]
    assert (await client.get("/v1/jobs", params={"state": "asleep"})).status_code == 400


async def test_pages_of_jobs(client: httpx.AsyncClient, desk: Desk) -> None:
    """The cursor is the last id."""
    store = await desk.store()
    for number in range(3):
        await desk.put(store, "text", external_id=str(number))
    first = (await client.get("/v1/jobs", params={"limit": 2})).json()
    assert first["has_more"]
    rest = await jobs(client, after=first["last_id"])
    assert len({job["id"] for job in (*first["data"], *rest)}) == 3


async def test_retry_cancel_and_drop(client: httpx.AsyncClient, desk: Desk) -> None:
    """Each answers with what it did, and 404 where there is nothing to do."""
    store = await desk.store()
    path = f"/v1/jobs/doc_{(await dead(desk, store, external_id='a')).id.hex}"
    assert (await client.post(f"{path}/cancel")).status_code == 404
    assert (await client.post(f"{path}/retry")).json()["retried"]
    assert (await client.post(f"{path}/cancel")).json()["cancelled"]
    assert (await client.delete(path)).json()["dropped"]
    missing = await client.delete(path)
    assert (missing.status_code, "GET /v1/jobs" in missing.json()["error"]["message"]) == (404, True)
    assert await jobs(client) == []


async def test_retry_all(client: httpx.AsyncClient, desk: Desk) -> None:
    """Of one store, then of all."""
    store, other = await desk.store(), await desk.store()
    for number in range(3):
        await dead(desk, store, external_id=str(number))
    await dead(desk, other, external_id="x")
    response = await client.post("/v1/jobs/retry", params={"store_id": f"vs_{store.id.hex}"})
    assert response.json()["retried"] == 3
    assert (await client.post("/v1/jobs/retry")).json()["retried"] == 1
    assert {job["state"] for job in await jobs(client)} == {"waiting"}


async def test_a_paused_store_says_so(client: httpx.AsyncClient, desk: Desk) -> None:
    """In itself and in its jobs, until it is resumed."""
    store = await desk.store()
    await desk.put(store, "text")
    path = f"/v1/vector_stores/vs_{store.id.hex}"
    assert (await client.post(f"{path}/pause")).json()["paused"]
    assert [job["state"] for job in await jobs(client)] == ["paused"]
    assert not (await client.post(f"{path}/resume")).json()["paused"]
    assert [job["state"] for job in await jobs(client)] == ["waiting"]
    assert (await client.post("/v1/vector_stores/vs_" + "0" * 32 + "/pause")).status_code == 404


async def test_orphans_are_counted_and_repaired(client: httpx.AsyncClient, desk: Desk) -> None:
    """Nothing is an orphan of a sound catalog; a lost chunk makes its document be ingested again."""
    store = await desk.store()
    document, chunks = await desk.add(store, "one\ntwo")
    changes = await desk.changes(0)
    await desk.ports.keywords.apply(changes, desk.ports.outbox.entries(changes))
    assert set((await client.get("/v1/orphans")).json()["counts"].values()) == {0}
    desk.ports.ingestion.database.chunks.pop(chunks[0].id)  # type: ignore[attr-defined]
    assert (await client.get("/v1/orphans")).json()["counts"]["incomplete_documents"] == 1
    assert (await client.post("/v1/orphans")).json()["repaired"]
    assert [job["version"] for job in await jobs(client)] == [document.version + 1]
