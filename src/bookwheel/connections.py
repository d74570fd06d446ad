"""Connections of the API under limits: how many, how large a head, how slow a client may be.

uvicorn closes idle connections, but it waits for ever for the rest of a head, and for a client that does not read.
"""

import asyncio
import resource
import socket
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, Final

import orjson
import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bookwheel.api.security_headers import security_headers
from bookwheel.pace import Pace, Patience
from bookwheel.settings import Settings
from bookwheel.tls import ServerCertificate

log = structlog.get_logger("bookwheel.connections")

MAX_HEAD_BYTES: Final = 32 << 10
SWEEP_TICKS: Final = 10  # uvicorn's ticks, of a tenth of a second, between two looks at connections and certificate
MOST_SWEEP_SECONDS: Final = 2.0  # that one look counts: what a blocked loop has not read is not the client's fault
SPARE_FILES: Final = 512  # open files besides connections
FAILED_START: Final = 3  # uvicorn's exit status for it
SEPARATORS: Final = 4  # bytes around a header's name and value
INVALID: Final = (400, "invalid_request", "This is no HTTP/1.1 request. Check what speaks to this port.")
LATE_HEAD: Final = (408, "request_timeout", "The head of the request came too slowly. Send it again.")
LARGE_HEAD: Final = (431, "head_too_large", f"The head of the request is larger than {MAX_HEAD_BYTES} bytes.")
FULL: Final = (503, "too_many_connections", "Too many connections are open. Use fewer, or send it again in a moment.")

Refusal = tuple[int, str, str]  # status, code, message


@dataclass(slots=True, kw_only=True)
class Door:
    """What all connections of a process share."""

    patience: Patience
    header_seconds: float
    most: int  #: connections
    most_per_address: int
    open: "set[Connection]" = field(default_factory=set)
    by_address: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, settings: Settings) -> "Door":
        """As the settings have it."""
        return cls(
            patience=Patience.of(settings),
            header_seconds=settings.header_seconds,
            most=settings.max_connections,
            most_per_address=settings.max_connections_per_address,
        )

    def admit(self, connection: "Connection") -> bool:
        """Whether it may stay; in any case it is counted until `leave`."""
        self.open.add(connection)
        self.by_address[connection.address] += 1
        shared = not connection.address or _is_loopback(connection.address)  # a proxy on this machine
        return len(self.open) <= self.most and (shared or self.by_address[connection.address] <= self.most_per_address)

    def leave(self, connection: "Connection") -> None:
        """It is closed."""
        self.open.discard(connection)
        self.by_address[connection.address] -= 1
        if not self.by_address[connection.address]:
            del self.by_address[connection.address]

    def sweep(self, seconds: float) -> None:
        """End what is too slow, so long after the last time."""
        for connection in list(self.open):
            connection.pass_time(seconds)


