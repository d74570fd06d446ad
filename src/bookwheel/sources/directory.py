"""A directory as a source: what is in it, what of it changed, and what may be taken.

A file's identity is its path below the root. Its size and times tell cheaply that it did not change; its hash tells
that it only seems changed.
"""

import asyncio
import errno
import os
import stat
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

from bookwheel.access import is_open
from bookwheel.errors import SourceError, SourceGoneError, TooLargeError
from bookwheel.settings import Settings
from bookwheel.sources.hidden import is_skipped
from bookwheel.sources.keeping import Run, each
from bookwheel.types import SourceItem

ANYWHERE = "auto"  #: of BOOKWHEEL_SOURCE_ROOTS
MAX_FILES = 200_000  #: of one source: what is known of them is in memory during a run
SETTLED_SECONDS = 0.5  #: a file that changed since then may be half written
MOVING_SECONDS, MOVING_POLL_SECONDS = 2.0, 0.05  #: that a run lets renamed files go live, all together
AT_ONCE = 4  #: files read together
PIECE = 1 << 20  #: bytes read at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file as it lies there."""

    path: str  #: to open; a link is already followed
    size: int
    mtime_ns: int

    @property
    def validator(self) -> dict[str, int]:
        """What tells that nothing changed."""
        return {"size": self.size, "mtime_ns": self.mtime_ns}

    def is_settled(self, now: float) -> bool:
        """Whether nobody wrote to it in the last moments; a time in the future says nothing."""
        return not 0 <= now - self.mtime_ns / 1e9 < SETTLED_SECONDS


@dataclass(slots=True, kw_only=True)
class Scan:
    """What a directory holds."""

    device: int  #: the file system that stands at the root
    files: dict[str, Entry] = field(default_factory=dict)  #: by path below the root
    unreadable: dict[str, str] = field(default_factory=dict)  #: path below the root -> reason; also folders


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a run must do."""

    changed: Sequence[str]  #: new, or with other size or times, or failed the last time
    unchanged: int
    waiting: Sequence[str]  #: may be half written
    gone: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which files count: glob patterns on the name or the whole path below the root."""

    include: Sequence[str] = ()  #: all when empty
    exclude: Sequence[str] = ()
    without: str = ""  #: a folder never entered: our own data

    def takes(self, key: str) -> bool:
        """Whether a file is taken."""
        included = not self.include or _matches(key, self.include)
        return included and not _matches(key, self.exclude)


class _ChangingError(Exception):
    """The file changed while it was being read."""


def allowed_root(path: str, settings: Settings) -> bool:
    """Whether a directory source may lie here, links followed."""
    real = Path(path).resolve()
    named = ("/" if is_open(settings) else "") if settings.source_roots == ANYWHERE else settings.source_roots
    roots = [Path(root).expanduser().resolve() for root in named.split(":") if root]
    return any(real.is_relative_to(root) for root in roots)


def scan(root: str, selection: Selection) -> Scan:
    """All files that count. Links to files inside the root are followed, no others. Raises SourceGoneError."""
    try:
        found = Scan(device=Path(root).stat().st_dev)
        os.scandir(root).close()
    except OSError as error:
        raise SourceGoneError(
            f"The directory is gone: {root} ({error.strerror}). Its documents stay until it is back or the source is"
            " removed."
        ) from error
    real_root = os.path.realpath(root)
    for folder, entry in _walk(root, real_root, found, selection.without):
        key = _key(folder, entry.name)
        if selection.takes(key):
            _take(found, key, entry, real_root)
        if len(found.files) > MAX_FILES:
            raise SourceError(f"{root} holds more than {MAX_FILES} files. Narrow it with include or exclude.")
    return found


