"""POST /v2/rerank in Cohere's shape."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from bookwheel.api import create_app
from bookwheel.settings import Settings
from bookwheel.testing import memory_ports

TEXTS = ["A windmill grinds corn.", "The whale is the largest animal.", "An animal of the sea."]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the door."""
    transport = httpx.ASGITransport(app=create_app(memory_ports(), Settings()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


async def rerank(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    """One request."""
    asked = {"model": "bookwheel-rerank", "query": "largest animal whale", "documents": TEXTS}
    return await client.post("/v2/rerank", json={**asked, **body})


async def test_best_first_with_their_places(client: httpx.AsyncClient) -> None:
    """Each document once, by its index in the request, the most relevant first."""
    made = (await rerank(client)).json()
    assert [one["index"] for one in made["results"]] == [1, 2, 0]
    scores = [one["relevance_score"] for one in made["results"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert all("document" not in one for one in made["results"])
    assert made["id"]
    assert made["meta"]["api_version"] == {"version": "2"}
    assert made["model"] == "bookwheel-lexical"


async def test_documents_may_be_objects_and_come_back(client: httpx.AsyncClient) -> None:
    """`top_n` cuts, `return_documents` gives the text back."""
    documents = [{"text": TEXTS[0], "title": "ignored"}, TEXTS[1]]
    made = (await rerank(client, documents=documents, top_n=1, return_documents=True, model="bookwheel-lexical")).json()
    (one,) = made["results"]
    assert (one["index"], one["document"]) == (1, {"text": TEXTS[1]})
    assert len((await rerank(client, top_n=100)).json()["results"]) == 3


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"documents": []}, 400, "documents"),
        ({"documents": ["a"] * 1001}, 400, "documents"),
        ({"documents": [3]}, 400, "documents[0]"),
        ({"documents": ["a " * 9000]}, 400, "documents[0]"),
        ({"top_n": 0}, 400, "top_n"),
        ({"query": ""}, 400, "query"),
        ({"model": "rerank-v3.5"}, 404, "model"),
    ],
)
async def test_wrong_requests_name_the_field(
    client: httpx.AsyncClient, body: dict[str, Any], status: int, param: str
) -> None:
    """The field is named, and an unknown model lists the known."""
    response = await rerank(client, **body)
    assert response.status_code == status
    assert response.json()["error"]["param"].startswith(param)
    if status == 404:
        assert "bookwheel-lexical" in response.json()["error"]["message"]
