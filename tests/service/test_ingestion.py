"""Promises of ingestion, against a real stack: nothing acknowledged is lost, nothing deleted is served."""

import hashlib
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from bookwheel.client import Client
from bookwheel.data_directory import holder
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


def _sql(server: LiveServer, statement: str) -> None:
    """What a fault does behind Bookwheel's back."""
    with psycopg.connect(holder(server.data_dir)["database_url"], autocommit=True) as connection:
        connection.execute(statement.encode())


def test_an_emptied_queue_costs_time_not_data(data_dir: Path) -> None:
    """The jobs table is a hint: documents whose calls are lost are found in the catalog and ingested."""
    with bookwheel_up(data_dir) as server, Client(server.url) as client:
        store_id = new_store(client)
        client.call("POST", f"/v1/vector_stores/{store_id}/pause")
        lines = [{"id": f"d{number}", "text": f"Stone number {number} of the wall."} for number in range(20)]
        assert len(list(client.put_documents(store_id, lines))) == len(lines)
        eventually(lambda: client.call("GET", "/v1/status")["queues"]["paused"] == len(lines))
        _sql(server, "UPDATE stores SET paused = false")
        _sql(server, "TRUNCATE procrastinate_jobs CASCADE")
        assert client.wait(store_id)["completed"] == len(lines)


def test_a_single_upload_overtakes_a_bulk_load(data_dir: Path) -> None:
    """It is searchable while most of the load still waits."""
    with bookwheel_up(data_dir) as server, Client(server.url) as client:
        bulk, single = new_store(client), new_store(client)
        lines = [{"id": f"d{number}", "text": f"Bale number {number}. " * 80} for number in range(1500)]
        assert len(list(client.put_documents(bulk, lines))) == len(lines)
        put(client, single, note="The ferry leaves at noon.")
        assert client.call("GET", f"/v1/vector_stores/{bulk}")["file_counts"]["in_progress"] > len(lines) // 4


def test_a_paused_store_waits(client: Client) -> None:
    """It takes uploads and answers, and goes on when it is resumed."""
    store_id = new_store(client)
    put(client, store_id, one="Beavers build dams.")
    client.call("POST", f"/v1/vector_stores/{store_id}/pause")
    list(client.put_documents(store_id, [{"id": "two", "text": "Otters eat fish."}]))
    time.sleep(2)
    assert [job["state"] for job in client.call("GET", "/v1/jobs", params={"store_id": store_id})["data"]] == ["paused"]
    assert found(client, store_id, "beaver dams") == ["one"]
    client.call("POST", f"/v1/vector_stores/{store_id}/resume")
    assert client.wait(store_id)["completed"] == 2


def test_a_cancelled_document_is_put_again(client: Client) -> None:
    """Cancelling ends its work; the same content again is new work."""
    store_id = new_store(client)
    client.call("POST", f"/v1/vector_stores/{store_id}/pause")
    (result,) = client.put_documents(store_id, [{"id": "one", "text": "Moss grows on the north side."}])
    client.call("POST", f"/v1/jobs/{result['document_id']}/cancel")
    client.call("POST", f"/v1/vector_stores/{store_id}/resume")
    assert client.wait(store_id)["cancelled"] == 1
    put(client, store_id, one="Moss grows on the north side.")
    assert found(client, store_id, "where does moss grow") == ["one"]


def test_orphans_are_found_and_repaired(data_dir: Path) -> None:
    """Rows that a fault left behind or took away are counted, removed or made again; afterwards nothing differs."""
    with bookwheel_up(data_dir) as server, Client(server.url) as client:
        store_id = new_store(client)
        put(client, store_id, one="Herons wait in shallow water.", two="Swifts sleep on the wing.")
        client.wait_for_keywords()
        assert set(client.call("GET", "/v1/orphans")["counts"].values()) == {0}
        _sql(
            server,
            "INSERT INTO chunks SELECT 7, gen_random_uuid(), 1, 0, 0, 1, NULL, '{}', 'en', 'a ghost';"
            " INSERT INTO vectors_1 SELECT shard, 8, store_id, gen_random_uuid(), 1, 0, text_hash, embedding"
            " FROM vectors_1 LIMIT 1;"
            " DELETE FROM chunks WHERE document_id = (SELECT id FROM documents WHERE external_id = 'two')",
        )
        ghost = data_dir / "blobs" / "ab" / ("0" * 62)
        ghost.write_bytes(b"nobody's")
        os.utime(ghost, (0, 0))
        counts = client.call("GET", "/v1/orphans")["counts"]
        assert (counts["chunks"], counts["vectors"], counts["incomplete_documents"], counts["blobs"]) == (1, 1, 1, 1)
        client.call("POST", "/v1/orphans")
        client.wait(store_id)
        client.wait_for_keywords()
        assert set(client.call("GET", "/v1/orphans")["counts"].values()) == {0}
        assert found(client, store_id, "birds that sleep while flying")[0] == "two"


def test_the_same_file_twice_at_once_is_one_document(client: Client, live_server: LiveServer) -> None:
    """Racing puts of one id end in one document with one set of passages; the loser's file may be removed."""
    store_id = new_store(client)

    def attach(number: int) -> str:
        with Client(live_server.url) as racer:
            uploaded = racer.upload("tern.txt", b"The tern flies from pole to pole.")
            body = {"file_id": uploaded["id"], "external_id": "tern"}
            return str(racer.call("POST", f"/v1/vector_stores/{store_id}/files", json=body)["document_id"])

    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(attach, range(8)))
    counts = client.wait(store_id)
    assert (len(made), counts["completed"], counts["total"]) == (1, 1, 1)
    document = client.call("GET", f"/v1/vector_stores/{store_id}/documents/tern")
    assert document["chunk_count"] == 1
    assert found(client, store_id, "which bird flies to both poles") == ["tern"]


def test_a_delete_during_ingest_wins(client: Client) -> None:
    """A long document that is deleted while it is read never appears, and leaves nothing behind."""
    store_id = new_store(client)
    text = "\n\n".join(f"Verse {number} of the saga tells of the whale. " * 8 for number in range(2000))
    list(client.put_documents(store_id, [{"id": "saga", "text": text}]))
    eventually(lambda: bool(client.call("GET", "/v1/jobs", params={"state": "running", "store_id": store_id})["data"]))
    client.delete_document(store_id, "saga")
    assert found(client, store_id, "whale saga") == []
    eventually(lambda: client.call("GET", "/v1/status")["queues"]["running"] == 0)
    assert found(client, store_id, "whale saga") == []
    counts = client.call("GET", "/v1/orphans")["counts"]
    assert (counts["chunks"], counts["vectors"]) == (0, 0)


def test_bytes_of_a_deleted_file_go(client: Client, live_server: LiveServer) -> None:
    """They are marked in the same step and removed by a worker after a while; the same bytes again are kept."""
    uploaded = client.upload("a.txt", b"Lichen is two organisms.")
    client.call("DELETE", f"/v1/files/{uploaded['id']}")
    again = client.upload("b.txt", b"Lichen is two organisms.")
    _sql(live_server, "UPDATE blob_tombstones SET since = now() - interval '1 hour'")
    time.sleep(12)
    assert client.call("GET", f"/v1/files/{again['id']}")["bytes"] == 24
    names = {path.name for path in (live_server.data_dir / "blobs").rglob("*") if path.is_file()}
    assert hashlib.sha256(b"Lichen is two organisms.").hexdigest()[2:] in names
