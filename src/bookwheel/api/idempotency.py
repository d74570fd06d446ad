"""Idempotency-Key: a POST that comes again under the same key is done once and answered as it was the first time.

Errors that may pass are forgotten, so that the same request may be tried again. When the server dies between the work
and the keeping of its answer, the next try does the work again.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID, uuid4

import orjson
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bookwheel.access import caller_id, request_scope
from bookwheel.api.failures import respond
from bookwheel.api.wiring import MAX_BODY_BYTES
from bookwheel.background import patience
from bookwheel.errors import (
    BookwheelError,
    IdempotencyKeyBusyError,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    TooLargeError,
)
from bookwheel.expiry import KEEP_ANSWER_SECONDS
from bookwheel.ports import IdempotencyKeys
from bookwheel.types import KeptResponse
from bookwheel.types import Scope as Caller

HEADER = "idempotency-key"
REPLAYED = {"idempotent-replayed": "true"}
MAX_KEY = 255  #: characters
LEASE_SECONDS = 20.0  # after which the request of a dead process may be done again
RENEW_SECONDS = 5.0  # while a request runs
KEPT_HEADERS = frozenset({"content-type", "etag"})
PASSING = frozenset({401, 403, 408, 409, 425, 429})  #: statuses below 500 that another try need not meet
PATHS = ("/v1/", "/v2/")

Run = Callable[[], Awaitable[KeptResponse | None]]  #: does the work; None for an answer that cannot be kept


SECRETS = re.compile(r"^/v1/(tenants/[^/]+/)?keys(/|$)")  #: paths that answer with new keys


class Idempotency:
    """Pure ASGI middleware around the routes, for JSON requests; the route of uploads calls `once_for_form` itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; those without a key pass through."""
        headers = _headers(scope)
        if headers is None or HEADER not in headers or _is_not_kept(scope["path"], headers):
            await self.app(scope, receive, send)
            return
        try:
            await self._serve(scope, receive, send, headers)
        except BookwheelError as error:
            await respond(error)(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        key = _checked(headers[HEADER])
        state = scope["app"].state
        limit = max(MAX_BODY_BYTES, state.settings.max_line_bytes)
        body = await _body(Request(scope, receive), headers, max_bytes=limit)
        outlet = _Outlet(send)

        async def run() -> KeptResponse | None:
            await self.app(scope, _replayed(body, receive), outlet)
            return outlet.kept()

        target = scope["path"].encode() + b"?" + scope["query_string"]
        kept = await once(key, _fingerprint(target, body), run, keys=state.ports.idempotency_keys)
        if outlet.started:
            await outlet.flush()
        elif kept is not None:
            await _response(kept)(scope, receive, send)


async def once(key: str, fingerprint: bytes, run: Run, *, keys: IdempotencyKeys) -> KeptResponse | None:
    """What `run` answers now, or answered before. Raises IdempotencyKeyReusedError, IdempotencyKeyBusyError."""
    caller, owner = await request_scope(), uuid4()
    fingerprint = _fingerprint(fingerprint, await _view(caller))  # others may see other things
    given, key = key, f"{await caller_id()} {key}"  # callers choose theirs without knowing of each other
    try:
        known = await keys.begin(
            key, fingerprint, scope=caller, owner=owner, lease_seconds=LEASE_SECONDS, keep_seconds=KEEP_ANSWER_SECONDS
        )
    except (IdempotencyKeyReusedError, IdempotencyKeyBusyError) as error:
        raise type(error)(error.message.replace(key, given)) from None
    if known is not None:
        return replace(known, headers={**known.headers, **REPLAYED})
    response = None
    try:
        async with _renewing(key, caller, owner, keys):
            response = await run()
    finally:
        with patience("idempotency"):  # what was done is told, whether or not it can be kept
            if response is not None and _is_final(response.status):
                await keys.finish(key, response, scope=caller, owner=owner)
            else:
                await keys.forget(key, scope=caller, owner=owner)
    return response


async def _view(scope: Caller) -> bytes:
    """Who asks, and all that decides what is shown."""
    granted = None if scope.granted is None else sorted(store.hex for store in scope.granted)
    parts = [await caller_id(), sorted(scope.principals), granted, scope.rule, scope.manages]
    return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)


async def once_for_form(request: Request, content: str, run: Callable[[], Awaitable[Response]]) -> Response:
    """What a route makes of a form with this content, done once if the request has a key."""
    if HEADER not in request.headers:
        return await run()

    async def kept() -> KeptResponse:
        response = await run()
        return _kept(response.status_code, response.headers, bytes(response.body))

    fingerprint = _fingerprint(request.url.path.encode(), content.encode())
    keys: IdempotencyKeys = request.app.state.ports.idempotency_keys
    answer = await once(_checked(request.headers[HEADER]), fingerprint, kept, keys=keys)
    assert answer is not None  # noqa: S101 - `kept` gives one
    return _response(answer)


def _is_not_kept(path: str, headers: Headers) -> bool:
    """Forms, whose route does it itself, and answers that hold a secret which nobody but the caller may have."""
    return headers.get("content-type", "").startswith("multipart/") or SECRETS.search(path) is not None


class _Outlet:
    """Holds a response back until it is kept; a stream passes through and is not kept."""

    def __init__(self, send: Send) -> None:
        self.started = False
        self._send = send
        self._start: Message = {}
        self._body = bytearray()
        self._streams = False

    async def __call__(self, message: Message) -> None:
        """One message of the response."""
        if message["type"] == "http.response.start":
            self.started, self._start = True, message
            self._streams = _is_stream(Headers(raw=message["headers"]))
        if self._streams:
            await self._send(message)
        else:
            self._body += message.get("body", b"")

    def kept(self) -> KeptResponse | None:
        """The whole response, unless it was streamed."""
        if not self.started or self._streams:
            return None
        return _kept(self._start["status"], Headers(raw=self._start["headers"]), bytes(self._body))

    async def flush(self) -> None:
        """Send what was held back."""
        if not self._streams:
            await self._send(self._start)
            await self._send({"type": "http.response.body", "body": bytes(self._body)})


@asynccontextmanager
async def _renewing(key: str, caller: Caller, owner: UUID, keys: IdempotencyKeys) -> AsyncIterator[None]:
    """Tell the others that the request still runs."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            with patience("idempotency"):
                await keys.renew(key, scope=caller, owner=owner, lease_seconds=LEASE_SECONDS)

    task = asyncio.create_task(renew())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _headers(scope: Scope) -> Headers | None:
    """Of a request that may have a key."""
    if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].startswith(PATHS):
        return None
    return Headers(scope=scope)


