"""`up` on one directory and one port, started again whenever it ends, as an init system would."""

import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bookwheel.data_directory import holder
from tests.service.conftest import LiveServer, bookwheel_up

LOOK_SECONDS = 0.05
PAUSE_SECONDS = 0.3  # before the next start, so that what never starts does not spin


class Keeper:
    """Keeps a Bookwheel up. `ended` tells when it ended and with what exit status."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.server: LiveServer | None = None  #: while it is up
        self.ended: list[tuple[float, int | None]] = []  #: seconds since the start, exit status
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="keeper")

    def __enter__(self) -> Self:
        """Start it; use it as a context manager."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def database_url(self) -> str | None:
        """Where the embedded database listens, None while nobody holds the directory."""
        return holder(self.data_dir).get("database_url")

    def _keep(self) -> None:
        while not self._stop.is_set():
            status = self._run()
            if not self._stop.is_set():
                self.ended.append((time.monotonic() - self._began, status))
                time.sleep(PAUSE_SECONDS)

    def _run(self) -> int | None:
        """Until it ends or is to end; its exit status, None when it did not come up."""
        try:
            with bookwheel_up(self.data_dir, "--port", str(self.port)) as server:
                self.server = server
                while not self._stop.is_set() and server.process.poll() is None:
                    time.sleep(LOOK_SECONDS)
                return server.process.poll()
        except AssertionError:  # it ended before it answered; its message is on stderr
            return None
        finally:
            self.server = None


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
