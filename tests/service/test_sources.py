"""Sources on a live stack: a watched directory, a list of pages and a sitemap keep a store in step."""

import http.server
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import openai
import pytest

from bookwheel.client import Client, RequestFailedError
from bookwheel.errors import NotFoundError
from tests.service.conftest import LiveServer
from tests.service.test_command_line import FAILED, MISUSED, OK, bookwheel

VISIBLE_SECONDS = 20.0  #: until a change of a watched directory is found, on a busy machine too
RARELY = 86_400  #: seconds: what happens is not the schedule's doing


class Site(http.server.ThreadingHTTPServer):
    """Pages by path: text, or a status."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Pages)
        self.pages: dict[str, str | int] = {}
        self.asked: list[tuple[str, int]] = []  #: path, status
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Pages(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        """One page, with an ETag of its content."""
        page = self.server.pages.get(self.path, 404)
        status, text = (page, "") if isinstance(page, int) else (200, page)
        etag = f'"{hash(text)}"'
        if status == httpx.codes.OK and self.headers.get("If-None-Match") == etag:
            status, text = 304, ""
        self.server.asked.append((self.path, status))
        self.send_response(status)
        self.send_header("ETag", etag)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def client(trusting_server: LiveServer) -> Iterator[Client]:
    """A client of that stack."""
    with Client(trusting_server.url) as client:
        yield client


@pytest.fixture
def site() -> Iterator[Site]:
    """A site without pages."""
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever, daemon=True)
        thread.start()
        yield site
        site.shutdown()
        thread.join()


@pytest.fixture
def store_id(client: Client) -> str:
    """An empty store."""
    return client.store(f"s-{uuid4().hex}")


def add(client: Client, store_id: str, kind: str, **fields: Any) -> dict[str, Any]:
    """A source that its schedule leaves alone."""
    body = {"kind": kind, "vector_store_id": store_id, "every_seconds": RARELY, **fields}
    return client.call("POST", "/v1/sources", json=body)


def run(client: Client, source: dict[str, Any], *, request: bool = True) -> dict[str, int]:
    """Counts of a run that begins now, or of the first one."""
    before = client.call("POST", f"/v1/sources/{source['id']}/run")["runs"] if request else 0
    until(lambda: client.call("GET", f"/v1/sources/{source['id']}")["runs"] > before, seconds=30)
    counts = client.call("GET", f"/v1/sources/{source['id']}")["last_run_counts"]
    return {name: count for name, count in counts.items() if count}


def until(check: Callable[[], bool], *, seconds: float = VISIBLE_SECONDS) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def found(client: Client, store_id: str, query: str) -> dict[str, str]:
    """Path or URL of each document found -> its text."""
    return {
        hit["attributes"].get("path") or hit["attributes"]["url"]: hit["content"][0]["text"]
        for hit in client.search(store_id, query)["data"]
    }


def test_watched_directory_is_followed(client: Client, store_id: str, tmp_path: Path) -> None:
    """Create, change, rename and delete are each found within seconds, whatever the schedule."""
    root = tmp_path / "notes"
    root.mkdir()
    (root / "watched.md").write_text("The harbour of Tarn was opened in 1931.")
    source = add(client, store_id, "directory", path=str(root))
    until(lambda: "watched.md" in found(client, store_id, "harbour"))
    (root / "sub").mkdir()
    (root / "sub" / "seen.md").write_text("The kite festival is held in Weifang.")
    until(lambda: "sub/seen.md" in found(client, store_id, "kite festival"))
    (root / "sub" / "seen.md").write_text("The kite festival is held in Berck.")
    until(lambda: "Berck" in found(client, store_id, "kite festival").get("sub/seen.md", ""))
    (root / "sub").rename(root / "moved")
    until(lambda: "moved/seen.md" in (seen := found(client, store_id, "kite festival")) and "sub/seen.md" not in seen)
    (root / "moved" / "seen.md").unlink()
    until(lambda: "moved/seen.md" not in found(client, store_id, "kite festival"))
    counts = {"total": 1, "failed": 0}  # told a moment after the document is gone
    until(lambda: client.call("GET", f"/v1/sources/{source['id']}")["document_counts"] == counts)
    files = [file for file in client.pages("/v1/files") if file["filename"] in ("watched.md", "seen.md")]
    assert len(files) == 1


def test_directory_that_is_gone_keeps_its_documents(client: Client, store_id: str, tmp_path: Path) -> None:
    """The error is told, the documents stay, and when it is back they are in step again without being asked."""
    root = tmp_path / "notes"
    root.mkdir()
    (root / "a.md").write_text("The harbour of Tarn was opened in 1931.")
    source = add(client, store_id, "directory", path=str(root))
    until(lambda: "a.md" in found(client, store_id, "harbour"))
    away = root.rename(tmp_path / "away")

    def seen() -> dict[str, Any]:
        return client.call("GET", f"/v1/sources/{source['id']}")

    until(lambda: seen()["status"] == "failing", seconds=15)
    assert "is gone" in seen()["last_error"]["message"]
    assert "a.md" in found(client, store_id, "harbour")
    (away / "a.md").write_text("The harbour of Tarn was closed in 1999.")
    away.rename(root)
    until(lambda: seen()["status"] == "active", seconds=15)
    until(lambda: "1999" in found(client, store_id, "harbour")["a.md"])


def test_pages_are_followed(client: Client, store_id: str, site: Site) -> None:
    """An unchanged page costs a 304, a changed one is found anew, a missing one is not found any more."""
    site.pages |= {"/kites": "The kite festival is held in Weifang.", "/tarn": "Tarn has a harbour."}
    source = add(client, store_id, "urls", urls=[f"{site.url}/kites", f"{site.url}/tarn"])
    assert run(client, source, request=False) == {"added": 2}
    until(lambda: f"{site.url}/kites" in found(client, store_id, "kite festival"))
    site.asked.clear()
    assert run(client, source) == {"unchanged": 2}
    assert sorted(site.asked) == [("/kites", 304), ("/tarn", 304)]
    site.pages["/kites"] = "The kite festival is held in Berck."
    assert run(client, source) == {"changed": 1, "unchanged": 1}
    until(lambda: "Berck" in found(client, store_id, "kite festival")[f"{site.url}/kites"])
    site.pages |= {"/kites": 404, "/tarn": 500}
    assert run(client, source) == {"removed": 1, "failed": 2}
    assert set(found(client, store_id, "kite festival")) == {f"{site.url}/tarn"}
    shown = client.call("GET", f"/v1/sources/{source['id']}")
    assert {failure["item"]: failure["message"].split(":")[0][:8] for failure in shown["failures"]} == {
        f"{site.url}/kites": "HTTP 404",
        f"{site.url}/tarn": "HTTP 500",
    }


def test_sitemap_is_followed(client: Client, store_id: str, site: Site) -> None:
    """Its pages are found; those that it names no more are not; when the host is gone they stay."""
    urlset = "<urlset>{}</urlset>"
    page = f"<url><loc>{site.url}/{{}}</loc></url>"
    site.pages |= {"/a": "The kite festival is held in Weifang.", "/b": "A kite festival is held in Berck."}
    site.pages["/sitemap.xml"] = urlset.format(page.format("a") + page.format("b"))
    source = add(client, store_id, "sitemap", url=f"{site.url}/sitemap.xml")
    assert run(client, source, request=False) == {"added": 2}
    until(lambda: len(found(client, store_id, "kite festival")) == 2)
    site.pages["/sitemap.xml"] = urlset.format(page.format("a"))
    assert run(client, source) == {"unchanged": 1, "removed": 1}
    assert set(found(client, store_id, "kite festival")) == {f"{site.url}/a"}
    site.shutdown()
    site.server_close()
    run(client, source)
    shown = client.call("GET", f"/v1/sources/{source['id']}")
    assert shown["status"] == "failing"
    assert set(found(client, store_id, "kite festival")) == {f"{site.url}/a"}


def test_schedule_runs_by_itself(client: Client, store_id: str, site: Site) -> None:
    """Every few seconds without being asked; not while it is paused."""
    site.pages["/a"] = "one"
    source = add(client, store_id, "urls", urls=[f"{site.url}/a"], every_seconds=1)
    until(lambda: client.call("GET", f"/v1/sources/{source['id']}")["runs"] >= 3, seconds=30)
    paused = client.call("POST", f"/v1/sources/{source['id']}", json={"paused": True})
    assert (paused["status"], paused["next_run_at"]) == ("paused", None)
    time.sleep(1.0)
    runs = client.call("GET", f"/v1/sources/{source['id']}")["runs"]
    time.sleep(2.5)
    assert client.call("GET", f"/v1/sources/{source['id']}")["runs"] == runs


def test_source_goes_with_its_store(client: Client, tmp_path: Path) -> None:
    """A deleted store takes its sources along, and the worker goes on."""
    (tmp_path / "a.md").write_text("text")
    store_id = client.store("short-lived")
    source = add(client, store_id, "directory", path=str(tmp_path), every_seconds=1)
    client.call("DELETE", f"/v1/vector_stores/{store_id}")
    with pytest.raises(NotFoundError):
        client.call("GET", f"/v1/sources/{source['id']}")
    other = client.store("longer-lived")
    add(client, other, "directory", path=str(tmp_path))
    until(lambda: "a.md" in found(client, other, "text"))


@pytest.mark.parametrize("keep", [True, False])
def test_removed_source(client: Client, store_id: str, tmp_path: Path, keep: bool) -> None:
    """Its documents go with it at once, or stay when they are to be kept; another source's are not touched."""
    (tmp_path / "a.md").write_text("The harbour of Tarn.")
    source, other = (add(client, store_id, "directory", path=str(tmp_path)) for _ in range(2))
    until(lambda: len(client.search(store_id, "harbour")["data"]) == 2)
    client.call("DELETE", f"/v1/sources/{source['id']}", params={"keep_documents": str(keep).lower()})
    left = {hit["attributes"]["source"] for hit in client.search(store_id, "harbour")["data"]}
    assert left == ({source["id"], other["id"]} if keep else {other["id"]})
    with pytest.raises(NotFoundError):
        client.call("POST", f"/v1/sources/{source['id']}/run")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"kind": "directory"}, "path"),
        ({"kind": "directory", "path": "relative"}, "path"),
        ({"kind": "directory", "path": "/no/such/directory"}, "path"),
        ({"kind": "directory", "path": "/", "url": "http://a.example"}, "url"),
        ({"kind": "urls", "urls": []}, "urls"),
        ({"kind": "urls", "urls": ["file:///etc/passwd"]}, "urls"),
        ({"kind": "sitemap", "url": "nonsense"}, "url"),
        ({"kind": "sitemap", "url": "http://a.example", "limit": 0}, "limit"),
        ({"kind": "sitemap", "url": "http://a.example", "every_seconds": 0}, "every_seconds"),
        ({"kind": "mailbox"}, "kind"),
    ],
)
def test_wrong_sources_are_refused(
    trusting_server: LiveServer, store_id: str, fields: dict[str, Any], param: str
) -> None:
    """In OpenAI's shape, with the field that is wrong; nothing is made."""
    response = httpx.post(f"{trusting_server.url}/v1/sources", json={"vector_store_id": store_id, **fields})
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["type"]) == (400, param, "invalid_request_error")


