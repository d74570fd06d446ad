"""A server that does what a test says: OpenAI's, Anthropic's and Cohere's API on a free port, well or badly.

    with scripted_upstream() as upstream:
        upstream.then(status(429, retry_after="1"), chat("The wheel turns [1]."))
        ... BOOKWHEEL_GENERATOR_URL=f"openai:{upstream.url}/v1?model=any" ...
        assert len(upstream.requests) == 2

Each POST takes the next answer of the script; when there is none left, `otherwise`, which is a well-behaved server.
The server runs in a thread of its own, so tests of any kind can use it.
"""

import asyncio
import contextlib
import json
import re
import socket
import struct
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bookwheel.testing import HashEmbedder

CITED = "The blue whale is the largest animal of the sea [1]."
FOR_EVER = 3_600.0  # seconds: until the client leaves or the server ends

Answer = Callable[["Call"], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: Mapping[str, str]  #: names in lower case
    body: Any  #: of JSON; None where there was none


@dataclass(frozen=True, slots=True)
class Call:
    """A request with the way back."""

    request: Request
    writer: asyncio.StreamWriter

    async def head(self, status: int = 200, *, media_type: str, length: int | None = None, **headers: str) -> None:
        """Status line and headers; without a length the body ends with the connection's own marks."""
        lines = [f"HTTP/1.1 {status} Status", f"content-type: {media_type}"]
        lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def part(self, text: str) -> None:
        """A chunk of a body without a length."""
        data = text.encode()
        await self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def end(self) -> None:
        """The end of a body without a length."""
        await self.send(b"0\r\n\r\n")

    async def left(self, seconds: float = FOR_EVER) -> None:
        """Do nothing for so long."""
        await asyncio.sleep(seconds)

    def reset(self) -> None:
        """Break the connection, as a crash does: the client gets a reset and not an end."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass(slots=True)
class ScriptedUpstream:
    """The server, as a test sees it. What it holds may be changed while it runs."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)  #: POSTs, in order
    open_calls: int = 0  #: answers that are being given
    most_open: int = 0
    script: deque[Answer] = field(default_factory=deque)
    otherwise: Answer = field(default_factory=lambda: well_behaved())  # noqa: PLW0108 - it is defined below

    def then(self, *answers: Answer) -> None:
        """Add to the script."""
        self.script.extend(answers)

    def bodies(self) -> list[Any]:
        """What was posted."""
        return [request.body for request in self.requests]


# ---- answers


def reply(body: Any, *, code: int = 200, after: float = 0.0, **headers: str) -> Answer:
    """JSON, or text as it is; `after` so many seconds."""

    async def answer(call: Call) -> None:
        await asyncio.sleep(after)
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        await call.head(code, media_type="application/json", length=len(data), **headers)
        await call.send(data)

    return answer


def status(code: int, message: str = "scripted", /, *, retry_after: str | None = None, **error: Any) -> Answer:
    """An error in the shape of all three APIs."""
    headers = {} if retry_after is None else {"retry_after": retry_after}
    return reply({"type": "error", "error": {"message": message, "type": "scripted", **error}}, code=code, **headers)


def hang(seconds: float = FOR_EVER) -> Answer:
    """Nothing at all, not even headers."""

    async def answer(call: Call) -> None:
        await call.left(seconds)
        call.reset()

    return answer


def reset() -> Answer:
    """The connection breaks before any header."""

    async def answer(call: Call) -> None:
        call.reset()

    return answer


def events(
    lines: Iterable[str], *, pause: float = 0.0, stall_after: int | None = None, cut: bool = False, tail: float = 0.0
) -> Answer:
    """A stream of server-sent events. With `stall_after` it is silent for ever behind so many of them; with `cut` the
    connection breaks in place of an end; `tail` seconds it stays open behind the last one."""

    async def answer(call: Call) -> None:
        await call.head(media_type="text/event-stream")
        for number, line in enumerate(lines):
            if number == stall_after:
                await call.left()
            await call.part(line)
            await asyncio.sleep(pause)
        await asyncio.sleep(tail)
        if cut:
            call.reset()
        else:
            await call.end()

    return answer


def chat(*pieces: str, finish: str | None = "stop", done: bool = True, **how: Any) -> Answer:
    """A streamed chat completion; without `finish` it is half a response. See `events` for the rest."""
    lines = [_chunk({"role": "assistant", "content": ""}), *(_chunk({"content": piece}) for piece in pieces)]
    lines += [_chunk({}, finish)] * (finish is not None)
    lines += ["data: [DONE]\n\n"] * done
    return events(lines, **how)


def malformed_chat(piece: str, garbage: str = "data: {not json\n\n") -> Answer:
    """A streamed chat completion with a chunk that is none."""
    return events([_chunk({"content": piece}), garbage])


def _chunk(delta: Any, finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "scripted", "choices": [choice]}
    return f"data: {json.dumps(body)}\n\n"


def message(*pieces: str, stop: str | None = "end_turn", **how: Any) -> Answer:
    """A streamed message of Anthropic's API; without `stop` it is half a response. See `events` for the rest."""
    start = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "scripted", "usage": _USAGE}
    lines = [_event("message_start", message=start)]
    lines += [_event("content_block_start", index=0, content_block={"type": "text", "text": ""}), _event("ping")]
    lines += [_event("content_block_delta", index=0, delta={"type": "text_delta", "text": text}) for text in pieces]
    if stop is not None:
        lines += [_event("content_block_stop", index=0)]
        lines += [_event("message_delta", delta={"stop_reason": stop}, usage=_USAGE), _event("message_stop")]
    return events(lines, **how)


