"""The OpenAPI document is true: thousands of requests made from it, by schemathesis, get only answers that it tells of.

More of them than the ordinary suite sends: `BOOKWHEEL_OPENAPI_CASES=10000 uv run pytest tests/service/test_openapi.py`.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import httpx
import pytest

from tests.service.conftest import LiveServer, bookwheel_up
from tests.service.openapi_cases import Runner, labels
from tests.service.openapi_world import World, receiver

TIMEOUT = 60.0  #: of a request to a server that has just come up
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})


@pytest.fixture
def cases() -> int:
    """How many requests are made: BOOKWHEEL_OPENAPI_CASES."""
    return int(os.environ.get("BOOKWHEEL_OPENAPI_CASES", "1500"))


@pytest.fixture
def seed() -> int:
    """What decides the requests: BOOKWHEEL_OPENAPI_SEED."""
    return int(os.environ.get("BOOKWHEEL_OPENAPI_SEED", "1"))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """The one folder that sources of the server may follow."""
    with TemporaryDirectory(prefix="bookwheel-test-") as directory:
        (Path(directory) / "a.txt").write_text("The bookwheel turns eight books.")
        yield Path(directory)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[LiveServer]:
    """A server for these requests alone, which create and remove all kinds of things."""
    allowed = {
        "BOOKWHEEL_SOURCE_ROOTS": str(folder),
        "BOOKWHEEL_FETCH_ALLOW_PRIVATE": "true",  # for the receiver of webhooks on this machine
        "BOOKWHEEL_FETCH_TIMEOUT_SECONDS": "2",
    }
    with (
        TemporaryDirectory(prefix="bookwheel-test-", ignore_cleanup_errors=True) as directory,
        bookwheel_up(Path(directory), **allowed) as made,
    ):
        yield made


def test_every_answer_is_documented(
    server: LiveServer, folder: Path, cases: int, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """No 5xx, no status, type of content, header or object that the document does not tell of; and every operation is
    reached: it answers at least once with what was asked for."""
    start = monotonic()
    document = httpx.get(f"{server.url}/openapi.json", timeout=TIMEOUT).json()
    with receiver() as hook, httpx.Client(base_url=server.url, timeout=TIMEOUT) as client:
        tally = Runner(document, server.url, World(client, folder, hook, seed)).run(cases, seed=seed)
    with capsys.disabled():
        print(f"\nBOOKWHEEL_OPENAPI_SEED={seed}: {tally} in {monotonic() - start:.0f} s")
    assert not tally.faults, "\n\n".join(tally.faults.values())
    assert tally.cases == cases
    unreached = set(labels(document)) - tally.reached
    assert not unreached


def test_other_methods_are_refused(server: LiveServer) -> None:
    """A path that exists says 405 to other methods, in the shape of every error, with those that it takes."""
    document = httpx.get(f"{server.url}/openapi.json", timeout=TIMEOUT).json()
    with httpx.Client(base_url=server.url, timeout=TIMEOUT) as client:
        for path, methods in document["paths"].items():
            for method in METHODS - {method.upper() for method in methods}:
                answer = client.request(method, path)  # the braces stay: no id looks so
                if path == "/v1/jobs/retry" and method == "DELETE":
                    continue  # the job with the id "retry"
                assert answer.status_code == 405, (method, path)
                assert answer.json()["error"]["code"] == "method_not_allowed"
                assert answer.headers["allow"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": 1}}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "fetch", "arguments": {"id": "\\0"}}}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "bookwheel://vs_1/doc_1"}}',
        b"[" * 100_000,
    ],
    ids=["empty", "bytes", "null", "list", "object", "name", "nul", "unknown", "deep"],
)
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_mcp_takes_any_request(server: LiveServer, body: bytes, kind: str) -> None:
    """/mcp is not in the document, since it describes itself in its own protocol; it has no 5xx either."""
    headers = {"content-type": kind, "accept": "application/json, text/event-stream"}
    assert httpx.post(f"{server.url}/mcp", content=body, headers=headers, timeout=TIMEOUT).status_code < 500
