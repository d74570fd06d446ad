"""Documents that bring their own vectors, against a running Bookwheel."""

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import openai
import pytest

from bookwheel.client import Client, RequestFailedError

DIMENSIONS = 384
MEANING = {"hybrid_search": {"embedding_weight": 1, "text_weight": 0}}
WORDS = {"hybrid_search": {"embedding_weight": 0, "text_weight": 1}}
WHALE, OAK, COMET = (
    "The blue whale is the largest animal of the sea.",
    "An oak drops acorns in autumn.",
    "A comet has a tail of dust and ice.",
)


def direction(*weights: float) -> list[float]:
    """A vector whose first coordinates are the weights: nothing that the embedder would make."""
    return [*weights, *[0.0] * (DIMENSIONS - len(weights))]


def encoded(*weights: float) -> str:
    """The same as OpenAI's clients get it."""
    return base64.b64encode(np.array(direction(*weights), "<f4").tobytes()).decode()


#: The text about the whale points where a query about comets will, and so on.
LINES: tuple[dict[str, Any], ...] = (
    {"id": "whale", "text": WHALE, "vector": encoded(0, 0, 3), "attributes": {"kind": "animal"}},
    {"id": "oak", "text": OAK, "vector": direction(7, 0.7), "access": ["forester"]},
    {
        "id": "sky",
        "title": "The sky",
        "chunks": [
            {"text": COMET, "vector": direction(0, 1), "page": 4, "heading_path": ["Sky", "Comets"]},
            {"text": "The moon is near.", "vector": encoded(0, 1, 0.2)},
        ],
    },
)


@pytest.fixture(scope="module")
def client(live_server: Any) -> Iterator[Client]:
    """A client of the shared server."""
    with Client(live_server.url) as made:
        yield made


@pytest.fixture(scope="module")
def store(client: Client) -> Iterator[str]:
    """A store with the three documents, in both indexes."""
    made = client.store("given-vectors")
    assert [result.get("status") for result in client.put_documents(made, LINES)] == ["in_progress"] * 3
    settle(client, made)
    yield made
    client.call("DELETE", f"/v1/vector_stores/{made}")


def settle(client: Client, store: str) -> None:
    """Wait until everything is searchable."""
    counts = client.wait(store)
    assert (counts["failed"], counts["in_progress"]) == (0, 0)
    assert client.wait_for_keywords()


def find(client: Client, store: str, query: str, **options: Any) -> list[Mapping[str, Any]]:
    """Hits of one store, best first."""
    body = {"query": query, **options}
    hits: list[Mapping[str, Any]] = client.call("POST", f"/v1/vector_stores/{store}/search", json=body)["data"]
    return hits


def texts(hits: list[Mapping[str, Any]]) -> list[str]:
    """Their passages."""
    return [hit["content"][0]["text"] for hit in hits]


def test_given_vectors_decide_the_ranking(client: Client, store: str) -> None:
    """Whatever the words say: the nearest given vector is first, in the order of the cosines. The words are still there
    for the other half of a search."""
    moon = "The moon is near."
    cases = (
        ((0, 2), [COMET, moon, WHALE]),
        ((0, 1, 0.2), [moon, COMET, WHALE]),
        ((0, 1, 0.3), [moon, COMET, WHALE]),
        ((0, 0.1, 1), [WHALE, moon, COMET]),
    )
    for weights, order in cases:
        for form in (direction(*weights), encoded(*weights)):
            assert texts(find(client, store, "acorns", query_vector=form, ranking_options=MEANING)) == order
    assert texts(find(client, store, "whale", query_vector=direction(0, 2), ranking_options=WORDS))[0] == WHALE


def test_passages_are_the_owners(client: Client, store: str) -> None:
    """Pages, headings and offsets of the joined text come back with the hits, and the document as it was cut."""
    hit = find(client, store, "whale", query_vector=direction(0, 1), ranking_options=MEANING)[0]
    found = hit["document"]
    assert (found["page"], found["heading_path"], found["start"]) == (4, ["Sky", "Comets"], 0)
    document = client.call("GET", f"/v1/vector_stores/{store}/documents/sky", params={"include": "content"})
    assert [chunk["text"] for chunk in document["chunks"]] == [COMET, "The moon is near."]
    assert [chunk["start"] for chunk in document["chunks"]] == [0, len(COMET) + 2]
    assert document["title"] == "The sky"


