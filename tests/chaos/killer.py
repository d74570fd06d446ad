"""kill -9 at random moments, and how long each victim took to answer again."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from statistics import median

import httpx
import psutil
import psycopg

from tests.chaos.keeper import Keeper

PAUSE_SECONDS = (0.1, 2.2)  # between two kills
APPEAR_SECONDS = 120.0  # that a victim may take to be there
PROBE_SECONDS = 0.1
UP_KILLS = 3  # of `up` itself, beside the others
VICTIMS = ("worker", "API", "database")
COMMANDS = {"worker": "work", "API": "serve"}


@dataclass(slots=True, kw_only=True)
class Kill:
    """One kill -9."""

    victim: str
    pid: int
    at: float  #: seconds since the first
    wall: datetime
    answered_after: float | None = None  #: seconds; None while it does not


class Killer(threading.Thread):
    """Kills until `kills` are done. `may` says how many are allowed so far; an error in here is kept in `error`."""

    def __init__(self, keeper: Keeper, *, kills: int, random: Random, may: Callable[[], int]) -> None:
        super().__init__(name="killer")
        self.keeper = keeper
        self.log: list[Kill] = []
        self.error: BaseException | None = None
        self.done = 0  #: of the planned ones, without those of `up`
        self._kills = kills
        self._random = random
        self._may = may
        self._began = time.monotonic()
        self._up_after = {kills * (number + 1) // (UP_KILLS + 1) for number in range(UP_KILLS)} if kills else set()

    def run(self) -> None:
        """The thread's body."""
        watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        watcher.start()
        try:
            while self.done < self._kills:
                time.sleep(self._random.uniform(*PAUSE_SECONDS))
                while self._may() <= self.done:
                    time.sleep(PROBE_SECONDS)
                self._kill(self._random.choice(VICTIMS))
                self.done += 1
                if self.done in self._up_after:
                    time.sleep(self._random.uniform(*PAUSE_SECONDS))
                    self._kill("up")
        except Exception as error:  # noqa: BLE001 - handed to the test, which raises it
            self.error = error
            self.done = self._kills

    def _kill(self, victim: str) -> None:
        """Raises AssertionError when there is no such process for long: a kill must be real."""
        deadline = time.monotonic() + APPEAR_SECONDS
        while time.monotonic() < deadline:
            pid = self._pid(victim)
            if pid is not None and _killed(pid):
                at = time.monotonic() - self._began
                self.log.append(Kill(victim=victim, pid=pid, at=at, wall=datetime.now(UTC)))
                return
            time.sleep(0.02)
        raise AssertionError(f"no {victim} process to kill for {APPEAR_SECONDS:.0f} s")

    def _pid(self, victim: str) -> int | None:
        server = self.keeper.server
        if server is None or server.process.poll() is not None:
            return None
        if victim == "up":
            return server.process.pid
        try:
            children = psutil.Process(server.process.pid).children()
            if victim == "database":
                return _postmaster(server.data_dir, {child.pid for child in children})
            return next((child.pid for child in children if COMMANDS[victim] in child.cmdline()), None)
        except psutil.Error:  # it went while we looked
            return None

    def _watch(self) -> None:
        while True:
            for kill in [kill for kill in self.log if kill.answered_after is None]:
                if _answers(kill, self.keeper):
                    kill.answered_after = time.monotonic() - self._began - kill.at
            time.sleep(PROBE_SECONDS)

    def table(self) -> str:
        """What was killed, when, and how long until it answered again."""
        lines = [f"{'at':>7}  {'victim':8} {'pid':>8}  answered again after"]
        lines += [f"{kill.at:6.1f}s  {kill.victim:8} {kill.pid:8}  {_shown(kill)}" for kill in self.log]
        for victim, count in Counter(kill.victim for kill in self.log).items():
            known = [k.answered_after for k in self.log if k.victim == victim and k.answered_after is not None]
            times = f"median {median(known):.1f} s, longest {max(known):.1f} s" if known else "never"
            lines.append(f"{victim}: {count} kills, answered again: {times}")
        return "\n".join(lines)


def _shown(kill: Kill) -> str:
    return "never" if kill.answered_after is None else f"{kill.answered_after:.1f} s"


def _killed(pid: int) -> bool:
    try:
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return False
        os.kill(pid, signal.SIGKILL)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False
    return True


def _postmaster(data_dir, children: set[int]) -> int | None:
    try:
        pid = int((data_dir / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):  # not there, or being written
        return None
    return pid if pid in children else None


def _answers(kill: Kill, keeper: Keeper) -> bool:
    try:
        if kill.victim in ("API", "up"):
            return httpx.get(f"{keeper.url}/health/live", timeout=1.0).is_success
        url = keeper.database_url()
        if url is None:
            return False
        with psycopg.connect(url, connect_timeout=1) as connection:
            if kill.victim == "database":
                return connection.execute("SELECT 1").fetchone() is not None
            beats = "SELECT 1 FROM procrastinate_workers WHERE last_heartbeat > %s"
            return connection.execute(beats, (kill.wall,)).fetchone() is not None
    except (httpx.TransportError, psycopg.Error):
        return False
