"""What is broken under traffic, and one outage from before it begins until all is whole again."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import psycopg

from bookwheel.data_directory import holder
from tests.chaos.traffic import KINDS, Answered, Kind, Traffic, shown
from tests.service.conftest import LiveServer

READY_SECONDS = 20.0  # until all is whole before anything is broken
LOOK_SECONDS = 0.05
RECOVERY_SECONDS = 10.0  # from the mending on, without a restart of Bookwheel


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """What came of it."""

    during: tuple[Answered, ...]  #: requests that began and ended in it
    met: tuple[Answered, ...]  #: these, and those that only began or only ended in it
    recovery: float  #: seconds from its end until answers of every kind were whole
    counted: float  #: that bookwheel_degraded_total grew by

    def __str__(self) -> str:
        return f"{shown(self.met)}; counted {self.counted:.0f}; whole again after {self.recovery:.2f} s"


def endure(
    traffic: Traffic,
    fault: AbstractContextManager[object],
    *,
    part: str,
    seconds: float,
    is_back: Callable[[], bool] = lambda: True,
) -> Outage:
    """Break something for so long; `part` is the name under which it is counted. `is_back` tells what answers do not
    show: whether it is used again."""
    traffic.until_whole(READY_SECONDS)
    counted = degraded_total(traffic.url, part)
    with fault:
        broken = time.monotonic()
        time.sleep(seconds)
        during = traffic.between(broken, time.monotonic())
    mended = time.monotonic()
    back = _until(is_back, since=mended)
    recovery = max(back, traffic.until_whole(RECOVERY_SECONDS, after=mended))
    return Outage(
        during=tuple(during),
        met=tuple(one for one in traffic.answered if one.began <= mended and one.ended >= broken),
        recovery=recovery,
        counted=degraded_total(traffic.url, part) - counted,
    )


def _until(is_back: Callable[[], bool], *, since: float) -> float:
    """Seconds that it takes."""
    while not is_back():
        assert time.monotonic() - since < 2 * RECOVERY_SECONDS, "it is not used again"
        time.sleep(LOOK_SECONDS)
    return time.monotonic() - since


def silent(during: tuple[Answered, ...], part: str, *, affected: tuple[Kind, ...] = KINDS) -> list[str]:
    """Answers of these kinds that do not say that the part was missing, and refusals of the others. There must be
    answers of every kind."""
    missing = [f"no {kind} ended in the outage" for kind in KINDS if not any(one.kind == kind for one in during)]
    for one in during:
        if one.kind in affected and one.status == httpx.codes.OK and part not in one.degraded:
            missing.append(f"{one.kind} does not name {part}: {one.degraded}")
        elif one.kind not in affected and one.status != httpx.codes.OK:
            missing.append(f"{one.kind} was refused, {one.status}, though it does not need {part}")
    return missing


def degraded_total(url: str, part: str) -> float:
    """The metric of the one API process."""
    name = f'bookwheel_degraded_total{{stage="{part}"}} '
    lines = httpx.get(f"{url}/metrics", timeout=30).text.splitlines()
    return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0.0)


@contextmanager
def vectors_locked(data_dir: Path) -> Iterator[None]:
    """Whoever reads vectors waits."""
    with psycopg.connect(holder(data_dir)["database_url"]) as connection:
        for table in _tables(connection, "p"):
            connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        yield
        connection.rollback()


@contextmanager
def vectors_gone(data_dir: Path) -> Iterator[None]:
    """The tables of the partitions have other names."""
    with psycopg.connect(holder(data_dir)["database_url"], autocommit=True) as connection:
        tables = _tables(connection, "r")
        for table in tables:
            connection.execute(f"ALTER TABLE {table} RENAME TO away_{table}".encode())
        try:
            yield
        finally:
            for table in tables:
                connection.execute(f"ALTER TABLE away_{table} RENAME TO {table}".encode())


def _tables(connection: psycopg.Connection[tuple[object, ...]], kind: str) -> list[str]:
    """Of vectors: partitioned ones ("p") or their partitions ("r")."""
    query = "SELECT relname FROM pg_class WHERE relname ~ '^vectors_[0-9]+(_[0-9]+)?$' AND relkind = %s ORDER BY 1"
    tables = [str(row[0]) for row in connection.execute(query, (kind,)).fetchall()]
    assert tables
    return tables


@contextmanager
def database_kept_down(server: LiveServer) -> Iterator[None]:
    """Its first process is killed, and each that `up` starts instead."""
    ended = threading.Event()

    def kill_on() -> None:
        while not ended.wait(LOOK_SECONDS):
            _kill_postmaster(server)

    thread = threading.Thread(target=kill_on, name="database killer")
    assert _kill_postmaster(server)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _kill_postmaster(server: LiveServer) -> bool:
    """Whether there was one, among `up`'s own children."""
    try:
        pid = int((server.data_dir / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])
        process = psutil.Process(pid)
        if process.ppid() != server.process.pid or process.status() == psutil.STATUS_ZOMBIE:
            return False
        process.kill()
    except (OSError, ValueError, psutil.Error):  # not there, being written, or gone while we looked
        return False
    return True
