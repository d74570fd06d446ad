"""TLS to what Bookwheel uses, and the files that make a certificate."""

import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import psycopg
import pytest
from pydantic import SecretStr

from bookwheel.backends.anthropic import open_generator as open_anthropic
from bookwheel.backends.cohere import open_cohere_reranker
from bookwheel.backends.openai.generator import open_generator as open_openai
from bookwheel.backends.postgres.database import checked_url
from bookwheel.backends.redis import RedisCache
from bookwheel.errors import CacheUnavailableError, SettingsError, UnavailableError
from bookwheel.settings import Settings
from bookwheel.supervisor import running_stack
from bookwheel.tls import server_certificate, upstream_context
from tests.certificates import Authority, Pair
from tests.redis_server import free_port, redis_server

DATABASE_ADDRESS = "127.73.4.17"  # of this machine's own, and of nobody else
DATABASE = """
listen_addresses = '{address}'
ssl = on
ssl_cert_file = '{folder}/database.pem'
ssl_key_file = '{folder}/database.key'
ssl_ca_file = '{folder}/authority.pem'
hba_file = '{folder}/hba'
"""
RULES = "local all all trust\nhostssl all all 127.0.0.0/8 trust clientcert=verify-ca\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A CA of this test's own."""
    return Authority(tmp_path)


def test_files_of_a_certificate_are_checked(authority: Authority, tmp_path: Path) -> None:
    """What cannot be used is refused with the setting, and an encrypted key never asks at the terminal."""
    pair, other = authority.issue("one", password="of the key"), authority.issue("two")
    good = {"tls_cert": str(pair.certificate), "tls_key": str(pair.key), "tls_key_password": SecretStr("of the key")}
    assert server_certificate(Settings(**cast("Any", good))) is not None
    assert server_certificate(Settings()) is None
    for wrong in (
        {**good, "tls_key_password": SecretStr("")},
        {**good, "tls_key": str(other.key)},
        {**good, "tls_cert": str(tmp_path / "nowhere")},
        {**good, "tls_client_ca": str(pair.key)},
        {**good, "tls_cert": ""},
    ):
        with pytest.raises(SettingsError, match="BOOKWHEEL_TLS_"):
            server_certificate(Settings(**cast("Any", wrong)))


async def test_mutual_tls_needs_a_certificate_of_our_own(authority: Authority, tmp_path: Path) -> None:
    """`up` could not see whether it runs; it says so before it starts anything."""
    pair = authority.issue("one")
    settings = Settings(
        data_dir=tmp_path / "data",
        tls_cert=str(pair.certificate),
        tls_key=str(pair.key),
        tls_client_ca=str(authority.path),
    )
    with pytest.raises(SettingsError, match="BOOKWHEEL_CLIENT_CERT"):
        await running_stack(settings, say=print).__aenter__()
    assert not (tmp_path / "data").exists()


def test_upstreams_are_trusted_as_ever_without_settings() -> None:
    """And a key without its certificate is refused."""
    assert upstream_context(Settings()) is None
    with pytest.raises(SettingsError, match="BOOKWHEEL_UPSTREAM_CLIENT_KEY is set without"):
        upstream_context(Settings(upstream_client_key="/some/key"))


