"""Streams over real sockets: through nginx as it comes, to readers who are slow, and to readers who leave."""

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from bookwheel.client import Client
from bookwheel.data_directory import holder
from tests.service.conftest import LiveServer, process_of
from tests.service.paced_api import sentence
from tests.service.test_large_files import MEBIBYTE, Peak, worker_of

PATIENCE = 60.0  # only a test that fails waits so long
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
GROWTH = 48 * MEBIBYTE  # of an API process while a reader does not read
LARGE = 192 * MEBIBYTE  # of what he does not read
PIECE = 16_384  # characters of an answer that is too long for every buffer
STILL_SECONDS = 1.0  # nothing moves for so long: the server waits for its reader
REFUSED_LINES = 150_000
STREAMS = ("/v1/chat/completions", "/v1/responses")

Waited = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class PacedApi:
    """An API process that tells an answer as far as the test allows."""

    url: str
    folder: Path
    process: psutil.Process

    def allow(self, pieces: int) -> None:
        """Let it tell so many pieces; fewer than it told already end the answer."""
        whole = self.folder / "next"
        whole.write_text(str(pieces))
        whole.replace(self.folder / "allowed")

    @property
    def told(self) -> int:
        """Pieces that the generator has given away."""
        return int((self.folder / "told").read_text() or 0)

    @property
    def left(self) -> bool:
        """The generator was ended before its time."""
        return (self.folder / "left").exists()


def wait_for(condition: Waited) -> Any:
    """What the condition gives once it is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def wait_until_still(look: Callable[[], int]) -> int:
    """What `look` gives once it does not change any more."""
    seen, since = look(), time.monotonic()
    deadline = since + PATIENCE
    while time.monotonic() - since < STILL_SECONDS:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        if (now := look()) != seen:
            seen, since = now, time.monotonic()
    return seen


@pytest.fixture(scope="module")
def store(live_server: LiveServer) -> Iterator[str]:
    """A store with one document."""
    with Client(live_server.url) as client:
        made = client.store("streams")
        list(client.put_documents(made, [{"id": "wheel", "text": "The bookwheel was described by Ramelli in 1588."}]))
        client.wait(made)
        yield made
        client.call("DELETE", f"/v1/vector_stores/{made}")


@pytest.fixture(scope="module")
def paced_process(live_server: LiveServer) -> Iterator[PacedApi]:
    """A second API process over the shared server's database."""
    with TemporaryDirectory(prefix="bookwheel-test-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.service.paced_api", "serve", "--port", "0"],
            env={
                **os.environ,
                "BOOKWHEEL_LOG_LEVEL": "warning",
                "BOOKWHEEL_DATA_DIR": str(live_server.data_dir),
                "BOOKWHEEL_DATABASE_URL": holder(live_server.data_dir)["database_url"],
                "BOOKWHEEL_TEST_PACE": folder,
                "BOOKWHEEL_UNSUPPORTED_SENTENCES": "keep",
                "BOOKWHEEL_CACHE_URL": "off:",
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        with process, process.stdout:
            url = process.stdout.readline().rpartition(" ")[2].strip()
            yield PacedApi(url, Path(folder), psutil.Process(process.pid))
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            process.kill()


@pytest.fixture
def paced(paced_process: PacedApi) -> PacedApi:
    """The same, not begun."""
    for name in ("allowed", "told"):
        (paced_process.folder / name).write_text("")
    (paced_process.folder / "left").unlink(missing_ok=True)
    return paced_process


@contextlib.contextmanager
def nginx_before(url: str) -> Iterator[str]:
    """The address of an nginx that passes everything on: its buffering is on, as by default, and it compresses
    whatever its client can read, as many do. Together they keep small events back, unless told not to."""
    if NGINX is None:
        needed = os.environ.get("CI") == "true" and "BOOKWHEEL_CI_WITHOUT_NGINX" not in os.environ
        (pytest.fail if needed else pytest.skip)("nginx is missing: install Debian's package nginx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with TemporaryDirectory(prefix="bookwheel-nginx-") as folder:
        paths = "".join(
            f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = Path(folder) / "nginx.conf"
        config.write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log stderr crit;\n"
            "events {}\n"
            f"http {{ access_log off; gzip on; gzip_types *; gzip_min_length 0; gzip_proxied any;\n{paths}"
            f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_http_version 1.1; proxy_pass {url}; }} }} }}\n"
        )
        with subprocess.Popen([NGINX, "-e", "stderr", "-c", str(config)]) as process:
            try:
                wait_for(lambda: process.poll() is not None or _listens(port))
                assert process.poll() is None
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def asking(path: str, store: str, question: str = "Who described it?") -> dict[str, Any]:
    """A body that asks for a stream."""
    said: dict[str, Any] = {"input": question}
    if path == STREAMS[0]:
        said = {"messages": [{"role": "user", "content": question}]}
    return {"model": f"bookwheel/{store}", "stream": True, **said}


