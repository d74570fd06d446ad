"""Questions and documents stay out of the process's log, unless a setting asks for the questions."""

import logging
from collections.abc import AsyncIterator, Iterator

import httpx
import orjson
import pytest
import structlog

from bookwheel.api import create_app
from bookwheel.query_log import QUERIES, QueryLog
from bookwheel.settings import Settings
from bookwheel.telemetry import configure_logging
from bookwheel.testing.desk import Desk

QUESTION = "Where does the zymurgist of Quillfeather keep his gondola?"
TEXT = "The zymurgist of Quillfeather keeps his gondola in the cellar."
MARKS = ("zymurgist", "Quillfeather", "gondola")


@pytest.fixture(autouse=True)
def _logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All loggers at debug level for the test, the libraries' too; as before after it."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    settings = structlog.get_config()
    yield
    root.handlers[:], root.level = before, level
    structlog.configure(**settings)


@pytest.fixture
async def door(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a door over a store with one live document."""
    store = await desk.store("books")
    await desk.add(store, TEXT)
    transport = httpx.ASGITransport(app=create_app(desk.ports, Settings()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


async def ask_everywhere(door: httpx.AsyncClient) -> None:
    """The question over every route that takes one, and in requests that fail; the document over one that takes it."""
    store = (await door.get("/v1/vector_stores")).json()["data"][0]["id"]
    answers = [
        await door.post(f"/v1/vector_stores/{store}/search", json={"query": QUESTION}),
        await door.post("/v1/search", json={"query": QUESTION, "store_id": store}),
        await door.get("/v1/search", params={"query": QUESTION, "vector_store_ids": store}),
        await door.post(
            "/v1/chat/completions",
            json={
                "messages": [{"role": "user", "content": QUESTION}],
                "model": "bookwheel",
                "vector_store_ids": [store],
            },
        ),
        await door.post(
            "/v1/responses",
            json={"input": QUESTION, "tools": [{"type": "file_search", "vector_store_ids": [store]}]},
        ),
        await door.post(f"/v1/vector_stores/{store}/documents", json={"id": "two", "text": TEXT}),
    ]
    assert [answer.status_code for answer in answers if answer.status_code != 200] == [], [
        answer.text for answer in answers
    ]
    await door.post(f"/v1/vector_stores/{store}/search", json={"query": QUESTION, "filters": {"type": QUESTION}})
    await door.post("/v1/responses", json={"input": QUESTION, "model": QUESTION})
    await door.post(f"/v1/vector_stores/{store}/documents", content=orjson.dumps({"id": TEXT, "text": 7}))


def configured(capsys: pytest.CaptureFixture[str]) -> None:
    """The log as in production, at debug level, the libraries' too."""
    configure_logging(level="debug", format="json")
    logging.getLogger().setLevel(logging.DEBUG)
    structlog.configure(cache_logger_on_first_use=False)
    capsys.readouterr()


async def test_by_default_nothing_is_logged(door: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]) -> None:
    """No word of a question or a document in any line at debug level."""
    configured(capsys)
    httpx_log = logging.getLogger("httpx")  # the test's own client tells the addresses that it asks for
    httpx_log.disabled = True
    try:
        await ask_everywhere(door)
    finally:
        httpx_log.disabled = False
    logged = capsys.readouterr().err
    assert "served" in logged
    assert [mark for mark in MARKS if mark.lower() in logged.lower()] == []


async def test_in_full_questions_are_logged(
    door: httpx.AsyncClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each where it is searched for and where it is answered: so the test above looks in the right place."""
    monkeypatch.setattr(QUERIES, "mode", "full")
    configured(capsys)
    await ask_everywhere(door)
    lines = [orjson.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    told = [line for line in lines if line["event"] == "question"]
    assert {line["kind"] for line in told} == {"search", "answer"}
    assert all(line["text"] == QUESTION for line in told)


def told(capsys: pytest.CaptureFixture[str], log: QueryLog) -> dict[str, object]:
    """The line about a question."""
    configured(capsys)
    log.tell("search", QUESTION)
    line: dict[str, object] = orjson.loads(capsys.readouterr().err)
    return line


def test_redacted_tells_no_word(capsys: pytest.CaptureFixture[str]) -> None:
    """Length, language and a hash: the same for the same question in one process, another in another."""
    one, other = QueryLog("redacted"), QueryLog("redacted")
    first, again, elsewhere = told(capsys, one), told(capsys, one), told(capsys, other)
    assert (first["characters"], first["language"]) == (len(QUESTION), "en")
    assert first["hash"] == again["hash"] != elsewhere["hash"]
    assert "zymurgist" not in str(first)


def test_off_tells_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Not even that somebody asked."""
    configured(capsys)
    QueryLog().tell("search", QUESTION)
    assert capsys.readouterr().err == ""
