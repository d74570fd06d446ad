"""The official MCP client against a running Bookwheel."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from mcp import Client as McpClient
from mcp import MCPError

from bookwheel.client import Client

LINES = (
    {"id": "https://example.com/whale", "title": "Whales", "text": "The blue whale is the largest animal of the sea."},
    {"id": "oak", "text": "An oak drops acorns in autumn.", "attributes": {"kind": "tree"}},
    {"id": "hidden", "text": "The hidden whale is for the board.", "access": ["group:board"]},
)


@pytest.fixture(scope="module")
def store(live_server: Any) -> Iterator[str]:
    """A store with three documents, one of them restricted."""
    with Client(live_server.url) as client:
        made = client.store("mcp")
        assert all("error" not in line for line in client.put_documents(made, LINES))
        client.wait(made)
        client.wait_for_keywords()
        yield made
        client.call("DELETE", f"/v1/vector_stores/{made}")


@pytest.fixture
def url(live_server: Any) -> str:
    """The address of the protocol."""
    return f"{live_server.url}/mcp"


async def called(url: str, tool: str, **arguments: Any) -> Any:
    """What a tool returns: exactly one text that holds JSON, which is the structured content too."""
    async with McpClient(url) as client:
        result = await client.call_tool(tool, arguments)
    (content,) = result.content
    assert content.type == "text"
    if result.is_error:
        return content.text
    assert result.structured_content == json.loads(content.text)
    return result.structured_content


async def test_the_tools_say_what_they_take(url: str) -> None:
    """Two tools, each with a schema of its arguments; nothing needs more than one string."""
    async with McpClient(url) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == {"search", "fetch"}
    assert tools["search"].input_schema["required"] == ["query"]
    assert tools["fetch"].input_schema["required"] == ["id"]


async def test_search_then_fetch(url: str, store: str) -> None:
    """A result has id, title, url and text; its id gives the whole document. Restricted ones are not there."""
    found = await called(url, "search", query="largest animal of the sea", stores=["mcp"])
    best = found["results"][0]
    assert set(best) == {"id", "title", "url", "text"}
    assert (best["title"], best["url"]) == ("Whales", "https://example.com/whale")
    assert all("hidden" not in one["text"] for one in found["results"])
    whole = await called(url, "fetch", id=best["id"])
    assert whole["text"] == LINES[0]["text"]
    assert (whole["id"], whole["title"], whole["url"]) == (best["id"], "Whales", "https://example.com/whale")


async def test_a_document_without_an_address_has_ours(url: str, store: str) -> None:
    """The url of what was put as text can be opened."""
    found = await called(url, "search", query="acorns", filter={"kind": "tree"}, stores=["mcp"])
    async with httpx.AsyncClient() as browser:
        shown = (await browser.get(found["results"][0]["url"])).json()
    assert shown["chunks"][0]["text"] == LINES[1]["text"]
    assert (await called(url, "fetch", id=found["results"][0]["id"]))["metadata"]["kind"] == "tree"


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("search", {}, "query"),
        ("search", {"query": "a", "top_k": 0}, "top_k"),
        ("search", {"query": "a", "stores": ["nobody's"]}, "nobody's"),
        ("search", {"query": "a", "filter": {"a": {"$near": 1}}}, "filter.a.$near"),
        ("fetch", {"id": "42"}, "vs_"),
        ("fetch", {"id": f"vs_{'0' * 32}/doc_{'0' * 32}"}, "No vector store"),
        ("delete", {}, "search or fetch"),
    ],
)
async def test_errors_are_told_to_the_model(url: str, tool: str, arguments: dict[str, Any], words: str) -> None:
    """A tool's error is a result that says what was wrong, not a broken call."""
    assert words in await called(url, tool, **arguments)


async def test_documents_are_resources(url: str, store: str) -> None:
    """Listed page by page and read by their address; restricted ones are neither."""
    async with McpClient(url) as client:
        listed, cursor = [], None
        while True:
            page = await client.list_resources(cursor=cursor)
            listed += page.resources
            if (cursor := page.next_cursor) is None:
                break
        here = f"bookwheel://{store}/"  # other tests have documents of these names in stores of theirs
        by_name = {resource.name: resource for resource in listed if str(resource.uri).startswith(here)}
        assert {"https://example.com/whale", "oak"} <= set(by_name)
        assert "hidden" not in by_name
        (contents,) = (await client.read_resource(by_name["oak"].uri)).contents
        assert contents.text == LINES[1]["text"]  # type: ignore[union-attr]
        with pytest.raises(MCPError):
            await client.read_resource(f"bookwheel://{store}/doc_{'0' * 32}")
        with pytest.raises(MCPError):
            await client.list_resources(cursor="nonsense")


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "https://evil.example"}])
def test_foreign_pages_are_refused(url: str, headers: dict[str, str]) -> None:
    """A page of another site must not reach the server through a browser, also not by rebinding its name."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accept = {"accept": "application/json, text/event-stream"}
    response = httpx.post(url, json=body, headers=accept | headers)
    assert response.status_code in (403, 421)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_nothing_is_held_open(url: str, method: str) -> None:
    """Without sessions a stream from the server would never say anything."""
    answer = httpx.request(method, url, headers={"accept": "text/event-stream"}, timeout=5)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_a_restricted_document_is_not_there(url: str, store: str, live_server: Any) -> None:
    """Fetching it by its id tells neither its size nor its state."""
    with Client(live_server.url) as client:
        hidden = client.call("GET", f"/v1/vector_stores/{store}/documents/hidden")["document_id"]
    assert "No document" in await called(url, "fetch", id=f"{store}/{hidden}")
