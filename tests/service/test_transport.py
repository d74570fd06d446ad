"""The default server against slow, greedy and unknown clients, and over TLS."""

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import httpx
import pytest

from bookwheel.client import Client
from bookwheel.settings import Settings
from bookwheel.tls import client_context
from tests.certificates import Authority, Pair
from tests.service.conftest import LiveServer, bookwheel_up

SLOW_CONNECTIONS = 300
HEADER_SECONDS = 3.0
STALL_SECONDS = 3.0
SLACK_SECONDS = 4.0  # the server looks once a second, on a busy machine
HEAD = b"POST /v1/vector_stores HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where certificates lie."""
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of little patience."""
    limits = {
        "BOOKWHEEL_HEADER_SECONDS": str(HEADER_SECONDS),
        "BOOKWHEEL_BODY_STALL_SECONDS": str(STALL_SECONDS),
        "BOOKWHEEL_MAX_CONNECTIONS": "400",
        "BOOKWHEEL_CORS_ORIGINS": "https://app.example.com",
    }
    with _up(**limits) as server:
        yield server


@contextlib.contextmanager
def _up(*arguments: str, **environment: str) -> Iterator[LiveServer]:
    with (
        TemporaryDirectory(prefix="bookwheel-test-", ignore_cleanup_errors=True) as directory,
        bookwheel_up(Path(directory), *arguments, **environment) as server,
    ):
        yield server


def _connect(server: LiveServer) -> socket.socket:
    place = urlsplit(server.url)
    return socket.create_connection((place.hostname, place.port), timeout=30)


def _rest(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def _ended_after(connection: socket.socket) -> tuple[float, bytes]:
    start = time.monotonic()
    answer = _rest(connection)
    return time.monotonic() - start, answer


def test_slow_loris_keeps_nobody_from_answers(guarded: LiveServer) -> None:
    """Hundreds of connections that send a head byte by byte: others are answered, and they are closed in time."""
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(_connect(guarded)) for _ in range(SLOW_CONNECTIONS)]
        for connection in slow:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ")
        for _ in range(5):
            asked = time.monotonic()
            assert httpx.get(f"{guarded.url}/health/live", timeout=5).status_code == 200
            assert time.monotonic() - asked < 2.0
            for connection in slow:
                with contextlib.suppress(OSError):  # closed already
                    connection.send(b"b")
        answers = [_rest(connection) for connection in slow]
    assert time.monotonic() - began < HEADER_SECONDS + SLACK_SECONDS + 4
    assert all(answer == b"" or answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
    assert sum(b"request_timeout" in answer for answer in answers) > SLOW_CONNECTIONS // 2


def test_a_connection_without_a_word_is_closed(guarded: LiveServer) -> None:
    """Also one on which nothing was sent at all, and one that goes silent after an answer, in the next head."""
    with _connect(guarded) as silent, _connect(guarded) as second:
        second.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert second.recv(65536).startswith(b"HTTP/1.1 200")
        second.sendall(b"GET /health")
        seconds, answer = _ended_after(silent)
        assert (answer, seconds < HEADER_SECONDS + SLACK_SECONDS) == (b"", True)
        assert b"HTTP/1.1 408 " in _rest(second)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: aaaaaaaaaaaaaaaa\r\n" * 2_000 + b"\r\n",
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 40_000,
    ],
    ids=["one header", "many headers", "address", "without an end"],
)
def test_a_large_head_is_refused(guarded: LiveServer, head: bytes) -> None:
    """431 in the shape of every error; whether it comes whole or never ends."""
    with _connect(guarded) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(head)
        answer = _rest(connection)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'"code":"head_too_large"' in answer
    assert b"x-content-type-options: nosniff" in answer


def test_a_head_of_some_size_is_taken(guarded: LiveServer) -> None:
    """Well below the limit nothing is refused."""
    answer = httpx.get(f"{guarded.url}/health/live", headers={"x-a": "a" * 20_000}, timeout=10)
    assert answer.status_code == 200


def test_what_is_no_http_is_refused_in_our_shape(guarded: LiveServer) -> None:
    """A client of another protocol gets 400 and the connection is closed."""
    with _connect(guarded) as connection:
        connection.sendall(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03")
        answer = _rest(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"invalid_request"' in answer


def test_a_body_that_stalls_is_ended(guarded: LiveServer) -> None:
    """408 after the longest silence, and the connection is closed."""
    with _connect(guarded) as connection:
        connection.sendall(HEAD + b'Content-Length: 100\r\n\r\n{"name":')
        seconds, answer = _ended_after(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in answer
    assert STALL_SECONDS - 0.1 < seconds < STALL_SECONDS + SLACK_SECONDS


def test_a_body_that_trickles_is_ended(guarded: LiveServer) -> None:
    """Never silent for long, and yet far too slow."""
    with _connect(guarded) as connection:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
        start = time.monotonic()
        connection.settimeout(0.5)
        answer = b""
        while not answer and time.monotonic() - start < 20:
            with contextlib.suppress(OSError):
                connection.send(b" ")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - start < STALL_SECONDS + SLACK_SECONDS


def test_an_upload_at_a_fair_pace_is_taken(guarded: LiveServer) -> None:
    """Slower than the patience in all, but faster than the least speed."""
    body = b'{"name":"paced"' + b" " * 12_000 + b"}"
    with _connect(guarded) as connection:
        connection.sendall(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 2_000):
            connection.sendall(body[start : start + 2_000])
            time.sleep((STALL_SECONDS + 1) / 6)
        assert _rest(connection).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_nobody_wants_does_not_hold_the_connection(guarded: LiveServer) -> None:
    """After its early refusal the rest of a body may not come for ever."""
    with _connect(guarded) as connection:
        connection.sendall(b"POST /no/such HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        connection.settimeout(0.5)
        start, answer, ended = time.monotonic(), b"", False
        while not ended and time.monotonic() - start < 20:
            try:
                connection.send(b"x")
                part = connection.recv(65536)
                answer, ended = answer + part, not part
            except TimeoutError:
                pass
            except OSError:
                ended = True
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert time.monotonic() - start < STALL_SECONDS + SLACK_SECONDS


def test_who_does_not_read_is_ended(guarded: LiveServer) -> None:
    """Megabytes for a client that reads nothing: the connection is cut, and another is answered meanwhile."""
    uploaded = httpx.post(
        f"{guarded.url}/v1/files", files={"file": ("large.bin", b"\0" * 30_000_000)}, data={"purpose": "assistants"}
    ).json()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        place = urlsplit(guarded.url)
        connection.connect((place.hostname, place.port))
        connection.sendall(f"GET /v1/files/{uploaded['id']}/content HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        time.sleep(STALL_SECONDS + SLACK_SECONDS)
        assert httpx.get(f"{guarded.url}/health/live").status_code == 200
        connection.settimeout(20)
        received = len(_rest(connection))
    assert received < 30_000_000


def test_too_many_connections_are_refused(guarded: LiveServer) -> None:
    """503 for those beyond the limit; room again when others leave."""
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(_connect(guarded))
        time.sleep(0.5)
        with _connect(guarded) as late:
            answer = _rest(late)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1\r\n" in answer
    time.sleep(0.5)
    assert httpx.get(f"{guarded.url}/health/live").status_code == 200


def test_a_download_is_never_a_page(guarded: LiveServer) -> None:
    """An uploaded HTML file comes back as an attachment of bytes."""
    page = {"file": ("page.html", b"<script>alert(1)</script>", "text/html")}
    made = httpx.post(f"{guarded.url}/v1/files", files=page, data={"purpose": "assistants"}).json()
    headers = httpx.get(f"{guarded.url}/v1/files/{made['id']}/content").headers
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"].startswith("attachment")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'")


def test_only_named_origins_are_let_in(guarded: LiveServer) -> None:
    """A page of the named origin may ask; no other is told that it may, and never with cookies."""
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    good = httpx.options(f"{guarded.url}/v1/search", headers={"origin": "https://app.example.com", **ask})
    assert good.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "access-control-allow-credentials" not in good.headers
    for origin in ("https://evil.example", "null", "https://app.example.com.evil.example"):
        bad = httpx.options(f"{guarded.url}/v1/search", headers={"origin": origin, **ask})
        assert "access-control-allow-origin" not in bad.headers


@contextlib.contextmanager
def _up_over_tls(authority: Authority, pair: Pair, *, clients: Pair | None = None) -> Iterator[LiveServer]:
    given = {"BOOKWHEEL_TLS_CERT": str(pair.certificate), "BOOKWHEEL_TLS_KEY": str(pair.key)}
    if clients is not None:
        given["BOOKWHEEL_TLS_CLIENT_CA"] = str(authority.path)
        given |= {"BOOKWHEEL_CLIENT_CERT": str(clients.certificate), "BOOKWHEEL_CLIENT_KEY": str(clients.key)}
    with _up(**given) as server:
        yield server


def _trusting(authority: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    own = {"client_cert": str(pair.certificate), "client_key": str(pair.key)} if pair else {}
    return client_context(Settings(ca=str(authority.path), **own))


def _shown_serial(server: LiveServer, authority: Authority) -> str:
    place = urlsplit(server.url)
    with (
        socket.create_connection((place.hostname, place.port), timeout=10) as raw,
        _trusting(authority).wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        return str((connection.getpeercert() or {})["serialNumber"])


def test_tls_and_a_new_certificate(folder: Path) -> None:
    """Over TLS everything works, for the command line too; a new certificate is shown without a restart, a broken one
    is not taken."""
    authority = Authority(folder, "first")
    pair = authority.issue("api.example.com")
    with _up_over_tls(authority, pair) as server:
        assert server.url.startswith("https://")
        with Client(server.url, tls=_trusting(authority)) as client:
            assert client.status()["vector_stores"] == 0
        answer = httpx.get(f"{server.url}/health/live", verify=_trusting(authority))
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url)  # nobody else trusts that CA
        assert _bookwheel("status", server).returncode == 0
        assert "answers at https://" in _bookwheel("check", server).stdout
        old = ssl.create_default_context(cafile=str(authority.path))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert httpx.get(f"{server.url}/health/live", verify=old).status_code == 200
        before = _shown_serial(server, authority)
        pair.certificate.write_bytes(b"no certificate")
        time.sleep(2.5)
        assert _shown_serial(server, authority) == before
        authority.issue("api.example.com")
        deadline = time.monotonic() + 10
        while _shown_serial(server, authority) == before:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_mutual_tls(folder: Path) -> None:
    """Without a certificate of the CA there is no answer; with one, and for the command line, there is."""
    authority, stranger = Authority(folder, "ours"), Authority(folder, "theirs")
    pair, known = authority.issue("server.example.com"), authority.issue("known")
    with _up_over_tls(authority, pair, clients=known) as server:
        ask = f"{server.url}/health/live"
        assert httpx.get(ask, verify=_trusting(authority, known)).status_code == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(ask, verify=_trusting(authority))
        with pytest.raises(httpx.TransportError):
            httpx.get(ask, verify=_trusting(authority, stranger.issue("unknown")))
        shown = {"BOOKWHEEL_CLIENT_CERT": str(known.certificate), "BOOKWHEEL_CLIENT_KEY": str(known.key)}
        assert _bookwheel("status", server, **shown).returncode == 0
        assert _bookwheel("status", server).returncode != 0


def _bookwheel(command: str, server: LiveServer, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bookwheel.cli", command, "--data-dir", str(server.data_dir)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
