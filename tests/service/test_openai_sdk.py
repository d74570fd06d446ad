"""The official OpenAI client against a running Bookwheel: what it does with OpenAI, it does here."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types import VectorStore

TEXT = """# The bookwheel

A bookwheel is a rotating bookcase that lets one person read several heavy books in one place.
It was described by Agostino Ramelli in 1588.

# The windmill

A windmill turns the power of the wind into the turning of a millstone.
"""
DEADLINE = 60.0  #: seconds that one small file may take on a busy machine


@pytest.fixture(scope="module")
def client(live_server: Any) -> Iterator[openai.OpenAI]:
    """The blocking client."""
    with openai.OpenAI(base_url=f"{live_server.url}/v1", api_key="anything", max_retries=0) as made:
        yield made


@pytest.fixture
async def concurrent(live_server: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    """The asynchronous client."""
    async with openai.AsyncOpenAI(base_url=f"{live_server.url}/v1", api_key="anything", max_retries=0) as made:
        yield made


@pytest.fixture
def store(client: openai.OpenAI) -> Iterator[VectorStore]:
    """An empty store, taken away afterwards."""
    made = client.vector_stores.create(name="sdk")
    yield made
    client.vector_stores.delete(made.id)


@pytest.fixture(scope="module")
def filled(client: openai.OpenAI) -> Iterator[VectorStore]:
    """A store with one file, searchable."""
    made = client.vector_stores.create(name="filled", metadata={"by": "test"})
    file = client.vector_stores.files.upload_and_poll(
        vector_store_id=made.id,
        file=("wheel.md", TEXT.encode()),
        attributes={"year": 1588, "kind": "machine"},
        poll_interval_ms=100,
        max_wait_seconds=DEADLINE,
    )
    assert (file.status, file.last_error) == ("completed", None)
    yield made
    client.vector_stores.delete(made.id)


def test_file_life(client: openai.OpenAI) -> None:
    """A file is uploaded, found, listed, read back and deleted."""
    file = client.files.create(file=("notes.txt", b"some notes"), purpose="user_data")
    assert (file.object, file.bytes, file.filename, file.purpose) == ("file", 10, "notes.txt", "user_data")
    assert client.files.retrieve(file.id) == file
    assert file.id in [one.id for one in client.files.list(purpose="user_data", limit=10)]
    assert client.files.content(file.id).read() == b"some notes"
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_store_life(client: openai.OpenAI) -> None:
    """A store is made, read, changed, listed over several pages and deleted."""
    stores = [client.vector_stores.create(name=f"s{number}", metadata={"a": "b"}) for number in range(3)]
    first = client.vector_stores.retrieve(stores[0].id)
    assert (first.name, first.metadata, first.status, first.file_counts.total) == ("s0", {"a": "b"}, "completed", 0)
    changed = client.vector_stores.update(first.id, name="renamed", metadata={"c": "d"})
    assert (changed.name, changed.metadata) == ("renamed", {"c": "d"})
    listed = [one.id for one in client.vector_stores.list(limit=2)]
    assert {one.id for one in stores} <= set(listed)
    assert len(listed) == len(set(listed))
    for one in stores:
        assert client.vector_stores.delete(one.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.retrieve(first.id)


def test_uploaded_file_is_attached(client: openai.OpenAI, filled: VectorStore) -> None:
    """upload_and_poll ends with a completed file that the store lists, counts and can read back."""
    (file,) = list(client.vector_stores.files.list(filled.id, filter="completed"))
    assert file.attributes == {"year": 1588, "kind": "machine"}
    assert file.usage_bytes == len(TEXT.encode())
    assert client.vector_stores.files.retrieve(file.id, vector_store_id=filled.id).status == "completed"
    counts = client.vector_stores.retrieve(filled.id).file_counts
    assert (counts.completed, counts.total) == (1, 1)
    content = list(client.vector_stores.files.content(file.id, vector_store_id=filled.id))
    assert "Agostino Ramelli" in "".join(part.text or "" for part in content)


def test_file_taken_out_of_a_store_is_not_found_again(client: openai.OpenAI, store: VectorStore) -> None:
    """The next search after a delete does not see the file; the file itself stays."""
    attached = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("wheel.md", TEXT.encode()), poll_interval_ms=100, max_wait_seconds=DEADLINE
    )
    assert list(client.vector_stores.search(store.id, query="Ramelli"))
    assert client.vector_stores.files.delete(attached.id, vector_store_id=store.id).deleted
    assert list(client.vector_stores.search(store.id, query="Ramelli")) == []
    assert client.files.retrieve(attached.id).filename == "wheel.md"
    client.files.delete(attached.id)


async def test_search(concurrent: openai.AsyncOpenAI, filled: VectorStore) -> None:
    """A search finds the passage, with its file, attributes and a score from 0 to 1."""
    page = await concurrent.vector_stores.search(filled.id, query="Who described the bookwheel?", max_num_results=3)
    best = page.data[0]
    assert "Ramelli" in best.content[0].text
    assert (best.filename, best.attributes) == ("wheel.md", {"year": 1588, "kind": "machine"})
    assert 0 <= best.score <= 1


@pytest.mark.parametrize(("year", "found"), [(1588, True), (1589, False)])
def test_search_honours_filters(client: openai.OpenAI, filled: VectorStore, year: int, found: bool) -> None:
    """Only documents whose attributes pass are found."""
    page = client.vector_stores.search(
        filled.id,
        query="bookwheel",
        filters={
            "type": "and",
            "filters": [
                {"type": "gte", "key": "year", "value": year},
                {"type": "eq", "key": "kind", "value": "machine"},
            ],
        },
    )
    assert bool(page.data) is found


def test_chat(client: openai.OpenAI, filled: VectorStore) -> None:
    """An answer rests on the store named in extra_body and cites the file word for word."""
    made = client.chat.completions.create(
        model="bookwheel",
        messages=[{"role": "user", "content": "Who described the bookwheel, and when?"}],
        extra_body={"vector_store_ids": [filled.id]},
    )
    message = made.choices[0].message
    assert "Ramelli" in (message.content or "")
    assert made.choices[0].finish_reason == "stop"
    assert made.usage is not None
    assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens
    cited = message.to_dict()["annotations"][0]["file_citation"]  # type: ignore[index]
    assert cited["filename"] == "wheel.md"
    assert cited["quote"] in TEXT


async def test_chat_streams(concurrent: openai.AsyncOpenAI, filled: VectorStore) -> None:
    """The streamed text is the whole answer's text; citations and usage come at the end."""
    messages: Any = [{"role": "user", "content": "Who described the bookwheel?"}]
    model = f"bookwheel/{filled.id}"
    whole = await concurrent.chat.completions.create(model=model, messages=messages)
    chunks = [
        chunk
        async for chunk in await concurrent.chat.completions.create(
            model=model, messages=messages, stream=True, stream_options={"include_usage": True}
        )
    ]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    last = [chunk for chunk in chunks if chunk.choices][-1]
    assert last.choices[0].finish_reason == "stop"
    assert last.choices[0].delta.to_dict()["annotations"]
    assert chunks[-1].usage is not None