@contextlib.contextmanager
def stream(url: str, path: str, **options: Any) -> Iterator[Iterator[dict[str, Any]]]:
    """The events of a stream, each when it has come."""
    method = "POST" if "json" in options else "GET"
    with httpx.stream(method, f"{url}{path}", timeout=PATIENCE, **options) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        lines = (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))
        yield (json.loads(line) for line in lines if line != "[DONE]")


def words_of(events: Iterator[dict[str, Any]]) -> Iterator[str]:
    """The pieces of text among the events, of either kind of stream."""
    for event in events:
        if event.get("type") == "response.output_text.delta":
            yield event["delta"].strip()
        for choice in event.get("choices", ()):
            if text := choice["delta"].get("content"):
                yield text.strip()


@pytest.mark.parametrize("path", STREAMS)
def test_nginx_passes_each_piece_on(paced: PacedApi, store: str, path: str) -> None:
    """A sentence is read as soon as the beginning of the next one shows that it has ended, before the generator may
    write more; so none waits in a buffer."""
    paced.allow(2)
    with nginx_before(paced.url) as url, stream(url, path, json=asking(path, store)) as events:
        words = words_of(events)
        for number in range(3):
            assert next(words) == sentence(number)
            assert paced.told <= number + 2
            paced.allow(number + 3)
        assert next(words) == sentence(3)
        paced.allow(-1)
        assert list(words) == [sentence(4)]
    assert not paced.left


def test_nginx_passes_the_events_of_a_background_response_on(live_server: LiveServer, store: str) -> None:
    """The first events are read while no worker can write the others."""
    worker = worker_of(live_server)
    body = asking("/v1/responses", store) | {"background": True}
    with nginx_before(live_server.url) as url:
        worker.suspend()
        try:
            with stream(url, "/v1/responses", json=body) as events:
                created, queued = next(events), next(events)
                assert (created["type"], queued["type"]) == ("response.created", "response.queued")
                worker.resume()
                assert [event["type"] for event in events][-1] == "response.completed"
        finally:
            worker.resume()
        with stream(url, f"/v1/responses/{created['response']['id']}?stream=true") as again:
            assert next(again) == created


@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "nginx"])
@pytest.mark.parametrize("path", STREAMS)
def test_a_reader_who_leaves_ends_the_generation(paced: PacedApi, store: str, path: str, proxied: bool) -> None:
    """The generator is cancelled where it waits; of a response nothing is kept."""
    paced.allow(2)
    with nginx_before(paced.url) if proxied else contextlib.nullcontext(paced.url) as url:
        with stream(url, path, json=asking(path, store)) as events:
            first = next(events)
            assert next(words_of(events)) == sentence(0)
        wait_for(lambda: paced.left)
    assert paced.told <= 2
    if path == "/v1/responses":
        gone = httpx.get(f"{paced.url}/v1/responses/{first['response']['id']}", timeout=PATIENCE)
        assert gone.status_code == httpx.codes.NOT_FOUND


