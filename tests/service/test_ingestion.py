"""Promises of ingestion, against a real stack: nothing acknowledged is lost, nothing deleted is served."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bookwheel.client import Client
from bookwheel.errors import NotFoundError, UnavailableError
from tests.service.conftest import LiveServer, bookwheel_up

PATIENCE_SECONDS = 60


def eventually(holds: Callable[[], bool]) -> None:
    """Wait for something that must come true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.1)


def new_store(client: Client) -> str:
    """A store of the test's own."""
    return str(client.call("POST", "/v1/vector_stores", json={"name": "test"})["id"])


def put(client: Client, store_id: str, **texts: str) -> None:
    """Put documents by id and wait until they are published."""
    results = list(client.put_documents(store_id, [{"id": key, "text": text} for key, text in texts.items()]))
    assert [result for result in results if "error" in result] == []
    client.wait(store_id)


def found(client: Client, store_id: str, query: str) -> list[str]:
    """Ids of the documents that a search finds."""
    return [hit["document"]["external_id"] for hit in client.search(store_id, query)["data"]]


def test_a_put_document_is_found(client: Client) -> None:
    """What was acknowledged and completed is found by meaning and by words."""
    store_id = new_store(client)
    put(client, store_id, whale="The blue whale is the largest animal.", oak="Oaks drop acorns in autumn.")
    assert found(client, store_id, "biggest creature on earth")[0] == "whale"
    eventually(lambda: found(client, store_id, "acorns")[0] == "oak")


def test_a_deleted_document_is_not_found_by_the_very_next_query(client: Client) -> None:
    """A delete is visible at once, whatever the keyword index still holds."""
    store_id = new_store(client)
    put(client, store_id, secret="The vault code is kept by the gardener.", other="Gardens need water.")
    eventually(lambda: "secret" in found(client, store_id, "vault code"))
    client.delete_document(store_id, "secret")
    assert "secret" not in found(client, store_id, "vault code gardener")


def test_a_changed_document_shows_only_its_new_text(client: Client) -> None:
    """The new version replaces the old one in one step."""
    store_id = new_store(client)
    put(client, store_id, note="The meeting is on Monday in Lisbon.")
    put(client, store_id, note="The meeting is on Friday in Oslo.")
    page = client.search(store_id, "When and where is the meeting?")
    texts = [part["text"] for hit in page["data"] for part in hit["content"]]
    assert texts == ["The meeting is on Friday in Oslo."]
    assert page["data"][0]["document"]["version"] == 2


def test_the_same_document_again_makes_no_version(client: Client) -> None:
    """Unchanged content costs a hash and nothing else."""
    store_id = new_store(client)
    put(client, store_id, note="Nothing new under the sun.")
    result = next(iter(client.put_documents(store_id, [{"id": "note", "text": "Nothing new under the sun."}])))
    assert (result["status"], result["version"]) == ("unchanged", 1)


def test_a_store_sees_only_its_own_documents(client: Client) -> None:
    """Stores of one tenant do not mix."""
    one, other = new_store(client), new_store(client)
    put(client, one, mine="Comets have tails of dust.")
    put(client, other, theirs="Comets have tails of ice.")
    assert found(client, one, "comets") == ["mine"]
    assert found(client, other, "comets") == ["theirs"]


def test_a_deleted_store_is_gone(client: Client) -> None:
    """Its documents and itself, at once."""
    store_id = new_store(client)
    put(client, store_id, one="Tides follow the moon.")
    client.call("DELETE", f"/v1/vector_stores/{store_id}")
    with pytest.raises(NotFoundError):
        client.search(store_id, "tides")


def _process(server: LiveServer, command: str) -> psutil.Process:
    children = psutil.Process(server.process.pid).children(recursive=True)
    return next(child for child in children if command in child.cmdline())


def test_a_killed_worker_loses_nothing(data_dir: Path) -> None:
    """kill -9 in the middle of work: the supervisor starts another worker, which finishes every document once."""
    with bookwheel_up(data_dir) as server, Client(server.url) as client:
        store_id = new_store(client)
        text = "Sentence number {0:03} of a document that is long enough to keep the embedder busy. " * 60
        lines = [{"id": f"d{number}", "text": text.format(number)} for number in range(150)]
        assert len(list(client.put_documents(store_id, lines))) == len(lines)
        worker = _process(server, "work")
        eventually(lambda: client.call("GET", f"/v1/vector_stores/{store_id}")["file_counts"]["completed"] > 0)
        os.kill(worker.pid, signal.SIGKILL)
        counts = client.wait(store_id)
        assert (counts["completed"], counts["failed"], counts["in_progress"]) == (len(lines), 0, 0)
        documents = list(client.pages(f"/v1/vector_stores/{store_id}/documents"))
        assert {document["version"] for document in documents} == {1}
        assert len({document["chunk_count"] for document in documents}) == 1


def test_a_killed_up_comes_back_on_the_same_directory(data_dir: Path) -> None:
    """kill -9 of `up` itself: the next `up` finds the orphans, and every document is there."""
    with bookwheel_up(data_dir) as server, Client(server.url) as client:
        store_id = new_store(client)
        put(client, store_id, kept="Lighthouses warn ships at night.")
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
    with bookwheel_up(data_dir) as server, Client(server.url) as client:
        assert found(client, store_id, "lighthouse ships") == ["kept"]


def test_a_stopped_up_leaves_no_process(data_dir: Path) -> None:
    """Ctrl-C stops database, API and worker."""
    with bookwheel_up(data_dir) as server:
        processes = psutil.Process(server.process.pid).children(recursive=True)
        assert server.stop() == 0
        assert [process for process in processes if process.is_running() and process.status() != "zombie"] == []


def test_a_killed_database_comes_back(data_dir: Path) -> None:
    """The database dies: requests fail cleanly, it is started again, and nothing is lost."""
    with bookwheel_up(data_dir) as server, Client(server.url) as client:
        store_id = new_store(client)
        put(client, store_id, kept="Glaciers carve valleys.")
        pid = int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)

        def answers() -> bool:
            try:
                return found(client, store_id, "glaciers") == ["kept"]
            except UnavailableError:  # the designed error while it is away; anything else fails the test
                return False

        eventually(answers)
