"""A TCP proxy before a server, which can do to its connections what networks do.

    with tcp_proxy("http://127.0.0.1:4711") as proxy:
        ... ask proxy.url ...
        proxy.delay(3.0)        # each piece of an answer comes so much later
        proxy.stall(after=400)  # so many bytes of an answer pass, then none, and the connection stays open
        proxy.cut(after=400)    # the same, then a reset
        proxy.reset()           # every connection breaks, old and new
        proxy.refuse()          # nobody listens
        proxy.heal()            # all is well; what was held back goes on

It runs in a thread of its own. Each of the verbs ends the one before, and has taken effect when it returns.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

PIECE_BYTES = 65_536
START_SECONDS = 10.0
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: closing sends a reset


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What happens to answers on their way back."""

    delay: float = 0.0  #: seconds, before each piece
    limit: int | None = None  #: bytes of a connection's answers that pass, from the change of weather on
    then: Literal["stall", "reset"] = "stall"  #: behind the limit


CALM = Weather()


@dataclass(eq=False, slots=True)
class _Pair:
    """A connection of a client and ours to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    weather: Weather = CALM
    passed: int = 0  # bytes of answers in this weather

    def room(self, weather: Weather) -> int:
        """Bytes that may pass now."""
        if weather is not self.weather:
            self.weather, self.passed = weather, 0
        return PIECE_BYTES if weather.limit is None else weather.limit - self.passed

    def reset(self) -> None:
        """Break both."""
        for writer in (self.client, self.server):
            with contextlib.suppress(OSError):  # it broke before
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()


@dataclass(slots=True)
class Proxy:
    """The proxy, as a test sees it."""

    url: str  #: as the server's, with the proxy's port
    _target: tuple[str, int]
    _port: int
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _weather: Weather = CALM
    _breaks: bool = False  # each new connection
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _pairs: set[_Pair] = field(default_factory=set)
    _server: asyncio.Server | None = None

    def heal(self) -> None:
        """Everything passes at once."""
        self._now(lambda: self._become(CALM))

    def delay(self, seconds: float) -> None:
        """Each piece of an answer is held for so long."""
        self._now(lambda: self._become(Weather(delay=seconds)))

    def stall(self, *, after: int) -> None:
        """So many bytes of answers pass on each connection, then nothing."""
        self._now(lambda: self._become(Weather(limit=after)))

    def cut(self, *, after: int) -> None:
        """So many bytes of answers pass on each connection, then it breaks."""
        self._now(lambda: self._become(Weather(limit=after, then="reset")))

    def reset(self) -> None:
        """Every connection breaks, and each new one as soon as it is made."""
        self._now(lambda: self._become(CALM, breaks=True))

    def refuse(self) -> None:
        """Every connection breaks, and nobody listens any more."""
        self._now(self._close)

    def _now(self, verb: Callable[[], Awaitable[None]]) -> None:
        async def carry_out() -> None:
            await verb()

        done: Future[None] = asyncio.run_coroutine_threadsafe(carry_out(), self._loop)
        done.result(START_SECONDS)

    async def _become(self, weather: Weather, *, breaks: bool = False) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._weather, self._breaks = weather, breaks
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if breaks:
            self._break()

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._break()

    def _break(self) -> None:
        for pair in self._pairs:
            pair.reset()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, server = await asyncio.open_connection(*self._target)
        except OSError:  # the server is not there: for the client neither
            writer.transport.abort()
            return
        pair = _Pair(writer, server)
        self._pairs.add(pair)
        try:
            if not self._breaks:
                await self._converse(pair, reader, answers)
        finally:
            self._pairs.discard(pair)
            pair.reset()

    async def _converse(self, pair: _Pair, requests: asyncio.StreamReader, answers: asyncio.StreamReader) -> None:
        """Until one side has closed: then the other is closed too."""
        ways = [asyncio.create_task(_copy(requests, pair.server)), asyncio.create_task(self._answer(pair, answers))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _answer(self, pair: _Pair, answers: asyncio.StreamReader) -> None:
        while data := await answers.read(PIECE_BYTES):
            if seconds := self._weather.delay:
                await self._pause(seconds)
            while data:
                weather = self._weather
                part, data = data[: pair.room(weather)], data[pair.room(weather) :]
                pair.passed += len(part)
                pair.client.write(part)
                await pair.client.drain()
                if data and weather.then == "reset" and pair.room(weather) <= 0:
                    return
                if data and weather is self._weather:
                    await self._changed.wait()

    async def _pause(self, seconds: float) -> None:
        """For so long, or until the weather changes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(PIECE_BYTES):
        writer.write(data)
        await writer.drain()


@contextlib.contextmanager
def tcp_proxy(target: str) -> Iterator[Proxy]:
    """A proxy before the server of this URL until the block ends; then all its connections break."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    address = urlsplit(target)
    assert address.hostname is not None
    proxy = Proxy(f"http://127.0.0.1:{port}", (address.hostname, address.port or 80), port)
    thread = threading.Thread(target=_serve, args=(proxy._loop,), name="proxy", daemon=True)
    thread.start()
    proxy.heal()
    try:
        yield proxy
    finally:
        proxy.refuse()
        proxy._loop.call_soon_threadsafe(proxy._loop.stop)
        thread.join(START_SECONDS)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()
