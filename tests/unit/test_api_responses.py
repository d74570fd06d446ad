"""The Responses API over memory: shapes, events, conversations, and what becomes of a reader who leaves."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from bookwheel.api import create_app
from bookwheel.api.conversation import recent
from bookwheel.api.ids import parse, public
from bookwheel.errors import GeneratorUnavailableError, OverloadedError
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.testing import answered_by, memory_ports
from bookwheel.testing.desk import Desk
from bookwheel.types import DEFAULT_TENANT, Prompt, Scope, Store

RESULTS = "file_search_call.results"
TEXT = "The bookwheel was described by Ramelli."
MORE = "The windmill was described by others."
ORDER = [
    "created",
    "in_progress",
    "output_item.added",
    "file_search_call.in_progress",
    "file_search_call.searching",
    "file_search_call.completed",
    "output_item.done",
    "output_item.added",
    "content_part.added",
    "output_text.delta",
    "output_text.annotation.added",
    "output_text.done",
    "content_part.done",
    "output_item.done",
    "completed",
]
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


@asynccontextmanager
async def door_of(ports: Ports) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the door over these ports."""
    transport = httpx.ASGITransport(app=create_app(ports, Settings()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


class Stuck:
    """A generator that says one thing and then waits until it is cancelled, or breaks."""

    model = "stuck"
    writes_json = False

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.cancelled = asyncio.Event()

    async def generate(self, prompt: Prompt) -> AsyncGenerator[str, None]:
        """See ports.Generator."""
        yield "It begins [1]. And then it goes on for a while"
        if self.error:
            raise self.error
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


@pytest.fixture
def ports() -> Ports:
    """Ports in memory."""
    return memory_ports()


@pytest.fixture
async def store(ports: Ports) -> Store:
    """A store with one document of the default tenant."""
    desk = Desk(ports=ports, tenant=DEFAULT_TENANT)
    made = await desk.store()
    await desk.add(made, TEXT, external_id="wheel", attributes={"year": 1588})
    return made


@pytest.fixture
async def client(ports: Ports) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the door."""
    transport = httpx.ASGITransport(app=create_app(ports, Settings()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


def asking(store: Store, input: Any = "Who described the bookwheel?", **changes: Any) -> dict[str, Any]:
    """A request that searches the store."""
    tool = {"type": "file_search", "vector_store_ids": [public("store", store.id)]}
    return {"model": "bookwheel", "input": input, "tools": [tool]} | changes


async def create(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    """The response to it."""
    answered = await client.post("/v1/responses", json=body)
    assert answered.status_code == 200, answered.text
    made: dict[str, Any] = answered.json()
    return made


def events(text: str) -> list[dict[str, Any]]:
    """The data of server-sent events, whose names are their types."""
    found = []
    for part in text.split("\n\n"):
        if part:
            name, data = part.split("\n", 1)
            found.append(orjson.loads(data.removeprefix("data: ")))
            assert name == f"event: {found[-1]['type']}"
    return found


def types(found: Sequence[dict[str, Any]]) -> list[str]:
    """The types of events, without their common beginning."""
    return [event["type"].removeprefix("response.") for event in found]


async def test_a_response_has_openais_shape(client: httpx.AsyncClient, store: Store) -> None:
    """A search item and a message item with citations; the SDK's strict types take it."""
    made = await create(client, asking(store, instructions="Be brief.", metadata={"a": "b"}, user="u"))
    parsed = Response.model_validate(made)
    assert parsed.output_text == "The bookwheel was described by Ramelli. [1]"
    assert (parsed.status, parsed.error, parsed.instructions, parsed.metadata) == (
        "completed",
        None,
        "Be brief.",
        {"a": "b"},
    )
    search, message = made["output"]
    assert (search["type"], search["status"], search["results"]) == ("file_search_call", "completed", None)
    assert search["queries"] == ["Who described the bookwheel?"]
    (annotation,) = message["content"][0]["annotations"]
    assert annotation["type"] == "file_citation"
    assert (annotation["filename"], annotation["index"], annotation["quote"]) == ("wheel", 1, TEXT)
    assert (annotation["start"], annotation["end"], annotation["page"]) == (0, len(TEXT), None)
    assert made["usage"]["total_tokens"] == made["usage"]["input_tokens"] + made["usage"]["output_tokens"] > 0
    assert made["bookwheel"]["supported"] is True


async def test_results_come_when_they_are_included(client: httpx.AsyncClient, store: Store) -> None:
    """With the file's name, attributes, score and text, as OpenAI has them."""
    made = await create(client, asking(store, include=["file_search_call.results"]))
    (result,) = made["output"][0]["results"]
    assert (result["filename"], result["text"], result["attributes"]) == ("wheel", TEXT, {"year": 1588})
    assert 0 <= result["score"] <= 1


@pytest.mark.parametrize("name", ["include", "include[]"])
async def test_results_of_a_stored_response_come_when_asked_for(
    client: httpx.AsyncClient, store: Store, name: str
) -> None:
    """Whether or not the request that made it asked for them; without asking they are not shown."""
    for made in (await create(client, asking(store)), await create(client, asking(store, include=[RESULTS]))):
        url = f"/v1/responses/{made['id']}"
        assert (await client.get(url)).json()["output"][0]["results"] is None
        assert (await client.get(url, params={name: "message.input_image.image_url"})).json()["output"][0][
            "results"
        ] is None
        asked = (await client.get(url, params={name: RESULTS})).json()
        assert [result["text"] for result in asked["output"][0]["results"]] == [TEXT]
        Response.model_validate(asked)


async def test_events_show_results_to_those_who_ask(client: httpx.AsyncClient, store: Store) -> None:
    """The last event of a stream that is told again has them; without asking none has."""
    made = await create(client, asking(store, include=[RESULTS]))
    url = f"/v1/responses/{made['id']}?stream=true"
    plain = (await client.get(url)).text
    assert '"results":[' not in plain
    asked = (await client.get(f"{url}&include={RESULTS}")).text
    assert asked.count('"results":[') == 2


async def test_kept_results_of_what_changed_are_not_shown(client: httpx.AsyncClient, store: Store) -> None:
    """A document that was closed, replaced or deleted since then takes its passage out of the stored response."""
    made = await create(client, asking(store, include=[RESULTS]))
    url = f"/v1/responses/{made['id']}?include={RESULTS}"
    (result,) = made["output"][0]["results"]
    document = f"/v1/vector_stores/{result['vector_store_id']}/files/{result['document']['id']}"
    closed = await client.post(document, json={"access": ["group:board"]})
    assert closed.status_code == 200
    assert (await client.get(url)).json()["output"][0]["results"] == []
    told = (await client.get(f"{url}&stream=true")).text
    assert '"results":[]' in told
    assert '"results":[{' not in told
    await client.post(document, json={"access": None})
    assert len((await client.get(url)).json()["output"][0]["results"]) == 1


async def test_filters_and_limits_reach_the_search(client: httpx.AsyncClient, store: Store) -> None:
    """Documents that do not pass are not found."""
    body = asking(store, include=["file_search_call.results"])
    body["tools"][0]["filters"] = {"type": "eq", "key": "year", "value": 1600}
    made = await create(client, body)
    assert made["output"][0]["results"] == []
    assert made["output"][1]["content"][0]["text"] == "Not found in these documents."


async def test_a_stream_tells_every_step(client: httpx.AsyncClient, store: Store) -> None:
    """Searching comes before writing, numbers ascend without gaps, and each event is one of the SDK's."""
    answered = await client.post("/v1/responses", json=asking(store, stream=True))
    assert answered.headers["content-type"].startswith("text/event-stream")
    found = events(answered.text)
    assert types(found) == ORDER
    assert [event["sequence_number"] for event in found] == list(range(len(ORDER)))
    for event in found:
        assert EVENT.validate_python(event).type == event["type"]
    deltas = "".join(event["delta"] for event in found if event["type"] == "response.output_text.delta")
    whole = found[-1]["response"]
    assert deltas.strip() == whole["output"][1]["content"][0]["text"]
    assert found[9]["item_id"] == whole["output"][1]["id"]
    assert (await client.get(f"/v1/responses/{whole['id']}")).json() == whole


async def test_a_stored_stream_is_told_again(client: httpx.AsyncClient, store: Store) -> None:
    """From any number on, the very events; also of a response that was not streamed."""
    first = events((await client.post("/v1/responses", json=asking(store, stream=True))).text)
    url = f"/v1/responses/{first[-1]['response']['id']}"
    assert events((await client.get(url, params={"stream": True})).text) == first
    assert events((await client.get(url, params={"stream": True, "starting_after": 6})).text) == first[7:]
    made = await create(client, asking(store))
    again = events((await client.get(f"/v1/responses/{made['id']}", params={"stream": True})).text)
    assert (types(again), again[-1]["response"]) == (ORDER, made)


async def test_unstored_responses_leave_nothing(client: httpx.AsyncClient, store: Store, ports: Ports) -> None:
    """store=false answers the same, and nobody can ask for it later."""
    made = await create(client, asking(store) | {"store": False})
    assert made["store"] is False
    assert (await client.get(f"/v1/responses/{made['id']}")).status_code == 404
    found = events((await client.post("/v1/responses", json=asking(store, stream=True) | {"store": False})).text)
    assert (await client.get(f"/v1/responses/{found[-1]['response']['id']}")).status_code == 404


async def test_a_response_is_deleted_once(client: httpx.AsyncClient, store: Store) -> None:
    """Then it is gone, with its input."""
    made = await create(client, asking(store))
    url = f"/v1/responses/{made['id']}"
    assert (await client.delete(url)).json() == {"id": made["id"], "object": "response", "deleted": True}
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")):
        assert (await client.request(method, url + path)).status_code == 404


async def test_input_items_are_listed(client: httpx.AsyncClient, store: Store) -> None:
    """Messages come back in either order and in pages, in the shapes that they are read in."""
    given = [
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "type": "message", "content": [{"type": "output_text", "text": "Yes?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"role": "user", "content": [{"type": "input_text", "text": "Who described"}, {"type": "input_image"}]},
    ]
    made = await create(client, asking(store, given))
    url = f"/v1/responses/{made['id']}/input_items"
    listed = (await client.get(url, params={"order": "asc", "limit": 2})).json()
    texts = [(item["role"], item["content"][0]["type"], item["content"][0]["text"]) for item in listed["data"]]
    assert texts == [("system", "input_text", "Be brief."), ("assistant", "output_text", "Yes?")]
    assert listed["has_more"] is True
    rest = (await client.get(url, params={"order": "asc", "after": listed["last_id"]})).json()
    assert [item["content"][0]["text"] for item in rest["data"]] == ["Who described"]
    newest = (await client.get(url)).json()
    assert [item["role"] for item in newest["data"]] == ["user", "assistant", "system"]


async def test_a_conversation_goes_on(client: httpx.AsyncClient, store: Store) -> None:
    """A follow-up searches for what the responses before it were about."""
    first = await create(client, asking(store, "Who described the bookwheel?"))
    second = await create(client, asking(store, "And when was it made?", previous_response_id=first["id"]))
    third = await create(client, asking(store, "how big is it?", previous_response_id=second["id"]))
    assert second["output"][0]["queries"] == ["And when was it made? bookwheel"]
    assert third["output"][0]["queries"] == ["how big is it? bookwheel"]
    assert third["previous_response_id"] == second["id"]
    assert third["bookwheel"]["search_query"] == "how big is it? bookwheel"


async def test_chat_makes_a_follow_up_self_contained(client: httpx.AsyncClient, store: Store) -> None:
    """The history of a chat does the same, and the answer says what was searched for."""
    messages = [
        {"role": "user", "content": "Who described the bookwheel?"},
        {"role": "assistant", "content": "Ramelli."},
        {"role": "user", "content": "and when was it made?"},
    ]
    body = {"model": public("store", store.id), "messages": messages}
    made = (await client.post("/v1/chat/completions", json=body)).json()
    assert made["bookwheel"]["search_query"] == "and when was it made? bookwheel"


@pytest.mark.parametrize(("tokens", "text"), [(9, ""), (10, TEXT + " [1]"), (100, TEXT + " [1] " + MORE + " [2]")])
async def test_an_answer_may_be_cut_short(store: Store, ports: Ports, tokens: int, text: str) -> None:
    """It ends before the sentence that would be too much, as incomplete; in a chat by its finish_reason."""
    await Desk(ports=ports, tenant=DEFAULT_TENANT).add(store, MORE, external_id="more")
    transport = httpx.ASGITransport(app=create_app(ports, Settings()))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        made = await create(client, asking(store, max_output_tokens=tokens))
        found = events(
            (await client.post("/v1/responses", json=asking(store, max_output_tokens=tokens, stream=True))).text
        )
        chat = {
            "model": public("store", store.id),
            "messages": [{"role": "user", "content": "Who described the bookwheel?"}],
            "max_tokens": tokens,
        }
        choice = (await client.post("/v1/chat/completions", json=chat)).json()["choices"][0]
    cut = tokens < 100
    assert Response.model_validate(made).output_text == choice["message"]["content"] == text
    assert made["usage"]["output_tokens"] <= tokens
    assert (made["status"], made["incomplete_details"]) == (
        ("incomplete", {"reason": "max_output_tokens"}) if cut else ("completed", None)
    )
    assert found[-1]["type"] == f"response.{made['status']}"
    assert EVENT.validate_python(found[-1]).type == found[-1]["type"]
    assert choice["finish_reason"] == ("length" if cut else "stop")


async def test_background_waits_for_a_worker(client: httpx.AsyncClient, store: Store, ports: Ports) -> None:
    """It is queued at once, polled, cancelled, and its stream ends with it."""
    made = await create(client, asking(store, background=True))
    url = f"/v1/responses/{made['id']}"
    assert (made["status"], made["output"], made["background"]) == ("queued", [], True)
    assert (await client.get(url)).json() == made
    for _ in range(2):
        cancelled = (await client.post(f"{url}/cancel")).json()
        assert cancelled["status"] == "cancelled"
    told = events((await client.get(url, params={"stream": True})).text)
    assert types(told) == ["created", "queued"]
    assert Response.model_validate(cancelled).status == "cancelled"


async def test_only_background_work_is_cancelled(client: httpx.AsyncClient, store: Store) -> None:
    """A response that was answered at once is refused, as OpenAI does."""
    made = await create(client, asking(store))
    assert (await client.post(f"/v1/responses/{made['id']}/cancel")).status_code == 400


@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        ({"input": ""}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": [{"type": "message", "content": "a"}]}, 400, "input[0].role"),
        ({"input": [{"role": "assistant", "content": "a"}]}, 400, "input"),
        ({"input": 7}, 400, "input"),
        ({"tools": []}, 400, "tools"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["vs_" + "0" * 32]}]}, 404, None),
        ({"model": "gpt-9"}, 404, "model"),
        ({"metadata": {"a": 1}}, 400, "metadata.a"),
        ({"background": True, "store": False}, 400, "background"),
        ({"previous_response_id": "resp_1"}, 404, None),
        ({"previous_response_id": "resp_" + "0" * 32}, 404, None),
    ],
)
async def test_wrong_requests_name_the_field(
    client: httpx.AsyncClient, store: Store, changes: dict[str, Any], status: int, param: str | None
) -> None:
    """Nothing is answered and nothing stored for a request that is not valid."""
    response = await client.post("/v1/responses", json=asking(store) | changes)
    assert response.status_code == status
    assert (response.json()["error"]["param"] or "").startswith(param or "")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"filters": {"$x": 1}}, "tools[0].filters"),
        ({"max_num_results": 51}, "tools[0].max_num_results"),
        ({"ranking_options": {"hybrid_search": {"embedding_weight": 0, "text_weight": 0}}}, "tools[0].ranking_options"),
    ],
)
async def test_wrong_tools_name_the_field(
    client: httpx.AsyncClient, store: Store, changes: dict[str, Any], param: str
) -> None:
    """What is wrong in the tool is named there."""
    body = asking(store)
    body["tools"][0] |= changes
    response = await client.post("/v1/responses", json=body)
    assert (response.status_code, response.json()["error"]["param"].startswith(param)) == (400, True)


