"""/v1/chat/completions: a question in, a cited answer out, whole or streamed."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from time import time
from typing import Any

import orjson
import structlog
from starlette.responses import Response, StreamingResponse

from bookwheel import answer as walk
from bookwheel.access import within
from bookwheel.api.bodies import ChatCreate, ChatMessage
from bookwheel.api.conversation import check_length
from bookwheel.api.ids import parse
from bookwheel.api.models import store_of
from bookwheel.api.shapes import answer_details, citation_object
from bookwheel.api.usage import chat_usage
from bookwheel.api.wiring import JSON, ThePorts, TheScope, router
from bookwheel.errors import BookwheelError, InvalidRequestError
from bookwheel.expiry import note_search
from bookwheel.filters import parse as parse_filter
from bookwheel.ports import Ports
from bookwheel.telemetry import ERRORS
from bookwheel.types import Answer, Filter, Scope, Space

routes = router("chat")
log = structlog.get_logger("bookwheel.api.chat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A chat request, resolved."""

    id: str
    model: str
    created: int  #: Unix time
    question: str
    history: Sequence[dict[str, Any]]
    filter: Filter | None
    limit: int
    scope: Scope
    space: Space
    include_usage: bool
    max_tokens: int | None

    def arguments(self, ports: Ports) -> dict[str, Any]:
        """What the answer walk takes beside the question."""
        return {
            "scope": self.scope,
            "space": self.space,
            "ports": ports,
            "history": self.history,
            "limit": self.limit,
            "filter": self.filter,
            "max_tokens": self.max_tokens,
        }


@routes.post("/v1/chat/completions")
async def complete(body: ChatCreate, ports: ThePorts, scope: TheScope) -> Response:
    """Answer the last user message from the stores named in `vector_store_ids` or in the model."""
    asked = await _resolve(body, ports, scope)
    if body.stream:
        return await _streamed(asked, ports)
    answer = await walk.answer(asked.question, **asked.arguments(ports))
    return JSON(_completion(asked, answer, _usage(asked, answer, ports)))


async def _resolve(body: ChatCreate, ports: Ports, scope: Scope) -> Asked:
    question, history = _conversation(body.messages)
    check_length(question, [turn["content"] for turn in history], param="messages")
    if body.filters is not None:
        parse_filter(body.filters)
    named = store_of(body.model, ports)
    wanted = dict.fromkeys([*([named] if named else []), *body.vector_store_ids])
    ids = tuple(parse("store", public_id) for public_id in wanted)
    if not ids:
        raise InvalidRequestError(
            "No documents to answer from. Name stores in vector_store_ids, or as the model bookwheel/vs_...",
            param="vector_store_ids",
        )
    stores = await asyncio.gather(*(ports.stores.get(store_id, scope=scope) for store_id in ids))
    await note_search(stores, scope=scope, ports=ports)
    if len({store.space.id for store in stores}) > 1:
        raise InvalidRequestError(
            "These stores use different embedding models; ask them one at a time.", param="vector_store_ids"
        )
    return Asked(
        id=f"chatcmpl-{secrets.token_hex(12)}",
        model=body.model,
        created=int(time()),
        question=question,
        history=history,
        filter=body.filters,
        limit=body.max_num_results,
        scope=within(scope, *ids),
        space=stores[0].space,
        include_usage=body.stream_options is not None and body.stream_options.include_usage,
        max_tokens=body.max_completion_tokens or body.max_tokens,
    )


def _conversation(messages: Sequence[ChatMessage]) -> tuple[str, list[dict[str, Any]]]:
    """The last user message, and what was said before it."""
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    last = users[-1] if users else None
    if last is None or not (question := messages[last].text().strip()):
        raise InvalidRequestError("messages needs a user message with text: the question.", param="messages")
    history = [{"role": message.role, "content": message.text()} for message in messages[:last]]
    return question, history


def _usage(asked: Asked, answer: Answer, ports: Ports) -> dict[str, int]:
    said = [asked.question, *(turn["content"] for turn in asked.history)]
    return chat_usage(said, answer.text, ports.embedders[asked.space.id])


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


async def _streamed(asked: Asked, ports: Ports) -> Response:
    pieces = walk.stream(asked.question, **asked.arguments(ports))
    # The first words are fetched before the response begins, so that early errors keep their status.
    first = await _first_words(pieces)
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return StreamingResponse(
        _events(asked, first, pieces, ports), media_type="text/event-stream; charset=utf-8", headers=headers
    )


async def _first_words(pieces: AsyncIterator[walk.AnswerPiece]) -> walk.AnswerPiece:
    async for piece in pieces:
        if piece.text or piece.answer is not None:
            return piece
    raise AssertionError("the last piece has the answer")


async def _events(
    asked: Asked, first: walk.AnswerPiece, rest: AsyncIterator[walk.AnswerPiece], ports: Ports
) -> AsyncIterator[bytes]:
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
    first: walk.AnswerPiece, rest: AsyncIterator[walk.AnswerPiece]
) -> AsyncGenerator[walk.AnswerPiece, None]:
    yield first
    async for piece in rest:
        yield piece


def _last_chunks(asked: Asked, answer: Answer, ports: Ports) -> list[dict[str, Any]]:
    annotations = [citation_object(citation) for citation in answer.citations]
    last = _chunk(asked, {"annotations": annotations}, finish_reason=_finish_reason(answer))
    last["bookwheel"] = answer_details(answer)
    if not asked.include_usage:
        return [last]
    usage = {**_chunk(asked, {}), "choices": [], "usage": _usage(asked, answer, ports)}
    return [last, usage]


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
