"""All processes of one machine: database, API, worker. Starts them, restarts what dies, stops them in order."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from bookwheel.app import embedded_database, make_first_key, migrate_database
from bookwheel.data_directory import held
from bookwheel.errors import SettingsError, UnavailableError
from bookwheel.redaction import redacted
from bookwheel.server import listen, served_url
from bookwheel.settings import Settings
from bookwheel.tls import local_context, server_certificate

if TYPE_CHECKING:
    from bookwheel.backends.postgres.embedded import EmbeddedPostgres

START_SECONDS = 60.0
STOP_SECONDS = 15.0
WATCH_SECONDS = 0.25
BACKOFF_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)  # before the next start of a process that keeps dying
STEADY_SECONDS = 30.0  # a process that lived so long starts again from the first backoff
KILLED = -signal.SIGKILL  # exit status: somebody outside did it, or the kernel for want of memory

Say = Callable[[str], None]


@dataclass(slots=True)
class _Child:
    """One process of ours."""

    name: str
    arguments: tuple[str, ...]
    fds: tuple[int, ...]
    process: subprocess.Popen[bytes]
    started_at: float
    failures: int = 0


@dataclass(slots=True)
class Stack:
    """A running Bookwheel on this machine."""

    settings: Settings
    say: Say
    url: str = ""
    database_url: str = ""
    first_key: str | None = None  #: the operator's, when this start made it
    database: "EmbeddedPostgres | None" = None
    children: list[_Child] = field(default_factory=list)
    listening: socket.socket | None = None

    def environment(self) -> dict[str, str]:
        """What the children see: the same settings, with the database's real address."""
        own = {"database_url": self.database_url} if self.database is not None else {}
        return self.settings.environment(**own)

    def spawn(self, name: str, *arguments: str, fds: tuple[int, ...] = ()) -> None:
        """Start a child that dies with us; no other than these open files are its own too."""
        process = self._popen(arguments, fds)
        self.children.append(_Child(name, arguments, fds, process, time.monotonic()))

    def _popen(self, arguments: tuple[str, ...], fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "bookwheel.cli", *arguments],
            env=self.environment(),
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    async def watch(self) -> None:
        """Restart children that die, with backoff, and say so; give up with the reason on a crash loop."""
        while True:
            if self.database is not None and not self.database.running:
                self.say("The database ended; starting it again.")
                await asyncio.to_thread(self.database.start)
            for child in self.children:
                if child.process.poll() is not None:
                    await self._restart(child)
            await asyncio.sleep(WATCH_SECONDS)

    async def _restart(self, child: _Child) -> None:
        lived = time.monotonic() - child.started_at
        child.failures = 0 if lived > STEADY_SECONDS else min(child.failures + 1, len(BACKOFF_SECONDS) + 1)
        if child.failures > len(BACKOFF_SECONDS) and child.process.returncode != KILLED:
            raise UnavailableError(
                f"The {child.name} process died {child.failures} times in a row (last exit status"
                f" {child.process.returncode}). Its messages are above; `bookwheel check` says what is missing."
            )
        self.say(f"The {child.name} process {_ending(child.process.returncode)}; starting it again.")
        await asyncio.sleep(BACKOFF_SECONDS[min(max(child.failures, 1), len(BACKOFF_SECONDS)) - 1])
        child.process, child.started_at = self._popen(child.arguments, child.fds), time.monotonic()

    async def stop(self) -> None:
        """Ask all children to finish, then end those that do not."""
        for child in self.children:
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for child in self.children:
            try:
                await asyncio.to_thread(child.process.wait, max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()


def _ending(status: int) -> str:
    if status == KILLED:
        return "was killed (by hand, or because memory ran out: `dmesg` tells)"
    return f"ended (status {status})"


@asynccontextmanager
async def running_stack(settings: Settings, *, say: Say, makes_key: bool = False) -> AsyncIterator[Stack]:
    """Start everything over the data directory, yield when it answers, stop everything at the end. With `makes_key` the
    operator's first key is made where there is none.

    Raises DataDirectoryInUseError, SettingsError, StorageFullError or UnavailableError, each with what to do.
    """
    _check_tls(settings)
    with held(settings) as note:
        database = embedded_database(settings) if settings.database_url == "embedded:" else None
        stack = Stack(settings=settings, say=say, database=database)
        try:
            if database is not None:
                await asyncio.to_thread(database.start)
            stack.database_url = database.url if database is not None else settings.database_url
            reached = settings.model_copy(update={"database_url": stack.database_url})
            await migrate_database(reached)
            stack.first_key = await make_first_key(reached) if makes_key else None
            await _start(stack)
            note(_facts(stack))
            yield stack
        finally:
            await stack.stop()
            if database is not None:
                await asyncio.to_thread(database.stop)


def _facts(stack: Stack) -> dict[str, Any]:
    """For other commands on this machine, in a file that others may read."""
    facts = {"pid": os.getpid(), "url": stack.url, "database_url": redacted(stack.database_url)}
    certificate = stack.settings.tls_cert
    return {**facts, "certificate": str(Path(certificate).resolve())} if certificate else facts


def _check_tls(settings: Settings) -> None:
    """Before anything is started: the processes would each say it."""
    server_certificate(settings)
    if settings.tls_client_ca and not settings.client_cert:
        raise SettingsError(
            "BOOKWHEEL_TLS_CLIENT_CA is set without BOOKWHEEL_CLIENT_CERT. Commands on this machine, and `up` itself,"
            " need a certificate of that CA too: set it, and BOOKWHEEL_CLIENT_KEY."
        )


async def _start(stack: Stack) -> None:
    settings = stack.settings
    try:
        stack.listening = listen(settings)
    except OSError as error:
        raise SettingsError(
            f"Port {settings.port} on {settings.host} cannot be used: {error.strerror}."
            " Stop what uses it, or choose another with --port."
        ) from error
    host, port = stack.listening.getsockname()[:2]
    stack.url = served_url(settings, host, port)
    stack.spawn("worker", "work", *_ours())
    for _ in range(settings.api_processes):
        stack.spawn("API", "serve", *_ours(), "--fd", str(stack.listening.fileno()), fds=(stack.listening.fileno(),))
    await _until_ready(stack)


async def _until_ready(stack: Stack) -> None:
    deadline = time.monotonic() + START_SECONDS
    trust = local_context(stack.settings.tls_cert, stack.settings) if stack.settings.tls_cert else True
    async with httpx.AsyncClient(base_url=stack.url, timeout=5, verify=trust) as client:
        while time.monotonic() < deadline:
            dead = next((child for child in stack.children if child.process.poll() is not None), None)
            if dead is not None:
                raise UnavailableError(f"The {dead.name} process did not start; its message is above.")
            try:
                if (await client.get("/health/ready")).status_code == httpx.codes.OK:
                    return
            except (httpx.TransportError, ssl.SSLError):
                pass
            await asyncio.sleep(0.05)
    raise UnavailableError(f"The API did not become ready within {START_SECONDS:.0f} s. Try `bookwheel check`.")


def _ours() -> tuple[str, str]:
    """What tells a child whose it is."""
    return "--supervisor", str(os.getpid())


def die_with(supervisor: int) -> None:
    """Ask Linux to kill us when our parent, the supervisor with this process id, dies: a killed `up` leaves nothing
    behind that holds its port or its indexes. When it is dead already, end at once."""
    import ctypes  # only here, only on Linux

    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != supervisor:
        sys.exit(0)
