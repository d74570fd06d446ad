"""A real `bookwheel up` for the tests of this folder: its own data directory, its own free port."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import psutil
import pytest

from bookwheel.client import Client
from bookwheel.data_directory import holder

START_SECONDS = 120


@dataclass(frozen=True, slots=True)
class LiveServer:
    """A running Bookwheel."""

    url: str
    data_dir: Path
    process: subprocess.Popen[str]

    def stop(self) -> int:
        """Ask it to stop, as Ctrl-C does; returns its exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@contextlib.contextmanager
def bookwheel_up(
    data_dir: Path, *arguments: str, output: IO[str] | None = None, **environment: str
) -> Iterator[LiveServer]:
    """`bookwheel up` until the block ends; `output` takes all that its processes write."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bookwheel.cli", "up", "--data-dir", str(data_dir), "--port", "0", *arguments],
        env={**os.environ, "BOOKWHEEL_LOG_LEVEL": "warning", **environment},
        stdout=output or subprocess.DEVNULL,
        stderr=output,
        text=True,
    )
    try:
        yield LiveServer(_url(data_dir, process), data_dir, process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _url(data_dir: Path, process: subprocess.Popen[str]) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if "url" in (facts := holder(data_dir)):
            return str(facts["url"])
        time.sleep(0.1)
    raise AssertionError("bookwheel up did not start")


def process_of(server: LiveServer, command: str) -> psutil.Process:
    """The process of a stack that runs this command: serve or work."""
    found = []
    for child in psutil.Process(server.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # those of the database come and go
            found += [child] * (command in child.cmdline())
    (process,) = found
    return process


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """An empty data directory outside pytest's own folder, which only its user may enter."""
    with TemporaryDirectory(prefix="bookwheel-test-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def live_server() -> Iterator[LiveServer]:
    """One server for all tests that do not stop or break it."""
    with TemporaryDirectory(prefix="bookwheel-test-") as directory, bookwheel_up(Path(directory)) as server:
        yield server


@pytest.fixture
def client(live_server: LiveServer) -> Iterator[Client]:
    """A client of the shared server."""
    with Client(live_server.url) as client:
        yield client


@pytest.fixture(scope="module")
def trusting_server() -> Iterator[LiveServer]:
    """A server that may fetch from this machine and send to it."""
    with (
        TemporaryDirectory(prefix="bookwheel-test-") as directory,
        bookwheel_up(Path(directory), BOOKWHEEL_FETCH_ALLOW_PRIVATE="true") as server,
    ):
        yield server
