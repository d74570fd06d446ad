"""POST /v1/embeddings: what is refused, what comes back, and who waits for whom."""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from bookwheel.api import create_app, embeddings
from bookwheel.ports import Vectors
from bookwheel.settings import Settings
from bookwheel.testing import HASH_SPACE, HashEmbedder, memory_ports


class Slow(HashEmbedder):
    """Counts who embeds at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []
        self.running = self.most = 0

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Takes a turn of the loop for each call."""
        self.calls.append(len(texts))
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.001)
        self.running -= 1
        return await super().embed(texts)


@pytest.fixture
def embedder() -> Slow:
    """The embedder of the door."""
    return Slow()


@pytest.fixture
async def client(embedder: Slow) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the door."""
    ports = replace(memory_ports(), embedders={HASH_SPACE.id: embedder})
    transport = httpx.ASGITransport(app=create_app(ports, Settings()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


async def embed(client: httpx.AsyncClient, input: Any, **options: Any) -> httpx.Response:
    """One request."""
    return await client.post("/v1/embeddings", json={"model": "bookwheel-embeddings", "input": input, **options})


async def test_vectors_come_in_order(client: httpx.AsyncClient, embedder: Slow) -> None:
    """As floats or as base64 of little-endian float32, with the tokens used; the model by either name."""
    texts = ["one", "two words", "three"]
    expected = await embedder.embed(texts)
    made = (await embed(client, texts)).json()
    assert (made["object"], made["model"]) == ("list", "bookwheel-embeddings")
    assert made["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert [one["index"] for one in made["data"]] == [0, 1, 2]
    np.testing.assert_allclose([one["embedding"] for one in made["data"]], expected, rtol=1e-6)
    packed = (await embed(client, texts, encoding_format="base64", model="hash", dimensions=64)).json()
    decoded = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in packed["data"]]
    np.testing.assert_array_equal(decoded, expected)
    alone = (await embed(client, "one")).json()["data"]
    assert len(alone) == 1


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": ""}, 400, "input[0]"),
        ({"input": ["a", " "]}, 400, "input[1]"),
        ({"input": []}, 400, "input"),
        ({"input": ["a"] * 2049}, 400, "input"),
        ({"input": [1, 2, 3]}, 400, "input"),
        ({"input": [[1, 2], [3]]}, 400, "input"),
        ({"input": "a " * 8193}, 400, "input[0]"),
        ({"input": ["a " * 8000] * 40}, 400, "input"),
        ({"input": None}, 400, "input"),
        ({"input": "a", "dimensions": 32}, 400, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, 400, "encoding_format"),
        ({"input": "a", "model": "text-embedding-3-small"}, 404, "model"),
        ({"input": "a", "model": 3}, 400, "model"),
    ],
)
async def test_wrong_requests_name_the_field(
    client: httpx.AsyncClient, embedder: Slow, body: dict[str, Any], status: int, param: str
) -> None:
    """Nothing is embedded for a request that is not valid."""
    response = await embed(client, **{"input": "a", **body})
    assert response.status_code == status
    assert response.json()["error"]["param"].startswith(param)
    assert embedder.calls == []


async def test_token_lists_say_what_to_send(client: httpx.AsyncClient) -> None:
    """The tokens of another model's tokenizer mean nothing here."""
    assert "Send the text itself" in (await embed(client, [1, 2])).json()["error"]["message"]


async def test_an_unknown_model_lists_the_known(client: httpx.AsyncClient) -> None:
    """And those are in GET /v1/models."""
    message = (await embed(client, "a", model="gpt-9")).json()["error"]["message"]
    listed = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
    for name in ("bookwheel-embeddings", "hash"):
        assert name in message
        assert name in listed
        assert (await client.get(f"/v1/models/{name}")).json()["id"] == name


async def test_large_requests_take_turns(client: httpx.AsyncClient, embedder: Slow) -> None:
    """Each turn is about one batch, and no two requests have a turn at the same time."""
    texts = ["word " * 500] * 20
    both = await asyncio.gather(embed(client, texts), embed(client, texts))
    assert [len(response.json()["data"]) for response in both] == [20, 20]
    assert embedder.most == 1
    assert max(embedder.calls) == embeddings.TURN_TOKENS // 500


@pytest.mark.parametrize("counts", [[1], [5000], [2048, 1], [1, 5000, 1, 1], [0] * 10, [100] * 100])
def test_turns_cover_all_texts_once(counts: list[int]) -> None:
    """In order, none twice, none too large unless it is one text."""
    parts = list(embeddings.turns(counts))
    assert [index for part in parts for index in part] == list(range(len(counts)))
    assert all(len(part) == 1 or sum(counts[index] for index in part) <= embeddings.TURN_TOKENS for part in parts)
