"""Kept answers and searches over HTTP: who gets them, how they say so, and how they die. The model counts its calls."""

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import openai
import psycopg
import pytest

from bookwheel.client import Client
from bookwheel.data_directory import holder
from bookwheel.popular import LOOK_SECONDS
from tests.scripted_upstream import ScriptedUpstream, scripted_upstream
from tests.service.conftest import LiveServer, bookwheel_up
from tests.service.generated import (
    PATIENCE,
    WHALES,
    a_store,
    api_beside,
    ask,
    chats,
    details,
    first_passage,
    put,
    text_of,
    wait_for,
)
from tests.service.test_generators import missing
from tests.service.test_streams import NGINX

QUESTION = "Which animal of the sea is the largest?"
SAME = "What is the largest animal of the sea?"
OTHER = "Which animal of the sea is the smallest?"
LARGEST = "The blue whale is the largest animal of the sea [1]."
NEW = "The colossal squid is the largest animal of the sea."
POPULAR = 3  # times asked


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedUpstream]:
    """A model that says the first sentence of the best passage."""
    with scripted_upstream() as upstream:
        upstream.otherwise = first_passage()
        yield upstream


@pytest.fixture(autouse=True)
def _nothing_asked(model: ScriptedUpstream) -> None:
    """Each test counts for itself."""
    model.requests.clear()


def setting(model: ScriptedUpstream) -> dict[str, str]:
    """Its address."""
    return {"BOOKWHEEL_GENERATOR_URL": f"openai:{model.url}/v1?model=whale"}


@pytest.fixture(scope="module")
def server(model: ScriptedUpstream) -> Iterator[LiveServer]:
    """A server that counts no questions."""
    settings = {"BOOKWHEEL_POPULAR_QUESTIONS": "0", **setting(model)}
    with (
        TemporaryDirectory(prefix="bookwheel-test-", ignore_cleanup_errors=True) as directory,
        bookwheel_up(Path(directory), **settings) as made,
    ):
        yield made


@pytest.fixture
def store(server: LiveServer) -> Iterator[str]:
    """A store with one document about whales, for one test."""
    made = a_store(server.url, "whales", whales=WHALES)
    yield made
    with Client(server.url) as client:
        client.call("DELETE", f"/v1/vector_stores/{made}")


def kind(answer: httpx.Response) -> str | None:
    """What kept thing answered; the headers say the same as the body."""
    cached = details(answer)["cache"]
    if cached is None:
        assert answer.headers["cache-status"].startswith("bookwheel; fwd=")
        assert "age" not in answer.headers
        return None
    assert answer.headers["cache-status"] == f"bookwheel; hit; detail={cached['kind']}"
    assert int(answer.headers["age"]) == int(cached["age_seconds"])
    return str(cached["kind"])


