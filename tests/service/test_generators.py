"""Generators against two servers that we did not write: the LiteLLM proxy and aimock, both with answers made up.

uv tool install 'litellm[proxy]'
npm install --global @copilotkit/aimock
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from bookwheel.backends import anthropic
from bookwheel.backends.openai import generator as openai_generator
from bookwheel.backends.openai.embedder import open_embedder
from bookwheel.errors import GeneratorUnavailableError
from bookwheel.ports import Generator
from bookwheel.settings import Settings
from bookwheel.testing import HashEmbedder
from bookwheel.testing.doubles import a_hit
from bookwheel.testing.generator import GeneratorContract
from bookwheel.types import Prompt

START_SECONDS = 240.0  # LiteLLM imports for many seconds
ANSWER = "The blue whale is the largest animal of the sea [1]."
MODEL = "whale"
LIMITED, MISSING, SILENT = "limited", "missing", "silent"  # other models
ASKED = Prompt(question="Which animal of the sea is the largest?", hits=[a_hit("The blue whale is the largest.")])
KEY = f"sk-{secrets.token_hex(24)}"  # LiteLLM does not start without a strong one
SETTINGS = Settings(generator_timeout_seconds=30.0, openai_api_key=KEY, anthropic_api_key=KEY)  # type: ignore[arg-type]

NOT_FOUND = "Not found in these documents."
AIMOCK = {
    "fixtures": [
        {
            "match": {"userMessage": "largest", "model": LIMITED},
            "response": {"error": {"message": "Slow down", "type": "rate_limit_error"}, "status": 429},
        },
        {
            "match": {"userMessage": "largest", "model": MISSING},
            "response": {"error": {"message": "No"}, "status": 404},
        },
        {
            "match": {"userMessage": "largest", "model": SILENT},
            "response": {"content": NOT_FOUND},
        },
        {"match": {"userMessage": "largest"}, "response": {"content": ANSWER}},
    ]
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server through one of its APIs."""

    api: str
    url: str
    suffix: str = ""  #: of its models' names


def litellm_config(aimock: str) -> dict[str, Any]:
    """Made-up answers for OpenAI's API. LiteLLM streams none of them in Anthropic's, so models whose names end with
    `-via` are aimock's, and LiteLLM translates between the two APIs."""
    mocks = {MODEL: ANSWER, LIMITED: "litellm.RateLimitError", SILENT: NOT_FOUND}
    models: list[tuple[str, dict[str, str]]] = [
        *((name, {"model": "openai/gpt-4o", "mock_response": said}) for name, said in mocks.items()),
        *((f"{name}-via", {"model": f"openai/{name}", "api_base": f"{aimock}/v1"}) for name in mocks),
    ]
    return {
        "model_list": [{"model_name": name, "litellm_params": {"api_key": "none", **how}} for name, how in models],
        "router_settings": {"num_retries": 0},
        "general_settings": {"master_key": KEY},
    }


def missing(service: str, remedy: str) -> None:
    """Skip at home, fail where tests must be whole."""
    needed = os.environ.get("CI") == "true" and f"BOOKWHEEL_CI_WITHOUT_{service.upper()}" not in os.environ
    (pytest.fail if needed else pytest.skip)(f"{service} is missing: {remedy}")


def a_free_port() -> int:
    """On loopback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], port: int, folder: Path, **environment: str) -> Iterator[str]:
    """The address of a server, once it answers."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            wait_until_up(f"http://127.0.0.1:{port}", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait(10)


