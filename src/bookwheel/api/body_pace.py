"""Bodies that come too slowly: 408, so that nobody holds a request open byte by byte."""

import asyncio
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bookwheel.api.failures import respond
from bookwheel.errors import RequestTimeoutError
from bookwheel.pace import Pace, Patience


class BodyPace:
    """Pure ASGI middleware. Only the time in which a route waits for bytes counts, so a slow route harms no caller."""

    def __init__(self, app: ASGIApp, *, patience: Patience) -> None:
        self.app = app
        self.patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Reading its body raises RequestTimeoutError, which is answered if nothing else was."""
        if scope["type"] != "http" or not _has_body(scope):
            await self.app(scope, receive, send)
            return
        reading = _Reading(receive, send, self.patience)
        try:
            await self.app(scope, reading.receive, reading.send)
        except RequestTimeoutError as error:
            if reading.began:
                raise
            await respond(error)(scope, receive, reading.send)


class _Reading:
    """One request."""

    __slots__ = ("_pace", "_receive", "_send", "began", "late", "whole")

    def __init__(self, receive: Receive, send: Send, patience: Patience) -> None:
        self._receive = receive
        self._send = send
        self._pace = Pace(patience)
        self.whole = False
        self.late = False
        self.began = False

    async def receive(self) -> Message:
        """The next part of the body; after its end whatever comes, in any time. Raises RequestTimeoutError."""
        if self.whole:
            return await self._receive()
        start = perf_counter()
        try:
            async with asyncio.timeout(max(0.0, self._pace.left_seconds)):
                message = await self._receive()
        except TimeoutError:
            self.late = True
            raise RequestTimeoutError from None
        self._pace.waited(perf_counter() - start)
        self._pace.moved(len(message.get("body", b"")))
        self.whole = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass it on; after a body that came too slowly the connection cannot be used again."""
        if message["type"] == "http.response.start":
            self.began = True
            if self.late:
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        await self._send(message)


def _has_body(scope: Scope) -> bool:
    lengths = [value for name, value in scope["headers"] if name in (b"content-length", b"transfer-encoding")]
    return any(value != b"0" for value in lengths)
