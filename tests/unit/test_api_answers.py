"""Search and chat: what the door asks of the walks, and how it shows what they found."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest

from bookwheel.access import LOCAL
from bookwheel.answer import AnswerPiece
from bookwheel.api import create_app
from bookwheel.api.ids import parse, public
from bookwheel.errors import GeneratorUnavailableError, UnavailableError
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.testing import memory_ports
from bookwheel.types import DEFAULT_TENANT, Answer, Ask, Citation, Found, Hit, Question, Scope

DOCUMENT = DEFAULT_TENANT


def hit(number: int, score: float, **changes: Any) -> Hit:
    """A hit of a document that was put as text."""
    values: dict[str, Any] = {
        "chunk_id": number,
        "score": score,
        "dense": score,
        "keyword": None,
        "text": f"Passage {number}.",
        "start": 10,
        "end": 20,
        "page": 3,
        "heading_path": ("One", "Two"),
        "language": "en",
        "ordinal": number,
        "document_id": DOCUMENT,
        "store_id": DOCUMENT,
        "file_id": None,
        "external_id": "mine",
        "filename": "mine",
        "title": None,
        "version": 2,
        "sha256": bytes(range(32)),
        "attributes": {"year": 2024},
        "access": ("staff",),
        "created_at": datetime.fromtimestamp(1_700_000_000, UTC),
        "updated_at": datetime.fromtimestamp(1_700_000_060, UTC),
    }
    return Hit(**values | changes)


class Walks:
    """Records what the door asks and answers from a script."""

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.scopes: list[Scope] = []
        self.ask: Ask | None = None
        self.arguments: dict[str, Any] = {}
        self.found: dict[str, Found] = {}
        self.error: Exception | None = None
        self.breaks_after = 0

    async def retrieve(self, question: Question, *, scope: Scope, **_: Any) -> Found:
        """As bookwheel.retrieve.retrieve."""
        if self.error:
            raise self.error
        self.questions.append(question)
        self.scopes.append(scope)
        return self.found.get(question.text, Found(hits=[hit(1, 0.5)], degraded=("rerank",), timings={"embed": 0.002}))

    async def stream(self, ask: Ask, **arguments: Any) -> AsyncIterator[AnswerPiece]:
        """As bookwheel.answer.stream."""
        self.ask, self.arguments = ask, arguments
        for number, text in enumerate(("It ", "is [1].")):
            if self.error and number == self.breaks_after:
                raise self.error
            yield AnswerPiece(text=text)
        yield AnswerPiece(text="", answer=self.whole())

    async def answer(self, ask: Ask, **arguments: Any) -> Answer:
        """As bookwheel.answer.answer."""
        self.ask, self.arguments = ask, arguments
        return self.whole()

    def whole(self) -> Answer:
        """The scripted answer."""
        one = hit(1, 0.5)
        citation = Citation(index=1, quote="Passage", start=10, end=17, answer_offset=6, hit=one)
        return Answer(
            text="It is [1].",
            citations=(citation,),
            supported=True,
            found=Found(hits=[one], timings={"embed": 0.001}),
            model="scripted",
            timings={"generate": 0.5},
        )


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> Walks:
    """Scripted walks in the place of the real ones."""
    made = Walks()
    monkeypatch.setattr("bookwheel.api.search.retrieve", made.retrieve)
    monkeypatch.setattr("bookwheel.api.chat.walk.stream", made.stream)
    monkeypatch.setattr("bookwheel.api.chat.walk.answer", made.answer)
    return made


@pytest.fixture
def ports() -> Ports:
    """Empty ports in memory."""
    return memory_ports()


@pytest.fixture
async def client(ports: Ports, walks: Walks) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the door."""
    transport = httpx.ASGITransport(app=create_app(ports, Settings()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


@pytest.fixture
async def store(client: httpx.AsyncClient) -> str:
    """The id of an empty store."""
    made: str = (await client.post("/v1/vector_stores", json={})).json()["id"]
    return made


async def test_search_has_openais_shape(client: httpx.AsyncClient, store: str) -> None:
    """Scores, text and attributes stand where OpenAI's clients look; ours stand beside them."""
    page = (await client.post(f"/v1/vector_stores/{store}/search", json={"query": "why"})).json()
    assert page["object"] == "vector_store.search_results.page"
    assert (page["search_query"], page["has_more"], page["next_page"]) == (["why"], False, None)
    assert page["degraded"] == ["rerank"]
    assert page["timings"]["embed"] == 2.0
    assert page["data"] == [
        {
            "file_id": public("document", DOCUMENT),
            "filename": "mine",
            "score": 0.5,
            "attributes": {"year": 2024},
            "content": [{"type": "text", "text": "Passage 1."}],
            "document": {
                "id": public("document", DOCUMENT),
                "external_id": "mine",
                "vector_store_id": public("store", DOCUMENT),
                "title": None,
                "version": 2,
                "page": 3,
                "start": 10,
                "end": 20,
                "heading_path": ["One", "Two"],
                "ordinal": 1,
                "language": "en",
                "hash": bytes(range(32)).hex(),
                "access": ["staff"],
                "created_at": 1_700_000_000,
                "updated_at": 1_700_000_060,
            },
        }
    ]


async def test_search_asks_what_the_caller_asked(client: httpx.AsyncClient, store: str, walks: Walks) -> None:
    """Limit, filter, threshold and weights reach the walk, and the scope is the store in the path alone."""
    body = {
        "query": "why",
        "max_num_results": 3,
        "filters": {"type": "eq", "key": "a", "value": 1},
        "ranking_options": {"score_threshold": 0.2, "hybrid_search": {"embedding_weight": 3, "text_weight": 1}},
    }
    assert (await client.post(f"/v1/vector_stores/{store}/search", json=body)).status_code == 200
    assert walks.questions == [
        Question(text="why", limit=3, filter=body["filters"], score_threshold=0.2, dense_weight=0.75)  # type: ignore[arg-type]
    ]
    assert walks.scopes == [replace(LOCAL.scope, store_ids=(parse("store", store),))]


async def test_several_queries_are_merged_by_best_score(client: httpx.AsyncClient, store: str, walks: Walks) -> None:
    """A passage found twice is shown once, with its better score, and the limit holds for the whole."""
    walks.found = {
        "a": Found(hits=[hit(1, 0.9), hit(2, 0.3)], timings={"embed": 0.001}),
        "b": Found(hits=[hit(2, 0.8), hit(3, 0.1)], degraded=("embed",), timings={"embed": 0.003}),
    }
    body = {"query": ["a", "b"], "max_num_results": 2}
    page = (await client.post(f"/v1/vector_stores/{store}/search", json=body)).json()
    assert [(one["content"][0]["text"], one["score"]) for one in page["data"]] == [
        ("Passage 1.", 0.9),
        ("Passage 2.", 0.8),
    ]
    assert (page["degraded"], page["timings"]["embed"]) == (["embed"], 3.0)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "query"),
        ({"query": ""}, "query"),
        ({"query": "a", "max_num_results": 51}, "max_num_results"),
        ({"query": "a", "filters": {"type": "eq", "key": "a"}}, "filters.value"),
        (
            {"query": "a", "ranking_options": {"hybrid_search": {"embedding_weight": 0, "text_weight": 0}}},
            "ranking_options.hybrid_search",
        ),
    ],
)
async def test_wrong_searches_name_the_field(
    client: httpx.AsyncClient, store: str, walks: Walks, body: dict[str, Any], param: str
) -> None:
    """Nothing is searched for a request that is not valid."""
    response = await client.post(f"/v1/vector_stores/{store}/search", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith(param)
    assert walks.questions == []


async def test_retryable_errors_say_when_to_retry(client: httpx.AsyncClient, store: str, walks: Walks) -> None:
    """A part that is away is a 503 with Retry-After."""
    walks.error = UnavailableError()
    response = await client.post(f"/v1/vector_stores/{store}/search", json={"query": "a"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


async def test_unexpected_errors_show_no_inside(
    client: httpx.AsyncClient, store: str, walks: Walks, capfd: pytest.CaptureFixture[str]
) -> None:
    """A bug is a 500 in the same shape, with the request id and without the details, which the log has."""
    walks.error = RuntimeError("a secret inside")
    response = await client.post(
        f"/v1/vector_stores/{store}/search", json={"query": "a"}, headers={"x-request-id": "mine-1"}
    )
    assert (response.status_code, response.headers["x-request-id"]) == (500, "mine-1")
    assert response.json()["error"]["code"] == "internal_error"
    assert "secret" not in response.text
    logged = capfd.readouterr()
    assert "a secret inside" in logged.out + logged.err


def said(*messages: tuple[str, Any]) -> list[dict[str, Any]]:
    """Messages of a chat."""
    return [{"role": role, "content": content} for role, content in messages]


async def test_chat_answers_with_citations(client: httpx.AsyncClient, store: str) -> None:
    """The answer is a chat completion whose annotations say where each sentence stands."""
    body = {"model": "bookwheel", "messages": said(("user", "why")), "vector_store_ids": [store]}
    made = (await client.post("/v1/chat/completions", json=body)).json()
    assert (made["object"], made["model"]) == ("chat.completion", "bookwheel")
    message = made["choices"][0]["message"]
    assert (message["role"], message["content"]) == ("assistant", "It is [1].")
    assert message["annotations"][0] == {
        "type": "file_citation",
        "file_citation": {
            "file_id": public("document", DOCUMENT),
            "filename": "mine",
            "quote": "Passage",
            "page": 3,
            "start": 10,
            "end": 17,
            "index": 1,
            "answer_offset": 6,
            "document_id": public("document", DOCUMENT),
            "external_id": "mine",
        },
    }
    assert made["usage"]["total_tokens"] == made["usage"]["prompt_tokens"] + made["usage"]["completion_tokens"] > 0
    assert made["bookwheel"]["supported"] is True
    assert made["bookwheel"]["timings"] == {"embed": 1.0, "generate": 500.0}
    assert len(made["bookwheel"]["hits"]) == 1


async def test_chat_takes_the_last_user_message_as_the_question(
    client: httpx.AsyncClient, store: str, walks: Walks
) -> None:
    """What was said before is history, whatever the form of its content; the store may stand in the model."""
    messages = said(("system", "be brief"), ("user", [{"type": "text", "text": "first"}]), ("assistant", "yes"))
    body = {
        "model": f"bookwheel/{store}",
        "messages": [*messages, {"role": "user", "content": "second"}],
        "max_num_results": 4,
        "filters": {"a": 1},
        "temperature": 0.1,
    }
    assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
    assert walks.ask is not None
    assert walks.ask.question == Question(text="second", limit=4, filter={"a": 1})
    assert walks.ask.history == said(("user", "first"), ("assistant", "yes"))
    assert walks.ask.instructions == "be brief"
    assert walks.ask.freshness is not None
    assert list(walks.ask.freshness.versions) == [parse("store", store)]
    assert walks.arguments["scope"].store_ids == (parse("store", store),)


def events(text: str) -> list[Any]:
    """The data of server-sent events; the last may be [DONE]."""
    data = [part.removeprefix("data: ") for part in text.split("\n\n") if part]
    return [one if one == "[DONE]" else orjson.loads(one) for one in data]


async def test_chat_streams(client: httpx.AsyncClient, store: str) -> None:
    """The deltas joined are the answer; the last one has the citations; usage comes when asked for."""
    body = {
        "model": store,
        "messages": said(("user", "why")),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    response = await client.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, usage, done = events(response.text)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content", "") for delta in deltas) == "It is [1]."
    assert deltas[0]["role"] == "assistant"
    assert deltas[-1]["annotations"][0]["file_citation"]["index"] == 1
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-2:] == [None, "stop"]
    assert (usage["choices"], usage["usage"]["completion_tokens"] > 0) == ([], True)
    assert done == "[DONE]"


@pytest.mark.parametrize("after", [0, 1])
async def test_a_stream_that_breaks_says_so(client: httpx.AsyncClient, store: str, walks: Walks, after: int) -> None:
    """Before the first word an error keeps its status; behind it, it is the last event and nothing claims the end."""
    walks.error, walks.breaks_after = GeneratorUnavailableError(), after
    body = {"model": store, "messages": said(("user", "why")), "stream": True}
    response = await client.post("/v1/chat/completions", json=body)
    if after == 0:
        assert (response.status_code, response.json()["error"]["code"]) == (503, "generator_unavailable")
        return
    assert response.status_code == 200
    assert events(response.text)[-1]["error"]["code"] == "generator_unavailable"


@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        ({"model": "gpt-9"}, 404, "model"),
        ({"vector_store_ids": []}, 400, "vector_store_ids"),
        ({"vector_store_ids": ["vs_" + "0" * 32]}, 404, None),
        ({"messages": []}, 400, "messages"),
        ({"messages": said(("assistant", "hello"))}, 400, "messages"),
        ({"messages": said(("user", " "))}, 400, "messages"),
        ({"filters": {"$x": 1}}, 400, "filters.$x"),
    ],
)
async def test_wrong_chats_name_the_field(
    client: httpx.AsyncClient, store: str, changes: dict[str, Any], status: int, param: str | None
) -> None:
    """A chat without a question, a known model or documents is refused with the reason."""
    body = {"model": "bookwheel", "messages": said(("user", "why")), "vector_store_ids": [store]} | changes
    response = await client.post("/v1/chat/completions", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)
