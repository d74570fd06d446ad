"""Blobs in memory, with a file made for each blob that somebody wants to read as one."""

import asyncio
import hashlib
import shutil
import tempfile
import time
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

from bookwheel.errors import NotFoundError, TooLargeError


class MemoryBlobs:
    """Fills ports.Blobs."""

    def __init__(self) -> None:
        self.contents: dict[bytes, bytes] = {}
        self.put_at: dict[bytes, float] = {}
        self._directory: Path | None = None

    async def put(self, data: AsyncIterator[bytes], *, max_bytes: int) -> tuple[bytes, int]:
        """See ports.Blobs."""
        content = bytearray()
        async for piece in data:
            content += piece
            if len(content) > max_bytes:
                raise TooLargeError
        sha256 = hashlib.sha256(content).digest()
        self.contents[sha256], self.put_at[sha256] = bytes(content), time.time()
        return sha256, len(content)

    async def path(self, sha256: bytes) -> str:
        """See ports.Blobs."""
        if sha256 not in self.contents:
            raise NotFoundError(f"No blob with hash {sha256.hex()}.")
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="bookwheel-blobs-"))
            weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)
        return str(await asyncio.to_thread(_write, self._directory, sha256, self.contents[sha256]))

    async def delete(self, sha256: bytes, *, older_than_seconds: float = 0.0) -> bool:
        """See ports.Blobs."""
        if sha256 in self.contents and time.time() - self.put_at[sha256] < older_than_seconds:
            return False
        self.contents.pop(sha256, None)
        if self._directory is not None:
            await asyncio.to_thread((self._directory / sha256.hex()).unlink, missing_ok=True)
        return True

    async def list(self, *, older_than_seconds: float) -> AsyncIterator[bytes]:
        """See ports.Blobs."""
        for sha256 in tuple(self.contents):
            if time.time() - self.put_at[sha256] >= older_than_seconds:
                yield sha256

    async def ping(self) -> None:
        """See ports.Blobs: memory always has room."""


def _write(directory: Path, sha256: bytes, content: bytes) -> Path:
    path = directory / sha256.hex()
    if not path.exists():
        unfinished = directory / uuid4().hex  # two readers may come at once
        unfinished.write_bytes(content)
        unfinished.replace(path)
    return path
