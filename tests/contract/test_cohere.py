"""The HTTP reranker keeps the contract, and every bad answer becomes an unavailable reranker in time.

The servers are real: Bookwheel's own /v2/rerank, and a scripted one, on free ports of the loopback interface.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from bookwheel.backends.cohere import CohereReranker, open_cohere_reranker
from bookwheel.errors import RerankerUnavailableError, SettingsError
from bookwheel.settings import Settings
from bookwheel.testing.reranker import RIGHT, WRONG, RerankerContract

KEY = "co-secret"
Answer = Callable[[dict[str, Any]], Response]


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """An ASGI application on a free port: its address."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listening:  # who comes before it serves waits a moment
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


class Script:
    """A server that answers each request as the test says and keeps what it was sent."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []  #: the last one for ever
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.delay = 0.0

    async def __call__(self, request: Request) -> Response:
        """POST /v2/rerank."""
        self.bodies.append(json.loads(await request.body()))
        self.keys.append(request.headers.get("authorization"))
        await asyncio.sleep(self.delay)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer(self.bodies[-1])


def scored(*scores: float) -> Answer:
    """These scores, best first, as Cohere sends them."""
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    results = [{"index": index, "relevance_score": scores[index]} for index in order]
    return lambda _: JSONResponse({"id": "x", "results": results})


def overlapping(body: dict[str, Any]) -> Response:
    """The share of the query's words in each document; white space is refused, as Cohere does."""
    if not all(document.strip() for document in body["documents"]):
        return JSONResponse({"message": "documents must not be empty"}, status_code=400)
    wanted = set(body["query"].lower().split())
    return scored(*(len(wanted & set(one.lower().split())) / len(wanted) for one in body["documents"]))(body)


def always(content: Any, *, status: int = 200, **headers: str) -> Answer:
    """The same for every request."""
    return lambda _: JSONResponse(content, status_code=status, headers=headers)


@pytest.fixture
def script() -> Script:
    """What the server does."""
    return Script()


@pytest.fixture
async def address(script: Script) -> AsyncIterator[str]:
    """Of the scripted server."""

    async def endpoint(request: Request) -> Response:
        return await script(request)

    async with serving(Starlette(routes=[Route("/v2/rerank", endpoint, methods=["POST"])])) as root:
        yield f"{root}/v2/rerank"


@asynccontextmanager
async def opened(address: str, *, seconds: float = 5.0) -> AsyncIterator[CohereReranker]:
    """As the setting opens it."""
    settings = Settings(reranker_api_key=SecretStr(KEY), upstream_timeout_seconds=seconds)
    made = open_cohere_reranker(f"cohere:{address}?model=rerank-v9", settings)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def over_http(script: Script, address: str) -> AsyncIterator[CohereReranker]:
    """The reranker of the scripted server, with a short deadline."""
    async with opened(address, seconds=2.0) as made:
        yield made


class TestCohereReranker(RerankerContract):
    """Over the scripted server."""

    @pytest.fixture
    async def reranker(self, script: Script, over_http: CohereReranker) -> CohereReranker:
        """One that counts words."""
        script.answers = [overlapping]
        return over_http


async def test_the_request_is_coheres(script: Script, over_http: CohereReranker) -> None:
    """Model, query, documents, all of them wanted, and the key as a bearer token; blank texts stay here."""
    script.answers = [scored(0.2, 0.9)]
    assert await over_http.rerank("q", ["a", " \n", "b", ""]) == [0.2, 0.0, 0.9, 0.0]
    assert script.bodies == [{"model": "rerank-v9", "query": "q", "documents": ["a", "b"], "top_n": 2}]
    assert script.keys == [f"Bearer {KEY}"]
    assert await over_http.rerank("q", ["", " "]) == [0.0, 0.0]
    assert len(script.bodies) == 1


