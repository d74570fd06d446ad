"""Adding folders, files and pages from the command line: what is taken, under which name, and how it is shown."""

import errno
import hashlib
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bookwheel.client import Client
from bookwheel.errors import BookwheelError
from bookwheel.sources.hidden import SKIPPED_FOLDERS

WEB = ("http://", "https://")
AT_ONCE = 4  # uploads: each waits until the disk has its bytes
FETCH_TIMEOUT = 30.0
FETCH_BYTES = 64 << 20
PACE_SECONDS = 1.0  # from which on a speed means something
MEDIA_SUFFIXES = {"text/html": ".html", "text/plain": ".txt", "text/markdown": ".md", "application/pdf": ".pdf"}

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class Added:
    """What became of one `add`."""

    documents: dict[str, str] = field(default_factory=dict)  #: document id -> source, of what was uploaded
    failures: list[tuple[str, str]] = field(default_factory=list)  #: source, reason with remedy
    unchanged: int = 0  #: files that the store has already, byte for byte
    searchable: int = 0  #: documents that are live now

    def note(self, outcome: "_Outcome") -> None:
        """Count what became of one source."""
        if outcome.failure is not None:
            self.failures.append((outcome.source, outcome.failure))
        elif outcome.document is not None:
            self.documents[outcome.document] = outcome.source
        else:
            self.unchanged += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What became of one source: uploaded, failed, or neither because the store has it."""

    source: str
    document: str | None = None  #: its id
    failure: str | None = None  #: reason with remedy


@dataclass(frozen=True, slots=True)
class _Known:
    """A document that the store has already."""

    hash: str
    complete: bool
    file_id: str | None


def add_sources(client: Client, store_id: str, sources: Sequence[str], console: Console) -> Added:
    """Add files, folders and URLs, wait until they are searchable, and tell of every failure."""
    added = Added()
    with _progress(console) as progress:
        uploading = progress.add_task("Uploading", total=None, note="")
        known = _known(client, store_id)

        def add_one(item: tuple[str, bool]) -> _Outcome:
            return _add_one(client, store_id, item[0], known, bulk=item[1])

        for outcome in _side_by_side(add_one, _items(sources, added)):
            added.note(outcome)
            progress.update(uploading, completed=len(added.documents) + len(added.failures) + added.unchanged)
        progress.update(uploading, total=len(added.documents) + len(added.failures) + added.unchanged)
        _wait(client, store_id, added, progress)
    added.searchable += added.unchanged
    for source, reason in added.failures:
        console.print(f"[red]✗[/red] {printable(source)}: {printable(reason)}", highlight=False, soft_wrap=True)
    return added


def _items(sources: Sequence[str], added: Added) -> Iterator[tuple[str, bool]]:
    """Every file and page once, and whether it is one of many. The same one twice at a time would race itself."""
    seen = set[str]()
    for source in sources:
        for item in _expand(source, added):
            name = item if item.startswith(WEB) else os.path.realpath(item)
            if name not in seen:
                seen.add(name)
                yield item, _is_many(source)


def _known(client: Client, store_id: str) -> dict[str, _Known]:
    documents = client.pages(f"/v1/vector_stores/{store_id}/documents")
    return {one["id"]: _Known(one["hash"], one["status"] == "completed", one["file_id"]) for one in documents}


def _is_many(source: str) -> bool:
    """Whether a source stands for many documents, which let single uploads go first."""
    return not source.startswith(WEB) and Path(source).expanduser().is_dir()


def printable(text: str) -> str:
    """One line that a terminal shows as it is, whatever a file is called."""
    safe = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
    return safe.encode("utf-8", "replace").decode().replace("[", r"\[")


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=not console.is_terminal,
    )


def _expand(source: str, added: Added) -> Iterator[str]:
    if source.startswith(WEB):
        yield source
        return
    path = Path(source).expanduser()
    if path.is_dir():
        yield from _walk(path, added)
    elif path.exists():
        yield str(path)
    else:
        added.failures.append((source, "no such file or folder. Check the path."))


def _walk(folder: Path, added: Added) -> Iterator[str]:
    def unreadable(error: OSError) -> None:
        added.failures.append((str(error.filename), f"cannot be read: {error.strerror}. Check its permissions."))

    for here, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in SKIPPED_FOLDERS)
        for name in sorted(names):
            if not name.startswith("."):
                yield os.path.join(here, name)  # noqa: PTH118 - names may not be valid text; os.walk gives strings


def _side_by_side(work: Callable[[T], R], things: Iterable[T]) -> Iterator[R]:
    """Results in order; a few things are worked on at a time, and not many more are looked up ahead."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="upload") as pool:
        running = deque[Future[R]]()
        for thing in things:
            running.append(pool.submit(work, thing))
            if len(running) > 2 * AT_ONCE:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def _add_one(client: Client, store_id: str, source: str, known: Mapping[str, _Known], *, bulk: bool) -> _Outcome:
    try:
        if source.startswith(WEB):
            return _Outcome(source=source, document=_add_page(client, store_id, source)["document_id"])
        return _add_path(client, store_id, source, known, bulk=bulk)
    except (OSError, httpx.HTTPError) as error:
        return _Outcome(source=source, failure=f"cannot be read: {getattr(error, 'strerror', None) or error}.")
    except BookwheelError as error:
        return _Outcome(source=source, failure=error.message)