class TestAnswers:
    """Kept answers."""

    def test_the_same_question_is_answered_once(self, server: LiveServer, store: str, model: ScriptedUpstream) -> None:
        """The same text, citations and sentences; other ways to ask are other questions."""
        first, second = (ask(server.url, store, QUESTION) for _ in range(2))
        assert (kind(first), kind(second), text_of(second)) == (None, "exact", LARGEST)
        assert first.json()["choices"] == second.json()["choices"]
        assert details(first)["sentences"] == details(second)["sentences"]
        assert details(second)["cache"]["question"] == QUESTION
        assert len(chats(model)) == 1
        assert kind(ask(server.url, store, QUESTION, max_tokens=50)) is None
        assert len(chats(model)) == 2

    def test_other_words_for_the_same_question(self, server: LiveServer, store: str, model: ScriptedUpstream) -> None:
        """By meaning, unless what they ask differs."""
        ask(server.url, store, QUESTION)
        near = ask(server.url, store, SAME)
        assert (kind(near), text_of(near)) == ("semantic", LARGEST)
        assert details(near)["cache"]["question"] == QUESTION
        assert details(near)["cache"]["similarity"] >= 0.9
        assert len(chats(model)) == 1
        assert kind(ask(server.url, store, OTHER)) is None
        assert len(chats(model)) == 2

    def test_a_caller_may_refuse_what_is_kept(self, server: LiveServer, store: str, model: ScriptedUpstream) -> None:
        """no-store keeps nothing either; no-cache keeps the new answer; max-age=0 takes nothing that was kept."""
        refused = ask(server.url, store, QUESTION, cache="no-store")
        assert refused.headers["cache-status"] == "bookwheel; fwd=request"
        assert kind(ask(server.url, store, QUESTION)) is None
        assert kind(ask(server.url, store, QUESTION, cache="no-cache")) is None
        assert kind(ask(server.url, store, QUESTION, cache="max-age=0")) is None
        assert len(chats(model)) == 4
        assert kind(ask(server.url, store, QUESTION)) == "exact"
        assert kind(ask(server.url, store, QUESTION, cache="max-age=600")) == "exact"

    @pytest.mark.parametrize("change", ["update", "delete", "access"])
    def test_a_change_of_what_it_rests_on_ends_it(
        self, server: LiveServer, store: str, model: ScriptedUpstream, change: str
    ) -> None:
        """At once: the next answer knows."""
        ask(server.url, store, QUESTION)
        path = f"/v1/vector_stores/{store}/documents/whales"
        with Client(server.url) as client:
            match change:
                case "update":
                    put(client, store, whales=NEW)
                case "delete":
                    client.call("DELETE", path)
                case "access":
                    line = {"id": "whales", "text": WHALES, "access": ["staff"]}
                    assert all("error" not in one for one in client.put_documents(store, [line]))
                    client.wait(store)
        for question in (QUESTION, SAME):
            told = ask(server.url, store, question)
            assert "blue whale" not in text_of(told)
            assert ("colossal squid" in text_of(told)) == (change == "update")

    def test_streams_come_from_it_too(self, server: LiveServer, store: str, model: ScriptedUpstream) -> None:
        """Of chats and responses, whoever made the answer; with its citations."""
        whole = ask(server.url, store, QUESTION)
        streamed = ask(server.url, store, QUESTION, stream=True)
        assert streamed.headers["cache-status"] == "bookwheel; hit; detail=exact"
        lines = [line.removeprefix("data: ") for line in streamed.text.splitlines() if line.startswith("data: {")]
        chunks = [json.loads(line) for line in lines]
        assert "".join(one["choices"][0]["delta"].get("content", "") for one in chunks) == LARGEST
        assert chunks[-1]["choices"][0]["delta"]["annotations"] == whole.json()["choices"][0]["message"]["annotations"]
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
            name = f"bookwheel/{store}"
            told: Any = client.responses.create(model=name, input=QUESTION)
            events: list[Any] = list(client.responses.create(model=name, input=QUESTION, stream=True))
        assert (told.output_text, told.bookwheel["cache"]["kind"]) == (LARGEST, "exact")
        assert events[-1].response.output_text == LARGEST
        assert events[-1].response.bookwheel["cache"]["kind"] == "exact"
        assert len(chats(model)) == 1

    def test_a_document_that_is_new_is_seen_in_time(
        self, server: LiveServer, store: str, model: ScriptedUpstream
    ) -> None:
        """At once where the cache is strict; else an answer whose passages stand may go on for a while."""
        with api_beside(
            server, BOOKWHEEL_CACHE_FRESH_SECONDS="0", BOOKWHEEL_CACHE_URL="memory:", **setting(model)
        ) as strict:
            for url in (server.url, strict):
                ask(url, store, QUESTION)
                assert kind(ask(url, store, QUESTION)) == "exact"
            with Client(server.url) as client:
                put(client, store, oak="Oaks drop acorns in autumn.")
            assert kind(ask(server.url, store, QUESTION)) == "exact"
            assert kind(ask(strict, store, QUESTION)) is None

    def test_processes_share_it(self, server: LiveServer, store: str, model: ScriptedUpstream) -> None:
        """Through the database, exact and by meaning; one without a cache asks each time."""
        ask(server.url, store, QUESTION)
        with (
            api_beside(server, **setting(model)) as other,
            api_beside(server, BOOKWHEEL_CACHE_URL="off:", **setting(model)) as off,
        ):
            shared = wait_for(lambda: kind(told := ask(other, store, QUESTION)) == "exact" and told)
            assert text_of(shared) == LARGEST
            assert kind(ask(other, store, SAME)) == "semantic"
            model.requests.clear()
            assert [kind(ask(off, store, QUESTION)) for _ in range(2)] == [None, None]
            assert len(chats(model)) == 2
            assert kind(ask(other, store, QUESTION)) == "exact"