def _walk(root: str, real_root: str, found: Scan, without: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Files with the path of their folder below the root; folders that cannot be read are noted."""
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            entries = sorted(os.scandir(os.path.join(root, folder)), key=lambda entry: entry.name)  # noqa: PTH118
        except OSError as error:
            found.unreadable[_text(folder)] = _reason(error)
            continue
        for entry in entries:
            if is_skipped(entry.name) or os.path.join(real_root, folder, entry.name) == without:  # noqa: PTH118
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(os.path.join(folder, entry.name))  # noqa: PTH118 - names may not be valid text
            else:
                yield folder, entry


def _take(found: Scan, key: str, entry: os.DirEntry[str], real_root: str) -> None:
    try:
        path = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
        if entry.is_symlink() and os.path.commonpath([path, real_root]) != real_root:
            return
        facts = os.stat(path, follow_symlinks=False)  # noqa: PTH116 - names may not be valid text
    except OSError as error:
        if error.errno != errno.ENOENT:  # it went away between the two looks, or the link leads nowhere
            found.unreadable[key] = _reason(error)
        return
    if stat.S_ISREG(facts.st_mode):
        found.files[key] = Entry(path=path, size=facts.st_size, mtime_ns=facts.st_mtime_ns)


def difference(found: Scan, items: Mapping[str, SourceItem], *, now: float) -> Difference:
    """What changed between what is known and what lies there."""
    changed, waiting, unchanged = [], [], 0
    for key, entry in found.files.items():
        item = items.get(key)
        if item is not None and item.last_error is None and _same(item.validator, entry):
            unchanged += 1
        elif entry.is_settled(now):
            changed.append(key)
        else:
            waiting.append(key)
    gone = [key for key in items if key not in found.files and not _below(key, found.unreadable)]
    return Difference(changed=changed, unchanged=unchanged, waiting=waiting, gone=gone)


async def run_directory(run: Run) -> None:
    """Bring the store in step with the directory. Raises SourceGoneError and keeps all documents when it is gone."""
    config = run.source.config
    root = str(config["path"])
    if not allowed_root(root, run.settings):
        raise SourceError(f"{root} is not below BOOKWHEEL_SOURCE_ROOTS. Its documents stay as they are.")
    selection = Selection(
        include=config.get("include", ()), exclude=config.get("exclude", ()), without=str(run.settings.directory)
    )
    found = await asyncio.to_thread(scan, root, selection)
    _check_mounted(root, found, run)
    work = difference(found, run.items, now=time.time())
    run.counts["unchanged"] += work.unchanged
    run.counts["waiting"] += len(work.waiting)
    for key, reason in found.unreadable.items():
        await run.fail(key or ".", reason, backoff=False)
    await each(work.changed, lambda key: _keep(run, key, found.files[key]), at_once=AT_ONCE)
    await _let_moved_go_live(run, work)
    await run.remove(work.gone)
    run.state["device"] = found.device


async def _let_moved_go_live(run: Run, work: Difference) -> None:
    """After a rename the new document can take the old one's vectors, and its text is never missing: for a moment the
    old one waits for it."""
    leaving = {run.items[key].validator.get("sha256") for key in work.gone} - {None}
    moved = [key for key in work.changed if key in run.items and run.items[key].validator.get("sha256") in leaving]
    deadline = time.monotonic() + MOVING_SECONDS
    for key in moved:
        while time.monotonic() < deadline and await run.is_in_progress(key):  # noqa: ASYNC110 - another process works
            await asyncio.sleep(MOVING_POLL_SECONDS)


def _check_mounted(root: str, found: Scan, run: Run) -> None:
    """An empty directory on another file system than before is a mount point without its mount."""
    before = run.source.state.get("device", found.device)
    if run.items and not found.files and before != found.device:
        raise SourceGoneError(
            f"The directory is gone: {root} is empty and on another file system than before. Mount it again; its"
            " documents stay until then, or until the source is removed."
        )
    run.state["device"] = before


async def _keep(run: Run, key: str, entry: Entry) -> None:
    try:
        await run.keep(
            key,
            _pieces(entry),
            filename=key.rpartition("/")[2],
            validator=entry.validator,
            place={"path": key},
            max_bytes=run.settings.max_file_bytes,
        )
    except _ChangingError:
        run.counts["waiting"] += 1
    except (SourceError, TooLargeError) as error:
        await run.fail(key, error.message, backoff=False)


async def _pieces(entry: Entry) -> AsyncIterator[bytes]:
    """The bytes of a file. Raises SourceError, or _ChangingError when they changed meanwhile."""
    try:
        file = await asyncio.to_thread(_open, entry.path)
        with file:
            while data := await asyncio.to_thread(file.read, PIECE):
                yield data
            facts = os.fstat(file.fileno())
    except OSError as error:
        raise SourceError(_reason(error)) from error
    if (facts.st_size, facts.st_mtime_ns) != (entry.size, entry.mtime_ns):
        raise _ChangingError


def _open(path: str) -> BinaryIO:
    # The path may have become a link or a pipe since the scan: neither is followed nor waited for.
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(number, "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file")
    return file


def _same(validator: Mapping[str, Any], entry: Entry) -> bool:
    return (validator.get("size"), validator.get("mtime_ns")) == (entry.size, entry.mtime_ns)


def _matches(key: str, patterns: Collection[str]) -> bool:
    name = key.rpartition("/")[2]
    return any(fnmatchcase(name, pattern) or fnmatchcase(key, pattern) for pattern in patterns)


def _below(key: str, folders: Collection[str]) -> bool:
    """Whether the path is one of these or lies in one of them; "" is the root itself."""
    parts = key.split("/")
    return any("/".join(parts[:count]) in folders for count in range(len(parts) + 1))


def _key(folder: str, name: str) -> str:
    return _text(f"{folder}/{name}" if folder else name)


def _text(path: str) -> str:
    """A path as text that a database keeps, also when its bytes are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _reason(error: OSError) -> str:
    return f"cannot be read: {(error.strerror or str(error)).lower()}. Check its permissions."
