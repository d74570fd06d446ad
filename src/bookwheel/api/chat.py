"""/v1/chat/completions: a question in, a cited answer out, whole or streamed."""

import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from time import time
from typing import Any

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response

from bookwheel import answer as walk
from bookwheel.access import within
from bookwheel.api import conversation
from bookwheel.api.bodies import ChatCreate
from bookwheel.api.cache_control import CacheControl, TheCacheControl, cache_headers
from bookwheel.api.conversation import Message
from bookwheel.api.event_stream import event_stream, unless_left
from bookwheel.api.limiting import counts_tokens
from bookwheel.api.models import generator_for
from bookwheel.api.shapes import answer_details, citation_object
from bookwheel.api.store_choice import answering_stores
from bookwheel.api.usage import chat_usage
from bookwheel.api.wiring import JSON, ThePorts, TheScope, router
from bookwheel.errors import BookwheelError
from bookwheel.filters import parse as parse_filter
from bookwheel.popular import count_asked
from bookwheel.ports import Ports
from bookwheel.telemetry import ERRORS
from bookwheel.types import Answer, Ask, Scope

routes = router("chat")
log = structlog.get_logger("bookwheel.api.chat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A chat request, resolved."""

    id: str
    model: str
    created: int  #: Unix time
    ask: Ask
    scope: Scope
    control: CacheControl
    include_usage: bool


@routes.post("/v1/chat/completions")
async def complete(
    body: ChatCreate, request: Request, control: TheCacheControl, ports: ThePorts, scope: TheScope
) -> Response:
    """Answer the last user message from the stores named in `vector_store_ids` or in the model."""
    asked = await _resolve(body, control, ports, scope)
    count_asked(asked.ask, scope=asked.scope, ports=ports)
    if body.stream:
        return await _streamed(asked, request, ports)
    answer = await unless_left(walk.answer(asked.ask, scope=asked.scope, ports=ports), request=request)
    headers = cache_headers(answer.cached, control)
    return JSON(_completion(asked, answer, _usage(asked, answer, ports)), headers=headers)


async def _resolve(body: ChatCreate, control: CacheControl, ports: Ports, scope: Scope) -> Asked:
    said = [Message(role=message.role, content=message.text()) for message in body.messages]
    text, before = conversation.asked(said, param="messages")
    conversation.check_length(text, [turn["content"] for turn in before], param="messages")
    instructions, history = conversation.told_and_said(before)
    if body.filters is not None:
        parse_filter(body.filters)
    stores, space = await answering_stores(
        body.model,
        body.vector_store_ids,
        param="vector_store_ids",
        remedy="Name stores in vector_store_ids, or as the model bookwheel/vs_...",
        scope=scope,
        ports=ports,
    )
    schema = body.response_format.wanted()
    ask = Ask(
        question=body.ranking_options.question(text, limit=body.max_num_results, filter=body.filters),
        space=space,
        history=history,
        instructions=instructions,
        schema=schema,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        model=await generator_for(body.model, schema, scope=scope, ports=ports),
        freshness=control.freshness(stores),
    )
    return Asked(
        id=f"chatcmpl-{secrets.token_hex(12)}",
        model=body.model,
        created=int(time()),
        ask=ask,
        scope=within(scope, *(store.id for store in stores)),
        control=control,
        include_usage=body.stream_options is not None and body.stream_options.include_usage,
    )


def _usage(asked: Asked, answer: Answer, ports: Ports) -> dict[str, int]:
    ask = asked.ask
    said = [
        ask.question.text,
        *([ask.instructions] if ask.instructions else ()),
        *(one["content"] for one in ask.history),
    ]
    return chat_usage(said, answer.text, ports.embedders[ask.space.id])


def _finish_reason(answer: Answer) -> str:
    return "length" if answer.cut_short else "stop"


def _completion(asked: Asked, answer: Answer, usage: Mapping[str, int]) -> dict[str, Any]:
    message = {
        "role": "assistant",
        "content": answer.text,
        "refusal": None,
        "annotations": [citation_object(citation) for citation in answer.citations],
    }
    return {
        "id": asked.id,
        "object": "chat.completion",
        "created": asked.created,
        "model": asked.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(answer)}],
        "usage": usage,
        "bookwheel": answer_details(answer),
    }


async def _streamed(asked: Asked, request: Request, ports: Ports) -> Response:
    pieces = walk.stream(asked.ask, scope=asked.scope, ports=ports)
    # The first words are fetched before the response begins, so that early errors keep their status.
    first = await unless_left(_first_words(pieces), request=request)
    cached = None if first.answer is None else first.answer.cached
    return event_stream(_events(asked, first, pieces, ports), headers=cache_headers(cached, asked.control))


async def _first_words(pieces: AsyncGenerator[walk.AnswerPiece, None]) -> walk.AnswerPiece:
    async for piece in pieces:
        if piece.text or piece.answer is not None:
            return piece
    raise AssertionError("the last piece has the answer")


async def _events(
    asked: Asked, first: walk.AnswerPiece, rest: AsyncGenerator[walk.AnswerPiece, None], ports: Ports
) -> AsyncGenerator[bytes, None]:
    yield _event(_chunk(asked, {"role": "assistant", "content": "", "refusal": None}))
    try:
        async with aclosing(_chained(first, rest)) as pieces:
            async for piece in pieces:
                if piece.text:
                    yield _event(_chunk(asked, {"content": piece.text}))
                if piece.answer is not None:
                    for chunk in _last_chunks(asked, piece.answer, ports):
                        yield _event(chunk)
    except BookwheelError as error:  # the status is sent already: say it in the stream
        ERRORS.labels("chat", type(error).__name__).inc()
        log.warning("answer broke off", code=error.code, error=error.message)
        yield _event(error.body())
        return
    yield b"data: [DONE]\n\n"


async def _chained(
    first: walk.AnswerPiece, rest: AsyncGenerator[walk.AnswerPiece, None]
) -> AsyncGenerator[walk.AnswerPiece, None]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


def _last_chunks(asked: Asked, answer: Answer, ports: Ports) -> list[dict[str, Any]]:
    annotations = [citation_object(citation) for citation in answer.citations]
    last = _chunk(asked, {"annotations": annotations}, finish_reason=_finish_reason(answer))
    last["bookwheel"] = answer_details(answer)
    if not asked.include_usage and not counts_tokens():
        return [last]
    usage = {**_chunk(asked, {}), "choices": [], "usage": _usage(asked, answer, ports)}
    return [last, usage] if asked.include_usage else [last]


def _chunk(asked: Asked, delta: Mapping[str, Any], *, finish_reason: str | None = None) -> dict[str, Any]:
    return {
        "id": asked.id,
        "object": "chat.completion.chunk",
        "created": asked.created,
        "model": asked.model,
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}],
    }


def _event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n\n"