def test_models(client: openai.OpenAI, filled: VectorStore) -> None:
    """The models are listed, and a store can be asked as one."""
    assert "bookwheel" in [model.id for model in client.models.list()]
    assert client.models.retrieve(f"bookwheel/{filled.id}").object == "model"


def test_documents_line_by_line(live_server: Any, client: openai.OpenAI, store: VectorStore) -> None:
    """Texts put as NDJSON under the caller's ids get a result each and are listed with the store's files."""
    response = httpx.post(
        f"{live_server.url}/v1/vector_stores/{store.id}/documents",
        content=b'{"id": "a/1", "text": "Whales are mammals."}\n{"id": "a/2"}\n',
        headers={"content-type": "application/x-ndjson"},
        timeout=DEADLINE,
    )
    first, second = response.text.splitlines()
    assert '"id":"a/1"' in first
    assert '"invalid_document"' in second
    assert client.vector_stores.retrieve(store.id).file_counts.total == 1
    (listed,) = list(client.vector_stores.files.list(store.id))
    found = httpx.get(f"{live_server.url}/v1/vector_stores/{store.id}/documents/a%2F1", timeout=DEADLINE).json()
    assert listed.id == found["document_id"]


def test_errors_are_the_clients_own(client: openai.OpenAI, store: VectorStore) -> None:
    """Errors arrive as the client's exception classes, with message, param, code and request id."""
    with pytest.raises(openai.NotFoundError) as unknown:
        client.vector_stores.retrieve("vs_unknown")
    assert unknown.value.code == "not_found"
    assert unknown.value.request_id
    with pytest.raises(openai.BadRequestError) as wrong:
        client.vector_stores.search(store.id, query="a", filters={"type": "like", "key": "a", "value": 1})  # type: ignore[arg-type]
    assert (wrong.value.code, wrong.value.param) == ("invalid_filter", "filters.type")
    with pytest.raises(openai.BadRequestError) as homeless:
        client.chat.completions.create(model="bookwheel", messages=[{"role": "user", "content": "why"}])
    assert homeless.value.param == "vector_store_ids"
