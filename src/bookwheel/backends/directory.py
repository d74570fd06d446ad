"""Blobs on a directory: content-addressed files that are complete and durable, or not there at all.

    blobs/ab/cdef0123...      the blob whose SHA-256 begins with ab
    blobs/incoming/<random>   an upload, locked by the process that writes it

Any number of processes may share the directory.
"""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from bookwheel.errors import NotFoundError, StorageFullError, TooLargeError, UnavailableError

PIECE_BYTES = 1 << 20  # gathered before a thread writes them: few hops, little memory
RESERVE_BYTES = 64 << 20  # below this much free space the directory counts as full
INCOMING = "incoming"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class DirectoryBlobs:
    """Fills ports.Blobs."""

    def __init__(self, directory: Path, *, reserve_bytes: int = RESERVE_BYTES) -> None:
        """Open the directory, making it when absent, and clear what killed uploads left.

        Raises StorageFullError or UnavailableError."""
        self.directory = directory
        self.reserve_bytes = reserve_bytes
        with translated():
            _make_directories(directory)
            _clear_leftovers(directory / INCOMING)

    async def put(self, data: AsyncIterator[bytes], *, max_bytes: int) -> tuple[bytes, int]:
        """See ports.Blobs. Also raises StorageFullError or UnavailableError; what `data` raises passes unchanged."""
        upload = _Upload(self.directory)
        try:
            async for piece in _gathered(data, max_bytes):
                await asyncio.to_thread(upload.append, piece)
            return await asyncio.to_thread(upload.finish)
        finally:
            await asyncio.shield(asyncio.to_thread(upload.discard))

    async def path(self, sha256: bytes) -> str:
        """See ports.Blobs."""
        path = _place(self.directory, sha256)
        if not await asyncio.to_thread(path.is_file):
            raise NotFoundError(f"No blob with hash {sha256.hex()}.")
        return str(path)

    async def delete(self, sha256: bytes, *, older_than_seconds: float = 0.0) -> bool:
        """See ports.Blobs."""
        with translated():
            return await asyncio.to_thread(_remove, self.directory, sha256, older_than_seconds)

    async def list(self, *, older_than_seconds: float) -> AsyncIterator[bytes]:
        """See ports.Blobs."""
        with translated():
            for folder in sorted(self.directory.iterdir()):
                if folder.name != INCOMING:
                    for sha256 in await asyncio.to_thread(_old, folder, older_than_seconds):
                        yield sha256

    async def ping(self) -> None:
        """See ports.Blobs."""
        with translated():
            await asyncio.to_thread(self._check)

    def _check(self) -> None:
        free = shutil.disk_usage(self.directory / INCOMING).free
        if free < self.reserve_bytes:
            raise StorageFullError(f"Only {free >> 20} MiB are free in {self.directory}. Free some space.")
        if not os.access(self.directory / INCOMING, os.W_OK):
            raise UnavailableError(f"{self.directory} is not writable. Give this user the right to write there.")


class _Upload:
    """A blob being written. The verbs run in threads; the lock makes `discard` wait for a verb whose caller left."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hash = hashlib.sha256()
        self.size = 0
        self.lock = threading.Lock()
        self.file: BinaryIO | None = None
        self.path: Path | None = None
        self.discarded = False

    def append(self, piece: bytes) -> None:
        """Write and hash. Raises StorageFullError or UnavailableError."""
        with self.lock, translated():
            if not self.discarded:
                self._opened().write(piece)
                self.hash.update(piece)
                self.size += len(piece)

    def finish(self) -> tuple[bytes, int]:
        """Make the blob durable under its name. Raises StorageFullError or UnavailableError."""
        sha256 = self.hash.digest()
        with self.lock, translated():
            if not self.discarded:
                self._settle(_place(self.directory, sha256))
        return sha256, self.size

    def discard(self) -> None:
        """Close, and remove what `finish` did not name."""
        with self.lock:
            self.discarded = True
            if self.file is None or self.path is None:
                return
            with translated():
                self.path.unlink(missing_ok=True)  # before closing: the lock still says that it is ours
                self.file.close()
            self.file = None

    def _opened(self) -> BinaryIO:
        if self.file is None:
            self.path, self.file = _locked_file(self.directory / INCOMING)
        return self.file

    def _settle(self, place: Path) -> None:
        file = self._opened()
        file.flush()
        os.fsync(file.fileno())
        Path(file.name).rename(place)
        _sync_directory(place.parent)


@contextmanager
def translated() -> Iterator[None]:
    """Turn the file system's errors into ours."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFullError from error
        raise UnavailableError(f"The blob directory does not work: {error.strerror}. Check the disk.") from error


async def _gathered(data: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    """The stream in pieces that are worth a thread. Raises TooLargeError as soon as it is."""
    waiting, size = bytearray(), 0
    async for piece in data:
        size += len(piece)
        if size > max_bytes:
            raise TooLargeError(
                f"The upload is larger than {max_bytes} bytes. Split it, or raise BOOKWHEEL_MAX_FILE_BYTES."
            )
        waiting += piece
        if len(waiting) >= PIECE_BYTES:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


def _place(directory: Path, sha256: bytes) -> Path:
    name = sha256.hex()
    return directory / name[:2] / name[2:]


def _remove(directory: Path, sha256: bytes, older_than_seconds: float) -> bool:
    """Out of the way first and looked at then: a put of the same bytes meanwhile makes a new file, or is restored."""
    place, aside = _place(directory, sha256), directory / INCOMING / uuid4().hex
    try:
        file = place.open("rb")
    except FileNotFoundError:
        return True
    with file:
        if not _lock(file):  # as for an upload, the lock keeps cleaners away; who has it is removing the same blob
            return False
        place.rename(aside)
        young = _age(aside) < older_than_seconds
        if young:
            aside.rename(place)
        else:
            aside.unlink()
    return not young


def _age(path: Path) -> float:
    """Seconds since the blob was put; a clock that was set back makes it young."""
    return time.time() - path.stat().st_mtime


def _old(folder: Path, seconds: float) -> list[bytes]:
    """Hashes of the blobs in one folder that are older than this. A blob removed meanwhile is left out."""
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if _age(path) >= seconds:
                found.append(bytes.fromhex(folder.name + path.name))
    return found


def _make_directories(directory: Path) -> None:
    """All of them at once and durable, so that an upload never rests on a directory that a power cut takes away."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    missing = {INCOMING, *(f"{first:02x}" for first in range(256))} - {path.name for path in directory.iterdir()}
    for name in missing:
        (directory / name).mkdir(mode=0o700, exist_ok=True)
    _sync_directory(directory)
    _sync_directory(directory.parent)


def _locked_file(incoming: Path) -> tuple[Path, BinaryIO]:
    """A new file that other processes see as alive while this one has it open."""
    while True:
        path = incoming / uuid4().hex
        file = path.open("xb")
        if _lock(file) and os.fstat(file.fileno()).st_nlink:
            return path, file
        file.close()  # a cleaner came between making and locking


def _lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _clear_leftovers(incoming: Path) -> None:
    """Remove uploads whose process is gone; a living one holds a lock."""
    for path in incoming.iterdir():
        try:
            file = path.open("rb")
        except FileNotFoundError:  # finished or discarded just now
            continue
        with file:
            if _lock(file):
                path.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    """Make names in the directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
