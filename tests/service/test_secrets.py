"""Secrets stay secret: a stack with a marked one in every place, whose every word is searched for the marks."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import psutil
import pytest

from bookwheel.backends.postgres.embedded import EmbeddedPostgres
from bookwheel.data_directory import holder
from bookwheel.settings import Settings
from bookwheel.tls import client_context
from tests.certificates import Authority
from tests.redis_server import free_port
from tests.service.conftest import bookwheel_up

MARK = "m4rked"
PATHS = ("/v1/status", "/health/ready", "/metrics", "/v1/models", "/v1/files", "/v1/jobs", "/openapi.json", "/no/such")


class Echo(BaseHTTPRequestHandler):
    """A server that repeats in its error whatever key it was sent, and notes it."""

    keys: ClassVar[set[str]] = set()

    def do_POST(self) -> None:
        """Refuse."""
        key = self.headers.get("authorization") or self.headers.get("x-api-key") or ""
        self.keys.add(key.removeprefix("Bearer "))
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self._refuse(f"The key {key} is not known at http://user:{key}@host/")

    def do_GET(self) -> None:
        """Refuse too."""
        self.do_POST()

    def _refuse(self, words: str) -> None:
        body = json.dumps({"error": {"message": words, "type": "invalid_request_error"}, "message": words}).encode()
        self.send_response(401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def echo() -> Iterator[str]:
    """Its address."""
    Echo.keys.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def database(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    """PostgreSQL that asks for no password, and takes any."""
    database = EmbeddedPostgres(data_dir / "elsewhere" / "postgres")
    database.start()
    yield database
    database.stop()


def test_nothing_shows_a_secret(data_dir: Path, database: EmbeddedPostgres, tmp_path: Path) -> None:
    """Keys by value and by file, passwords in URLs, an encrypted TLS key, upstreams that repeat keys in their errors:
    no output, body, metric or command line has a mark, nor the lock file, and yet the keys reach the upstreams."""
    output = tmp_path / "output"
    authority = Authority(tmp_path)
    pair = authority.issue("api", password=f"{MARK}-tls")
    key_file = tmp_path / "key"
    key_file.write_text(f"{MARK}-openai-1\n")
    with echo() as upstream, output.open("w") as written:
        environment = {
            "BOOKWHEEL_DATABASE_URL": database.url.replace("postgres@", f"postgres:{MARK}-d%40ta@"),
            "BOOKWHEEL_CACHE_URL": f"redis://:{MARK}-c%2Fche@127.0.0.1:{free_port()}/0",
            "BOOKWHEEL_GENERATOR_URL": f"openai:{upstream}/v1?model=one anthropic:{upstream}?model=two",
            "BOOKWHEEL_OPENAI_API_KEY_FILE": str(key_file),
            "BOOKWHEEL_ANTHROPIC_API_KEY": f"{MARK}-anthropic-2",
            "BOOKWHEEL_RERANKER_URL": f"cohere:{upstream}/v2/rerank?model=three",
            "BOOKWHEEL_RERANKER_API_KEY": f"{MARK}-reranker-3",
            "BOOKWHEEL_TLS_CERT": str(pair.certificate),
            "BOOKWHEEL_TLS_KEY": str(pair.key),
            "BOOKWHEEL_TLS_KEY_PASSWORD": f"{MARK}-tls",
            "BOOKWHEEL_LOG_LEVEL": "debug",
        }
        with bookwheel_up(data_dir, output=written, **environment) as server:
            trust = client_context(Settings(ca=str(authority.path)))
            with httpx.Client(base_url=server.url, verify=trust, timeout=60) as client:
                said = [client.get(path).text for path in PATHS]
                store = client.post("/v1/vector_stores", json={"name": "one"}).json()["id"]
                line = b'{"id":"a","text":"Kelp grows off Monterey."}\n{"id":"b","text":"Kelp is cold."}\n'
                ndjson = {"content-type": "application/x-ndjson"}
                client.post(f"/v1/vector_stores/{store}/documents", content=line, headers=ndjson)
                for model in ("one", "two"):
                    messages = [{"role": "user", "content": "Where does kelp grow?"}]
                    asked = {"model": model, "messages": messages, "vector_store_ids": [store]}
                    said.append(client.post("/v1/chat/completions", json=asked).text)
                    said.append(client.post("/v1/chat/completions", json={**asked, "stream": True}).text)
                ranked = {"model": "bookwheel-rerank", "query": "q", "documents": ["a", "b"]}
                said.append(client.post("/v2/rerank", json=ranked).text)
                said += [client.get(path).text for path in PATHS]
            parent = psutil.Process(server.process.pid)
            lines = [" ".join(one.cmdline()) for one in (parent, *parent.children(recursive=True))]
            said.append((data_dir / "bookwheel.lock").read_text())
            assert holder(data_dir)["url"] == server.url
            said.append(_bookwheel("check", data_dir, environment))
            said.append(_bookwheel("status", data_dir, environment))
        assert {f"{MARK}-openai-1", f"{MARK}-anthropic-2", f"{MARK}-reranker-3"} <= Echo.keys
    everything = [*said, *lines, output.read_text()]
    assert "***" in output.read_text()  # it did try to tell
    assert [text for text in everything if MARK in text] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"BOOKWHEEL_DATABASE_URL": f"postgresql://u:{MARK}-a@127.0.0.1:1/d"},
        {"BOOKWHEEL_DATABASE_URL": f"postgresql://u:{MARK}%zz@127.0.0.1:1/d"},
        {"BOOKWHEEL_DATABASE_URL": f"postgresql://u:{MARK}/a@127.0.0.1:1/d"},
        {"BOOKWHEEL_DATABASE_URL": f"postgresql://u:x@{MARK}@127.0.0.1:1/d"},
        {"BOOKWHEEL_DATABASE_URL": f"mysql://u:{MARK}@127.0.0.1:1/d"},
        {"BOOKWHEEL_DATABASE_URL": f"postgresql://127.0.0.1:1/d?user=u&password={MARK}&nonsense=1"},
        {"BOOKWHEEL_CACHE_URL": f"redis://u:{MARK}@127.0.0.1:port/0"},
        {"BOOKWHEEL_GENERATOR_URL": f"other:http://u:{MARK}@127.0.0.1/v1?model=x&api_key={MARK}"},
        {"BOOKWHEEL_OPENAI_API_KEY": MARK, "BOOKWHEEL_OPENAI_API_KEY_FILE": "/etc/hostname"},
    ],
    ids=lambda wrong: next(iter(wrong.values()))[:40].replace("/", "."),
)
def test_wrong_settings_are_told_without_the_secret(data_dir: Path, wrong: dict[str, str]) -> None:
    """The stack does not start, says which setting is wrong, and shows no traceback and no password."""
    said = _bookwheel("up", data_dir, {**wrong, "BOOKWHEEL_PORT": "0"}, seconds=60)
    name = next(iter(wrong))
    assert name.removesuffix("_URL") in said or "database" in said.lower()
    assert "Traceback" not in said
    assert MARK not in said


def _bookwheel(command: str, data_dir: Path, environment: dict[str, str], *, seconds: float = 60) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bookwheel.cli", command, "--data-dir", str(data_dir)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return done.stdout + done.stderr