class TestLinks:
    """GET /v1/search."""

    def test_a_tag_stands_for_what_was_found(self, server: LiveServer, store: str) -> None:
        """The same as the POST finds; with its tag only what changed is sent."""
        link = {"query": QUESTION, "vector_store_ids": store}
        found = _search(server.url, **link)
        posted = httpx.post(f"{server.url}/v1/search", json={"query": QUESTION, "vector_store_ids": [store]}).json()
        assert found.json()["results"] == posted["results"] != []
        assert (found.headers["cache-control"], found.headers["vary"]) == ("private, no-cache", "authorization")
        tag = found.headers["etag"]
        assert tag.startswith('W/"')  # times and ages differ
        for asked in (f'"other", {tag}', tag.removeprefix("W/"), "*"):
            same = _search(server.url, tag=asked, **link)
            assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
        with Client(server.url) as client:
            put(client, store, squid=NEW)
        changed = _search(server.url, tag=tag, **link)
        assert (changed.status_code, len(changed.json()["results"])) == (200, len(found.json()["results"]) + 1)
        assert changed.headers["etag"] != tag

    def test_a_search_is_kept(self, server: LiveServer, store: str) -> None:
        """And says so; whoever refuses gets a new one with the same tag."""
        link = {"query": QUESTION, "vector_store_ids": store}
        first, second = _search(server.url, **link), _search(server.url, **link)
        assert first.headers["cache-status"] == "bookwheel; fwd=miss"
        assert second.headers["cache-status"] == "bookwheel; hit; detail=search"
        assert second.json()["results"] == first.json()["results"]
        refused = _search(server.url, cache="no-cache", **link)
        assert refused.headers["cache-status"] == "bookwheel; fwd=request"
        assert refused.headers["etag"] == first.headers["etag"]

    def test_a_filter_is_json(self, server: LiveServer, store: str) -> None:
        """As in the POST; what is none is refused by name."""
        with Client(server.url) as client:
            line = {"id": "old", "text": "The largest animal of old.", "attributes": {"year": 1588}}
            list(client.put_documents(store, [line]))
            client.wait(store)
        wanted = json.dumps({"type": "eq", "key": "year", "value": 1588})
        found = _search(server.url, query="animal", vector_store_ids=store, filter=wanted).json()["results"]
        assert [one["document"]["external_id"] for one in found] == ["old"]
        for wrong in ("{", "[]", '"year"', '{"type": "eq", "key": "year", "value": [1]}'):
            refused = _search(server.url, query="animal", filter=wrong)
            assert refused.status_code == 400
            assert refused.json()["error"]["param"].startswith("filter")
        assert _search(server.url, query="").status_code == 400
        assert _search(server.url, query="a", stores="nobody").status_code == 404

    def test_a_proxy_keeps_public_results_only(self, server: LiveServer, store: str, model: ScriptedUpstream) -> None:
        """nginx serves them a second time by itself; private ones always come from us."""
        link = {"query": QUESTION, "vector_store_ids": store}
        with api_beside(server, BOOKWHEEL_SEARCH_PUBLIC_SECONDS="60") as public:
            assert _search(public, **link).headers["cache-control"] == "public, max-age=60"
            for url, expected in ((public, ["MISS", "HIT"]), (server.url, ["MISS", "MISS"])):
                with keeping_nginx(url) as proxy:
                    told = [_search(proxy, **link) for _ in range(2)]
                assert [one.headers["x-proxy"] for one in told] == expected
                assert told[0].json()["results"] == told[1].json()["results"] != []


