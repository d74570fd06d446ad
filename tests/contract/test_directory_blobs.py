"""Blobs on a directory: the contract, and what stays on the disk when things go wrong."""

import asyncio
import errno
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bookwheel.backends.directory import INCOMING, DirectoryBlobs, _locked_file, _Upload
from bookwheel.errors import StorageFullError, TooLargeError, UnavailableError
from bookwheel.ports import Blobs
from bookwheel.testing.blobs import MIB, BlobsContract, stream

UPLOADER = """
import asyncio, sys
from pathlib import Path
from bookwheel.backends.directory import DirectoryBlobs

async def stalls():
    yield b"x" * (2 << 20)
    print("started", flush=True)
    await asyncio.Event().wait()

asyncio.run(DirectoryBlobs(Path(sys.argv[1])).put(stalls(), max_bytes=1 << 30))
"""


def files(directory: Path) -> list[Path]:
    """Every file, relative."""
    return sorted(path.relative_to(directory) for path in directory.rglob("*") if path.is_file())


class TestDirectoryBlobs(BlobsContract):
    """The directory keeps the contract."""

    @pytest.fixture
    def blobs(self, tmp_path: Path) -> Blobs:
        """A new directory."""
        return DirectoryBlobs(tmp_path / "blobs", reserve_bytes=0)


class Disk:
    """Replaces a function of `os` or of the module by one that fails."""

    def __init__(self, code: int) -> None:
        self.code = code

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise OSError(self.code, os.strerror(self.code))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the blobs are."""
    return tmp_path / "data" / "blobs"


@pytest.fixture
def blobs(directory: Path) -> DirectoryBlobs:
    """A new directory of blobs."""
    return DirectoryBlobs(directory, reserve_bytes=0)


async def test_blob_lies_under_its_hash(blobs: DirectoryBlobs, directory: Path) -> None:
    """The layout is ab/cdef...: people and backup tools may rely on it."""
    sha256, _ = await blobs.put(stream(b"whale"), max_bytes=10)
    name = hashlib.sha256(b"whale").hexdigest()
    assert files(directory) == [Path(name[:2]) / name[2:]]
    assert await blobs.path(sha256) == str(directory / name[:2] / name[2:])


async def test_failed_uploads_leave_no_file(blobs: DirectoryBlobs, directory: Path) -> None:
    """Neither a limit nor a broken stream leaves a byte on the disk."""

    async def breaks() -> AsyncIterator[bytes]:
        yield bytes(2 * MIB)
        raise ConnectionResetError

    with pytest.raises(TooLargeError):
        await blobs.put(stream(bytes(MIB), bytes(MIB)), max_bytes=2 * MIB - 1)
    with pytest.raises(ConnectionResetError):
        await blobs.put(breaks(), max_bytes=4 * MIB)
    assert files(directory) == []


async def test_cancelled_upload_leaves_no_file(blobs: DirectoryBlobs, directory: Path) -> None:
    """A caller who leaves while a thread writes takes the half upload along."""
    writing = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(900):
            yield bytes(MIB)
            assert len(files(directory)) == 1
            writing.set()

    task = asyncio.create_task(blobs.put(endless(), max_bytes=1000 * MIB))
    await writing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files(directory) == []


async def test_caller_leaves_before_the_file_is_open(
    blobs: DirectoryBlobs, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that is still at work for a caller who left makes no file after the clearing."""
    opening, discarding = threading.Event(), threading.Event()
    locked_file, discard = _locked_file, _Upload.discard

    def opened_late(incoming: Path) -> tuple[Path, Any]:
        opening.set()
        discarding.wait()
        return locked_file(incoming)

    def discarded(upload: _Upload) -> None:
        discarding.set()
        discard(upload)

    monkeypatch.setattr("bookwheel.backends.directory._locked_file", opened_late)
    monkeypatch.setattr(_Upload, "discard", discarded)
    task = asyncio.create_task(blobs.put(stream(b"whale"), max_bytes=10))
    await asyncio.to_thread(opening.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files(directory) == []


@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.ENOSPC, StorageFullError), (errno.EDQUOT, StorageFullError), (errno.EIO, UnavailableError)],
)
@pytest.mark.parametrize("place", ["os.fsync", "pathlib.Path.rename", "pathlib.Path.open"])
async def test_disk_errors_are_ours(
    blobs: DirectoryBlobs,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    code: int,
    error: type[Exception],
) -> None:
    """A full disk is StorageFullError, a broken one UnavailableError, wherever it is noticed; nothing is left."""
    with monkeypatch.context() as patch:
        patch.setattr(place, Disk(code))
        with pytest.raises(error):
            await blobs.put(stream(b"whale"), max_bytes=10)
    assert files(directory) == []
    await blobs.put(stream(b"whale"), max_bytes=10)
    assert len(files(directory)) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a Linux device")
async def test_full_disk(blobs: DirectoryBlobs, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that takes no byte is StorageFullError, while writing and while closing."""

    def full(incoming: Path) -> tuple[Path, Any]:
        return incoming / "full", Path("/dev/full").open("wb")

    monkeypatch.setattr("bookwheel.backends.directory._locked_file", full)
    for size in (10, 3 * MIB):
        with pytest.raises(StorageFullError):
            await blobs.put(stream(bytes(size)), max_bytes=4 * MIB)
    assert files(directory) == []


async def test_blob_is_durable_before_it_is_acknowledged(
    blobs: DirectoryBlobs, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are synced before the blob has its name, and the name before the caller hears of it."""
    steps: list[str] = []
    sync, rename = os.fsync, Path.rename

    def synced(descriptor: int) -> None:
        steps.append("sync name" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync bytes")
        sync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(path, target)

    monkeypatch.setattr("os.fsync", synced)
    monkeypatch.setattr("pathlib.Path.rename", renamed)
    await blobs.put(stream(b"whale"), max_bytes=10)
    assert steps == ["sync bytes", "rename", "sync name"]


def test_killed_upload_is_cleared_at_the_next_open(directory: Path) -> None:
    """What a killed process left goes; what a living one is still writing stays."""
    directory.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", UPLOADER, str(directory)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        DirectoryBlobs(directory)
        while_alive = files(directory)
        process.kill()
    assert [path.parent.name for path in while_alive] == [INCOMING]
    assert [path.parent.name for path in files(directory)] == [INCOMING]
    DirectoryBlobs(directory)
    assert files(directory) == []


async def test_blobs_survive_a_restart(blobs: DirectoryBlobs, directory: Path) -> None:
    """Opening again finds what was stored."""
    sha256, _ = await blobs.put(stream(b"whale"), max_bytes=10)
    path = Path(await DirectoryBlobs(directory).path(sha256))
    assert path.read_bytes() == b"whale"  # noqa: ASYNC240 - five bytes


async def test_ping_wants_a_reserve(directory: Path) -> None:
    """Below the reserve the directory counts as full before an upload fails."""
    free = shutil.disk_usage(directory.parent.parent).free
    with pytest.raises(StorageFullError):
        await DirectoryBlobs(directory, reserve_bytes=2 * free).ping()


async def test_ping_notices_a_lost_directory(blobs: DirectoryBlobs, directory: Path) -> None:
    """A directory that went away, such as a volume, is UnavailableError, for puts as well."""
    shutil.rmtree(directory)
    with pytest.raises(UnavailableError):
        await blobs.ping()
    with pytest.raises(UnavailableError):
        await blobs.put(stream(b"whale"), max_bytes=10)


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """A file in the way is told as our error."""
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(UnavailableError):
        DirectoryBlobs(tmp_path / "data" / "blobs")