@pytest.mark.parametrize("path", STREAMS)
def test_a_reader_who_leaves_before_the_first_word_ends_the_generation(paced: PacedApi, store: str, path: str) -> None:
    """A model that thinks for long does not go on for nobody."""
    paced.allow(0)
    body = json.dumps(asking(path, store)).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    with unread(paced.url, "POST", path, headers, body):
        wait_for((paced.folder / "told").read_text)
    wait_for(lambda: paced.left)
    assert paced.told == 0


@contextlib.contextmanager
def unread(url: str, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Iterator[socket.socket]:
    """A connection with a request under way whose answer nobody takes; the receiving buffer is as small as can be."""
    place = urlsplit(url)
    assert place.hostname is not None
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(PATIENCE)
        connection.connect((place.hostname, place.port))
        fields = "".join(f"{name}: {value}\r\n" for name, value in {"host": place.netloc, **headers}.items())
        connection.sendall(f"{method} {path} HTTP/1.1\r\n{fields}\r\n".encode() + body)
        yield connection


@pytest.mark.parametrize("path", STREAMS)
def test_a_reader_who_does_not_read_holds_the_generation_up(paced: PacedApi, store: str, path: str) -> None:
    """An answer of any length waits in the generator, not in memory; when the reader leaves it is ended."""
    paced.allow(LARGE)
    body = json.dumps(asking(path, store, f"Write pieces of {PIECE} characters.")).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    with unread(paced.url, "POST", path, headers, body) as connection:
        wait_for(lambda: paced.told)
        before = paced.process.memory_info().rss  # with the embedder, which the first question loads
        with Peak(paced.process) as peak:
            told = wait_until_still(lambda: paced.told)
            while paced.told == told:  # it was the reader that it waited for
                assert connection.recv(PIECE)
        assert not paced.left
    assert told * PIECE < GROWTH
    assert peak.bytes - before < GROWTH
    wait_for(lambda: paced.left)


@pytest.fixture(scope="module")
def api_process(live_server: LiveServer) -> psutil.Process:
    """The API process of the shared server."""
    return process_of(live_server, "serve")


def place_in_blob(process: psutil.Process) -> int:
    """How far it has read in the one blob that it has open; 0 when it has none open."""
    return max((file.position for file in process.open_files() if "/blobs/" in file.path), default=0)


def test_a_file_waits_on_disk_for_its_reader(live_server: LiveServer, api_process: psutil.Process) -> None:
    """As long as the reader does not read, the server does not either."""
    with Client(live_server.url) as client:
        file = client.upload("large.bin", os.urandom(MEBIBYTE) * (LARGE // MEBIBYTE))
        before = api_process.memory_info().rss
        with (
            Peak(api_process) as peak,
            unread(live_server.url, "GET", f"/v1/files/{file['id']}/content", {}) as connection,
        ):
            assert connection.recv(1)
            read = wait_until_still(lambda: place_in_blob(api_process))
        assert 0 < read < GROWTH
        assert peak.bytes - before < GROWTH
        client.call("DELETE", f"/v1/files/{file['id']}")


def test_results_of_lines_wait_on_disk_for_their_reader(
    live_server: LiveServer, api_process: psutil.Process, store: str
) -> None:
    """Who sends everything before he reads anything is neither refused nor held in memory, and misses nothing."""
    headers = {"content-type": "application/x-ndjson", "transfer-encoding": "chunked"}
    line = json.dumps({"id": "x" * 500}).encode() + b"\n"  # without text: each is refused, under its long id
    chunk = b"%x\r\n%s\r\n" % (len(line) * 1000, line * 1000)
    before = api_process.memory_info().rss
    with (
        Peak(api_process) as peak,
        unread(live_server.url, "POST", f"/v1/vector_stores/{store}/documents", headers) as connection,
    ):
        for _ in range(REFUSED_LINES // 1000):
            connection.sendall(chunk)
        connection.sendall(b"0\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        numbers = [json.loads(result)["line"] for result in answer]
    assert numbers == list(range(1, REFUSED_LINES + 1))
    assert peak.bytes - before < GROWTH
