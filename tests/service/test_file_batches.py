"""File batches, expiry, idempotency keys and preconditions of a running Bookwheel, by the official OpenAI client."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import openai
import psycopg
import pytest
from openai.types import VectorStore

from bookwheel.app import embedded_database
from bookwheel.settings import Settings

DEADLINE = 60.0  #: seconds that small files may take on a busy machine
POLL_MS = 100
MANY = 150  #: files: two pages


@pytest.fixture(scope="module")
def client(live_server: Any) -> Iterator[openai.OpenAI]:
    """A client that takes the types of its own package at their word."""
    with openai.OpenAI(
        base_url=f"{live_server.url}/v1", api_key="anything", max_retries=0, _strict_response_validation=True
    ) as made:
        yield made


@pytest.fixture
async def concurrent(live_server: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    """The asynchronous client."""
    async with openai.AsyncOpenAI(base_url=f"{live_server.url}/v1", api_key="anything", max_retries=0) as made:
        yield made


@pytest.fixture
def store(client: openai.OpenAI) -> Iterator[VectorStore]:
    """An empty store, taken away afterwards."""
    made = client.vector_stores.create(name="batches")
    yield made
    client.vector_stores.delete(made.id)


def paused(client: openai.OpenAI, store: VectorStore) -> None:
    """Nothing of the store is ingested any more."""
    client.post(f"/vector_stores/{store.id}/pause", cast_to=object)


def uploaded(client: openai.OpenAI, count: int) -> list[str]:
    """Ids of new files."""
    names = [uuid4().hex for _ in range(count)]
    with ThreadPoolExecutor(8) as pool:
        made = pool.map(
            lambda name: client.files.create(file=(f"{name}.txt", f"About {name}.".encode()), purpose="assistants"),
            names,
        )
    return [file.id for file in made]


def test_upload_and_poll(client: openai.OpenAI, store: VectorStore) -> None:
    """Files from disk and one that is there already are uploaded, put in as a batch and searchable at the end."""
    before = client.files.create(file=("whale.txt", b"Whales are mammals."), purpose="assistants")
    batch = client.vector_stores.file_batches.upload_and_poll(
        store.id,
        files=[("wheel.md", b"Ramelli described the bookwheel."), ("mill.md", b"A windmill mills.")],
        file_ids=[before.id],
        poll_interval_ms=POLL_MS,
    )
    assert (batch.status, batch.file_counts.completed, batch.file_counts.total) == ("completed", 3, 3)
    assert batch.vector_store_id == store.id
    assert batch.to_dict()["percent"] == 100.0
    found = client.vector_stores.search(store.id, query="Who described the bookwheel?").data
    assert "Ramelli" in found[0].content[0].text
    listed = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id)
    assert before.id in [file.id for file in listed]


def test_create_and_poll_with_fields_of_each_file(client: openai.OpenAI, store: VectorStore) -> None:
    """One broken file fails alone; the others are completed with their own attributes and chunking."""
    good, broken = uploaded(client, 1)[0], client.files.create(file=("a.pdf", b"%PDF-1.4 broken"), purpose="assistants")
    batch = client.vector_stores.file_batches.create_and_poll(
        store.id,
        files=[
            {
                "file_id": good,
                "attributes": {"year": 1588},
                "chunking_strategy": {
                    "type": "static",
                    "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 10},
                },
            },
            {"file_id": broken.id},
        ],
        poll_interval_ms=POLL_MS,
    )
    assert (batch.status, batch.file_counts.completed, batch.file_counts.failed) == ("completed", 1, 1)
    listing = client.vector_stores.file_batches.list_files
    (failed,) = list(listing(batch.id, vector_store_id=store.id, filter="failed"))
    assert failed.last_error is not None
    (done,) = list(listing(batch.id, vector_store_id=store.id, filter="completed"))
    assert (done.id, done.attributes) == (good, {"year": 1588})


def test_cancel(client: openai.OpenAI, store: VectorStore) -> None:
    """What waits is cancelled, and the files are listed as such, page by page."""
    paused(client, store)
    ids = uploaded(client, MANY)
    batches = client.vector_stores.file_batches
    batch = batches.create(store.id, file_ids=ids)
    assert (batch.status, batch.file_counts.in_progress) == ("in_progress", MANY)
    cancelled = batches.cancel(batch.id, vector_store_id=store.id)
    assert (cancelled.status, cancelled.file_counts.cancelled) == ("cancelled", MANY)
    assert batches.retrieve(batch.id, vector_store_id=store.id) == cancelled
    listed = batches.list_files(batch.id, vector_store_id=store.id, filter="cancelled", order="asc", limit=100)
    assert [file.id for file in listed] == ids
    assert list(batches.list_files(batch.id, vector_store_id=store.id, filter="completed")) == []


def test_errors_of_batches(client: openai.OpenAI, store: VectorStore) -> None:
    """An unknown file refuses the whole batch; another store does not know it."""
    (known,) = uploaded(client, 1)
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.file_batches.create(store.id, file_ids=[known, "file-" + "0" * 32])
    assert client.vector_stores.retrieve(store.id).file_counts.total == 0
    other = client.vector_stores.create()
    batch = client.vector_stores.file_batches.create(store.id, file_ids=[known])
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.file_batches.retrieve(batch.id, vector_store_id=other.id)
    client.vector_stores.delete(other.id)


def test_a_batch_can_be_sent_twice(client: openai.OpenAI, store: VectorStore) -> None:
    """With a key the second request gets the first one's batch; the key is of that request alone."""
    ids, headers = uploaded(client, 2), {"Idempotency-Key": uuid4().hex}
    batches = client.vector_stores.file_batches
    first = batches.create(store.id, file_ids=ids, extra_headers=headers)
    second = batches.with_raw_response.create(store.id, file_ids=ids, extra_headers=headers)
    assert second.headers["idempotent-replayed"] == "true"
    assert second.parse() == first
    with pytest.raises(openai.ConflictError) as reused:
        batches.create(store.id, file_ids=ids[:1], extra_headers=headers)
    assert reused.value.code == "idempotency_key_reused"