async def test_an_unfinished_response_is_not_continued(client: httpx.AsyncClient, store: Store) -> None:
    """There is no answer yet to go on from."""
    waiting = await create(client, asking(store, background=True))
    response = await client.post("/v1/responses", json=asking(store, previous_response_id=waiting["id"]))
    assert (response.status_code, response.json()["error"]["param"]) == (400, "previous_response_id")


async def test_another_tenants_response_is_not_there(client: httpx.AsyncClient, store: Store, ports: Ports) -> None:
    """What is kept is kept for its tenant."""
    made = await create(client, asking(store))
    kept_id = parse("response", made["id"])
    foreign = Scope(tenant_id=parse("response", "resp_" + "1" * 32))
    assert list(await ports.responses.events(kept_id, scope=foreign, limit=9)) == []


async def test_an_error_before_the_answer_keeps_its_status(store: Store, ports: Ports) -> None:
    """Whole: a 429 that says when to come again, nothing stored. Streamed: the last event says what went wrong."""
    broken = answered_by(ports, Stuck(OverloadedError(retry_after=7.0)))
    async with door_of(broken) as client:
        refused = await client.post("/v1/responses", json=asking(store))
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
        found = events((await client.post("/v1/responses", json=asking(store, stream=True))).text)
        last = found[-1]
        assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
        assert last["response"]["error"]["reason"] == "overloaded"
        assert [event["sequence_number"] for event in found] == list(range(len(found)))
        assert EVENT.validate_python(last).type == "response.failed"
        assert (await client.get(f"/v1/responses/{last['response']['id']}")).json() == last["response"]


