"""NDJSON both ways at once: lines come in and results go out over one connection, in bounded memory.

A client may send everything before it reads anything. So results never wait for the client: what it does not take
spills into a temporary file, and reading goes on.
"""

import asyncio
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bookwheel.settings import MIB

BATCH_LINES = 256
BATCH_BYTES = MIB
SPILL_BYTES = MIB  #: results held in memory before the file takes over
READ_BYTES = 256 * 1024

MEDIA_TYPE = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the upload."""

    number: int  #: from 1, blank ones counted
    data: bytes | None  #: None when it was longer than the limit


Handle = Callable[[Sequence[Line]], Awaitable[bytes]]  #: results of a batch of lines, in order
Ended = Callable[[bool], Awaitable[None]]  #: told whether all was read and answered


class Splitter:
    """Cuts chunks into lines and never holds more than one line of `max_bytes`."""

    __slots__ = ("_carry", "_held", "_max", "_number")

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._carry: list[bytes] = []
        self._held = 0  # length of the unfinished line, kept or not
        self._number = 0

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """The lines that this chunk completes."""
        *complete, rest = chunk.split(b"\n")
        for part in complete:
            yield from self._finish(part)
        self._hold(rest)

    def end(self) -> Iterator[Line]:
        """The last line, when it has no newline."""
        if self._held:
            yield from self._finish(b"")

    def _finish(self, part: bytes) -> Iterator[Line]:
        self._hold(part)
        self._number += 1
        data = b"".join(self._carry) if self._held <= self._max else None
        self._carry, self._held = [], 0
        if data is None or data.strip():
            yield Line(self._number, data)

    def _hold(self, part: bytes) -> None:
        self._held += len(part)
        if self._held > self._max:
            self._carry = []
        elif part:
            self._carry.append(part)


class Intake:
    """Lines waiting for a worker; the reader of the network waits while a batch is full."""

    def __init__(self) -> None:
        self._lines: deque[Line] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = asyncio.Condition()

    async def offer(self, lines: Sequence[Line]) -> None:
        """Add lines, when there is room."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._bytes < BATCH_BYTES and len(self._lines) < BATCH_LINES)
            self._lines += lines
            self._bytes += sum(len(line.data or b"") for line in lines)
            self._changed.notify_all()

    async def close(self) -> None:
        """No more lines will come."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def take(self) -> list[Line]:
        """What is waiting, at most a batch; empty at the end."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or bool(self._lines))
            batch: list[Line] = []
            size = 0
            while self._lines and len(batch) < BATCH_LINES and size < BATCH_BYTES:
                batch.append(self._lines.popleft())
                size += len(batch[-1].data or b"")
            self._bytes -= size
            self._changed.notify_all()
            return batch


class Outflow:
    """Results waiting for the client: in memory, and beyond `SPILL_BYTES` in a temporary file. `put` never waits for
    the client. First in, first out."""

    def __init__(self) -> None:
        self._memory: deque[bytes] = deque()
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._read = self._written = 0  # positions in the file
        self._closed = False
        self._changed = asyncio.Condition()

    async def put(self, data: bytes) -> None:
        """Add results."""
        async with self._changed:
            if self._written > self._read or self._bytes > SPILL_BYTES:
                await asyncio.to_thread(self._spill, data)
            else:
                self._memory.append(data)
                self._bytes += len(data)
            self._changed.notify_all()

    async def close(self) -> None:
        """No more results will come."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def take(self) -> bytes:
        """The next results; empty at the end."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or bool(self._memory) or self._written > self._read)
            if self._memory:
                data = self._memory.popleft()
                self._bytes -= len(data)
                return data
            if self._written > self._read:
                return await asyncio.to_thread(self._unspill)
            return b""

    def discard(self) -> None:
        """Drop the file."""
        if self._file is not None:
            self._file.close()

    def _spill(self, data: bytes) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the response
        self._file.seek(self._written)
        self._file.write(data)
        self._written += len(data)

    def _unspill(self) -> bytes:
        assert self._file is not None  # noqa: S101 - something was written
        self._file.seek(self._read)
        data = self._file.read(READ_BYTES)
        self._read += len(data)
        if self._read == self._written:  # the client caught up: begin the file anew
            self._file.truncate(0)
            self._read = self._written = 0
        return data


class Conversation(Response):
    """A response that is written while the request is still being read.

    Starlette's StreamingResponse would take the request's messages away to see whether the client has left."""

    def __init__(self, request: Request, handle: Handle, *, max_line_bytes: int, ended: Ended | None = None) -> None:
        """`ended` is called last, with whether the whole upload was read and answered."""
        self.status_code = 200
        self.media_type = MEDIA_TYPE
        self.background = None
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no"})
        self._request = request
        self._handle = handle
        self._ended = ended
        self._splitter = Splitter(max_line_bytes)
        self._intake = Intake()
        self._outflow = Outflow()

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Read, work and write side by side until the upload ends or the client leaves."""
        whole = False
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                tasks.create_task(self._work())
                tasks.create_task(self._write(send))
            whole = True
        except ExceptionGroup as errors:
            if errors.split(ClientDisconnect)[1] is None:  # an `except*` would wrap what it raises in a group again
                raise ClientDisconnect from None
            raise
        finally:
            self._outflow.discard()
            if self._ended is not None:
                await self._ended(whole)

    async def _read(self) -> None:
        async for chunk in self._request.stream():
            await self._intake.offer(list(self._splitter.feed(chunk)))
        await self._intake.offer(list(self._splitter.end()))
        await self._intake.close()

    async def _work(self) -> None:
        while batch := await self._intake.take():
            await self._outflow.put(await self._handle(batch))
        await self._outflow.close()

    async def _write(self, send: Send) -> None:
        data = await self._outflow.take()  # no header before the first result: a client may wait for "100 Continue"
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while data:
            await send({"type": "http.response.body", "body": data, "more_body": True})
            data = await self._outflow.take()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def whole_line(stream: AsyncIterator[bytes], *, max_bytes: int) -> bytes | None:
    """A body that is one line by itself; None when it is longer than the limit."""
    parts, size = [], 0
    async for chunk in stream:
        size += len(chunk)
        if size > max_bytes:
            return None
        parts.append(chunk)
    return b"".join(parts)
