"""The typed client against a running Bookwheel: its replies have what their types promise."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from bookwheel.client import Client
from bookwheel.errors import NotFoundError
from bookwheel.replies import answers, service, stores

LINES = (
    {"id": "whale", "title": "Whales", "text": "The blue whale is the largest animal of the sea."},
    {"id": "oak", "text": "An oak drops acorns in autumn."},
    {"id": "empty"},
)


@pytest.fixture
def store(client: Client) -> Iterator[str]:
    """An empty store."""
    made = client.call("POST", "/v1/vector_stores", json={"name": "client"})["id"]
    yield made
    client.call("DELETE", f"/v1/vector_stores/{made}")


def keeps(kind: Any, reply: Mapping[str, Any]) -> bool:
    """The reply has every key that its type requires, and a value of the type where that is a plain one."""
    hints = get_type_hints(kind)
    plain = {name: hint for name, hint in hints.items() if hint in (str, int, float) and name in reply}
    return reply.keys() >= kind.__required_keys__ and all(isinstance(reply[name], hint) for name, hint in plain.items())


def test_documents(client: Client, store: str) -> None:
    """A result for each line, the refused one with its error; what was put is listed, read and found."""
    whale, oak, empty = client.put_documents(store, LINES)
    assert all(keeps(stores.LineResult, result) for result in (whale, oak, empty))
    assert (whale["status"], oak["version"]) == ("in_progress", 1)
    assert empty["error"]["code"] == "invalid_document"
    client.wait(store)
    listed = list(client.documents(store, status="completed"))
    assert {one["id"] for one in listed} == {"whale", "oak"}
    assert all(keeps(stores.Document, one) for one in listed)
    assert "chunks" not in client.document(store, "whale")
    assert client.document(store, "whale", content=True)["chunks"][0]["text"] == LINES[0]["text"]
    found = client.find("largest animal", vector_store_ids=[store])[0]
    assert keeps(stores.Passage, found)
    assert found["document"]["external_id"] == "whale"


def test_any_id_is_only_an_id(client: Client, store: str) -> None:
    """Dots and slashes are no way out of the documents of a store."""
    names = [".", "..", "../..", "a/../b", "%2E%2E", "a.b/c d?e#f"]
    results = client.put_documents(store, [{"id": name, "text": f"The text of {name}"} for name in names])
    assert [result["id"] for result in results] == names
    assert [client.document(store, name)["id"] for name in names] == names
    for name in names:
        client.delete_document(store, name)
    assert list(client.documents(store)) == []


def test_a_list_may_be_worked_off_while_it_is_read(client: Client, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done with an item does not end the list or leave a page out."""
    list(client.put_documents(store, [{"id": f"{number}", "text": f"Number {number}"} for number in range(5)]))
    client.wait(store)
    monkeypatch.setattr("bookwheel.client.PAGE", 2)
    for document in client.documents(store):
        client.delete_document(store, document["id"])
    assert list(client.documents(store)) == []


def test_rerank(client: Client) -> None:
    """Best first, as many as asked for."""
    texts = [line["text"] for line in LINES if "text" in line]
    (best,) = client.rerank("What falls from an oak?", texts, top_n=1)
    assert keeps(answers.Ranked, best)
    assert best["index"] == 1


def test_jobs(client: Client, store: str) -> None:
    """What waits in a paused store is listed, cancelled, retried and dropped; what is in no such state is not found."""
    client.pause(store)
    list(client.put_documents(store, LINES[:2]))
    first, second = client.jobs(state="paused", store_id=store)
    assert keeps(service.Job, first)
    client.cancel_job(first["id"])
    client.cancel_job(second["id"])
    assert {job["state"] for job in client.jobs(store_id=store)} == {"cancelled"}
    client.drop_job(first["id"])
    client.retry_job(second["id"])
    with pytest.raises(NotFoundError, match="failed or cancelled"):
        client.drop_job(second["id"])
    client.resume(store)
    assert client.wait(store)["completed"] == 1
    assert list(client.jobs(store_id=store)) == []


def test_failed_jobs_are_retried_together(client: Client, store: str) -> None:
    """All that failed in the store, and nothing else."""
    file = client.upload("broken.pdf", b"%PDF-1.7 and nothing else")
    client.call("POST", f"/v1/vector_stores/{store}/files", json={"file_id": file["id"]})
    client.wait(store)
    assert client.retry_jobs(store_id=store) == 1
    client.wait(store)
    client.call("DELETE", f"/v1/files/{file['id']}")


def test_sources(client: Client, store: str, tmp_path: Path) -> None:
    """A source is added, run, changed, listed and removed with its documents."""
    (tmp_path / "tea.md").write_text("Green tea is steeped for two minutes.")
    made = client.add_source(store, "directory", path=str(tmp_path))
    assert keeps(service.Source, made)
    assert client.run_source(made["id"])["runs"] > made["runs"]
    assert client.change_source(made["id"], paused=True)["status"] == "paused"
    assert made["id"] in [one["id"] for one in client.sources()]
    assert client.source(made["id"])["failures"] == []
    client.delete_source(made["id"])
    assert list(client.documents(store)) == []
    with pytest.raises(NotFoundError):
        client.source(made["id"])


def test_the_service(client: Client) -> None:
    """Status, orphans and a webhook's log."""
    assert keeps(service.Status, client.status())
    assert set(client.orphans()) == set(client.orphans(repair=True))
    body = {"url": "https://example.com/hook", "event_types": ["response.completed"]}
    hook = client.call("POST", "/v1/webhook_endpoints", json=body)
    assert list(client.deliveries(hook["id"])) == []
    client.call("DELETE", f"/v1/webhook_endpoints/{hook['id']}")
