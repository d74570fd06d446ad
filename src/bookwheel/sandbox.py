"""Files are read in processes of their own: a hostile one costs its own job and nothing else.

Each process has a limit of time and of memory, dies with its parent, and is replaced when it crashed, was stopped, has
read many files or has grown.
"""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import orjson
import psutil
import structlog

from bookwheel.errors import BrokenFileError, ParseMemoryError, ParseTimeoutError, UnprocessableFileError
from bookwheel.media_types import refusal
from bookwheel.parse import parse_small_text
from bookwheel.parse_process import LENGTH_BYTES
from bookwheel.settings import Settings
from bookwheel.types import Page, ParsedText

WATCH_SECONDS = 0.05  # between two looks at a process's memory
START_SECONDS = 60.0  # for a new process, on a machine under load
RECYCLE_FILES = 500
RECYCLE_BYTES = 400 << 20  # of resident memory after a job: what it took and did not give back
# Threads and libraries reserve more address space than they use (0.4 GiB measured), so this beyond the limit of
# memory only stops a jump between two looks.
RESERVED_BYTES = 2 << 30
_TESSDATA = ("/usr/share/tesseract-ocr/*/tessdata", "/usr/share/tessdata", "/usr/local/share/tessdata")

_ERRORS = {kind.code: kind for kind in UnprocessableFileError.__subclasses__()}

log = structlog.get_logger()


class ParserPool:
    """Reads files, at most `size` at a time."""

    def __init__(self, settings: Settings, *, size: int | None = None) -> None:
        self.size = size or min(settings.ingest_concurrency, os.cpu_count() or 1)
        self._limits = _Limits(
            seconds=settings.parse_timeout_seconds,
            memory_bytes=settings.parse_memory_bytes,
            ocr=shutil.which("tesseract") is not None,
        )
        self._slots: asyncio.Queue[_Slot] = asyncio.Queue()
        self._all = [_Slot(self._limits) for _ in range(self.size)]

    async def start(self) -> None:
        """Start all processes, so that the first file does not wait. Raises OSError when Python cannot be started."""
        await asyncio.gather(*(slot.ready() for slot in self._all))
        for slot in self._all:
            self._slots.put_nowait(slot)

    async def stop(self) -> None:
        """End all processes at once; running jobs fail."""
        await asyncio.gather(*(slot.close() for slot in self._all))

    async def parse(self, path: Path, filename: str) -> ParsedText:
        """The text of the file. Raises the kinds of UnprocessableFileError, each with one line that names the file."""
        small = await asyncio.to_thread(parse_small_text, path, filename)
        if small is not None:
            return small
        async with self._slot() as slot:
            return await slot.parse(path, filename)

    @asynccontextmanager
    async def _slot(self) -> "AsyncIterator[_Slot]":
        slot = await self._slots.get()
        try:
            yield slot
        finally:
            self._slots.put_nowait(slot)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    seconds: float
    memory_bytes: int  #: resident
    ocr: bool


class _Slot:
    """The place of one process in the pool, empty until it is needed again."""

    def __init__(self, limits: _Limits) -> None:
        self._limits = limits
        self._reader: _Reader | None = None

    async def ready(self) -> "_Reader":
        if self._reader is None or not self._reader.alive:
            await self.close()
            self._reader = await _Reader.start(self._limits)
        return self._reader

    async def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.kill()

    async def parse(self, path: Path, filename: str) -> ParsedText:
        reader = await self.ready()
        try:
            answer = await _watched(reader, path, filename, self._limits)
        except BaseException:  # the process may be anywhere in the job, a cancelled one too
            await asyncio.shield(self.close())
            raise
        if reader.worn:
            await self.close()
        return _parsed(answer)


