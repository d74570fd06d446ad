"""A few clients who search and ask without end, and what came of each of their requests.

    with Traffic(server.url, store_id, deadlines={...}) as traffic:
        traffic.until_whole(READY_SECONDS)
        ... break something, wait, mend it ...
        took = traffic.until_whole(RECOVERY_SECONDS, after=mended)
    assert traffic.faults() == []

Each question is a new one.
"""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import httpx
import orjson

from tests.chaos.shore import question, strange

Kind = Literal["search", "chat", "stream"]
KINDS: tuple[Kind, ...] = ("search", "chat", "stream")

CLIENTS = 4
PAUSE_SECONDS = 0.1  # of each client, between two requests
STEADY_SECONDS = 1.5  # without a degraded or refused answer: then it is whole again
LOOK_SECONDS = 0.05
GIVE_UP_SECONDS = 20.0  # behind its deadline: a client waits for an answer that hangs for no longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One request and its answer."""

    kind: Kind
    began: float  #: on the monotonic clock
    ended: float
    status: int  #: 0 where there was none
    degraded: tuple[str, ...] = ()
    fault: str | None = None  #: what is not clean about the answer

    @property
    def seconds(self) -> float:
        """From before the first byte to behind the last."""
        return self.ended - self.began

    @property
    def whole(self) -> bool:
        """Nothing is missing."""
        return self.status == httpx.codes.OK and not self.degraded and self.fault is None


