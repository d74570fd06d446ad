"""/v1/responses: a question in, a cited answer out as typed items, at once, streamed or in the background."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

import orjson
import structlog
from fastapi import Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from bookwheel.access import caller_id
from bookwheel.acts import note
from bookwheel.api.attributes import checked_metadata
from bookwheel.api.cache_control import CacheControl, TheCacheControl, told_headers
from bookwheel.api.conversation import Message
from bookwheel.api.event_stream import event_stream, unless_left
from bookwheel.api.ids import parse, public
from bookwheel.api.kept_results import with_readable_results, without_results
from bookwheel.api.pages import ThePage, listed
from bookwheel.api.response_events import creation, failure, new_body, tell_wanted
from bookwheel.api.response_requests import RESULTS, ResponseCreate, Wanted, previous_id, resolved
from bookwheel.api.shapes import seconds
from bookwheel.api.wiring import JSON, ThePorts, TheScope, router
from bookwheel.background import patience
from bookwheel.errors import BookwheelError, InvalidRequestError, NotFoundError
from bookwheel.popular import count_asked
from bookwheel.ports import Ports
from bookwheel.types import ModelResponse, ResponseEvent, Scope

POLL_SECONDS, SLOWEST_POLL_SECONDS = 0.05, 0.5  #: between looks for more events of a response that is followed
EVENTS_AT_ONCE = 500
ENDS = frozenset({"response.completed", "response.incomplete"})  #: told when the response is stored

TheCallerId = Annotated[str, Depends(caller_id)]
Included = Annotated[list[str] | None, Query(max_length=100)]

routes = router("responses")
log = structlog.get_logger("bookwheel.api.responses")


@routes.post("/v1/responses")
async def create_response(
    body: ResponseCreate,
    request: Request,
    control: TheCacheControl,
    ports: ThePorts,
    scope: TheScope,
    mine: TheCallerId,
) -> Response:
    """Answer from the stores that the file_search tool or the model names."""
    if body.background and not body.is_kept:
        raise InvalidRequestError("background needs store: the answer is fetched later.", param="background")
    checked_metadata(body.metadata)
    wanted = await resolved(body, control, ports=ports, scope=scope, caller_id=mine)
    count_asked(wanted.ask, scope=wanted.scope, ports=ports)
    kept = _new(body, control, scope, mine)
    note(object_id=public("response", kept.id), background=body.background, kept=body.is_kept)
    if body.background:
        await ports.responses.create(kept, scope=scope, events=creation(kept))
        if not body.stream:
            return JSON(kept.body)
        return _stream(_followed(kept, -1, ports, scope), results=body.shows_results, ports=ports, scope=scope)
    if body.stream:
        return _stream(_streamed(kept, wanted, ports, scope), results=body.shows_results, ports=ports, scope=scope)
    told = await unless_left(_whole(kept, wanted, ports, scope), request=request)
    shown = await _shown(told, results=body.shows_results, ports=ports, scope=scope)
    return JSON(shown, headers=told_headers(told["bookwheel"]["cache"], control))


@routes.get("/v1/responses/{response_id}")
async def get_response(
    response_id: str,
    ports: ThePorts,
    scope: TheScope,
    mine: TheCallerId,
    stream: Annotated[bool, Query()] = False,
    starting_after: Annotated[int, Query(ge=-1, le=2**31 - 1)] = -1,
    include: Included = None,
    includes: Annotated[Included, Query(alias="include[]")] = None,
) -> Response:
    """A stored response as it is now; with `stream` its events behind the number `starting_after`, to the end. With
    `include=file_search_call.results`, also spelt `include[]`, what its search found too, as far as it is still there
    and may be read."""
    kept = await ports.responses.get(parse("response", response_id), scope=scope, caller_id=mine)
    results = RESULTS in (*(include or ()), *(includes or ()))
    if stream:
        events = _followed(kept, starting_after, ports, scope)
        return _stream(events, results=results, ports=ports, scope=scope)
    return JSON(await _shown(kept.body, results=results, ports=ports, scope=scope))


@routes.post("/v1/responses/{response_id}/cancel")
async def cancel_response(response_id: str, ports: ThePorts, scope: TheScope, mine: TheCallerId) -> Response:
    """End a background response; one that has ended stays as it is."""
    parsed = parse("response", response_id)
    if not (await ports.responses.get(parsed, scope=scope, caller_id=mine)).background:
        raise InvalidRequestError("Only a response with background=true can be cancelled.", param="response_id")
    return JSON(without_results((await ports.responses.cancel(parsed, scope=scope, caller_id=mine)).body))


@routes.delete("/v1/responses/{response_id}")
async def delete_response(response_id: str, ports: ThePorts, scope: TheScope, mine: TheCallerId) -> Response:
    """Forget a stored response; one that a worker writes is ended."""
    parsed = parse("response", response_id)
    await ports.responses.delete(parsed, scope=scope, caller_id=mine)
    return JSON({"id": public("response", parsed), "object": "response", "deleted": True})


@routes.get("/v1/responses/{response_id}/input_items")
async def list_input_items(
    response_id: str, ports: ThePorts, scope: TheScope, mine: TheCallerId, page: ThePage
) -> Response:
    """The messages that the request brought, without those of the responses before it."""
    kept = await ports.responses.get(parse("response", response_id), scope=scope, caller_id=mine)
    items = _input_items(kept)[:: -1 if page.newest else 1]
    if page.after is not None:
        places = [item["id"] for item in items]
        items = items[places.index(page.after) + 1 :] if page.after in places else []
    return JSON(listed(items[: page.limit], more=len(items) > page.limit))


def _new(body: ResponseCreate, control: CacheControl, scope: Scope, mine: str) -> ModelResponse:
    response_id, now = uuid4(), datetime.now(UTC)
    return ModelResponse(
        id=response_id,
        tenant_id=scope.tenant_id,
        caller_id=mine,
        principals=tuple(sorted(scope.principals)),
        granted=None if scope.granted is None else tuple(sorted(scope.granted)),
        rule=scope.rule,
        previous_id=previous_id(body),
        # As it came: it is validated again. What its header said of caches is for the worker that writes it.
        request={**body.model_dump(mode="json", by_alias=True), "cache": control.of_caller()},
        body=new_body(public("response", response_id), seconds(now), body),
        background=bool(body.background),
        created_at=now,
    )


async def _whole(kept: ModelResponse, wanted: Wanted, ports: Ports, scope: Scope) -> dict[str, Any]:
    """The finished object; errors keep their status, and nothing of them is stored."""
    at_once = replace(wanted, ask=replace(wanted.ask, in_pieces=False))
    events = [*creation(kept), *[event async for event in tell_wanted(kept, at_once, ports=ports)]]
    await _keep(kept, events, ports, scope)
    body: dict[str, Any] = events[-1]["response"]
    return body


async def _streamed(
    kept: ModelResponse, wanted: Wanted, ports: Ports, scope: Scope
) -> AsyncGenerator[ResponseEvent, None]:
    """The events as they come. The whole is stored before its end is told; of a reader who left nothing is stored."""
    events = list[ResponseEvent]()
    try:
        for event in creation(kept):
            events.append(event)
            yield event
        async with aclosing(tell_wanted(kept, wanted, ports=ports)) as told:
            async for event in told:
                events.append(event)
                if event["type"] not in ENDS:
                    yield event
        await _keep(kept, events, ports, scope)
    except BookwheelError as error:  # the status is sent already: say it in the stream
        log.warning("answer broke off", code=error.code, error=error.message)
        events = [event for event in events if event["type"] not in ENDS]
        events.append(failure(kept, error, number=len(events)))
        with patience("responses"):
            await _keep(kept, events, ports, scope)
    yield events[-1]


async def _keep(kept: ModelResponse, events: list[ResponseEvent], ports: Ports, scope: Scope) -> None:
    if kept.body["store"]:
        ended = replace(kept, body=events[-1]["response"])
        await ports.responses.create(ended, scope=scope, events=events)


async def _followed(kept: ModelResponse, after: int, ports: Ports, scope: Scope) -> AsyncGenerator[ResponseEvent, None]:
    """Kept events behind `after`, and new ones until the response has ended or is deleted."""
    wait, mine, responses = POLL_SECONDS, kept.caller_id, ports.responses
    while True:
        try:  # looked at before its events, so that none is told between
            has_ended = (await responses.get(kept.id, scope=scope, caller_id=mine)).has_ended
        except NotFoundError:
            return
        events = await responses.events(kept.id, scope=scope, caller_id=mine, after=after, limit=EVENTS_AT_ONCE)
        for event in events:
            yield event
            after = event["sequence_number"]
        if not events:
            if has_ended:
                return
            await asyncio.sleep(wait)
        wait = POLL_SECONDS if events else min(SLOWEST_POLL_SECONDS, wait * 1.5)


async def _shown(told: Mapping[str, Any], *, results: bool, ports: Ports, scope: Scope) -> dict[str, Any]:
    return await with_readable_results(told, ports=ports, scope=scope) if results else without_results(told)


def _stream(events: AsyncGenerator[ResponseEvent, None], *, results: bool, ports: Ports, scope: Scope) -> Response:
    return event_stream(_lines(events, results=results, ports=ports, scope=scope))


async def _lines(
    events: AsyncGenerator[ResponseEvent, None], *, results: bool, ports: Ports, scope: Scope
) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        async for event in events:
            shown = await _shown(event, results=results, ports=ports, scope=scope)
            data = orjson.dumps(shown, option=orjson.OPT_SERIALIZE_NUMPY)
            yield b"event: " + str(event["type"]).encode() + b"\ndata: " + data + b"\n\n"


def _input_items(kept: ModelResponse) -> list[dict[str, Any]]:
    messages = ResponseCreate.model_validate(kept.request).messages()
    return [_input_item(f"msg_{kept.id.hex}_{number}", message) for number, message in enumerate(messages)]


def _input_item(item_id: str, message: Message) -> dict[str, Any]:
    text: dict[str, Any] = {"type": "input_text", "text": message["content"]}
    if message["role"] == "assistant":
        text = {"type": "output_text", "text": message["content"], "annotations": [], "logprobs": []}
    return {"id": item_id, "type": "message", "role": message["role"], "status": "completed", "content": [text]}
