"""The judges of answers under traffic: clean ones pass, and each finds the fault that is planted for it."""

from typing import Any

import httpx
import orjson
import pytest

from bookwheel.errors import DatabaseUnavailableError, OverloadedError
from tests.chaos.outages import silent
from tests.chaos.shore import COMMON, MADE_UP, SENTENCES, documents, strange
from tests.chaos.traffic import Answered, Traffic, events_verdict, refusal_fault

BUSY = OverloadedError().body()
AWAY = DatabaseUnavailableError().body()
PROMISED = {"search": 1.0, "chat": 1.0, "stream": 1.0}


def chunk(**fields: Any) -> str:
    """An event of a streamed chat."""
    return orjson.dumps({"choices": [{"delta": {"content": fields.pop("said", "")}}], **fields}).decode()


LAST = chunk(bookwheel={"degraded": ["generate"]})


def test_a_clean_stream_has_no_fault() -> None:
    """One that ends, and one that ends with an error."""
    assert events_verdict([chunk(said=COMMON[0]), LAST, "[DONE]"]) == (("generate",), None)
    assert events_verdict([chunk(said=COMMON[0]), orjson.dumps(AWAY).decode()]) == ((), None)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [chunk(said=COMMON[0]), LAST],
        [chunk(said=COMMON[0]), "[DONE]"],
        [chunk(said=COMMON[0]), orjson.dumps({"error": "no"}).decode()],
        [chunk(said=MADE_UP), LAST, "[DONE]"],
        [chunk(said=COMMON[0][:20]), LAST, "[DONE]"],
        [LAST, "[DONE]"],
    ],
    ids=["nothing", "in the air", "without details", "another error", "made up", "half a sentence", "empty"],
)
def test_a_broken_stream_has_one(lines: list[str]) -> None:
    """Each in its way."""
    assert events_verdict(lines)[1] is not None


def test_only_a_refusal_that_says_when_is_clean() -> None:
    """429 and 503 in OpenAI's shape, with Retry-After."""
    when = {"retry-after": "1"}
    assert refusal_fault(httpx.Response(429, json=BUSY, headers=when)) is None
    assert refusal_fault(httpx.Response(503, json=AWAY, headers=when)) is None
    assert refusal_fault(httpx.Response(500, json=AWAY, headers=when))
    assert refusal_fault(httpx.Response(503, json=AWAY))
    assert refusal_fault(httpx.Response(503, json={"detail": "no"}, headers=when))
    assert refusal_fault(httpx.Response(503, json={"error": {"message": "no"}}, headers=when))
    assert refusal_fault(httpx.Response(503, text="<html>", headers=when))


def test_what_no_document_holds_is_strange() -> None:
    """Citation marks are not, nor is any sentence of the documents."""
    assert [one for line in documents() for one in strange(line["text"])] == []
    assert strange(f"{COMMON[0]} [1][2] {COMMON[1]} [3]") == []
    assert strange(f"{COMMON[0]} [1] {MADE_UP} [1]") == [MADE_UP]
    assert strange(f"{COMMON[0]} [unsupported]")
    assert strange(COMMON[0].replace("colza", "whale"))
    assert MADE_UP not in SENTENCES


def answered(**fields: Any) -> Answered:
    """A search that took no time."""
    return Answered(**{"kind": "search", "began": 0.0, "ended": 0.1, "status": 200, **fields})


def test_a_part_that_is_missing_must_be_named() -> None:
    """By every answer that needs it; the others must not be refused; no kind may be absent."""
    whole = tuple(answered(kind=kind, degraded=("embed",)) for kind in PROMISED)
    assert silent(whole, "embed") == []
    assert silent((*whole, answered(status=503)), "embed") == []
    assert silent((*whole, answered()), "embed")
    assert silent((*whole, answered(status=503)), "embed", affected=("chat", "stream"))
    assert silent(whole[1:], "embed")


def test_a_late_answer_and_one_with_a_fault_are_found() -> None:
    """Each is a fault of the whole traffic."""
    traffic = Traffic("", "", deadlines=PROMISED)  # type: ignore[arg-type]
    traffic.answered = [answered(), answered(ended=0.9)]
    assert traffic.faults() == []
    traffic.answered += [answered(ended=1.1), answered(status=500, fault="no clean refusal")]
    assert len(traffic.faults()) == 2