@dataclass(slots=True)
class Traffic:
    """The clients. `deadlines`: seconds in which a request of each kind must have ended."""

    url: str
    store_id: str
    deadlines: Mapping[Kind, float]
    headers: Mapping[str, str] = field(default_factory=dict)
    answered: list[Answered] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Start; use it as a context manager."""
        self._threads = [threading.Thread(target=self._ask_on, name=f"client {one}") for one in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def until_whole(self, within: float, *, after: float | None = None) -> float:
        """Wait until answers of every kind are whole again; the seconds from `after`, which is now when not said, to
        the first of these. Raises AssertionError with what was answered instead."""
        after = time.monotonic() if after is None else after
        while (now := time.monotonic()) - after <= within + STEADY_SECONDS:
            since = [one for one in list(self.answered) if one.began >= after]
            last_bad = max((one.began for one in since if not one.whole), default=after)
            first = [_first(kind, since, last_bad) for kind in KINDS]
            if None not in first and now - last_bad >= STEADY_SECONDS:
                return max(one.ended for one in first if one is not None) - after
            time.sleep(LOOK_SECONDS)
        raise AssertionError(f"not whole within {within:g} s: {shown(since)}")

    def between(self, start: float, end: float) -> list[Answered]:
        """Requests that began and ended in this time."""
        return [one for one in list(self.answered) if start <= one.began and one.ended <= end]

    def faults(self) -> list[str]:
        """What must not be: answers that are late, broken off, refused unclearly, or made up."""
        late = [
            f"{one.kind} took {one.seconds:.2f} s, its deadline is {self.deadlines[one.kind]:g} s"
            for one in self.answered
            if one.seconds > self.deadlines[one.kind]
        ]
        return late + [f"{one.kind} {one.status}: {one.fault}" for one in self.answered if one.fault is not None]

    def _ask_on(self) -> None:
        with httpx.Client(base_url=self.url, headers=self.headers) as client:
            while not self._stop.is_set():
                number = next(self._numbers)
                self.answered.append(self._ask(client, KINDS[number % len(KINDS)], number))
                self._stop.wait(PAUSE_SECONDS)

    def _ask(self, client: httpx.Client, kind: Kind, number: int) -> Answered:
        text = question(number)
        began, limit = time.monotonic(), self.deadlines[kind] + GIVE_UP_SECONDS
        try:
            status, degraded, fault = _VERBS[kind](client, self.store_id, text, limit)
        except httpx.TransportError as error:
            status, degraded, fault = 0, (), f"{type(error).__name__}: {error}"
        return Answered(kind=kind, began=began, ended=time.monotonic(), status=status, degraded=degraded, fault=fault)


def _first(kind: Kind, answered: Sequence[Answered], after: float) -> Answered | None:
    whole = [one for one in answered if one.kind == kind and one.whole and one.began >= after]
    return min(whole, key=lambda one: one.ended, default=None)


def shown(answered: Sequence[Answered]) -> str:
    """How often which answer came, and the slowest of each kind."""
    counts = Counter((one.kind, one.status, _what(one)) for one in answered)
    slowest = {kind: max((one.seconds for one in answered if one.kind == kind), default=0.0) for kind in KINDS}
    parts = [f"{kind} {status} {what}: {count}" for (kind, status, what), count in sorted(counts.items())]
    return "; ".join(parts) + " (slowest " + ", ".join(f"{kind} {took:.2f} s" for kind, took in slowest.items()) + ")"


def _what(one: Answered) -> str:
    if one.fault is not None:
        return f"({one.fault[:200]})"
    if one.degraded:
        return "without " + "+".join(one.degraded)
    return "whole" if one.whole else "refused"


# ---- one request of each kind: its status, what was left out, and what is not clean about it

Verdict = tuple[int, tuple[str, ...], str | None]


def _search(client: httpx.Client, store_id: str, text: str, limit: float) -> Verdict:
    path = f"/v1/vector_stores/{store_id}/search"
    response = client.post(path, json={"query": text, "max_num_results": 5}, timeout=limit)
    if response.status_code != httpx.codes.OK:
        return response.status_code, (), refusal_fault(response)
    page = response.json()
    texts = [part["text"] for hit in page["data"] for part in hit["content"]]
    return response.status_code, tuple(page["degraded"]), _said_fault(texts)


def _chat(client: httpx.Client, store_id: str, text: str, limit: float) -> Verdict:
    response = client.post("/v1/chat/completions", json=_question(store_id, text), timeout=limit)
    if response.status_code != httpx.codes.OK:
        return response.status_code, (), refusal_fault(response)
    body = response.json()
    fault = _said_fault([body["choices"][0]["message"]["content"]])
    return response.status_code, tuple(body["bookwheel"]["degraded"]), fault


def _stream(client: httpx.Client, store_id: str, text: str, limit: float) -> Verdict:
    body = {**_question(store_id, text), "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body, timeout=limit) as response:
        if response.status_code != httpx.codes.OK:
            response.read()
            return response.status_code, (), refusal_fault(response)
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    return (response.status_code, *events_verdict(lines))


_VERBS = {"search": _search, "chat": _chat, "stream": _stream}


def _question(store_id: str, text: str) -> dict[str, Any]:
    return {"model": f"bookwheel/{store_id}", "messages": [{"role": "user", "content": text}], "max_num_results": 5}


def events_verdict(lines: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    """Of the events of a streamed chat: what was left out, and what is wrong. It ends with [DONE] or an error."""
    events = [orjson.loads(line) for line in lines if line != "[DONE]"]
    if events and (error := events[-1].get("error")):
        return (), None if _is_error(error) else f"an error of another shape: {error}"
    if not lines or lines[-1] != "[DONE]":
        return (), f"the stream ends in the air, behind {len(lines)} events"
    details = [event["bookwheel"] for event in events if "bookwheel" in event]
    if len(details) != 1:
        return (), f"{len(details)} events say what was left out"
    said = "".join(event["choices"][0]["delta"].get("content", "") for event in events if event["choices"])
    return tuple(details[0]["degraded"]), _said_fault([said])


def refusal_fault(response: httpx.Response) -> str | None:
    """What is wrong with a response that is none of 200: only 429 and 503 are clean, and say when to come back."""
    if response.status_code not in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
        return f"no clean refusal: {response.text[:300]}"
    if not response.headers.get("retry-after", "").isdecimal():
        return "it does not say when to come back"
    try:
        error = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return f"an error of another shape: {response.text[:300]}"
    return None if _is_error(error) else f"an error of another shape: {error}"


def _is_error(error: Any) -> bool:
    """OpenAI's."""
    return (
        isinstance(error, dict)
        and "param" in error
        and all(isinstance(error.get(name), str) for name in ("message", "type", "code"))
    )


def _said_fault(texts: Sequence[str]) -> str | None:
    """What no document holds."""
    if not any(text.strip() for text in texts):
        return "nothing is said"
    made_up = [sentence for text in texts for sentence in strange(text)]
    return f"made up: {made_up[:3]}" if made_up else None