class _Reader:
    """One process and the pipes to it."""

    def __init__(self, process: asyncio.subprocess.Process, errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors
        self._vitals = psutil.Process(process.pid)
        self._read = 0
        self.peak = 0  #: the most resident memory seen, in bytes

    @classmethod
    async def start(cls, limits: _Limits) -> Self:
        """Start a process and wait until it can read. Raises OSError when it does not come up."""
        space = limits.memory_bytes + RESERVED_BYTES
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "bookwheel.parse_process", str(space), str(int(limits.ocr))),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=_environment(),
        )
        reader = cls(process, errors)
        try:
            async with asyncio.timeout(START_SECONDS):
                await reader._receive()
        except (asyncio.IncompleteReadError, TimeoutError) as error:
            last = reader.last_words()
            await reader.kill()
            raise OSError(f"The process that reads files does not start: {last or 'no output'}") from error
        return reader

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @property
    def worn(self) -> bool:
        """Whether it has read enough files, or kept enough memory, to be replaced."""
        return self._read >= RECYCLE_FILES or self.memory() > RECYCLE_BYTES

    def memory(self) -> int:
        """Resident bytes now, 0 when the process is gone."""
        try:
            rss: int = self._vitals.memory_info().rss
        except psutil.Error:
            return 0
        self.peak = max(self.peak, rss)
        return rss

    def last_words(self) -> str:
        """The last line that it wrote to stderr."""
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    async def ask(self, path: Path, filename: str) -> dict[str, Any]:
        """One job. Raises IncompleteReadError or ConnectionError when the process ends."""
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        shown = filename.encode("utf-8", "backslashreplace").decode()
        body = orjson.dumps({"path": os.fsencode(path).hex(), "filename": shown})
        self._process.stdin.write(len(body).to_bytes(LENGTH_BYTES, "big") + body)
        await self._process.stdin.drain()
        answer = await self._receive()
        self._read += 1
        return answer

    async def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        length = int.from_bytes(await self._process.stdout.readexactly(LENGTH_BYTES), "big")
        answer: dict[str, Any] = orjson.loads(await self._process.stdout.readexactly(length))
        return answer

    async def kill(self) -> None:
        if self.alive:
            self._process.kill()
        await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._errors.close()


async def _watched(reader: _Reader, path: Path, filename: str, limits: _Limits) -> dict[str, Any]:
    """The answer to one job, within its limits."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limits.seconds
    answer = asyncio.create_task(reader.ask(path, filename))
    try:
        while not (await asyncio.wait({answer}, timeout=WATCH_SECONDS))[0]:
            if reader.memory() > limits.memory_bytes:
                raise _too_large(filename, limits)
            if loop.time() > end:
                raise _too_slow(filename, limits)
        return await answer
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise _crashed(reader, filename, limits) from error
    finally:
        answer.cancel()


def _too_slow(filename: str, limits: _Limits) -> UnprocessableFileError:
    reason = f"took longer than {limits.seconds:g} s to read"
    return refusal(ParseTimeoutError, filename, f"{reason}. Split it, or raise BOOKWHEEL_PARSE_TIMEOUT_SECONDS")


def _too_large(filename: str, limits: _Limits) -> UnprocessableFileError:
    reason = f"needed more than {limits.memory_bytes >> 20:,} MiB of memory to read"
    return refusal(ParseMemoryError, filename, f"{reason}. Split it, or raise BOOKWHEEL_PARSE_MEMORY_BYTES")


def _crashed(reader: _Reader, filename: str, limits: _Limits) -> UnprocessableFileError:
    last = reader.last_words()
    log.warning("a file ended the process that read it", file=filename, last_words=last, peak_bytes=reader.peak)
    if "memory allocation" in last or reader.peak > limits.memory_bytes // 2:
        return _too_large(filename, limits)
    reason = "is damaged in a way that stops its reader. Open it in its program, save it again, then add it again"
    return refusal(BrokenFileError, filename, reason)


def _parsed(answer: Mapping[str, Any]) -> ParsedText:
    if "error" in answer:
        raise _ERRORS.get(answer["error"], UnprocessableFileError)(answer["message"])
    parsed = answer["text"]
    pages = tuple(Page(number=number, start=start, end=end) for number, start, end in parsed.pop("pages"))
    return ParsedText(pages=pages, warnings=tuple(parsed.pop("warnings")), **parsed)


def _environment() -> dict[str, str]:
    """What the process needs and no more: it has no business with our passwords."""
    tessdata = next((str(found) for pattern in _TESSDATA for found in sorted(Path("/").glob(pattern[1:]))), "")
    return {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "PYTHONUTF8": "1",
        "MALLOC_ARENA_MAX": "2",  # else every thread reserves address space, more on more cores
        **({"TESSDATA_PREFIX": tessdata} if tessdata else {}),
    }