def test_list_is_openais_page(trusting_server: LiveServer, client: Client, store_id: str, tmp_path: Path) -> None:
    """OpenAI's own client walks through the sources like through any list."""
    made = {add(client, store_id, "directory", path=str(tmp_path))["id"] for _ in range(3)}
    sdk = openai.OpenAI(base_url=f"{trusting_server.url}/v1", api_key="none")
    first = sdk.get("/sources?limit=2", cast_to=httpx.Response).json()
    rest = sdk.get(f"/sources?limit=100&after={first['last_id']}", cast_to=httpx.Response).json()
    assert first["has_more"]
    assert made <= {source["id"] for source in first["data"] + rest["data"]}
    with pytest.raises(RequestFailedError, match="limit"):
        client.call("GET", "/v1/sources", params={"limit": "0"})


def test_command_line(trusting_server: LiveServer, client: Client, site: Site, tmp_path: Path) -> None:
    """A source's life as a user types it."""
    where = ("--data-dir", str(trusting_server.data_dir))
    root = tmp_path / "books"
    root.mkdir()
    (root / "a.md").write_text("The harbour of Tarn.")
    (root / "b.txt").write_text("The harbour of Berck.")
    added = bookwheel(
        "sources", "add", "directory", str(root), "--store", "typed", "--every", "1d", "--include", "*.md", *where
    )
    assert added.returncode == OK, added.stdout + added.stderr
    source_id = added.stdout.split()[0]
    assert source_id.startswith("src_")
    ran = bookwheel("sources", "run", source_id[:12], *where)
    assert ran.returncode == OK, ran.stdout + ran.stderr
    assert "0 failed" in ran.stdout
    listed = bookwheel("sources", "list", *where).stdout
    for word in (source_id[:12], "directory", str(root)[:12], "typed", "every 1d", "active"):
        assert word in listed
    assert "paused" in bookwheel("sources", "pause", source_id, *where).stdout
    assert "is active" in bookwheel("sources", "resume", source_id, *where).stdout
    shutil.rmtree(root)
    gone = bookwheel("sources", "run", source_id, *where)
    assert (gone.returncode, "is gone" in gone.stdout) == (FAILED, True)
    urls = tmp_path / "urls.txt"
    site.pages["/a"] = "one"
    urls.write_text(f"# pages\n{site.url}/a\n\n{site.url}/b\n")
    assert bookwheel("sources", "add", "urls", "--file", str(urls), "--store", "typed", *where).returncode == OK
    assert bookwheel("sources", "add", "sitemap", f"{site.url}/s.xml", "--store", "typed", *where).returncode == OK
    assert bookwheel("sources", "add", "sitemap", "x", "--every", "often", *where).returncode == MISUSED
    assert bookwheel("sources", "rm", source_id, *where).returncode == OK
    assert source_id[:12] not in bookwheel("sources", "list", *where).stdout
    assert "a.md" not in found(client, client.store("typed"), "harbour")