async def test_logits_are_scaled_in_their_order(script: Script, over_http: CohereReranker) -> None:
    """Some servers send what the model says as it is."""
    script.answers = [scored(-3.5, 8.0, 0.0)]
    low, high, middle = await over_http.rerank("q", ["a", "b", "c"])
    assert 0 < low < middle < high < 1
    assert middle == pytest.approx(0.5)


async def test_what_may_pass_is_tried_again(script: Script, over_http: CohereReranker) -> None:
    """A 503 and a 429 that asks for a short wait are not the end."""
    busy = always({"message": "slow down"}, status=429, **{"retry-after": "0.1"})
    script.answers = [always({}, status=503), busy, scored(0.5)]
    assert await over_http.rerank("q", ["a"]) == [0.5]
    assert len(script.bodies) == 3


@pytest.mark.parametrize(
    "answer",
    [
        always({"message": "no such model"}, status=404),
        always({"message": "invalid api token"}, status=401),
        always({"message": "wait"}, status=429, **{"retry-after": "60"}),
        always({"message": "broken"}, status=500),
        always([]),
        always({"results": None}),
        always({"results": [{"index": 0}]}),
        always({"results": [{"index": 0, "relevance_score": "high"}]}),
        always({"results": [{"index": 0, "relevance_score": 0.5}]}),
        always({"results": [{"index": 0, "relevance_score": 0.5}, {"index": 2, "relevance_score": 0.5}]}),
        lambda _: PlainTextResponse('{"results": [{"index": 0, "relevance_score": NaN}, {"index": 1,'),
        lambda _: PlainTextResponse("<html>a proxy</html>"),
    ],
)
async def test_a_bad_answer_is_an_unavailable_reranker(
    script: Script, over_http: CohereReranker, answer: Answer
) -> None:
    """Whatever is wrong with it, and the key is not told."""
    script.answers = [answer]
    with pytest.raises(RerankerUnavailableError) as caught:
        await over_http.rerank("q", ["a", "b"])
    assert KEY not in caught.value.message


async def test_a_score_that_is_no_number_is_refused(script: Script, over_http: CohereReranker) -> None:
    """Python's JSON reads NaN, with which no order can be made."""
    script.answers = [lambda _: PlainTextResponse('{"results": [{"index": 0, "relevance_score": NaN}]}')]
    with pytest.raises(RerankerUnavailableError, match="cannot be used"):
        await over_http.rerank("q", ["a"])


async def test_a_server_that_hangs_is_given_up_in_time(script: Script, address: str) -> None:
    """After the time of the setting, all attempts included."""
    script.answers, script.delay = [scored(0.5)], 1.0
    async with opened(address, seconds=0.3) as reranker:
        began = asyncio.get_running_loop().time()
        with pytest.raises(RerankerUnavailableError):
            await reranker.rerank("q", ["a"])
        assert asyncio.get_running_loop().time() - began < 0.9


async def test_a_server_that_is_away() -> None:
    """Nobody listens there."""
    async with opened("http://127.0.0.1:9/v2/rerank", seconds=1.0) as reranker:
        with pytest.raises(RerankerUnavailableError, match="cannot be reached"):
            await reranker.rerank("q", ["a"])


async def test_another_bookwheel_is_such_a_server() -> None:
    """Its own /v2/rerank answers in the shape that is read here."""
    from bookwheel.api import create_app
    from bookwheel.testing import memory_ports

    async with serving(create_app(memory_ports(), Settings())) as root:
        reranker = open_cohere_reranker(f"cohere:{root}/v2/rerank?model=bookwheel-rerank", Settings())
        right, wrong = await reranker.rerank("largest animal", [RIGHT, WRONG])
        await reranker.close()
    assert right > wrong


@pytest.mark.parametrize(
    "url", ["cohere:", "cohere:?model=m", "cohere:https://host/v2/rerank", "cohere:ftp://host/?model=m"]
)
def test_a_url_without_a_server_or_a_model_is_told(url: str) -> None:
    """With the setting's name."""
    with pytest.raises(SettingsError, match="BOOKWHEEL_RERANKER_URL"):
        open_cohere_reranker(url, Settings())
