"""NDJSON both ways: splitting, order, bounded memory, clients that read late."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request

from bookwheel.api.lines import BATCH_LINES, SPILL_BYTES, Conversation, Line, Outflow, Splitter


def split(chunks: Sequence[bytes], *, max_bytes: int = 100) -> list[Line]:
    """All lines of an upload that arrives in these chunks."""
    splitter = Splitter(max_bytes)
    return [line for chunk in chunks for line in splitter.feed(chunk)] + list(splitter.end())


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6), st.integers(1, 30))
def test_lines_do_not_depend_on_the_chunks(data: bytes, cuts: list[int], max_bytes: int) -> None:
    """However the network cuts an upload, its lines, their numbers and the refused ones are the same."""
    edges = [0, *sorted(cuts), len(data)]
    chunks = [data[start:end] for start, end in pairwise(edges)]
    expected = [
        Line(number, line if len(line) <= max_bytes else None)
        for number, line in enumerate(data.split(b"\n"), start=1)
        if line.strip() or len(line) > max_bytes
    ]
    assert split(chunks, max_bytes=max_bytes) == expected


def test_a_long_line_is_not_kept() -> None:
    """A line beyond the limit is dropped while it arrives, and the next one is read."""
    splitter = Splitter(1000)
    for _ in range(1000):
        assert list(splitter.feed(b"x" * 900)) == []
        assert sum(map(len, splitter._carry)) <= 1000
    assert list(splitter.feed(b"\n{}\n")) == [Line(1, None), Line(2, b"{}")]


async def test_outflow_keeps_order_through_the_file() -> None:
    """Results come out in order and unchanged, also when most of them were in the file."""
    outflow, block = Outflow(), SPILL_BYTES // 3
    expected = b""
    for round_ in range(3):
        for number in range(8):
            data = bytes([round_ * 8 + number]) * block
            expected += data
            await outflow.put(data)
        assert outflow._bytes <= SPILL_BYTES + block
    await outflow.close()
    taken = b""
    while data := await outflow.take():
        taken += data
    outflow.discard()
    assert taken == expected


class Client:
    """Sends lines, and takes results at once or only after it has sent everything."""

    def __init__(self, chunks: Sequence[bytes], *, reads_late: bool = False, leaves: bool = False) -> None:
        self.chunks = list(chunks)
        self.leaves = leaves
        self.may_write = asyncio.Event()
        self.received = b""
        if not reads_late:
            self.may_write.set()

    async def receive(self) -> dict[str, Any]:
        """The next part of the request."""
        await asyncio.sleep(0)
        if self.chunks:
            return {"type": "http.request", "body": self.chunks.pop(0), "more_body": True}
        self.may_write.set()
        return {"type": "http.disconnect"} if self.leaves else {"type": "http.request", "body": b""}

    async def send(self, message: dict[str, Any]) -> None:
        """Take a part of the response; blocks as a full socket does."""
        await self.may_write.wait()
        self.received += message.get("body", b"")

    async def talk(self, handle: Any) -> None:
        """One whole request."""
        request = Request({"type": "http", "headers": [], "method": "POST"}, self.receive)
        response = Conversation(request, handle, max_line_bytes=10_000)
        await asyncio.wait_for(response({}, self.receive, self.send), 30)  # type: ignore[arg-type]


async def echo(lines: Sequence[Line]) -> bytes:
    """Answer each line with itself."""
    return b"".join((line.data or b"") + b"\n" for line in lines)


@pytest.mark.parametrize("reads_late", [False, True])
async def test_results_come_in_order_even_to_a_client_that_reads_late(reads_late: bool) -> None:
    """A client that reads only after it sent everything gets every result: nobody waits for the other."""
    sent = b"".join(b"%d %s\n" % (number, b"x" * 1000) for number in range(8000))
    client = Client([sent[start : start + 65_536] for start in range(0, len(sent), 65_536)], reads_late=reads_late)
    await client.talk(echo)
    assert client.received == sent


async def test_batches_are_bounded() -> None:
    """No batch has more lines than the limit, even when the network delivers many at once."""
    sizes = []

    async def measure(lines: Sequence[Line]) -> bytes:
        sizes.append(len(lines))
        return await echo(lines)

    await Client([b"{}\n" * (BATCH_LINES * 3 + 1)]).talk(measure)
    assert max(sizes) == BATCH_LINES
    assert sum(sizes) == BATCH_LINES * 3 + 1


async def test_first_result_does_not_wait_for_the_second_line() -> None:
    """A client may send a line and wait for its result before it sends the next."""
    client = Client([b"one\n"])
    second = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if client.chunks:
            return {"type": "http.request", "body": client.chunks.pop(0), "more_body": True}
        await second.wait()
        return {"type": "http.request", "body": b"two\n"}

    async def send(message: dict[str, Any]) -> None:
        client.received += message.get("body", b"")
        if client.received == b"one\n":
            second.set()

    request = Request({"type": "http", "headers": [], "method": "POST"}, receive)
    response = Conversation(request, echo, max_line_bytes=100)
    await asyncio.wait_for(response({}, receive, send), 30)  # type: ignore[arg-type]
    assert client.received == b"one\ntwo\n"


async def test_a_client_that_leaves_ends_the_work() -> None:
    """When the client goes away in the middle, the response ends as a disconnect."""
    with pytest.raises(ClientDisconnect):
        await Client([b"one\n"], leaves=True).talk(echo)
