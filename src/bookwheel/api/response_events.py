"""A response as it is told: OpenAI's object, and the events by which it grows, numbered from 0.

What is kept and what is streamed is the same: a stream that resumes tells these very events again. What the search
found is always kept in the finished object, and shown to those who ask for it.
"""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from time import time
from typing import Any

from bookwheel import answer as walk
from bookwheel.api.cache_control import CacheControl
from bookwheel.api.response_requests import ResponseCreate, TextFormat, Wanted, resolved
from bookwheel.api.shapes import answer_details, citation_object, hit_object
from bookwheel.api.usage import response_usage
from bookwheel.errors import BookwheelError
from bookwheel.ports import Ports
from bookwheel.telemetry import ERRORS
from bookwheel.types import Answer, Found, ModelResponse, ResponseEvent, Scope

SEARCH, MESSAGE = 0, 1  #: places in the output


@dataclass(slots=True)
class Telling:
    """A response on its way: its object so far, and the number of its next event."""

    body: dict[str, Any]
    number: int = 0

    @classmethod
    def of(cls, kept: ModelResponse) -> "Telling":
        """Behind the events that its creation told."""
        return cls(dict(kept.body), len(creation(kept)))

    def event(self, type: str, **fields: Any) -> ResponseEvent:
        """The next event."""
        event = {"type": f"response.{type}", "sequence_number": self.number, **fields}
        self.number += 1
        return event

    def whole(self, type: str, **changes: Any) -> ResponseEvent:
        """The next event, with the object as it is now."""
        self.body.update(changes)
        return self.event(type, response={**self.body, "output": list(self.body["output"])})


def new_body(kept_id: str, created_at: int, asked: ResponseCreate) -> dict[str, Any]:
    """The object of a response that has not begun."""
    return {
        "id": kept_id,
        "object": "response",
        "created_at": created_at,
        "completed_at": None,
        "status": "queued" if asked.background else "in_progress",
        "background": bool(asked.background),
        "error": None,
        "incomplete_details": None,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "metadata": dict(asked.metadata or {}),
        "model": asked.model,
        "output": [],
        "parallel_tool_calls": False,
        "previous_response_id": asked.previous_response_id,
        "store": asked.is_kept,
        "temperature": None,
        "text": {"format": _format_object(asked.text.format)},
        "tool_choice": "auto",
        "tools": [] if asked.tool is None else [asked.tool.model_dump(mode="json")],
        "top_p": None,
        "truncation": "disabled",
        "usage": None,
        "user": asked.user,
    }


def _format_object(format: TextFormat) -> dict[str, Any]:
    if format.type != "json_schema":
        return {"type": format.type}
    return {"type": format.type, "name": format.name, "schema": format.schema_, "strict": format.strict}


def creation(kept: ModelResponse) -> list[ResponseEvent]:
    """What is told before any work begins."""
    telling = Telling(dict(kept.body, status="queued" if kept.background else "in_progress", output=[]))
    return [telling.whole("created"), *([telling.whole("queued")] if kept.background else [])]


async def tell(kept: ModelResponse, *, ports: Ports, told: int = 0) -> AsyncGenerator[ResponseEvent, None]:
    """The events of a kept response behind those of its creation. Raises BookwheelError."""
    asked = ResponseCreate.model_validate(kept.request)
    scope = Scope(
        tenant_id=kept.tenant_id,
        principals=frozenset(kept.principals),
        granted=None if kept.granted is None else frozenset(kept.granted),
        rule=kept.rule,
    )
    control = CacheControl(as_of=time(), **kept.request.get("cache", {}))
    if told > len(creation(kept)):  # what another worker began comes out the same only if it is written again
        control = replace(control, read=False)
    wanted = await resolved(asked, control, ports=ports, scope=scope, caller_id=kept.caller_id)
    async with aclosing(tell_wanted(kept, wanted, ports=ports)) as events:
        async for event in events:
            yield event


async def tell_wanted(kept: ModelResponse, wanted: Wanted, *, ports: Ports) -> AsyncGenerator[ResponseEvent, None]:
    """The same of a request that is resolved already."""
    telling = Telling.of(kept)
    message_id = f"msg_{kept.id.hex}"
    yield telling.whole("in_progress", status="in_progress")
    for event in _searching(telling, kept, wanted):
        yield event
    async with aclosing(walk.stream(wanted.ask, scope=wanted.scope, ports=ports)) as pieces:
        async for piece in pieces:
            if piece.found is not None:
                for event in _searched(telling, kept, wanted, piece.found):
                    yield event
                for event in _writing(telling, message_id):
                    yield event
            if piece.text:
                yield _text_event(telling, message_id, "delta", delta=piece.text, logprobs=[])
            if piece.answer is not None:
                for event in _written(telling, message_id, wanted, piece.answer, ports):
                    yield event


