"""ETag and If-Match: nobody writes over what he has not read."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from bookwheel.api import create_app
from bookwheel.settings import Settings
from bookwheel.testing import memory_ports


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the door over empty ports."""
    transport = httpx.ASGITransport(app=create_app(memory_ports(), Settings()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


@pytest.fixture
async def store(client: httpx.AsyncClient) -> str:
    """The path of a store."""
    return f"/v1/vector_stores/{(await client.post('/v1/vector_stores', json={'name': 'a'})).json()['id']}"


async def tag(client: httpx.AsyncClient, path: str) -> str:
    """The ETag that comes with a thing."""
    return (await client.get(path)).headers["etag"]


async def test_edit_with_the_tag_that_was_read(client: httpx.AsyncClient, store: str) -> None:
    """The first change wins; the second is told to read again, and then may."""
    read = await tag(client, store)
    changed = await client.post(store, json={"name": "b"}, headers={"if-match": read})
    assert (changed.status_code, changed.headers["etag"]) == (200, await tag(client, store))
    late = await client.post(store, json={"name": "c"}, headers={"if-match": read})
    assert (late.status_code, late.json()["error"]["code"]) == (412, "precondition_failed")
    assert "Read it again" in late.json()["error"]["message"]
    assert (await client.delete(store, headers={"if-match": read})).status_code == 412
    assert (await client.get(store)).json()["name"] == "b"
    assert (await client.delete(store, headers={"if-match": await tag(client, store)})).status_code == 200


@pytest.mark.parametrize(
    "change", [{"name": "b"}, {"metadata": {"a": "b"}}, {"expires_after": {"anchor": "last_active_at", "days": 1}}]
)
async def test_tag_follows_each_edit(client: httpx.AsyncClient, store: str, change: dict[str, Any]) -> None:
    """Each field that can be changed is in the tag."""
    before = await tag(client, store)
    await client.post(store, json=change)
    assert await tag(client, store) != before


async def test_counters_are_not_in_the_tag(client: httpx.AsyncClient, store: str) -> None:
    """A document that comes does not stop anybody's edit."""
    before = await tag(client, store)
    await client.post(f"{store}/documents", json={"id": "a", "text": "one"})
    assert await tag(client, store) == before


async def test_attributes_of_a_file(client: httpx.AsyncClient, store: str) -> None:
    """The same for a document in a store: attributes, access list and a newer version."""
    await client.post(f"{store}/documents", json={"id": "a", "text": "one"})
    (listed,) = (await client.get(f"{store}/files")).json()["data"]
    path = f"{store}/files/{listed['id']}"
    read = await tag(client, path)
    first = await client.post(path, json={"attributes": {"n": 1}}, headers={"if-match": read})
    assert (first.status_code, first.headers["etag"]) == (200, await tag(client, path))
    late = await client.post(path, json={"attributes": {"n": 2}}, headers={"if-match": read})
    assert (late.status_code, (await client.get(path)).json()["attributes"]) == (412, {"n": 1})
    seen = {read, await tag(client, path)}
    await client.post(path, json={"access": ["staff"]})
    seen.add(await tag(client, path))
    await client.post(f"{store}/documents", json={"id": "a", "text": "two", "attributes": {"n": 1}})
    assert len(seen | {await tag(client, path)}) == 4


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("*", 200),
        ('"x", {tag}', 200),
        ('"x"', 412),
        ("W/{tag}", 412),
        ("x", 400),
        ('"x', 400),
        ('"x" "y"', 400),
        ("", 400),
    ],
)
async def test_header(client: httpx.AsyncClient, store: str, header: str, status: int) -> None:
    """Any of a list will do; a weak tag never does; what is no tag is an error, not a match."""
    sent = header.format(tag=await tag(client, store))
    response = await client.post(store, json={"name": "b"}, headers={"if-match": sent})
    assert response.status_code == status


async def test_unknown_things_are_not_found_first(client: httpx.AsyncClient) -> None:
    """404 says more than 412."""
    path = "/v1/vector_stores/vs_" + "0" * 32
    assert (await client.post(path, json={}, headers={"if-match": '"x"'})).status_code == 404
