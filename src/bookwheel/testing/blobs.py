"""The contract of ports.Blobs."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bookwheel.errors import NotFoundError, TooLargeError
from bookwheel.ports import Blobs

MIB = 1 << 20


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    """An upload."""
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


async def broken(*pieces: bytes) -> AsyncIterator[bytes]:
    """An upload whose connection breaks."""
    for piece in pieces:
        yield piece
    raise ConnectionResetError


async def content(blobs: Blobs, sha256: bytes) -> bytes:
    """The bytes of a blob."""
    return await asyncio.to_thread(Path(await blobs.path(sha256)).read_bytes)


def sha256_of(data: bytes) -> bytes:
    """The name of a blob."""
    return hashlib.sha256(data).digest()


class BlobsContract:
    """Subclass it for a backend that fills ports.Blobs."""

    @pytest.fixture
    def blobs(self) -> Blobs:
        """The blobs under test; others may be stored already."""
        raise NotImplementedError

    @pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, 3 * MIB + 7])
    async def test_bytes_come_back(self, blobs: Blobs, size: int) -> None:
        """A stream is stored under the hash of all its bytes, however it is cut."""
        data = os.urandom(size)
        pieces = [data[at : at + 100_000] for at in range(0, size, 100_000)]
        assert await blobs.put(stream(*pieces), max_bytes=4 * MIB) == (sha256_of(data), size)
        assert await content(blobs, sha256_of(data)) == data

    async def test_limit_is_inclusive(self, blobs: Blobs) -> None:
        """Exactly `max_bytes` is not too large."""
        data = os.urandom(1000)
        assert await blobs.put(stream(data[:500], data[500:]), max_bytes=1000) == (sha256_of(data), 1000)

    async def test_too_large_leaves_nothing(self, blobs: Blobs) -> None:
        """One byte more is TooLargeError, and neither the whole nor the beginning is stored."""
        data = os.urandom(2 * MIB)
        with pytest.raises(TooLargeError):
            await blobs.put(stream(data[:MIB], data[MIB:]), max_bytes=2 * MIB - 1)
        for part in (data, data[:MIB], data[:-1]):
            with pytest.raises(NotFoundError):
                await blobs.path(sha256_of(part))

    async def test_too_large_is_noticed_early(self, blobs: Blobs) -> None:
        """The rest of a stream that is too large is not read."""
        read = 0

        async def long() -> AsyncIterator[bytes]:
            nonlocal read
            while read < 64 * MIB:
                read += MIB
                yield bytes(MIB)

        with pytest.raises(TooLargeError):
            await blobs.put(long(), max_bytes=2 * MIB)
        assert read <= 4 * MIB

    async def test_broken_stream_leaves_nothing(self, blobs: Blobs) -> None:
        """The error of the stream passes unchanged, and what had come is not stored."""
        data = os.urandom(2 * MIB)
        with pytest.raises(ConnectionResetError):
            await blobs.put(broken(data), max_bytes=4 * MIB)
        with pytest.raises(NotFoundError):
            await blobs.path(sha256_of(data))

    async def test_cancelled_put_leaves_nothing(self, blobs: Blobs) -> None:
        """An upload whose caller left is not stored."""
        data, waiting = os.urandom(2 * MIB), asyncio.Event()

        async def stalls() -> AsyncIterator[bytes]:
            yield data
            waiting.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(blobs.put(stalls(), max_bytes=4 * MIB))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(NotFoundError):
            await blobs.path(sha256_of(data))

    async def test_same_content_is_one_blob(self, blobs: Blobs) -> None:
        """The same bytes have one name; other bytes have another."""
        data = os.urandom(1000)
        first = await blobs.put(stream(data), max_bytes=MIB)
        assert await blobs.put(stream(data[:1], data[1:]), max_bytes=MIB) == first
        assert (await blobs.put(stream(data[1:]), max_bytes=MIB))[0] != first[0]
        assert await content(blobs, first[0]) == data

    async def test_same_content_at_the_same_time(self, blobs: Blobs) -> None:
        """Uploads of the same bytes that race all succeed, and the blob is whole."""
        data = os.urandom(2 * MIB)
        results = await asyncio.gather(*(blobs.put(stream(data[:9], data[9:]), max_bytes=4 * MIB) for _ in range(6)))
        assert set(results) == {(sha256_of(data), len(data))}
        assert await content(blobs, sha256_of(data)) == data

    async def test_unknown_blob(self, blobs: Blobs) -> None:
        """There is no file for a hash that was never stored."""
        with pytest.raises(NotFoundError):
            await blobs.path(os.urandom(32))

    async def test_delete_is_idempotent(self, blobs: Blobs) -> None:
        """A deleted blob is gone; deleting it again, or one that never was, is no error."""
        data = os.urandom(1000)
        sha256, _ = await blobs.put(stream(data), max_bytes=MIB)
        await blobs.path(sha256)
        for _ in range(2):
            await blobs.delete(sha256)
            with pytest.raises(NotFoundError):
                await blobs.path(sha256)
        await blobs.delete(os.urandom(32))

    async def test_deleted_content_can_come_again(self, blobs: Blobs) -> None:
        """The same bytes after a delete are stored like new ones."""
        data = os.urandom(1000)
        for _ in range(2):
            sha256, _ = await blobs.put(stream(data), max_bytes=MIB)
            assert await content(blobs, sha256) == data
            await blobs.delete(sha256)

    async def test_young_blobs_can_be_kept(self, blobs: Blobs) -> None:
        """A delete that asks for age leaves what was just put, also when the bytes had been there before."""
        data = os.urandom(1000)
        sha256, _ = await blobs.put(stream(data), max_bytes=MIB)
        assert not await blobs.delete(sha256, older_than_seconds=60)
        assert await content(blobs, sha256) == data
        assert await blobs.delete(sha256)
        assert await blobs.delete(sha256, older_than_seconds=60)

    async def test_racing_deletes_and_puts_lose_nothing(self, blobs: Blobs) -> None:
        """Whatever is removed for its age, bytes whose upload was acknowledged last are there."""
        data = os.urandom(1000)
        for _ in range(20):
            sha256, _ = await blobs.put(stream(data), max_bytes=MIB)
            puts = [blobs.put(stream(data), max_bytes=MIB) for _ in range(3)]
            await asyncio.gather(*puts, *(blobs.delete(sha256, older_than_seconds=60) for _ in range(3)))
            assert await content(blobs, sha256) == data

    async def test_list_names_every_old_blob(self, blobs: Blobs) -> None:
        """Each hash once; young ones only when they are asked for."""
        hashes = {(await blobs.put(stream(os.urandom(100)), max_bytes=MIB))[0] for _ in range(3)}
        listed = [sha256 async for sha256 in blobs.list(older_than_seconds=0)]
        assert hashes <= set(listed)
        assert len(listed) == len(set(listed))
        assert hashes.isdisjoint({sha256 async for sha256 in blobs.list(older_than_seconds=60)})

    async def test_ping_answers(self, blobs: Blobs) -> None:
        """A working store answers."""
        await blobs.ping()