def wait_until_up(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait for any answer."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"{url}/v1/models", timeout=5)
            return
        time.sleep(0.2)
    pytest.fail(f"{process.args!r} did not start: {log.read_text()[-2_000:]}")


@pytest.fixture(scope="module")
def litellm(tmp_path_factory: pytest.TempPathFactory, aimock: str) -> Iterator[str]:
    """LiteLLM's proxy, in its own environment."""
    program = shutil.which("litellm", path=f"{os.environ.get('PATH', '')}:{Path.home() / '.local/bin'}")
    if program is None:
        missing("litellm", "uv tool install 'litellm[proxy]'")
    folder, port = tmp_path_factory.mktemp("litellm"), a_free_port()
    (folder / "config.yaml").write_text(json.dumps(litellm_config(aimock)))  # JSON is YAML
    command = [str(program), "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, port, folder, LITELLM_LOCAL_MODEL_COST_MAP="True") as url:
        yield url


@pytest.fixture(scope="module")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """aimock, which speaks all three APIs."""
    program = shutil.which("aimock")
    if program is None:
        missing("aimock", "npm install --global @copilotkit/aimock")
    folder, port = tmp_path_factory.mktemp("aimock"), a_free_port()
    (folder / "fixtures.json").write_text(json.dumps(AIMOCK))
    (folder / "config.json").write_text(json.dumps({"llm": {"fixtures": "fixtures.json", "chunkSize": 12}}))
    command = [str(program), "--config", "config.json", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, port, folder) as url:
        yield url


@pytest.fixture(params=["openai at litellm", "anthropic at litellm", "openai at aimock", "anthropic at aimock"])
def served(request: pytest.FixtureRequest) -> Served:
    """Both APIs of both servers."""
    api, server = request.param.split(" at ")
    suffix = "-via" if request.param == "anthropic at litellm" else ""
    return Served(api=api, url=request.getfixturevalue(server), suffix=suffix)


@contextlib.asynccontextmanager
async def a_generator(served: Served, model: str = MODEL) -> AsyncIterator[Generator]:
    """A generator over a server."""
    count, name = HashEmbedder().token_counts, f"?model={model}{served.suffix}"
    generator: Any
    if served.api == "openai":
        generator = openai_generator.open_generator(f"openai:{served.url}/v1{name}", SETTINGS, count=count)
    else:
        generator = anthropic.open_generator(f"anthropic:{served.url}{name}", SETTINGS, count=count)
    try:
        yield generator
    finally:
        await generator.close()


async def pieces_of(served: Served, model: str = MODEL, prompt: Prompt = ASKED) -> list[str]:
    """What it writes."""
    async with a_generator(served, model) as generator:
        return [piece async for piece in generator.generate(prompt)]


class TestServersOfOthers(GeneratorContract):
    """They keep the contract."""

    @pytest.fixture
    async def generator(self, served: Served) -> AsyncIterator[Generator]:
        """Over the server."""
        async with a_generator(served) as generator:
            yield generator


async def test_the_answer_comes_whole_and_in_pieces(served: Served) -> None:
    """What the server was told to say."""
    pieces = await pieces_of(served)
    assert "".join(pieces) == ANSWER
    assert len(pieces) > 1


async def test_not_found_is_an_empty_stream(served: Served) -> None:
    """Whatever pieces the server makes of the sentence."""
    assert await pieces_of(served, SILENT) == []


async def test_a_limit_is_told_as_one(served: Served) -> None:
    """Retries do not help, and the caller learns that it is a limit."""
    with pytest.raises(GeneratorUnavailableError, match="429"):
        await pieces_of(served, LIMITED)


async def test_an_unknown_model_is_named(served: Served) -> None:
    """The server's words and ours."""
    with pytest.raises(GeneratorUnavailableError, match=MISSING):
        await pieces_of(served, MISSING)


async def test_a_schema_is_taken(served: Served) -> None:
    """No server stumbles over what a request with a schema and a limit holds."""
    prompt = Prompt(question=ASKED.question, hits=ASKED.hits, schema={"type": "object"}, max_tokens=99)
    assert "".join(await pieces_of(served, prompt=prompt)) == ANSWER


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    """Asked, and pinged."""
    served = Served(api="openai", url=f"http://127.0.0.1:{a_free_port()}")
    async with a_generator(served) as generator:
        with pytest.raises(GeneratorUnavailableError):
            await generator.ping()
    with pytest.raises(GeneratorUnavailableError):
        await pieces_of(served)


async def test_vectors_come_from_aimock(aimock: str) -> None:
    """Its embeddings are made up, but of the API's shape: the same for the same text, and of unit length."""
    embedder = await open_embedder(f"openai:{aimock}/v1?model=any", SETTINGS, tokenizer=HashEmbedder().tokenizer)
    vectors = await embedder.embed(["a whale", "a shark", "a whale"])
    assert vectors.shape == (3, embedder.dimensions)
    assert (vectors[0] == vectors[2]).all()
    assert float(vectors[0] @ vectors[0]) == pytest.approx(1.0, abs=1e-5)
    await embedder.close()