def _add_path(client: Client, store_id: str, source: str, known: Mapping[str, _Known], *, bulk: bool) -> _Outcome:
    path = _regular(Path(source))
    name = _text(path.resolve())
    old = known.get(name)
    if old is not None and old.complete and old.hash == _sha256(path):
        return _Outcome(source=source)
    document = client.add_file(
        store_id,
        path,
        external_id=name,
        filename=_text(Path(path.name)),
        bulk=bulk,
        replaces=old.file_id if old else None,
    )
    return _Outcome(source=source, document=document["document_id"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return str(hashlib.file_digest(file, "sha256").hexdigest())


def _regular(path: Path) -> Path:
    """A pipe or a device would never end. Raises OSError."""
    if not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file")
    return path


def _text(path: Path) -> str:
    """A path as text, also when its bytes are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def _add_page(client: Client, store_id: str, url: str) -> dict[str, Any]:
    """Fetch a page with this machine's own rights and upload it."""
    with (
        httpx.stream("GET", url, follow_redirects=True, timeout=FETCH_TIMEOUT) as response,
        tempfile.NamedTemporaryFile() as file,
    ):
        response.raise_for_status()
        for data in response.iter_bytes():
            file.write(data)
            if file.tell() > FETCH_BYTES:
                raise OSError(errno.EFBIG, f"larger than {FETCH_BYTES >> 20} MiB")
        file.flush()
        name = _page_name(url, response.headers.get("content-type", ""))
        return client.add_file(store_id, Path(file.name), external_id=url, filename=name)


def _page_name(url: str, content_type: str) -> str:
    parts = urlsplit(url)
    name = unquote(Path(parts.path).name) or parts.netloc
    suffix = MEDIA_SUFFIXES.get(content_type.partition(";")[0].strip(), "")
    return name if Path(name).suffix else name + suffix


def _wait(client: Client, store_id: str, added: Added, progress: Progress) -> None:
    reading = progress.add_task("Reading", total=len(added.documents), note="")
    pace = _Pace()
    live = 0

    def seen(store: Mapping[str, Any]) -> None:
        nonlocal live
        before, live = live, int(store["chunk_count"])
        chunks = live if live > before else live + _written(client, store_id)  # a long document is on its way
        left = min(store["file_counts"]["in_progress"], len(added.documents))
        done = len(added.documents) - left
        progress.update(reading, completed=done, note=pace.note(chunks, done, len(added.documents)))

    if added.documents:
        client.wait(store_id, seen=seen)
        client.wait_for_keywords()
        added.searchable = len(added.documents)
        for failed in client.pages(f"/v1/vector_stores/{store_id}/files", filter="failed"):
            if failed["document_id"] in added.documents:
                added.searchable -= 1
                added.failures.append((added.documents[failed["document_id"]], failed["last_error"]["message"]))


def _written(client: Client, store_id: str) -> int:
    """Chunks of the documents that are being read."""
    running = client.call("GET", "/v1/jobs", params={"state": "running", "store_id": store_id, "limit": "100"})
    return sum(int(job["chunks_written"]) for job in running["data"])


class _Pace:
    """How fast it goes and how long it will take."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._first: int | None = None  #: chunks at the first look
        self._chunks = 0  #: the most seen

    def note(self, chunks: int, done: int, total: int) -> str:
        """For the end of the progress bar, such as `85 passages/s, about 40 s left`."""
        took = time.monotonic() - self._began
        self._chunks = max(self._chunks, chunks)
        if self._first is None or took < PACE_SECONDS:
            self._first = chunks if self._first is None else self._first
            return ""
        speed = f"{(self._chunks - self._first) / took:.0f} passages/s"
        return f"{speed}, about {took * (total - done) / done:.0f} s left" if done else speed
