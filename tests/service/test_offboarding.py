"""A tenant goes while it is in full use: nothing of it is left on the machine, and nobody else notices."""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from bookwheel.backends.postgres.embedded import EmbeddedPostgres
from bookwheel.client import Client
from bookwheel.receipts import is_genuine
from tests.service.conftest import LiveServer, bookwheel_up, process_of
from tests.service.test_command_line import FAILED, OK, bookwheel

STORES = "/v1/vector_stores"
SHARED = "The harbour of Tarn was opened by Aldo Brisk.\n"
ROPE = "The keeper of the lighthouse sells ropes on Mondays."
TABLES = """
SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
"""


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    """A server that asks for keys."""
    with TemporaryDirectory(prefix="bookwheel-test-") as directory:
        settings = {"BOOKWHEEL_AUTH": "keys", "BOOKWHEEL_LIMITS_URL": "off:"}
        with bookwheel_up(Path(directory), **settings) as up:
            yield up


@pytest.fixture(scope="module")
def operator(server: LiveServer) -> str:
    """A key that is made on the machine itself."""
    done = bookwheel("keys", "recover", "--data-dir", str(server.data_dir))
    return next(word for word in done.stdout.split() if word.startswith("bw-"))


class House:
    """A tenant with its admin's client."""

    def __init__(self, server: LiveServer, operator: str) -> None:
        self.name, self.mark = uuid4().hex, f"zq{uuid4().hex}"
        with Client(server.url, key=operator) as client:
            self.id = client.call("POST", "/v1/tenants", json={"name": self.name})["id"]
            made = client.call("POST", f"/v1/tenants/{self.id}/keys", json={"role": "admin"})
        self.key, self.url = str(made["secret"]), server.url
        with Client(server.url, key=self.key) as client:
            self.store = client.store("books")

    def fill(self) -> None:
        """Texts and files, of which one is the same in every house; a search and an answer, which are kept."""
        documents = [{"id": f"d{number}", "text": f"{SHARED}{self.mark} is number {number}."} for number in range(19)]
        documents.append({"id": "rope", "text": ROPE})
        lines = b"\n".join(json.dumps(one).encode() for one in documents)
        response = self.http("POST", f"{STORES}/{self.store}/documents", content=lines)
        assert response.status_code == 200
        for content in (SHARED, f"{SHARED} {self.mark}"):
            file = self.http("POST", "/v1/files", files={"file": ("a.txt", content.encode())}).json()
            self.http("POST", f"{STORES}/{self.store}/files", json={"file_id": file["id"]})
        deadline = time.monotonic() + 60
        while self.http("GET", f"{STORES}/{self.store}").json()["file_counts"]["completed"] < 22:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def http(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request as it comes."""
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.request(method, f"{self.url}{path}", headers=headers, timeout=60, **options)

    def found(self) -> str:
        """What a search for a text that is the same in every house finds first."""
        body = {"query": "Who sells ropes?"}
        page = self.http("POST", f"{STORES}/{self.store}/search", json=body).json()
        return str(page["data"][0]["content"][0]["text"])

    def busy(self, stop: threading.Event) -> None:
        """Search, ask and upload until it is refused."""
        while not stop.is_set():
            for path, options in (
                (f"{STORES}/{self.store}/search", {"json": {"query": self.mark}}),
                ("/v1/files", {"files": {"file": ("b.txt", f"{uuid4()} {self.mark}".encode())}}),
                (f"{STORES}/{self.store}/documents", {"json": {"id": uuid4().hex, "text": f"late {self.mark}"}}),
                ("/v1/responses", {"json": {"model": "extractive", "input": self.mark, "store": True}}),
            ):
                status = self.http("POST", path, **options).status_code
                assert status < 500, (path, status)
                if status in (401, 403):
                    return


def tables_with(data_dir: Path, *texts: str) -> dict[str, int]:
    """The tables whose rows have one of these, and how many rows."""
    found = {}
    with psycopg.connect(EmbeddedPostgres(data_dir / "postgres").url) as connection:
        for (table,) in connection.execute(TABLES).fetchall():
            query = SQL("SELECT count(*) FROM {} AS x WHERE x::text ILIKE ANY(%s)").format(Identifier(table))
            (count,) = connection.execute(query, ([f"%{text}%" for text in texts],)).fetchone() or (0,)
            found |= {table: count} if count else {}
    return found


def age(blobs: Path, *after: threading.Thread) -> None:
    """Make what was uploaded old, so that nobody waits a minute for it; when these have ended."""
    for thread in after:
        thread.join(60)
    for path in blobs.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - 120,) * 2)


def files_with(directory: Path, text: str) -> list[Path]:
    """Files that have this among their bytes."""
    return [path for path in directory.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_a_tenant_goes_in_full_use(server: LiveServer, operator: str) -> None:
    """No row, no blob and no keyword of it is left; its last requests are refused, none fails; another tenant with the
    same texts finds what it found before."""
    gone, stays = House(server, operator), House(server, operator)
    gone.fill()
    stays.fill()
    assert stays.found() == ROPE
    assert tables_with(server.data_dir, gone.mark)
    assert files_with(server.data_dir / "blobs", gone.mark)
    stop = threading.Event()
    busy = [threading.Thread(target=gone.busy, args=(stop,)) for _ in range(3)]
    aging = threading.Thread(target=age, args=(server.data_dir / "blobs", *busy))
    for thread in (*busy, aging):
        thread.start()
    time.sleep(2)
    with Client(server.url, key=operator) as client:
        path = f"/v1/tenants/{gone.id}/offboard"
        receipt = client.call("POST", path, json={"name": gone.name}, timeout=180)
        public = client.call("GET", "/v1/signing_key")["public_key"]
    stop.set()
    aging.join(60)
    assert receipt["complete"], receipt["left"]
    assert receipt["held"]["documents"] >= 22
    assert is_genuine(receipt, public=public)
    assert tables_with(server.data_dir, gone.mark) == {}
    tenant = gone.id.removeprefix("tenant_")
    dashed = "-".join((tenant[:8], tenant[8:12], tenant[12:16], tenant[16:20], tenant[20:]))
    assert tables_with(server.data_dir, tenant, dashed).keys() <= {"receipts", "audit_events"}
    assert files_with(server.data_dir / "blobs", gone.mark) == []
    assert gone.http("GET", STORES).status_code == 401
    assert stays.found() == ROPE
    assert files_with(server.data_dir / "blobs", SHARED.strip())


def test_a_server_that_is_killed_ends_it_later(server: LiveServer, operator: str) -> None:
    """The API process ends in the middle; the same call again gives the receipt, with what there was at first."""
    gone = House(server, operator)
    gone.fill()
    path, body = f"/v1/tenants/{gone.id}/offboard", {"name": gone.name}
    headers = {"authorization": f"Bearer {operator}"}

    def first() -> None:
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{server.url}{path}", json=body, headers=headers, timeout=120)

    calling = threading.Thread(target=first)
    calling.start()
    time.sleep(3.2)  # suspended and counted; it waits for bytes that are young
    process_of(server, "serve").kill()
    calling.join(60)
    age(server.data_dir / "blobs")
    deadline = time.monotonic() + 60
    while True:
        try:
            receipt = httpx.post(f"{server.url}{path}", json=body, headers=headers, timeout=180).json()
            break
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert receipt["complete"], receipt
    assert (receipt["held"]["documents"], receipt["held"]["files"]) == (22, 2)
    assert tables_with(server.data_dir, gone.mark) == {}


def test_the_command_line_lets_a_tenant_go(server: LiveServer, operator: str, tmp_path: Path) -> None:
    """It exports, offboards and verifies."""
    gone, receipt = House(server, operator), tmp_path / "receipt.json"
    gone.http("POST", f"{STORES}/{gone.store}/documents", json={"id": "d", "text": gone.mark})

    def run(*arguments: str, key: str = operator, status: int = OK) -> None:
        done = bookwheel("tenants", *arguments, BOOKWHEEL_API_KEY=key)
        assert done.returncode == status, done.stdout + done.stderr

    place = ("--data-dir", str(server.data_dir))
    run("export", "--out", str(tmp_path / "all.ndjson"), *place, key=gone.key)
    lines = [json.loads(line) for line in (tmp_path / "all.ndjson").read_text().splitlines()]
    assert [line["text"] for line in lines if line["type"] == "document"] == [gone.mark]
    run("offboard", gone.id, "--name", gone.name, "--receipt", str(receipt), *place)
    with Client(server.url, key=operator) as client:
        public = str(client.call("GET", "/v1/signing_key")["public_key"])
    run("verify-receipt", str(receipt), "--public-key", public)
    receipt.write_text(receipt.read_text().replace(gone.name, "another"))
    run("verify-receipt", str(receipt), "--public-key", public, status=FAILED)