def _serial(server: ssl.SSLContext, client: ssl.SSLContext, *, name: str | None) -> str:
    """A handshake in memory, both sides to its end: the number of the server's certificate. Raises SSLError."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = client.wrap_bio(down, up, server_hostname=name)
    called = server.wrap_bio(up, down, server_side=True)
    waiting = [caller, called]
    for _ in range(10):
        for side in list(waiting):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
                waiting.remove(side)
    assert not waiting
    return str((caller.getpeercert() or {})["serialNumber"])


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", None], ids=["name", "address", "neither"])
def test_new_files_count_for_new_connections(authority: Authority, name: str | None) -> None:
    """The certificate, and the CA of the callers: whom only the old one vouches for stays outside. Callers need not
    say which name they mean."""
    pair, old, new = authority.issue("one"), Authority(authority.folder, "old"), Authority(authority.folder, "new")
    callers = authority.folder / "callers.pem"
    callers.write_bytes(old.path.read_bytes())
    paths = {"tls_cert": str(pair.certificate), "tls_key": str(pair.key), "tls_client_ca": str(callers)}
    certificate = server_certificate(Settings(**cast("Any", paths)))
    assert certificate is not None
    of_old, of_new = _caller(authority, old.issue("of-old")), _caller(authority, new.issue("of-new"))
    for one in (of_old, of_new):
        one.check_hostname = name is not None
    first = _serial(certificate.context, of_old, name=name)
    with pytest.raises(ssl.SSLError):
        _serial(certificate.context, of_new, name=name)
    authority.issue("one")
    callers.write_bytes(new.path.read_bytes())
    certificate.refresh()
    assert _serial(certificate.context, of_new, name=name) != first
    with pytest.raises(ssl.SSLError):
        _serial(certificate.context, of_old, name=name)


def _caller(authority: Authority, pair: Pair) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.path))
    context.load_cert_chain(pair.certificate, pair.key)
    return context


def test_old_versions_of_tls_are_refused(authority: Authority) -> None:
    """TLS 1.2 is the least that the API speaks."""
    pair = authority.issue("one")
    certificate = server_certificate(Settings(tls_cert=str(pair.certificate), tls_key=str(pair.key)))
    assert certificate is not None
    assert certificate.context.minimum_version == ssl.TLSVersion.TLSv1_2
    client = ssl.create_default_context(cafile=str(authority.path))
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert _serial(certificate.context, client, name="localhost")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Outside pytest's own folder, which only its user may enter."""
    with TemporaryDirectory(prefix="bookwheel-test-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@contextlib.contextmanager
def _postgresql(folder: Path) -> Iterator[None]:
    """The system's PostgreSQL with TLS, for the one inside is built without."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("PostgreSQL is missing: install Debian's package postgresql")
    user = "pgserver" if os.geteuid() == 0 else None
    data = folder / "postgresql"
    data.mkdir(mode=0o700)
    if user:
        shutil.chown(data, user)
        shutil.chown(folder / "database.key", user)
    binaries, quiet = found[-1].parent, {"stdout": subprocess.DEVNULL, "user": user}
    subprocess.run([binaries / "initdb", "-D", data, "-U", "postgres"], check=True, **cast("Any", quiet))
    with (data / "postgresql.conf").open("a") as file:
        file.write(DATABASE.format(address=DATABASE_ADDRESS, folder=folder))
    server = subprocess.Popen(
        [binaries / "postgres", "-D", data, "-k", data], stderr=subprocess.DEVNULL, **cast("Any", quiet)
    )
    try:
        yield
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def _reached(url: str) -> tuple[Any, ...] | None:
    """What the server says of our connection, once it runs."""
    for _ in range(100):
        try:
            with psycopg.connect(checked_url(url)) as connection:
                said = connection.execute("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
                return said.fetchone()
        except psycopg.OperationalError as error:
            if "refused" not in str(error) and "starting up" not in str(error):
                raise
            time.sleep(0.1)
    raise AssertionError("PostgreSQL did not start")


def test_postgresql_over_tls(open_folder: Path) -> None:
    """With the words of libpq in the URL: the server's name is checked, and it sees our certificate."""
    authority, stranger = Authority(open_folder), Authority(open_folder, "stranger")
    server, own = authority.issue("database"), authority.issue("client")
    (open_folder / "hba").write_text(RULES)
    own.key.chmod(0o600)
    server.key.chmod(0o600)
    url = f"postgresql://postgres@database/postgres?hostaddr={DATABASE_ADDRESS}&sslmode=verify-full"
    shown = f"&sslcert={own.certificate}&sslkey={own.key}"
    with _postgresql(open_folder):
        assert _reached(f"{url}&sslrootcert={authority.path}{shown}") == (True, "TLSv1.3")
        for wrong in (
            f"{url}&sslrootcert={stranger.path}{shown}",
            f"{url.replace('@database', '@other')}&sslrootcert={authority.path}{shown}",
            f"{url}&sslrootcert={authority.path}",
            f"{url.replace('verify-full', 'disable')}",
        ):
            with pytest.raises(psycopg.OperationalError):
                _reached(wrong)


async def test_redis_over_tls(authority: Authority) -> None:
    """With redis-py's words in the URL."""
    server, own, port = authority.issue("cache"), authority.issue("client"), free_port()
    stranger = Authority(authority.folder, "stranger")
    files = ("--tls-cert-file", str(server.certificate), "--tls-key-file", str(server.key))
    options = ("--tls-port", str(port), *files, "--tls-ca-cert-file", str(authority.path))
    shown = f"ssl_certfile={own.certificate}&ssl_keyfile={own.key}"
    with redis_server(*options):
        await _ping(f"rediss://localhost:{port}?ssl_ca_certs={authority.path}&{shown}")
        for wrong in (
            f"rediss://localhost:{port}?ssl_ca_certs={authority.path}",
            f"rediss://localhost:{port}?ssl_ca_certs={stranger.path}&{shown}",
            f"rediss://localhost:{port}?{shown}",
        ):
            with pytest.raises(CacheUnavailableError):
                await _ping(wrong)


async def _ping(url: str) -> None:
    cache = RedisCache(url, patience_seconds=5.0)
    try:
        await cache.ping()
    finally:
        await cache.close()


class _Model(BaseHTTPRequestHandler):
    """Answers anything."""

    def do_POST(self) -> None:
        """A reranker's answer."""
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self._say(b'{"results": [{"index": 0, "relevance_score": 0.5}]}')

    def do_GET(self) -> None:
        """A list of models."""
        self._say(b'{"object": "list", "data": [], "id": "any", "type": "model"}')

    def _say(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A refused handshake is what the test wants."""


@contextlib.contextmanager
def _model_server(authority: Authority, pair: Pair) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    context.load_verify_locations(authority.path)
    context.verify_mode = ssl.CERT_REQUIRED
    server = _Quiet(("127.0.0.1", 0), _Model)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def _ask_all(address: str, settings: Settings) -> None:
    """One request of each client. Raises UnavailableError by the first that gets no answer."""
    openai = open_openai(f"openai:{address}/v1?model=any", settings, count=lambda texts: [1 for _ in texts])
    anthropic = open_anthropic(f"anthropic:{address}?model=any", settings, count=lambda texts: [1 for _ in texts])
    reranker = open_cohere_reranker(f"cohere:{address}/v2/rerank?model=any", settings)
    try:
        refused = []
        for ask in (openai.ping, anthropic.ping, lambda: reranker.rerank("a", ["b"])):
            try:
                await ask()
            except UnavailableError as error:
                refused.append(error)
        if refused:
            assert len(refused) == 3  # all clients take the same settings
            raise refused[0]
    finally:
        await openai.close()
        await anthropic.close()
        await reranker.close()


async def test_servers_of_models_over_tls(authority: Authority) -> None:
    """They are trusted by the CA of the setting and see our certificate; without either nothing is sent."""
    pair, own = authority.issue("model"), authority.issue("client")
    shown = {"upstream_client_cert": str(own.certificate), "upstream_client_key": str(own.key)}
    with _model_server(authority, pair) as address:
        await _ask_all(address, Settings(upstream_ca=str(authority.path), **cast("Any", shown)))
        for wrong in ({"upstream_ca": str(authority.path)}, shown, {}):
            with pytest.raises(UnavailableError):
                await _ask_all(address, Settings(**cast("Any", wrong)))
