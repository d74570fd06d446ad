"""The Responses API as the official OpenAI client speaks it, against a running Bookwheel."""

import time
from collections.abc import Iterator
from typing import Any

import openai
import psutil
import pytest
from openai.types import VectorStore
from openai.types.responses import Response, ResponseFileSearchToolCall, ResponseOutputMessage

TEXT = """# The bookwheel

A bookwheel is a rotating bookcase that lets one person read several heavy books in one place.
The bookwheel was described by Agostino Ramelli in 1588.

# The windmill

A windmill turns the power of the wind into the turning of a millstone.
"""
DEADLINE = 60.0
QUESTION = "Who described the bookwheel?"


@pytest.fixture(scope="module")
def client(live_server: Any) -> Iterator[openai.OpenAI]:
    """The blocking client."""
    with openai.OpenAI(base_url=f"{live_server.url}/v1", api_key="anything", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def store(client: openai.OpenAI) -> Iterator[VectorStore]:
    """A store with one file, searchable."""
    made = client.vector_stores.create(name="responses")
    file = client.vector_stores.files.upload_and_poll(
        vector_store_id=made.id,
        file=("wheel.md", TEXT.encode()),
        attributes={"year": 1588},
        poll_interval_ms=100,
        max_wait_seconds=DEADLINE,
    )
    assert file.status == "completed"
    yield made
    client.vector_stores.delete(made.id)


@pytest.fixture
def asking(store: VectorStore) -> dict[str, Any]:
    """A question to the store."""
    tool = {"type": "file_search", "vector_store_ids": [store.id], "max_num_results": 3}
    return {"model": "bookwheel", "input": QUESTION, "tools": [tool]}


def finished(client: openai.OpenAI, response: Response) -> Response:
    """Poll it to its end."""
    deadline = time.monotonic() + DEADLINE
    while response.status in ("queued", "in_progress"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
        response = client.responses.retrieve(response.id)
    return response


def test_a_response(client: openai.OpenAI, asking: dict[str, Any]) -> None:
    """The text answers, the citation points at the file, the search shows its results when asked to."""
    made = client.responses.create(**asking, include=["file_search_call.results"], metadata={"a": "b"})
    assert "Ramelli" in made.output_text
    assert (made.status, made.metadata, made.error) == ("completed", {"a": "b"}, None)
    search, message = made.output
    assert isinstance(search, ResponseFileSearchToolCall)
    assert isinstance(message, ResponseOutputMessage)
    assert search.queries == [QUESTION]
    assert search.results is not None
    assert "Ramelli" in (search.results[0].text or "")
    assert search.results[0].attributes == {"year": 1588}
    cited = message.content[0].to_dict()["annotations"][0]  # type: ignore[index]
    assert (cited["type"], cited["filename"]) == ("file_citation", "wheel.md")
    assert cited["quote"] in TEXT
    assert made.usage is not None
    assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens
    assert client.responses.retrieve(made.id, include=["file_search_call.results"]) == made


def test_a_stream(client: openai.OpenAI, asking: dict[str, Any]) -> None:
    """The client sees retrieving, then generating; its own accumulation gives the whole."""
    with client.responses.stream(**asking) as stream:
        events = list(stream)
        whole = stream.get_final_response()
    types = [event.type for event in events]
    assert types.index("response.file_search_call.searching") < types.index("response.output_text.delta")
    assert (types[0], types[-1]) == ("response.created", "response.completed")
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(numbers)
    assert "Ramelli" in whole.output_text


def test_a_conversation(client: openai.OpenAI, asking: dict[str, Any]) -> None:
    """A follow-up without its subject finds what the first question was about."""
    first = client.responses.create(**asking)
    second = client.responses.create(**asking | {"input": "And when was it described?"}, previous_response_id=first.id)
    assert "1588" in second.output_text
    assert "bookwheel" in second.output[0].queries[0]  # type: ignore[union-attr]


def test_a_chat_follow_up(client: openai.OpenAI, store: VectorStore) -> None:
    """The same in a chat."""
    made = client.chat.completions.create(
        model=f"bookwheel/{store.id}",
        messages=[
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": "Agostino Ramelli."},
            {"role": "user", "content": "and in which year was that?"},
        ],
    )
    assert "1588" in (made.choices[0].message.content or "")
    assert "bookwheel" in made.to_dict()["bookwheel"]["search_query"]  # type: ignore[index]


def test_background(client: openai.OpenAI, asking: dict[str, Any]) -> None:
    """It is queued at once, ends by itself, and can be listed, followed and deleted."""
    made = client.responses.create(**asking, background=True)
    assert (made.status, made.background) == ("queued", True)
    done = finished(client, made)
    assert done.status == "completed"
    assert "Ramelli" in done.output_text
    (item,) = list(client.responses.input_items.list(done.id))
    assert item.content[0].text == QUESTION  # type: ignore[union-attr]
    assert client.responses.cancel(done.id).status == "completed"
    client.responses.delete(done.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(done.id)


def test_a_background_stream_resumes(client: openai.OpenAI, asking: dict[str, Any]) -> None:
    """A reader who leaves and comes back has every event once, in order, from wherever he stopped."""
    seen = []
    with client.responses.create(**asking, background=True, stream=True) as stream:
        for event in stream:
            seen.append(event)
            if event.type == "response.created":
                response_id = event.response.id
            if len(seen) == 4:
                break
    with client.responses.retrieve(response_id, stream=True, starting_after=seen[-1].sequence_number) as stream:
        seen += stream
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert seen[-1].type == "response.completed"
    again = list(client.responses.retrieve(response_id, stream=True))
    assert [event.to_dict() for event in again] == [event.to_dict() for event in seen]


def test_cancel(client: openai.OpenAI, live_server: Any, asking: dict[str, Any]) -> None:
    """What no worker took yet is never written."""
    worker = worker_of(live_server)
    worker.suspend()
    try:
        made = client.responses.create(**asking, background=True)
        assert client.responses.cancel(made.id).status == "cancelled"
    finally:
        worker.resume()
    time.sleep(1.0)
    assert client.responses.retrieve(made.id).status == "cancelled"


def test_a_killed_worker_loses_nothing(client: openai.OpenAI, live_server: Any, asking: dict[str, Any]) -> None:
    """What waited when the worker was killed is written by the next one."""
    worker = worker_of(live_server)
    worker.suspend()
    made = [client.responses.create(**asking, background=True) for _ in range(3)]
    worker.kill()
    assert [finished(client, one).status for one in made] == ["completed"] * 3


def test_store_false(client: openai.OpenAI, asking: dict[str, Any]) -> None:
    """It is kept nowhere."""
    made = client.responses.create(**asking, store=False)
    assert "Ramelli" in made.output_text
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def worker_of(live_server: Any) -> psutil.Process:
    """The worker process of this server."""
    (found,) = [
        child
        for child in psutil.Process(live_server.process.pid).children(recursive=True)
        if "bookwheel.cli" in child.cmdline() and "work" in child.cmdline()
    ]
    return found
