"""What the tests of generated answers share: API processes of their own over one server, and a script for the model."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx

from bookwheel.client import Client
from bookwheel.data_directory import holder
from tests.scripted_upstream import Answer, Call, ScriptedUpstream, chat, well_behaved
from tests.service.conftest import LiveServer

PATIENCE = 60.0  # only a test that fails waits so long
WHALES = """The blue whale is the largest animal of the sea. It weighs up to 190 tonnes. It eats krill.

The sperm whale dives to a depth of 2,250 metres. It hunts squid.
"""


def wait_for(condition: Callable[[], Any], *, seconds: float = PATIENCE) -> Any:
    """What the condition gives once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
    return found


@contextlib.contextmanager
def api_beside(server: LiveServer, **environment: str) -> Iterator[str]:
    """The address of another API process over the server's database, with settings of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bookwheel.cli", "serve", "--port", "0"],
        env={
            **os.environ,
            "BOOKWHEEL_LOG_LEVEL": "error",
            "BOOKWHEEL_DATA_DIR": str(server.data_dir),
            "BOOKWHEEL_DATABASE_URL": holder(server.data_dir)["database_url"],
            **environment,
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process, process.stdout:
        try:
            yield process.stdout.readline().rpartition(" ")[2].strip()
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            process.kill()


def a_store(url: str, name: str, **documents: str) -> str:
    """The id of a new store with these texts, searchable."""
    with Client(url) as client:
        made = client.call("POST", "/v1/vector_stores", json={"name": name})["id"]
        put(client, made, **documents)
    return str(made)


def put(client: Client, store: str, **documents: str) -> None:
    """Put texts under their ids, and wait until they are searchable."""
    lines = [{"id": name, "text": text} for name, text in documents.items()]
    assert all("error" not in one for one in client.put_documents(store, lines))
    client.wait(store)
    assert client.wait_for_keywords()  # what it does not know yet keeps answers from being kept


def ask(url: str, store: str, question: str, *, cache: str = "", **more: Any) -> httpx.Response:
    """A chat over a store."""
    body = {"model": f"bookwheel/{store}", "messages": [{"role": "user", "content": question}], **more}
    headers = {"cache-control": cache} if cache else {}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=PATIENCE)


def text_of(answer: httpx.Response) -> str:
    """The answer's text."""
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def details(answer: httpx.Response) -> dict[str, Any]:
    """The extension of a chat."""
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["bookwheel"])


def chats(upstream: ScriptedUpstream) -> Sequence[Any]:
    """The bodies of the chats that the model was asked."""
    return [request.body for request in upstream.requests if request.path.endswith("/chat/completions")]


def first_passage(*, before: str = "") -> Answer:
    """A model that says the first sentence of the passage numbered 1."""

    async def answer(call: Call) -> None:
        if call.request.method == "GET":  # is there such a model?
            await well_behaved()(call)
            return
        asked = call.request.body["messages"][-1]["content"]
        passage = asked.partition("\n[1] ")[2].partition("\n")[2]
        sentence = passage.partition(". ")[0].partition("\n")[0].removesuffix(".")
        await chat(before, f"{sentence} [1].")(call)

    return answer
