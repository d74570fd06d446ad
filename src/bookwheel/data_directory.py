"""Who holds a data directory: one process at a time."""

import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bookwheel.errors import DataDirectoryInUseError, SettingsError, StorageFullError
from bookwheel.settings import Settings

LOCK_TRIES = 10  # who only asks for the holder has the lock for a moment too
LOCK_PAUSE_SECONDS = 0.02


class held:  # noqa: N801 - read as `with held(settings)`
    """The data directory, held by one process at a time; the lock goes with the process, however it ends."""

    def __init__(self, settings: Settings) -> None:
        self.path = settings.directory / "bookwheel.lock"
        self.file: Any = None

    def __enter__(self) -> Callable[[dict[str, Any]], None]:
        """Returns a function that notes, for others to read, who holds it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("a+")
        except OSError as error:
            raise SettingsError(
                f"The data directory {self.path.parent} cannot be used: {error.strerror}."
                " Choose another with --data-dir."
            ) from error
        if not any(self._lock() for _ in range(LOCK_TRIES)):
            raise DataDirectoryInUseError(self._who())
        self._note({"pid": os.getpid()})
        return self._note

    def __exit__(self, *_: object) -> None:
        self._note({})
        self.file.close()

    def _lock(self) -> bool:
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_SECONDS)
            return False
        return True

    def _note(self, facts: dict[str, Any]) -> None:
        try:
            self.file.truncate(0)
            self.file.write(json.dumps(facts))
            self.file.flush()
        except OSError as error:
            raise StorageFullError(f"The disk that holds {self.path.parent} is full. Free some space.") from error

    def _who(self) -> str:
        facts = holder(self.path.parent)
        at = f" and serves {facts['url']}" if "url" in facts else ""
        return (
            f"The data directory {self.path.parent} is held by another Bookwheel (process {facts.get('pid', '?')}{at})."
            " Stop it, or choose another directory with --data-dir."
        )


def holder(directory: Path) -> dict[str, Any]:
    """Who holds a data directory, as noted there: pid, url, database_url; empty when nobody does."""
    path = directory / "bookwheel.lock"
    try:
        with path.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return dict(json.loads(file.read() or "{}"))
    except (OSError, json.JSONDecodeError):
        return {}
    return {}
