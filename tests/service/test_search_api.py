"""Embeddings, plain search, rankers and reranking by the official clients against a running Bookwheel."""

from collections.abc import Iterator
from typing import Any

import cohere
import httpx
import numpy as np
import openai
import pytest

from bookwheel.client import Client

DEADLINE = 60.0
LINES = (
    {"id": "whale", "text": "The blue whale is the largest animal of the sea.", "attributes": {"date": "2024-01-31"}},
    {"id": "oak", "text": "An oak drops acorns in autumn.", "attributes": {"date": "2024-02-01T01:00+02:00"}},
    {"id": "comet", "text": "A comet has a tail of dust and ice.", "attributes": {"date": "soon"}},
)


@pytest.fixture(scope="module")
def sdk(live_server: Any) -> Iterator[openai.OpenAI]:
    """OpenAI's client."""
    with openai.OpenAI(base_url=f"{live_server.url}/v1", api_key="anything", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def store(live_server: Any) -> Iterator[str]:
    """A store with three documents, in both indexes."""
    with Client(live_server.url) as client:
        made = client.store("search-api")
        assert all("error" not in line for line in client.put_documents(made, LINES))
        client.wait(made)
        client.wait_for_keywords()
        yield made
        client.call("DELETE", f"/v1/vector_stores/{made}")


def test_embeddings_are_the_stores_own(sdk: openai.OpenAI, store: str) -> None:
    """The client asks for base64 by default and gets unit vectors; floats are the same numbers."""
    texts = ["The largest animal", "Trees in autumn", LINES[0]["text"]]
    made = sdk.embeddings.create(model="bookwheel-embeddings", input=texts)
    vectors = np.array([one.embedding for one in made.data])
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3)
    assert vectors[0] @ vectors[2] > vectors[1] @ vectors[2]
    assert made.usage.total_tokens == made.usage.prompt_tokens > 0
    floats = sdk.embeddings.create(model="all-MiniLM-L6-v2", input=texts[0], encoding_format="float", dimensions=384)
    np.testing.assert_allclose(floats.data[0].embedding, vectors[0], atol=0.02)
    assert {"bookwheel-embeddings", "all-MiniLM-L6-v2"} <= {model.id for model in sdk.models.list()}


def test_embeddings_refuse_what_they_cannot_do(sdk: openai.OpenAI) -> None:
    """Tokens, other dimensions and unknown models are told, not guessed at."""
    for options, param in (({"input": [1, 2, 3]}, "input"), ({"input": "a", "dimensions": 256}, "dimensions")):
        with pytest.raises(openai.BadRequestError) as refused:
            sdk.embeddings.create(model="bookwheel-embeddings", **options)  # type: ignore[arg-type]
        assert refused.value.param == param
    with pytest.raises(openai.NotFoundError):
        sdk.embeddings.create(model="text-embedding-3-small", input="a")


@pytest.mark.parametrize("ranker", ["auto", "none", "default-2024-11-15", "default-2024-08-21"])
def test_rankers_of_the_sdk(sdk: openai.OpenAI, store: str, ranker: Any) -> None:
    """Each known ranker is taken, with a threshold, weights and a rewritten query."""
    page = sdk.vector_stores.search(
        store,
        query=["largest animal", "comet"],
        max_num_results=2,
        rewrite_query=True,
        ranking_options={"ranker": ranker, "score_threshold": 0.1},
        extra_body={"ranking_options": {"ranker": ranker, "score_threshold": 0.1, "hybrid_search": {"text_weight": 3}}},
    )
    assert {one.filename for one in page.data} == {"whale", "comet"}
    assert all(one.score >= 0.1 for one in page.data)
    with pytest.raises(openai.BadRequestError, match="default-2024-08-21") as unknown:
        sdk.vector_stores.search(store, query="a", ranking_options={"ranker": "best"})  # type: ignore[typeddict-item]
    assert unknown.value.param == "ranking_options.ranker"


def test_dates_are_compared_as_moments(sdk: openai.OpenAI, store: str) -> None:
    """An offset counts; what is no date is compared as a string."""

    def names(filters: Any) -> set[str]:
        return {one.filename for one in sdk.vector_stores.search(store, query="animal", filters=filters).data}

    assert names({"type": "gt", "key": "date", "value": "2024-01-31T22:59:59Z"}) == {"oak", "comet"}
    assert names({"type": "eq", "key": "date", "value": "2024-01-31T23:00:00+00:00"}) == {"oak"}
    assert names({"date": {"$lt": "2024-01-31T23:00Z"}}) == {"whale"}


def test_plain_search_over_all_stores(live_server: Any, store: str) -> None:
    """By name, and with the warning that a mistyped attribute deserves."""
    with Client(live_server.url) as client:
        assert client.find("largest animal", stores=["search-api"])[0]["document"]["external_id"] == "whale"
        everywhere = client.find("comet tail", top_k=20)  # other tests have stores of theirs
        assert LINES[2]["text"] in [one["text"] for one in everywhere]
        body = {"query": "whale", "filter": {"dat": "2024-01-31"}, "vector_store_ids": [store]}
        found = client.call("POST", "/v1/search", json=body)
        assert found["results"] == []
        assert "'dat'" in found["warnings"][0]


def test_rerank_by_coheres_client(live_server: Any) -> None:
    """The official client gets each document's place and relevance, best first, and its own errors."""
    texts = [str(line["text"]) for line in LINES]
    with cohere.ClientV2(api_key="anything", base_url=live_server.url) as client:
        made = client.rerank(model="bookwheel-rerank", query="Which tree drops acorns?", documents=texts, top_n=2)
        assert [one.index for one in made.results][:1] == [1]
        assert len(made.results) == 2
        assert all(0 <= one.relevance_score <= 1 for one in made.results)
        with pytest.raises(cohere.NotFoundError):
            client.rerank(model="rerank-v3.5", query="a", documents=texts)


def test_rerank_gives_documents_back(live_server: Any) -> None:
    """As Cohere's first version did, from texts and objects."""
    body = {
        "model": "bookwheel-lexical",
        "query": "tail of dust",
        "documents": [{"text": line["text"]} for line in LINES],
        "return_documents": True,
    }
    made = httpx.post(f"{live_server.url}/v2/rerank", json=body, timeout=DEADLINE).json()
    assert made["results"][0]["document"] == {"text": LINES[2]["text"]}
