"""A redis-server of the tests' own, which can be killed and started again on the same port."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import pytest

REDIS = shutil.which("redis-server")
START_SECONDS = 20.0


@dataclass(slots=True, kw_only=True)
class RedisServer:
    """On a loopback port that stays the same; keeps nothing on disk."""

    port: int
    folder: Path
    options: tuple[str, ...]
    password: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """For BOOKWHEEL_CACHE_URL."""
        return f"redis://{f':{quote(self.password)}@' if self.password else ''}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns when it listens."""
        assert REDIS is not None
        secret = ("--requirepass", self.password) if self.password else ()
        kept = ("--save", "", "--appendonly", "no", "--dir", str(self.folder), "--logfile", str(self.folder / "log"))
        self.process = subprocess.Popen(
            [REDIS, "--bind", "127.0.0.1", "--port", str(self.port), *kept, *secret, *self.options]
        )
        deadline = time.monotonic() + START_SECONDS
        while not listens(self.port):
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def freeze(self) -> None:
        """It answers nobody until it is thawed."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """At once, as the kernel does it; what it held is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def listens(port: int) -> bool:
    """Somebody answers on this port of the loopback."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def require_redis() -> None:
    """Skip the test where redis-server is missing, but fail where all that is needed is said to be there."""
    if REDIS is None:
        needed = os.environ.get("CI") == "true" and "BOOKWHEEL_CI_WITHOUT_REDIS" not in os.environ
        (pytest.fail if needed else pytest.skip)("redis-server is missing: install Debian's package redis-server")


@contextlib.contextmanager
def redis_server(*options: str, password: str = "") -> Iterator[RedisServer]:
    """A server of these options until the block ends."""
    require_redis()
    with TemporaryDirectory(prefix="bookwheel-redis-") as folder:
        server = RedisServer(port=free_port(), folder=Path(folder), options=options, password=password)
        try:
            server.start()
            yield server
        finally:
            server.kill()