async def test_a_generator_that_fails_midway(store: Store, ports: Ports) -> None:
    """Whole: the extractive one writes all of it, and the answer says so. Streamed: what was told stands, and the
    response is incomplete for that reason."""
    async with door_of(answered_by(ports, Stuck(GeneratorUnavailableError()))) as client:
        whole = (await client.post("/v1/responses", json=asking(store))).json()
        assert (whole["status"], whole["bookwheel"]["degraded"]) == ("completed", ["generate"])
        assert whole["bookwheel"]["model"] == "bookwheel-extractive"
        assert TEXT in whole["output"][-1]["content"][0]["text"]
        last = events((await client.post("/v1/responses", json=asking(store, stream=True))).text)[-1]
        assert (last["type"], last["response"]["incomplete_details"]) == (
            "response.incomplete",
            {"reason": "generator_failed"},
        )
        assert last["response"]["bookwheel"]["degraded"] == ["generate"]
        assert "It begins" in last["response"]["output"][-1]["content"][0]["text"]


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions"])
async def test_a_reader_who_leaves_ends_the_generation(store: Store, ports: Ports, path: str) -> None:
    """When the connection goes, the generator is cancelled within moments, and nothing is stored."""
    stuck = Stuck()
    app = create_app(answered_by(ports, stuck), Settings())
    body = asking(store, stream=True)
    if path != "/v1/responses":
        messages = [{"role": "user", "content": "who?"}]
        body = {"model": public("store", store.id), "messages": messages, "stream": True}
    left, sent = asyncio.Event(), [{"type": "http.request", "body": orjson.dumps(body), "more_body": False}]

    async def receive() -> dict[str, Any]:
        if sent:
            return sent.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if b"It begins" in message.get("body", b""):
            left.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "scheme": "http",
        "root_path": "",
    }
    async with asyncio.timeout(5):
        await app(scope, receive, send)
        await stuck.cancelled.wait()
    assert len(await ports.response_runs.claim(owner="x", lease_seconds=1, limit=9)) == 0


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("why " * 3_000, "8,192 characters"),
        ([{"role": "user", "content": "a" * 200_000}, {"role": "user", "content": "why?"}], "200,000 characters"),
    ],
)
async def test_too_much_is_refused(client: httpx.AsyncClient, store: Store, said: Any, words: str) -> None:
    """All of it would be embedded and counted while others wait."""
    refused = await client.post("/v1/responses", json=asking(store, said))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input")
    assert words in refused.json()["error"]["message"]
    messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
    body = {"model": f"bookwheel/vs_{store.id.hex}", "messages": messages}
    assert (await client.post("/v1/chat/completions", json=body)).json()["error"]["param"] == "messages"


def test_the_newest_turns_are_kept() -> None:
    """Of a conversation that grew too long, whole messages from its end."""
    turns = [{"role": "user", "content": letter * 90_000} for letter in "abc"]
    assert [turn["content"][0] for turn in recent(turns)] == ["b", "c"]
    assert recent(turns[:2]) == turns[:2]
