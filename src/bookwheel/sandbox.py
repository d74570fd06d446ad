"""Documents are read and cut in processes of their own: a hostile one costs its own job and nothing else.

Pieces come in batches, when they are asked for, so the worker holds one batch of a document of any size. Each process
has a limit of time and of memory, dies with its parent, and is replaced when it crashed, was stopped, has read many
files or has grown.
"""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Self

import orjson
import psutil
import structlog
from tokenizers import Tokenizer

from bookwheel.chunk import batches, split
from bookwheel.errors import BrokenFileError, ParseMemoryError, ParseTimeoutError, UnprocessableFileError
from bookwheel.media_types import refusal
from bookwheel.parse import SMALL_BYTES, parse_small_text
from bookwheel.parse_process import LENGTH_BYTES, pieces_of
from bookwheel.settings import Settings
from bookwheel.types import Chunking, CutText, ParsedText

WATCH_SECONDS = 0.05  # between two looks at a process's memory
START_SECONDS = 60.0  # for a new process, on a machine under load
RECYCLE_FILES = 500
THREAD_TEXT = 20_000  # characters from which cutting leaves the event loop
RECYCLE_BYTES = 400 << 20  # of resident memory after a job: what it took and did not give back
# Threads and libraries reserve more address space than they use (0.4 GiB measured), so this beyond the limit of
# memory only stops a jump between two looks.
RESERVED_BYTES = 2 << 30
_TESSDATA = ("/usr/share/tesseract-ocr/*/tessdata", "/usr/share/tessdata", "/usr/local/share/tessdata")

_ERRORS = {kind.code: kind for kind in UnprocessableFileError.__subclasses__()}

log = structlog.get_logger()


class ParserPool:
    """Reads and cuts documents, at most `size` at a time: one for each job, for a large one takes long to embed."""

    def __init__(self, settings: Settings, *, size: int | None = None) -> None:
        self.size = size or settings.ingest_concurrency
        self.max_chunks = settings.max_chunks_per_document
        self._limits = _Limits(
            seconds=settings.parse_timeout_seconds,
            memory_bytes=settings.parse_memory_bytes,
            ocr=shutil.which("tesseract") is not None,
        )
        self._models = _Models()
        self._slots: asyncio.LifoQueue[_Slot] = asyncio.LifoQueue()  # those already running first
        self._all = [_Slot(self._limits) for _ in range(self.size)]

    async def start(self) -> None:
        """Start a process for each core, so that the first file does not wait; the others start when they are needed.

        Raises OSError when Python cannot be started."""
        await asyncio.gather(*(slot.ready() for slot in self._all[: os.cpu_count()]))
        for slot in reversed(self._all):
            self._slots.put_nowait(slot)

    async def stop(self) -> None:
        """End all processes at once; running jobs fail."""
        await asyncio.gather(*(slot.close() for slot in self._all))

    async def cut(
        self, source: Path | str, filename: str, *, chunking: Chunking, tokenizer: Tokenizer, title: str | None = None
    ) -> AsyncGenerator[CutText, None]:
        """The pieces of a file, or of a plain text, in batches: at least one. `title` stands before the file's own.

        Raises the kinds of UnprocessableFileError, each with one line that names the file.
        """
        small = await _small(source, filename, title)
        if small is not None:
            async for cut in cut_here(small, chunking=chunking, tokenizer=tokenizer, title=title):
                yield cut
            return
        job = _Job(
            source=source,
            filename=filename,
            chunking=chunking,
            model=self._models.of(tokenizer),
            title=title,
            max_chunks=self.max_chunks,
        )
        async with self._slot() as slot, aclosing(slot.cut(job)) as cuts:
            async for cut in cuts:
                yield cut

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


async def _small(source: Path | str, filename: str, title: str | None) -> ParsedText | None:
    """A text that is quick and safe to cut in this process, else None."""
    if isinstance(source, Path):
        return await asyncio.to_thread(parse_small_text, source, filename)
    if len(source) > SMALL_BYTES:
        return None
    return ParsedText(text=source, media_type="text/plain", format="plain", title=title)


async def cut_here(
    parsed: ParsedText, *, chunking: Chunking, tokenizer: Tokenizer, title: str | None = None
) -> AsyncGenerator[CutText, None]:
    """The pieces of a small text, as a pool gives them, cut in this process."""
    made = batches(split(parsed, chunking=chunking, tokenizer=tokenizer, title=title))
    in_thread, first = len(parsed.text) > THREAD_TEXT, True
    while True:
        batch = await asyncio.to_thread(next, made, None) if in_thread else next(made, None)
        if batch or first:
            yield CutText(
                media_type=parsed.media_type, title=parsed.title, warnings=parsed.warnings, pieces=batch or ()
            )
        if batch is None:
            return
        first = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    seconds: float
    memory_bytes: int  #: resident
    ocr: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """A tokenizer as it is sent to a process, once for each."""

    number: int
    json: str