def broken_message(piece: str, kind: str = "overloaded_error") -> Answer:
    """A streamed message that an error event ends."""
    delta = _event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    return events([*([delta] if piece else []), _event("error", error={"type": kind, "message": "scripted"})])


_USAGE = {"input_tokens": 1, "output_tokens": 1}


def _event(kind: str, **body: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **body})}\n\n"


def embeddings(*, after: float = 0.0) -> Answer:
    """The vectors of the tests' own embedder, twice as long as unit length."""
    embedder = HashEmbedder()

    async def answer(call: Call) -> None:
        rows = await embedder.embed(call.request.body["input"])
        data = [{"object": "embedding", "index": at, "embedding": (2 * row).tolist()} for at, row in enumerate(rows)]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        await reply({"object": "list", "model": "scripted", "data": data[::-1], "usage": usage}, after=after)(call)

    return answer


def well_behaved(text: str = CITED) -> Answer:
    """What a server should do: the same answer to every chat, vectors, and a list of models."""

    async def answer(call: Call) -> None:
        path = call.request.path.partition("?")[0]
        if path.endswith("/embeddings"):
            await embeddings()(call)
        elif path.endswith("/messages"):
            await message(*_words(text))(call)
        elif path.endswith("/chat/completions"):
            await chat(*_words(text))(call)
        elif path.endswith("/models"):
            models = [{"id": "scripted", "object": "model", "created": 0, "owned_by": "tests"}]
            await reply({"object": "list", "data": models, "has_more": False})(call)
        else:
            await status(404, f"no {path} here")(call)

    return answer


def _words(text: str) -> list[str]:
    """A text in pieces, each word with the space before it."""
    return re.findall(r"\s*\S+", text)


# ---- the server


@contextlib.contextmanager
def scripted_upstream() -> Iterator[ScriptedUpstream]:
    """A running server; at the end all its connections are broken."""
    upstream, ready = ScriptedUpstream(), threading.Event()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=_serve, args=(loop, upstream, ready), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield upstream
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def _serve(loop: asyncio.AbstractEventLoop, upstream: ScriptedUpstream, ready: threading.Event) -> None:
    asyncio.set_event_loop(loop)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # Cancelled is how it ends with the server; asyncio would print it as an error.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await _converse(upstream, reader, writer)
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = loop.run_until_complete(asyncio.start_server(connected, "127.0.0.1", 0))
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    ready.set()
    loop.run_forever()
    server.close()
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()


async def _converse(upstream: ScriptedUpstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Requests of one connection, one after the other. A client that leaves ends the answer at once."""
    while not writer.is_closing():
        request = await _request(reader)
        upstream.open_calls += 1
        upstream.most_open = max(upstream.most_open, upstream.open_calls)
        if request.method == "POST":
            upstream.requests.append(request)
            answer = upstream.script.popleft() if upstream.script else upstream.otherwise
        else:
            answer = upstream.otherwise
        task = asyncio.create_task(answer(Call(request, writer)))  # type: ignore[arg-type]
        gone = asyncio.create_task(_gone(reader))
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            task_done = task.done()
        finally:
            upstream.open_calls -= 1
            task.cancel()
            gone.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)
        if not task_done:
            return


async def _gone(reader: asyncio.StreamReader) -> None:
    """Returns when the client has closed its side; it sends nothing while it waits for an answer."""
    while not (reader.at_eof() or reader.exception()):  # noqa: ASYNC110 - reading would take from the next request
        await asyncio.sleep(0.005)


async def _request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    data = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method=method, path=path, headers=headers, body=json.loads(data) if data else None)