def test_the_same_again_is_unchanged(client: Client, store: str) -> None:
    """In either form of its vectors; another vector with the same text is another version, which then decides."""
    again = [dict(LINES[0], vector=direction(0, 0, 3)), *LINES[1:]]
    assert [result["status"] for result in client.put_documents(store, again)] == ["unchanged"] * 3
    moved = {"id": "moves", "text": "It moves.", "vector": direction(0, 0, 0, 1)}
    for version, weights in enumerate(((0, 0, 0, 1), (0, 0, 0, 0, 1)), start=1):
        (result,) = client.put_documents(store, [moved | {"vector": direction(*weights)}])
        assert (result["version"], result["status"]) == (version, "in_progress")
        settle(client, store)
        hits = find(client, store, "whale", query_vector=direction(*weights), ranking_options=MEANING)
        assert texts(hits)[0] == "It moves."
    assert texts(find(client, store, "whale", query_vector=direction(0, 1, 0, 1), ranking_options=MEANING))[0] == COMET
    client.delete_document(store, "moves")


def test_the_same_text_elsewhere_keeps_its_own_embedding(client: Client, store: str) -> None:
    """A text that was put without a vector is embedded here, whoever brought another vector for it before; and what
    was given stays as it was given."""
    other = client.store("given-vectors-plain")
    try:
        made = client.call("POST", "/v1/embeddings", json={"model": "bookwheel-embeddings", "input": WHALE})
        own = np.array(made["data"][0]["embedding"])
        beside = (own + 0.1 * np.array(direction(0, 0, 1))).tolist()  # the next best: a cosine of .995
        for place in (other, store):
            lines = [{"id": "w", "text": WHALE}, {"id": "beside", "text": OAK, "vector": beside}]
            assert all("error" not in result for result in client.put_documents(place, lines))
            settle(client, place)
        cases = ((other, own.tolist(), ["w", "beside"]), (store, own.tolist(), ["w", "beside"]))
        for place, vector, names in (*cases, (store, direction(0, 0, 1), ["whale"])):
            hits = find(client, place, "acorns", query_vector=vector, ranking_options=MEANING)
            assert [hit["document"]["external_id"] for hit in hits][: len(names)] == names
    finally:
        client.delete_document(store, "w")
        client.delete_document(store, "beside")
        client.call("DELETE", f"/v1/vector_stores/{other}")


def test_access_and_attributes_still_work(client: Client, store: str) -> None:
    """Who may not read a document does not find it, however near its vector is, until it is opened, which is no new
    version; filters apply."""
    near_oak: dict[str, Any] = {"query": "oak", "query_vector": direction(1), "ranking_options": MEANING}
    assert OAK not in texts(find(client, store, **near_oak))
    for access in (None, ["forester"]):
        (result,) = client.put_documents(store, [LINES[1] | {"access": access}])
        assert (result["version"], result["status"]) == (1, "unchanged")
        assert (texts(find(client, store, **near_oak))[0] == OAK) is (access is None)
    filtered = find(client, store, **near_oak, filters={"type": "eq", "key": "kind", "value": "animal"})
    assert texts(filtered) == [WHALE]


def test_plain_search_and_the_sdk_take_a_vector(live_server: Any, client: Client, store: str) -> None:
    """Plain search over named stores; OpenAI's client by `extra_body`, which sends back what embeddings gave."""
    body = {"query": "oak", "query_vector": encoded(0, 1), "ranking_options": MEANING, "vector_store_ids": [store]}
    assert client.call("POST", "/v1/search", json=body)["results"][0]["text"] == COMET
    with openai.OpenAI(base_url=f"{live_server.url}/v1", api_key="anything", max_retries=0) as sdk:
        own = sdk.embeddings.create(model="bookwheel-embeddings", input="anything").data[0].embedding
        page = sdk.vector_stores.search(store, query="oak", extra_body={"query_vector": own})
        assert page.data
        with pytest.raises(openai.BadRequestError) as refused:
            sdk.vector_stores.search(store, query="oak", extra_body={"query_vector": own[:100]})
    assert refused.value.param == "query_vector"


def test_errors_name_the_place(client: Client, store: str) -> None:
    """Of a line, in its own result; other lines are taken."""
    wrong = {"id": "wrong", "chunks": [{"text": "a", "vector": direction(1)}, {"text": "b", "vector": [1.0] * 1536}]}
    results = list(client.put_documents(store, [wrong, LINES[0]]))
    assert results[0]["error"]["param"] == "chunks[1].vector"
    assert "384" in results[0]["error"]["message"]
    assert results[1]["status"] == "unchanged"
    with pytest.raises(RequestFailedError, match="query_vector"):
        find(client, store, "oak", query_vector=[1.0])
