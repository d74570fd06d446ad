"""Attributes, access lists and filters on built-in keys through the door, over the memory backend."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest

from bookwheel.api import create_app
from bookwheel.api.attributes import MAX_PRINCIPALS
from bookwheel.filters import KEYS
from bookwheel.follow import catch_up
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.testing import memory_ports
from bookwheel.testing.desk import Desk
from bookwheel.types import DEFAULT_TENANT


@pytest.fixture
def ports() -> Ports:
    """Empty ports in memory."""
    return memory_ports()


@pytest.fixture
async def client(ports: Ports) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the door."""
    transport = httpx.ASGITransport(app=create_app(ports, Settings()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


@pytest.fixture
async def store(client: httpx.AsyncClient) -> str:
    """The path of an empty store."""
    return f"/v1/vector_stores/{(await client.post('/v1/vector_stores', json={})).json()['id']}"


async def put(client: httpx.AsyncClient, store: str, **line: Any) -> dict[str, Any]:
    """The document that a line makes, as its owner sees it."""
    response = await client.post(f"{store}/documents", json=line)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = (await client.get(f"{store}/documents/{line['id']}")).json()
    return found


async def ingested(ports: Ports, document_id: str) -> None:
    """What a worker would do with a document."""
    desk = Desk(ports=ports, tenant=DEFAULT_TENANT)
    stores = await ports.stores.list(scope=desk.scope(), limit=10)
    document = await ports.documents.get(UUID(document_id.removeprefix("doc_")), scope=desk.scope(*stores))
    await desk.publish(document)
    while await catch_up(ports):
        continue


async def found(client: httpx.AsyncClient, store: str, **body: Any) -> list[dict[str, Any]]:
    """Search results."""
    response = await client.post(f"{store}/search", json={"query": "whale", **body})
    assert response.status_code == 200, response.text
    data: list[dict[str, Any]] = response.json()["data"]
    return data


async def test_access_list_of_a_file(client: httpx.AsyncClient, store: str) -> None:
    """It comes with the attach, is shown to the owner, stays when it is not named and ends with null."""
    file = (await client.post("/v1/files", files={"file": ("a.txt", b"x")}, data={"purpose": "assistants"})).json()
    body = {"file_id": file["id"], "access": ["b", "a", "b"]}
    assert (await client.post(f"{store}/files", json=body)).json()["access"] == ["b", "a"]
    again = (await client.post(f"{store}/files", json={"file_id": file["id"]})).json()
    assert again["access"] == ["b", "a"]
    path = f"{store}/files/{file['id']}"
    assert (await client.get(path)).json()["access"] == ["b", "a"]
    assert (await client.post(path, json={"attributes": {"year": 2024}})).json()["access"] == ["b", "a"]
    opened = (await client.post(path, json={"access": None})).json()
    assert (opened["access"], opened["attributes"], opened["version"]) == (None, {"year": 2024}, 1)
    restricted = (await client.post(path, json={"access": ["c"], "attributes": None})).json()
    assert (restricted["access"], restricted["attributes"]) == (["c"], {})


async def test_attributes_of_a_text_change_alone(client: httpx.AsyncClient, store: str, ports: Ports) -> None:
    """A document that was put as text needs not be sent again; nothing of it is read again."""
    document = await put(client, store, id="a", text="whale", attributes={"year": 2023})
    await ingested(ports, document["document_id"])
    path = f"{store}/files/{document['document_id']}"
    changed = (await client.post(path, json={"attributes": {"year": 2024}})).json()
    assert (changed["id"], changed["attributes"], changed["version"], changed["status"]) == (
        document["document_id"],
        {"year": 2024},
        1,
        "completed",
    )
    assert len(await found(client, store, filters={"year": 2024})) == 1
    assert await found(client, store, filters={"year": 2023}) == []


async def test_lines_have_access_lists(client: httpx.AsyncClient, store: str) -> None:
    """A line without `access` opens no document, null does; a wrong one is its line's error."""
    assert (await put(client, store, id="a", text="one"))["access"] is None
    assert (await put(client, store, id="a", text="one", access=["x"]))["access"] == ["x"]
    assert (await put(client, store, id="a", text="two"))["access"] == ["x"]
    assert (await put(client, store, id="a", text="two", access=None))["access"] is None
    lines = [{"id": "b", "text": "one", "access": []}, {"id": "c", "text": "one", "access": ["x"]}]
    response = await client.post(
        f"{store}/documents",
        content=b"\n".join(map(orjson.dumps, lines)),
        headers={"content-type": "application/x-ndjson"},
    )
    bad, good = map(orjson.loads, response.content.splitlines())
    assert (bad["error"]["param"], good["status"]) == ("access", "in_progress")


@pytest.mark.parametrize(
    ("access", "param"),
    [
        ("x", "access"),
        ([], "access"),
        ({}, "access"),
        (["x"] * (MAX_PRINCIPALS + 1), "access"),
        (["x", ""], "access[1]"),
        ([1], "access[0]"),
        (["x\0"], "access[0]"),
        (["x" * 513], "access[0]"),
    ],
)
async def test_wrong_access_lists_are_refused(client: httpx.AsyncClient, store: str, access: Any, param: str) -> None:
    """Each door says what is wrong, and a list that says nothing is not taken for everybody."""
    document = await put(client, store, id="a", text="one", access=["x"])
    for path, body in (
        (f"{store}/documents", {"id": "a", "text": "one", "access": access}),
        (f"{store}/files/{document['document_id']}", {"access": access}),
        (f"{store}/files", {"file_id": "file-" + "0" * 32, "access": access}),
    ):
        response = await client.post(path, json=body)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == param
    assert (await client.get(f"{store}/documents/a")).json()["access"] == ["x"]


async def test_an_update_must_change_something(client: httpx.AsyncClient, store: str) -> None:
    """An empty body is a mistake, not an order to empty the attributes."""
    document = await put(client, store, id="a", text="one", attributes={"x": 1})
    response = await client.post(f"{store}/files/{document['document_id']}", json={})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")
    missing = await client.post(f"{store}/files/doc_{'0' * 32}", json={"attributes": {}})
    assert missing.status_code == 404
    assert (await client.get(f"{store}/documents/a")).json()["attributes"] == {"x": 1}


@pytest.mark.parametrize("key", ["document.title", "document.", "chunk.page"])
async def test_built_in_names_are_no_attributes(client: httpx.AsyncClient, store: str, key: str) -> None:
    """An attribute that no filter could ask for is refused when it comes."""
    response = await client.post(f"{store}/documents", json={"id": "a", "text": "one", "attributes": {key: 1}})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "attributes")
    assert key in response.json()["error"]["message"]


async def test_results_can_be_asked_for_again(client: httpx.AsyncClient, store: str, ports: Ports) -> None:
    """What a result shows is what the built-in keys filter by."""
    document = await put(client, store, id="notes/a.md", text="the whale\nanother whale", title="Whales")
    await ingested(ports, document["document_id"])
    other = await put(client, store, id="b", text="a whale")
    await ingested(ports, other["document_id"])
    hit = next(one for one in await found(client, store) if one["document"]["ordinal"] == 1)
    shown = hit["document"]
    values = {
        "document.file_id": hit["file_id"],
        "document.path": shown["external_id"],
        "document.filename": hit["filename"],
        "document.title": shown["title"],
        "document.hash": shown["hash"],
        "document.access": None,
        "document.created_at": {"$gte": shown["created_at"], "$lt": shown["created_at"] + 1},
        "document.updated_at": {"$gte": shown["updated_at"], "$lt": shown["updated_at"] + 1},
        "chunk.page": None,
        "chunk.ordinal": shown["ordinal"],
        "chunk.language": shown["language"],
        "chunk.heading": {"$in": shown["heading_path"]},
    }
    assert values.keys() == KEYS.keys()
    filters = {key: {"$exists": False} if value is None else value for key, value in values.items()}
    assert [one["document"] for one in await found(client, store, filters=filters)] == [shown]


async def test_unknown_built_in_keys_are_told(client: httpx.AsyncClient, store: str) -> None:
    """A typing error in a filter is a 400, not an empty page."""
    for path, body in (
        (f"{store}/search", {"query": "x", "filters": {"document.titel": "x"}}),
        (
            "/v1/chat/completions",
            {
                "model": f"bookwheel/{store.rpartition('/')[2]}",
                "messages": [{"role": "user", "content": "x"}],
                "filters": {"type": "eq", "key": "chunk.pages", "value": 1},
            },
        ),
    ):
        response = await client.post(path, json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_filter")
        assert "document.title" in response.json()["error"]["message"]


async def test_restricted_documents_are_found_by_nobody_yet(
    client: httpx.AsyncClient, store: str, ports: Ports
) -> None:
    """No request speaks for anybody until there are keys: owners manage what they restricted, searches miss it."""
    document = await put(client, store, id="a", text="the whale", access=["staff"])
    await ingested(ports, document["document_id"])
    assert await found(client, store) == []
    assert (await client.get(f"{store}/documents/a")).json()["status"] == "completed"
    assert (await client.get(f"{store}/documents/a", params={"include": "content"})).status_code == 404
    assert (await client.get(f"{store}/files/{document['document_id']}/content")).status_code == 404
    await client.post(f"{store}/files/{document['document_id']}", json={"access": None})
    assert len(await found(client, store)) == 1