def _search(url: str, *, tag: str = "", cache: str = "", **query: str) -> httpx.Response:
    headers = {**({"if-none-match": tag} if tag else {}), **({"cache-control": cache} if cache else {})}
    return httpx.get(f"{url}/v1/search", params=query, headers=headers, timeout=PATIENCE)


@contextlib.contextmanager
def keeping_nginx(url: str) -> Iterator[str]:
    """The address of an nginx that keeps what it may, and says in x-proxy whether it did."""
    if NGINX is None:
        missing("nginx", "install Debian's package nginx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with TemporaryDirectory(prefix="bookwheel-nginx-") as folder:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{one}_temp_path {folder}/{one};\n" for one in kinds)
        config = Path(folder) / "nginx.conf"
        config.write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log stderr crit;\nevents {{}}\n"
            f"http {{ access_log off;\n{paths}proxy_cache_path {folder}/kept keys_zone=kept:1m;\n"
            f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_http_version 1.1; proxy_pass {url};"
            " proxy_cache kept; add_header x-proxy $upstream_cache_status; } } }\n"
        )
        with subprocess.Popen([str(NGINX), "-e", "stderr", "-c", str(config)]) as process:
            try:
                wait_for(lambda: process.poll() is not None or listens(port))
                assert process.poll() is None
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()


def listens(port: int) -> bool:
    """Whether a server has come up there."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def asked_questions(server: LiveServer) -> int:
    """Rows of the table that counts."""
    with psycopg.connect(holder(server.data_dir)["database_url"]) as connection:
        (count,) = connection.execute("SELECT count(*) FROM asked_questions").fetchone() or (0,)
    return int(count)


def test_nothing_is_counted_where_nothing_is_popular(server: LiveServer, store: str) -> None:
    """POPULAR_QUESTIONS=0 leaves nothing behind, however often something is asked."""
    for _ in range(POPULAR):
        ask(server.url, store, QUESTION)
    time.sleep(2.2)  # counts are written every 2 s
    assert asked_questions(server) == 0


def test_a_popular_question_is_kept_ready(model: ScriptedUpstream, data_dir: Path) -> None:
    """After a change of its document the worker asks the model, not the next caller; a restart loses nothing."""
    settings = setting(model)
    with bookwheel_up(data_dir, **settings) as server:
        store = a_store(server.url, "whales", whales=WHALES)
        for _ in range(POPULAR):
            assert text_of(ask(server.url, store, QUESTION)) == LARGEST
        assert len(chats(model)) == 1
        wait_for(lambda: asked_questions(server) == 1)
        time.sleep(LOOK_SECONDS)  # a worker that looked before the answer had reached it makes one for these asks
        assert text_of(ask(server.url, store, QUESTION)) == LARGEST  # and may make another for this one
        time.sleep(2.2)  # counts are written every 2 s
        model.requests.clear()
        with Client(server.url) as client:
            put(client, store, whales=NEW)
        wait_for(lambda: len(chats(model)) == 1, seconds=20)
        told = wait_for(lambda: kind(found := ask(server.url, store, QUESTION)) == "exact" and found, seconds=5)
        assert text_of(told) == f"{NEW.removesuffix('.')} [1]."
        time.sleep(1.0)
        assert server.stop() == 0
    before = len(chats(model))
    with bookwheel_up(data_dir, **settings) as server:
        again = ask(server.url, store, QUESTION)
        assert (kind(again), text_of(again)) == ("exact", text_of(told))
    assert len(chats(model)) == before