def test_many_at_once_make_one_store(client: openai.OpenAI) -> None:
    """Of the same request sent from many places at once one is done; the others are told to wait, or get its answer."""
    headers, name = {"Idempotency-Key": uuid4().hex}, uuid4().hex

    def create(_: int) -> str:
        try:
            return client.vector_stores.create(name=name, extra_headers=headers).id
        except openai.ConflictError as error:
            return str(error.code)

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(create, range(16))) - {"idempotency_key_in_use"}
    assert {one.id for one in client.vector_stores.list(limit=100) if one.name == name} == answers
    assert len(answers) == 1


def test_an_upload_can_be_sent_twice(client: openai.OpenAI) -> None:
    """By its content: the form's boundary is another each time."""
    headers = {"Idempotency-Key": uuid4().hex}
    first, second = [
        client.files.create(file=("a.txt", b"twice"), purpose="assistants", extra_headers=headers) for _ in range(2)
    ]
    assert first == second
    with pytest.raises(openai.ConflictError):
        client.files.create(file=("a.txt", b"other"), purpose="assistants", extra_headers=headers)


def test_the_second_of_two_edits_is_refused(client: openai.OpenAI, store: VectorStore) -> None:
    """Who read before the other's change must read again."""
    read = {"If-Match": client.vector_stores.with_raw_response.retrieve(store.id).headers["etag"]}
    client.vector_stores.update(store.id, name="mine", extra_headers=read)
    with pytest.raises(openai.APIStatusError) as late:
        client.vector_stores.update(store.id, name="theirs", extra_headers=read)
    assert (late.value.status_code, late.value.code) == (412, "precondition_failed")
    assert client.vector_stores.retrieve(store.id).name == "mine"
    (file_id,) = uploaded(client, 1)
    files = client.vector_stores.files
    attached = files.create_and_poll(file_id, vector_store_id=store.id, poll_interval_ms=POLL_MS)
    read = {"If-Match": files.with_raw_response.retrieve(attached.id, vector_store_id=store.id).headers["etag"]}
    files.update(attached.id, vector_store_id=store.id, attributes={"n": 1}, extra_headers=read)
    with pytest.raises(openai.APIStatusError):
        files.update(attached.id, vector_store_id=store.id, attributes={"n": 2}, extra_headers=read)


def test_expiry_policies(client: openai.OpenAI, store: VectorStore) -> None:
    """Policies of stores and files come back as the client's types."""
    assert (store.expires_after, store.expires_at) == (None, None)
    changed = client.vector_stores.update(store.id, expires_after={"anchor": "last_active_at", "days": 7})
    assert changed.expires_after is not None
    assert changed.last_active_at is not None
    assert (changed.expires_after.days, changed.expires_at) == (7, changed.last_active_at + 7 * 86400)
    never = client.vector_stores.update(store.id, expires_after=None)
    assert (never.expires_after, never.expires_at) == (None, None)
    file = client.files.create(
        file=("a.txt", b"short"), purpose="assistants", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at == file.created_at + 3600
    with pytest.raises(openai.BadRequestError):
        client.vector_stores.create(expires_after={"anchor": "last_active_at", "days": 366})


def test_what_is_over_goes_and_can_be_renewed(client: openai.OpenAI, live_server: Any) -> None:
    """Two days later a worker has removed the store's documents and the file; attaching one again renews the store."""
    store = client.vector_stores.create(expires_after={"anchor": "last_active_at", "days": 1})
    (file_id,) = uploaded(client, 1)
    client.vector_stores.files.create_and_poll(file_id, vector_store_id=store.id, poll_interval_ms=POLL_MS)
    short = client.files.create(
        file=("a.txt", b"short"), purpose="assistants", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    database = embedded_database(Settings(data_dir=live_server.data_dir)).url
    with psycopg.connect(database, autocommit=True) as connection:
        later = "- interval '2 days' WHERE id = %s"
        connection.execute(f"UPDATE stores SET last_active_at = last_active_at {later}", (store.id[3:],))
        connection.execute(f"UPDATE files SET expires_at = expires_at {later}", (short.id[5:],))
    assert client.vector_stores.retrieve(store.id).status == "expired"
    with pytest.raises(openai.BadRequestError) as expired:
        client.vector_stores.search(store.id, query="About")
    assert (expired.value.code, "modify it" in expired.value.message) == ("vector_store_expired", True)
    wait_for(lambda: client.vector_stores.retrieve(store.id).file_counts.total == 0)
    wait_for(lambda: short.id not in [file.id for file in client.files.list()])
    assert client.vector_stores.retrieve(store.id).status == "expired"
    assert client.files.retrieve(file_id).id == file_id
    client.vector_stores.files.create_and_poll(file_id, vector_store_id=store.id, poll_interval_ms=POLL_MS)
    assert client.vector_stores.search(store.id, query="About").data
    client.vector_stores.delete(store.id)


async def test_batches_of_the_asynchronous_client(concurrent: openai.AsyncOpenAI) -> None:
    """The same over the asynchronous client."""
    store = await concurrent.vector_stores.create()
    batch = await concurrent.vector_stores.file_batches.upload_and_poll(
        store.id, files=[(f"{number}.txt", f"text {number}".encode()) for number in range(8)], poll_interval_ms=POLL_MS
    )
    assert (batch.status, batch.file_counts.completed) == ("completed", 8)
    await concurrent.vector_stores.delete(store.id)


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)
