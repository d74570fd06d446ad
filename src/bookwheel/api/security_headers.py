"""What tells a browser to make nothing of a response but data, on every response."""

from collections.abc import Mapping
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALWAYS: Final = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
OVER_TLS: Final = {"strict-transport-security": "max-age=31536000"}


class SecurityHeaders:
    """Pure ASGI middleware, outermost of all. What a route sets itself stays."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of connection pass through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _complete(MutableHeaders(scope=message), secure=scope["scheme"] == "https")
            await send(message)

        await self.app(scope, receive, with_headers)


def security_headers(*, secure: bool) -> Mapping[str, str]:
    """Those that do not depend on what is answered; `secure` is over TLS."""
    return {**ALWAYS, **OVER_TLS} if secure else ALWAYS


def _complete(headers: MutableHeaders, *, secure: bool) -> None:
    for name, value in security_headers(secure=secure).items():
        headers.setdefault(name, value)
    # What has an ETag may be kept by its own reader, who asks each time whether it changed.
    headers.setdefault("cache-control", "private, no-cache" if "etag" in headers else "no-store")
