"""Keys with real processes: the first start, official clients, several API processes, the command line."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import openai
import pytest

from bookwheel.client import Client
from tests.service.conftest import LiveServer, bookwheel_up

KEY = re.compile(r"bw-[A-Za-z0-9_-]{43}")
PATIENCE = 30.0


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[LiveServer, str]]:
    """A server of two API processes that asks for keys, with its first one."""
    with TemporaryDirectory(prefix="bookwheel-test-") as directory:
        written = Path(directory) / "output"
        with (
            written.open("w") as output,
            bookwheel_up(
                Path(directory) / "data", output=output, BOOKWHEEL_AUTH="keys", BOOKWHEEL_API_PROCESSES="2"
            ) as server,
        ):
            yield server, shown_keys(written)[0]


def shown_keys(written: Path) -> list[str]:
    """The keys in what a server wrote, when it has said that it is ready."""
    deadline = time.monotonic() + PATIENCE
    while "is ready at" not in (text := written.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return KEY.findall(text)


def test_the_first_start_shows_a_key_and_later_ones_do_not(data_dir: Path) -> None:
    """Its hash alone is kept: the secret stands nowhere below the data directory."""
    shown = []
    for start in range(2):
        written = data_dir / f"output{start}"
        with written.open("w") as output, bookwheel_up(data_dir / "data", output=output) as server:
            shown.append(shown_keys(written))
            assert server.stop() == 0
    assert [len(keys) for keys in shown] == [1, 0]
    (secret,) = shown[0]
    files = [path for path in (data_dir / "data").rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_the_official_client_comes_in_with_a_key(guarded: tuple[LiveServer, str]) -> None:
    """As with OpenAI's service; with another key it raises what its users catch."""
    server, secret = guarded
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=secret, max_retries=0) as client:
        store = client.vector_stores.create(name="mine")
        assert client.vector_stores.retrieve(store.id).name == "mine"
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="bw-wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.vector_stores.list()
    with Client(server.url, key=secret) as client:
        reader = client.call("POST", "/v1/keys", json={"role": "reader"})["secret"]
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key=reader, max_retries=0) as client,
        pytest.raises(openai.PermissionDeniedError),
    ):
        client.vector_stores.create(name="not mine")


def test_a_revoked_key_ends_in_every_process(guarded: tuple[LiveServer, str]) -> None:
    """Within the two seconds that a process trusts what it read."""
    server, secret = guarded
    with Client(server.url, key=secret) as client:
        made = client.call("POST", "/v1/keys", json={"role": "reader"})
        headers = {"authorization": f"Bearer {made['secret']}"}

        def statuses() -> set[int]:
            return {httpx.get(f"{server.url}/v1/vector_stores", headers=headers).status_code for _ in range(20)}

        assert statuses() == {200}
        client.call("DELETE", f"/v1/keys/{made['id']}")
    time.sleep(2.1)
    assert statuses() == {401}


def test_a_limit_holds_over_both_processes(guarded: tuple[LiveServer, str]) -> None:
    """Exactly so many requests come through in a burst, whichever process answers."""
    server, secret = guarded
    with Client(server.url, key=secret) as client:
        limits = {"requests_per_minute": 30}
        made = client.call("POST", "/v1/keys", json={"role": "reader", "limits": limits})
    headers = {"authorization": f"Bearer {made['secret']}"}
    statuses = [httpx.get(f"{server.url}/v1/vector_stores", headers=headers).status_code for _ in range(45)]
    assert sorted(statuses) == [200] * 30 + [429] * 15


def test_the_command_line_sends_its_key(guarded: tuple[LiveServer, str]) -> None:
    """From the environment; without one it says what is missing."""
    server, secret = guarded

    def run(*arguments: str, key: str = secret) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bookwheel.cli", *arguments, "--data-dir", str(server.data_dir)]
        environment = {**os.environ, "BOOKWHEEL_API_KEY": key, "COLUMNS": "200"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    made = run("keys", "create", "nightly", "--role", "writer")
    assert KEY.search(made.stdout), made.stderr
    assert "nightly" in run("keys", "list").stdout
    tenant = run("tenants", "create", "acme").stdout.split()[0]
    assert "active" in run("tenants", "list").stdout
    assert "suspended" in run("tenants", "suspend", tenant).stdout
    refused = run("status", key="")
    assert refused.returncode == 2
    assert "API key is missing" in refused.stderr
    recovered = run("keys", "recover", key="")
    assert run("status", key=KEY.findall(recovered.stdout)[0]).returncode == 0, recovered.stderr
