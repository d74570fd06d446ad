"""The retrievers in the real frameworks, against a running Bookwheel."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from bookwheel.client import Client
from bookwheel.errors import NotFoundError

LINES = (
    {"id": "whale", "text": "The blue whale is the largest animal of the sea.", "attributes": {"year": 2020}},
    {"id": "oak", "text": "An oak drops acorns in autumn.", "attributes": {"year": 2024}},
)


def needs(package: str) -> pytest.MarkDecorator:
    """Skips a test at home when the framework is not installed; in CI it is."""
    missing = find_spec(package) is None and os.environ.get("CI") != "true"
    return pytest.mark.skipif(missing, reason=f"{package} is missing: uv sync --group integrations")


@pytest.fixture(scope="module")
def store(live_server: Any) -> Iterator[str]:
    """A store with two documents."""
    with Client(live_server.url) as client:
        made = client.store("integrations")
        assert all("error" not in line for line in client.put_documents(made, LINES))
        client.wait(made)
        client.wait_for_keywords()
        yield made
        client.call("DELETE", f"/v1/vector_stores/{made}")


@needs("langchain_core")
async def test_langchain(live_server: Any, store: str) -> None:
    """Documents with text and metadata, blocking and asynchronous, alone and in a chain."""
    from langchain_core.runnables import RunnableLambda

    from bookwheel.integrations.langchain import BookwheelRetriever

    retriever = BookwheelRetriever(url=live_server.url, stores=["integrations"], top_k=1)
    (found,) = retriever.invoke("largest animal of the sea")
    assert found.page_content == LINES[0]["text"]
    assert (found.metadata["external_id"], found.metadata["year"]) == ("whale", 2020)
    assert 0 <= found.metadata["score"] <= 1
    assert await retriever.ainvoke("largest animal of the sea") == [found]
    chain = retriever | RunnableLambda(lambda documents: documents[0].page_content)
    assert chain.invoke("acorns") == LINES[1]["text"]
    filtered = BookwheelRetriever(url=live_server.url, vector_store_ids=[store], filter={"year": {"$gt": 2020}})
    assert [one.metadata["external_id"] for one in filtered.invoke("whale")] == ["oak"]
    with pytest.raises(NotFoundError, match="nobody"):
        BookwheelRetriever(url=live_server.url, stores=["nobody"]).invoke("a")


@needs("llama_index.core" if find_spec("llama_index") else "llama_index")
async def test_llamaindex(live_server: Any, store: str) -> None:
    """Nodes with scores and metadata, blocking and asynchronous."""
    from bookwheel.integrations.llamaindex import BookwheelRetriever

    retriever = BookwheelRetriever(url=live_server.url, stores=["integrations"], top_k=1)
    (found,) = retriever.retrieve("largest animal of the sea")
    assert found.get_content() == LINES[0]["text"]
    assert (found.metadata["external_id"], found.metadata["year"]) == ("whale", 2020)
    assert 0 <= (found.score or 0) <= 1
    (again,) = await retriever.aretrieve("largest animal of the sea")
    assert again.node_id == found.node_id
    filtered = BookwheelRetriever(url=live_server.url, vector_store_ids=[store], filter={"year": {"$gt": 2020}})
    assert [one.metadata["external_id"] for one in filtered.retrieve("whale")] == ["oak"]
    with pytest.raises(NotFoundError, match="nobody"):
        BookwheelRetriever(url=live_server.url, stores=["nobody"]).retrieve("a")
