"""Who sends a request: found out before anything else is done for it."""

from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from bookwheel.access import LOCAL, is_loopback, reset_caller, set_caller
from bookwheel.api.audited import audited_refusal
from bookwheel.api.failures import respond
from bookwheel.api.roles import PUBLIC_PATHS
from bookwheel.errors import AuthenticationError, BookwheelError, PermissionDeniedError
from bookwheel.identity import Authenticator
from bookwheel.settings import Settings

#: What proxies add. One that adds none of them, in front of a server that asks for no keys, lets anybody in.
FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


class Authentication:
    """Pure ASGI middleware: sets the caller, or answers 401 and 403."""

    def __init__(self, app: ASGIApp, *, authenticator: Authenticator, settings: Settings) -> None:
        self.app = app
        self._authenticator = authenticator
        self._hosts = frozenset(filter(None, (host.strip().lower() for host in settings.hosts.split(","))))
        self._origins = frozenset(filter(None, (one.strip().lower() for one in settings.cors_origins.split(","))))

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of connection pass through."""
        if scope["type"] != "http" or scope["path"] in PUBLIC_PATHS:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            caller = await self._authenticator.caller(headers.get("authorization"))
            if caller is LOCAL:
                self._check_local(headers)
        except BookwheelError as error:
            await audited_refusal(scope, error)
            await respond(error)(scope, receive, send)
            return
        token = set_caller(caller)
        try:
            await self.app(scope, receive, send)
        finally:
            reset_caller(token)

    def _check_local(self, headers: Headers) -> None:
        """Without keys, only who is on this machine, and no web page that a browser here shows."""
        if any(name in headers for name in FORWARDED):
            raise AuthenticationError(
                "This request came through a proxy, and callers from elsewhere need a key. Send"
                " `Authorization: Bearer bw-...`, and set BOOKWHEEL_AUTH=keys."
            )
        origin = headers.get("origin")
        named = [headers.get("host", "")]
        if origin is not None and origin.lower() not in self._origins:
            named.append(_netloc(origin))
        for name in named:
            host = _without_port(name)
            if not (is_loopback(host) or host in self._hosts or _is_single_label(host)):
                raise PermissionDeniedError(
                    f"Without a key this machine answers only under its own names, not {host[:80]!r}. Send a key, or"
                    " add the name to BOOKWHEEL_HOSTS."
                )


def _netloc(origin: str) -> str:
    """The host and port of an Origin; what has none, such as `null`, is nobody's."""
    try:
        return urlsplit(origin).netloc or "."
    except ValueError:  # such as http://[x
        return "."


def _without_port(netloc: str) -> str:
    """The host of `host:port`, in lower case."""
    host, colon, port = netloc.rpartition(":")
    return (host if colon and port.isdigit() else netloc).lower()


def _is_single_label(host: str) -> bool:
    """A name without a dot: nobody outside can have one resolve to this machine."""
    return not set(host) & set(".:")
