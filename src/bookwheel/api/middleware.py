"""Around every request: its id, its trace, its metrics, and the last resort for unknown errors."""

from time import perf_counter
from typing import Final

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bookwheel.api.failures import INTERNAL, respond
from bookwheel.telemetry import (
    ERRORS,
    HTTP_LATENCY,
    HTTP_REQUESTS,
    request_id,
    sane_request_id,
    sane_traceparent,
    traceparent,
)

CLIENT_LEFT: Final = 499  # nginx's number for it; nobody receives it
_METHODS: Final = frozenset({"GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"})

log = structlog.get_logger("bookwheel.api")


class Served:
    """One request on its way out: adds the id to its headers and remembers its status."""

    __slots__ = ("id", "send", "status")

    def __init__(self, id: str, send: Send) -> None:
        self.id = id
        self.send = send
        self.status = 0  #: 0 until the response began

    async def __call__(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = self.id
        await self.send(message)


class Attendant:
    """Pure ASGI middleware, outermost of the application's own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of connection pass through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given_id, given_trace = _given(scope)
        served = Served(sane_request_id(given_id), send)
        id_token, trace_token = request_id.set(served.id), traceparent.set(sane_traceparent(given_trace))
        start = perf_counter()
        try:
            await self._serve(scope, receive, served)
        finally:
            _observe(scope, served.status or CLIENT_LEFT, perf_counter() - start)
            request_id.reset(id_token)
            traceparent.reset(trace_token)

    async def _serve(self, scope: Scope, receive: Receive, served: Served) -> None:
        try:
            await self.app(scope, receive, served)
        except ClientDisconnect:
            log.info("client left", path=scope["path"])
        except Exception as error:
            log.exception("unexpected error", method=scope["method"], path=scope["path"])
            ERRORS.labels("api", type(error).__name__).inc()
            if served.status:  # too late for an error body: let the server cut the connection
                raise
            await respond(INTERNAL)(scope, receive, served)


def _given(scope: Scope) -> tuple[str | None, str | None]:
    own_id = trace = None
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            own_id = value.decode("latin-1")
        elif name == b"traceparent":
            trace = value.decode("latin-1")
    return own_id, trace


def _observe(scope: Scope, status: int, seconds: float) -> None:
    # Only names we chose become labels: a caller must not be able to grow the metrics.
    route = getattr(scope.get("route"), "path", "unmatched")
    method = scope["method"] if scope["method"] in _METHODS else "other"
    HTTP_REQUESTS.labels(method, route, status).inc()
    HTTP_LATENCY.labels(route).observe(seconds)
    log.debug("served", method=method, route=route, status=status, seconds=round(seconds, 6))