class _Models:
    """The tokenizers met so far: one for each model, so few."""

    def __init__(self) -> None:
        self._known: list[tuple[Tokenizer, _Model]] = []

    def of(self, tokenizer: Tokenizer) -> _Model:
        for known, model in self._known:
            if known is tokenizer:
                return model
        model = _Model(number=len(self._known), json=tokenizer.to_str())
        self._known.append((tokenizer, model))
        return model


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A document to cut."""

    source: Path | str  #: a file, or the text itself
    filename: str
    chunking: Chunking
    model: _Model
    title: str | None
    max_chunks: int

    def message(self) -> dict[str, Any]:
        text = self.source if isinstance(self.source, str) else None
        return {
            **({"path": os.fsencode(self.source).hex()} if text is None else {"text": _sendable(text)}),
            "filename": _sendable(self.filename),
            "chunking": asdict(self.chunking),
            "model": self.model.number,
            "title": self.title and _sendable(self.title),
            "max_chunks": self.max_chunks,
        }


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

    async def cut(self, job: _Job) -> AsyncGenerator[CutText, None]:
        """The batches of one job, each made when it is asked for."""
        try:
            reader = await self.ready()
            await reader.learn(job.model)
            watch = _Watch(reader, job.filename, self._limits)
            answer = await watch.ask(job.message())
            while "pieces" in answer:
                yield _cut_text(answer)
                answer = await watch.ask({"next": True})
        except BaseException:  # the process may be anywhere in the job, a cancelled or abandoned one too
            await asyncio.shield(self.close())
            raise
        reader.read += 1
        if reader.worn:
            await self.close()
        if "error" in answer:
            raise _ERRORS.get(answer["error"], UnprocessableFileError)(answer["message"])


class _Reader:
    """One process and the pipes to it."""

    def __init__(
        self, process: asyncio.subprocess.Process, errors: IO[bytes], folder: tempfile.TemporaryDirectory[str]
    ) -> None:
        self._process = process
        self._errors = errors
        self._folder = folder  # the only place where it writes
        self._vitals = psutil.Process(process.pid)
        self._models: set[int] = set()
        self.read = 0  #: documents
        self.peak = 0  #: the most resident memory seen, in bytes

    @classmethod
    async def start(cls, limits: _Limits) -> Self:
        """Start a process and wait until it can read. Raises OSError when it does not come up."""
        space = limits.memory_bytes + RESERVED_BYTES
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        folder = tempfile.TemporaryDirectory(prefix="bookwheel-reader-", ignore_cleanup_errors=True)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "bookwheel.parse_process", str(space), str(int(limits.ocr))),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=_environment(folder.name),
            cwd=folder.name,
        )
        reader = cls(process, errors, folder)
        try:
            async with asyncio.timeout(START_SECONDS):
                _tell_missing(*(await reader._receive())["missing"])
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
        return self.read >= RECYCLE_FILES or self.memory() > RECYCLE_BYTES

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

    async def learn(self, model: _Model) -> None:
        """Send the tokenizer, unless the process has it. Raises ConnectionError when the process ends."""
        if model.number not in self._models:
            await self._send({"model": model.number, "tokenizer": model.json})
            self._models.add(model.number)

    async def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one message. Raises IncompleteReadError or ConnectionError when the process ends."""
        await self._send(message)
        return await self._receive()

    async def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        body = orjson.dumps(message)
        self._process.stdin.write(len(body).to_bytes(LENGTH_BYTES, "big") + body)
        await self._process.stdin.drain()

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
        self._folder.cleanup()


class _Watch:
    """The limits of one job. Time counts while the process works, anew for each segment of a huge text."""

    def __init__(self, reader: _Reader, filename: str, limits: _Limits) -> None:
        self._reader, self._filename, self._limits = reader, filename, limits
        self._segment, self._seconds = 0, 0.0

    async def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one message, within the limits."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        task = asyncio.create_task(self._reader.ask(message))
        try:
            while not (await asyncio.wait({task}, timeout=WATCH_SECONDS))[0]:
                if self._reader.memory() > self._limits.memory_bytes:
                    raise _too_large(self._filename, self._limits)
                if self._seconds + loop.time() - began > self._limits.seconds:
                    raise _too_slow(self._filename, self._limits)
            answer = await task
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise _crashed(self._reader, self._filename, self._limits) from error
        finally:
            task.cancel()
        self._count(answer.get("segment", 0), loop.time() - began)
        return answer

    def _count(self, segment: int, seconds: float) -> None:
        self._seconds = seconds + (self._seconds if segment == self._segment else 0.0)
        self._segment = segment


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


def _cut_text(answer: Mapping[str, Any]) -> CutText:
    return CutText(
        media_type=answer["media_type"],
        title=answer["title"],
        warnings=tuple(answer["warnings"]),
        pieces=pieces_of(answer),
    )


def _sendable(text: str) -> str:
    """The text without half characters, which JSON cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode()


@cache
def _tell_missing(*missing: str) -> None:
    """Warn, once, of what a process could not give up."""
    if missing:
        log.warning("the kernel lets the processes that read files keep more than they need", missing=missing)


def _environment(folder: str) -> dict[str, str]:
    """What the process needs and no more: it has no business with our passwords."""
    tessdata = next((str(found) for pattern in _TESSDATA for found in sorted(Path("/").glob(pattern[1:]))), "")
    return {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "PYTHONUTF8": "1",
        "HOME": folder,
        "TMPDIR": folder,
        "MALLOC_ARENA_MAX": "2",  # else every thread reserves address space, more on more cores
        **({"TESSDATA_PREFIX": tessdata} if tessdata else {}),
    }
