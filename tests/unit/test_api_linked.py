"""Documents by their address: lines with `url`."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
import pytest

from bookwheel.api import create_app
from bookwheel.api.ids import parse
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.testing import memory_ports
from bookwheel.types import DEFAULT_TENANT, File, Scope

SCOPE = Scope(tenant_id=DEFAULT_TENANT)


@dataclass(slots=True)
class Site:
    """A web server on this machine."""

    pages: dict[str, bytes] = field(default_factory=dict)
    url: str = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request."""
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        body = self.pages.get(path)
        status = b"404 Not Found" if body is None else b"200 OK"
        writer.write(
            b"HTTP/1.1 " + status + b"\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n" + (body or b"")
        )
        await writer.drain()
        writer.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A site without pages."""
    made = Site()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made


@pytest.fixture
def ports() -> Ports:
    """Empty ports in memory."""
    return memory_ports()


async def door(ports: Ports, settings: Settings) -> httpx.AsyncClient:
    """A client of the door."""
    transport = httpx.ASGITransport(app=create_app(ports, settings), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.fixture
async def client(ports: Ports) -> AsyncIterator[httpx.AsyncClient]:
    """A door that may fetch from this machine."""
    async with await door(ports, Settings(fetch_allow_private=True)) as made:
        yield made


@pytest.fixture
async def store(client: httpx.AsyncClient) -> str:
    """The id of an empty store."""
    made: str = (await client.post("/v1/vector_stores", json={})).json()["id"]
    return made


async def put(client: httpx.AsyncClient, store: str, *lines: dict[str, Any]) -> list[dict[str, Any]]:
    """The result of each line."""
    body = b"\n".join(map(orjson.dumps, lines))
    response = await client.post(
        f"/v1/vector_stores/{store}/documents", content=body, headers={"content-type": "application/x-ndjson"}
    )
    return [orjson.loads(line) for line in response.content.splitlines()]


async def files(ports: Ports) -> list[File]:
    """All files of the tenant."""
    return list(await ports.files.list(scope=SCOPE, limit=100))


async def test_a_page_becomes_a_document(client: httpx.AsyncClient, ports: Ports, site: Site, store: str) -> None:
    """Its bytes are stored before the line is answered; texts and pages may stand side by side."""
    site.pages["/whale"] = b"<p>The whale</p>"
    lines = ({"id": "t", "text": "text"}, {"id": "p", "url": f"{site.url}/whale", "attributes": {"a": 1}})
    results = await put(client, store, *lines)
    assert [(one["id"], one["status"]) for one in results] == [("t", "in_progress"), ("p", "in_progress")]
    (file,) = await files(ports)
    assert (file.filename, file.size, file.purpose) == ("whale.html", 16, "url")
    scope = Scope(tenant_id=DEFAULT_TENANT, store_ids=(parse("store", store),))
    document = await ports.documents.find(scope=scope, external_id="p")
    assert (document.file_id, document.attributes) == (file.id, {"a": 1})
    one = await client.post(f"/v1/vector_stores/{store}/documents", json={"id": "q", "url": f"{site.url}/whale"})
    assert one.json()["status"] == "in_progress"


async def test_a_page_put_again_leaves_no_file_behind(
    client: httpx.AsyncClient, ports: Ports, site: Site, store: str
) -> None:
    """The same bytes make no new version, others do; the file of before goes, an upload of the caller's stays."""
    site.pages["/p"] = b"one"
    line = {"id": "p", "url": f"{site.url}/p"}
    assert [one["version"] for one in await put(client, store, line)] == [1]
    assert [one["version"] for one in await put(client, store, line)] == [1]
    site.pages["/p"] = b"two"
    assert [one["version"] for one in await put(client, store, line)] == [2]
    assert [file.size for file in await files(ports)] == [3]
    assert len(await files(ports)) == 1
    upload = (await client.post("/v1/files", files={"file": ("a.txt", b"mine")})).json()["id"]
    body = {"file_id": upload, "external_id": "p"}
    assert (await client.post(f"/v1/vector_stores/{store}/files", json=body)).status_code == 200
    await put(client, store, line)
    assert (await client.get(f"/v1/files/{upload}")).status_code == 200


async def test_what_cannot_be_fetched_fails_alone(
    client: httpx.AsyncClient, ports: Ports, site: Site, store: str
) -> None:
    """Each line says why; nothing is left behind."""
    lines = (
        {"id": "gone", "url": f"{site.url}/none"},
        {"id": "ftp", "url": "ftp://example.com/a"},
        {"id": "both", "url": site.url, "text": "a"},
        {"id": "number", "url": 3},
        {"id": "fine", "text": "a"},
    )
    results = await put(client, store, *lines)
    assert [one.get("error", {}).get("code") for one in results] == [
        "fetch_failed",
        "invalid_document",
        "invalid_document",
        "invalid_document",
        None,
    ]
    assert [one["id"] for one in results] == [line["id"] for line in lines]
    assert await files(ports) == []
    alone = await client.post(f"/v1/vector_stores/{store}/documents", json={"id": "x", "url": "file:///etc/passwd"})
    assert (alone.status_code, alone.json()["error"]["param"]) == (400, "url")


async def test_private_addresses_are_refused(ports: Ports, site: Site) -> None:
    """Unless a trusted network is declared."""
    site.pages["/p"] = b"secret"
    async with await door(ports, Settings()) as client:
        store = (await client.post("/v1/vector_stores", json={})).json()["id"]
        (result,) = await put(client, store, {"id": "p", "url": f"{site.url}/p"})
    assert result["error"]["code"] == "fetch_refused"
    assert await files(ports) == []