def failure(kept: ModelResponse, error: BookwheelError, *, number: int) -> ResponseEvent:
    """The event that ends a response with the reason."""
    ERRORS.labels("responses", type(error).__name__).inc()
    telling = Telling(dict(kept.body), number)
    reason = {"code": "server_error", "message": error.message, "reason": error.code, "param": error.param}
    return telling.whole("failed", status="failed", error=reason)


def _searching(telling: Telling, kept: ModelResponse, wanted: Wanted) -> Iterator[ResponseEvent]:
    item = _call(kept, wanted, "in_progress", None)
    yield telling.event("output_item.added", output_index=SEARCH, item=item)
    for state in ("in_progress", "searching"):
        yield telling.event(f"file_search_call.{state}", output_index=SEARCH, item_id=item["id"])


def _searched(telling: Telling, kept: ModelResponse, wanted: Wanted, found: Found) -> Iterator[ResponseEvent]:
    whole = _call(kept, wanted, "completed", [_result(hit_object(hit)) for hit in found.hits])
    telling.body["output"] = [whole]
    # Without what was found when nobody asked: a worker that takes over may find more by now, and still tell the same.
    item = whole if wanted.shows_results else {**whole, "results": None}
    yield telling.event("file_search_call.completed", output_index=SEARCH, item_id=item["id"])
    yield telling.event("output_item.done", output_index=SEARCH, item=item)


def _call(
    kept: ModelResponse, wanted: Wanted, status: str, results: Sequence[Mapping[str, Any]] | None
) -> dict[str, Any]:
    return {
        "id": f"fs_{kept.id.hex}",
        "type": "file_search_call",
        "status": status,
        "queries": [wanted.search_query],
        "results": results,
    }


def _result(hit: dict[str, Any]) -> dict[str, Any]:
    (content,) = hit.pop("content")
    return {**hit, "vector_store_id": hit["document"]["vector_store_id"], "text": content["text"]}


def _writing(telling: Telling, message_id: str) -> Iterator[ResponseEvent]:
    item = _message(message_id, "in_progress", [])
    yield telling.event("output_item.added", output_index=MESSAGE, item=item)
    yield _part_event(telling, message_id, "added", _part("", []))


def _written(
    telling: Telling, message_id: str, wanted: Wanted, answer: Answer, ports: Ports
) -> Iterator[ResponseEvent]:
    annotations = [{"type": "file_citation", **citation_object(one)["file_citation"]} for one in answer.citations]
    for number, annotation in enumerate(annotations):
        yield _text_event(telling, message_id, "annotation.added", annotation=annotation, annotation_index=number)
    part = _part(answer.text, annotations)
    status = "incomplete" if answer.cut_short else "completed"
    item = _message(message_id, status, [part])
    yield _text_event(telling, message_id, "done", text=answer.text, logprobs=[])
    yield _part_event(telling, message_id, "done", part)
    yield telling.event("output_item.done", output_index=MESSAGE, item=item)
    telling.body["output"] = [*telling.body["output"], item]
    yield telling.whole(
        status,
        status=status,
        incomplete_details=_why_incomplete(answer),
        completed_at=None if answer.cut_short else int(time()),
        usage=response_usage(wanted.said, answer.text, ports.embedders[wanted.ask.space.id]),
        bookwheel={name: value for name, value in answer_details(answer).items() if name != "hits"},
    )


def _why_incomplete(answer: Answer) -> dict[str, str] | None:
    if not answer.cut_short:
        return None
    return {"reason": "generator_failed" if "generate" in answer.degraded else "max_output_tokens"}


def _message(message_id: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": message_id, "type": "message", "role": "assistant", "status": status, "content": content}


def _part(text: str, annotations: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}


def _part_event(telling: Telling, message_id: str, type: str, part: Mapping[str, Any]) -> ResponseEvent:
    return telling.event(f"content_part.{type}", output_index=MESSAGE, content_index=0, item_id=message_id, part=part)


def _text_event(telling: Telling, message_id: str, type: str, **fields: Any) -> ResponseEvent:
    return telling.event(f"output_text.{type}", output_index=MESSAGE, content_index=0, item_id=message_id, **fields)