class Connection(HttpToolsProtocol):
    """One connection. What it waits for is looked at by `Door.sweep`, so that bytes cost nothing more."""

    def __init__(self, *, door: Door, **given: Any) -> None:
        super().__init__(**given)
        self.address = ""
        self._door = door
        self._head_seconds: float | None = 0.0  # since the head began; None outside of heads
        self._head_bytes = 0  # of the head, as it is parsed
        self._raw_bytes = 0  # that came without ending the head
        self._body_open = False
        self._unwanted_seconds = 0.0  # in which a body came whose request is answered
        self._reader: Pace | None = None  # while an answer waits for the client
        self._unread = 0  # bytes that waited when last looked
        self._refused = False

    def connection_made(self, transport: Any) -> None:
        """Refuse it when too many are open."""
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        if not self._door.admit(self):
            self._refuse(FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._door.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, but no more of a head than is allowed."""
        if self._refused:
            return
        if self._head_seconds is None and not self._body_open:  # it was idle
            self._head_seconds = 0.0
        in_head = self._head_seconds is not None
        super().data_received(data)
        if in_head and self._head_seconds is not None:
            self._raw_bytes += len(data)
            if self._raw_bytes > MAX_HEAD_BYTES:
                self._refuse(LARGE_HEAD)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count it. Raises _HeadTooLargeError."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count it. Raises _HeadTooLargeError."""
        self._count(len(name) + len(value) + SEPARATORS)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._head_seconds, self._raw_bytes = None, 0
        self._body_open, self._unwanted_seconds = True, 0.0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is whole."""
        self._body_open = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are plain text
        """What the parser refuses."""
        self._refuse(LARGE_HEAD if self._head_bytes > MAX_HEAD_BYTES else INVALID)

    def resume_writing(self) -> None:
        """The client has read what waited."""
        self._reader = None
        super().resume_writing()

    def pass_time(self, seconds: float) -> None:
        """So long went by: end the connection when the client is too slow."""
        if not self.flow.read_paused:  # else it is we who do not read
            self._await_request(seconds)
        if self.flow.write_paused or self.transport.is_closing():
            self._await_reader(seconds)

    def _await_request(self, seconds: float) -> None:
        if self._head_seconds is not None:
            self._head_seconds += seconds
            if self._head_seconds > self._door.header_seconds:
                self._refuse(LATE_HEAD if self._raw_bytes else None)
        elif self._body_open and self.cycle.response_complete:
            self._unwanted_seconds += seconds
            if self._unwanted_seconds > self._door.patience.stall_seconds:
                self._refuse(None)

    def _await_reader(self, seconds: float) -> None:
        unread = self.transport.get_write_buffer_size()
        if self._reader is None:
            self._reader = Pace(self._door.patience)
        else:  # nothing is written meanwhile, so what is less was read
            self._reader.waited(seconds)
            self._reader.moved(self._unread - unread)
        self._unread = unread
        if self._reader.left_seconds <= 0:
            self.transport.abort()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise _HeadTooLargeError

    def _refuse(self, refusal: Refusal | None) -> None:
        """Answer, unless something else is being answered, and close."""
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
            return
        if refusal is not None and not self.transport.is_closing():
            self.transport.write(_written(refusal, secure=self.scheme == "https"))
        self.transport.close()


class GuardedServer(uvicorn.Server):
    """uvicorn with a door, and over TLS where there is a certificate."""

    def __init__(self, config: uvicorn.Config, *, door: Door, certificate: ServerCertificate | None) -> None:
        super().__init__(config)
        self._door = door
        self._certificate = certificate
        self._swept_at = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on these sockets; a TLS handshake has as long as a head."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(FAILED_START)
        loop = asyncio.get_running_loop()
        connection = partial(
            Connection,
            door=self._door,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=loop,
        )
        tls: dict[str, Any] = {}
        if self._certificate is not None:
            tls = {"ssl": self._certificate.context, "ssl_handshake_timeout": self._door.header_seconds}
        backlog = self.config.backlog
        self.servers = [await loop.create_server(connection, sock=one, backlog=backlog, **tls) for one in sockets or []]
        self._swept_at = loop.time()
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        """uvicorn's clock, ten times a second."""
        if counter % SWEEP_TICKS == 0:
            now = asyncio.get_running_loop().time()
            self._door.sweep(min(now - self._swept_at, MOST_SWEEP_SECONDS))
            self._swept_at = now
            if self._certificate is not None:
                self._certificate.refresh()
        return await super().on_tick(counter)


def allow_connections(count: int) -> None:
    """Raise this process's own limit of open files where it is too low for so many, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
    if reachable < wanted:
        log.warning("too few open files are allowed: raise `ulimit -n`", allowed=reachable, wanted=wanted)


class _HeadTooLargeError(Exception):
    """The parser ends here."""


def _written(refusal: Refusal, *, secure: bool) -> bytes:
    """The response in the shape of every error."""
    status, code, message = refusal
    kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    body = orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **({"retry-after": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}),
        **security_headers(secure=secure),
        "cache-control": "no-store",
    }
    lines = [f"{name}: {value}\r\n".encode() for name, value in headers.items()]
    return b"".join([STATUS_LINE[status], *lines, b"\r\n", body])


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