def _checked(key: str) -> str:
    if not 1 <= len(key) <= MAX_KEY or not key.isprintable():
        raise InvalidRequestError(f"Idempotency-Key must have 1 to {MAX_KEY} printable characters.", param=HEADER)
    return key


async def _body(request: Request, headers: Headers, *, max_bytes: int) -> bytes:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    body = bytearray()
    if kind in ("", "application/json"):
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise TooLargeError(f"The body is larger than {max_bytes} bytes. Split the request.")
    if kind != "application/json" and (kind or body):
        raise InvalidRequestError(
            "Idempotency-Key goes with JSON bodies and file uploads. Leave it out: documents that are put again under"
            " their ids are not doubled.",
            param=HEADER,
        )
    _refuse_streams(body)
    return bytes(body)


def _refuse_streams(body: bytearray) -> None:
    try:
        content = orjson.loads(body) if b'"stream"' in body else None
    except orjson.JSONDecodeError:  # the route says so
        return
    if isinstance(content, dict) and content.get("stream") is True:
        raise InvalidRequestError(
            "A streamed answer cannot be sent again. Leave Idempotency-Key out, or send stream: false.", param=HEADER
        )


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body once more, then whatever else the client does."""
    unread = [body]

    async def again() -> Message:
        return {"type": "http.request", "body": unread.pop(), "more_body": False} if unread else await receive()

    return again


def _fingerprint(target: bytes, content: bytes) -> bytes:
    return hashlib.sha256(len(target).to_bytes(8, "big") + target + content).digest()


def _is_stream(headers: Headers) -> bool:
    return headers.get("content-type", "").startswith(("text/event-stream", "application/x-ndjson"))


def _is_final(status: int) -> bool:
    return status < 500 and status not in PASSING


def _kept(status: int, headers: Headers, body: bytes) -> KeptResponse:
    kept = {name: value for name, value in headers.items() if name in KEPT_HEADERS}
    return KeptResponse(status=status, headers=kept, body=body)


def _response(kept: KeptResponse) -> Response:
    return Response(kept.body, status_code=kept.status, headers=dict(kept.headers))
