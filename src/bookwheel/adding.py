"""Adding folders, files and pages from the command line: what is taken, under which name, and how it is shown."""

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bookwheel.client import Client
from bookwheel.errors import BookwheelError

SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__"})  # and hidden ones
FETCH_TIMEOUT = 30.0
FETCH_BYTES = 64 << 20
MEDIA_SUFFIXES = {"text/html": ".html", "text/plain": ".txt", "text/markdown": ".md", "application/pdf": ".pdf"}


@dataclass(slots=True)
class Added:
    """What became of one `add`."""

    documents: dict[str, str] = field(default_factory=dict)  #: document id -> source
    failures: list[tuple[str, str]] = field(default_factory=list)  #: source, reason with remedy
    searchable: int = 0  #: documents that went live


def add_sources(client: Client, store_id: str, sources: Sequence[str], console: Console) -> Added:
    """Add files, folders and URLs, wait until they are searchable, and tell of every failure."""
    added = Added()
    with _progress(console) as progress:
        uploading = progress.add_task("Uploading", total=None)
        for source in sources:
            for item in _expand(source, added):
                _add_one(client, store_id, item, added)
                progress.update(uploading, completed=len(added.documents) + len(added.failures))
        progress.update(uploading, total=len(added.documents) + len(added.failures))
        _wait(client, store_id, added, progress)
    for source, reason in added.failures:
        console.print(f"[red]✗[/red] {printable(source)}: {printable(reason)}", highlight=False, soft_wrap=True)
    return added


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
        console=console,
        transient=not console.is_terminal,
    )


def _expand(source: str, added: Added) -> Iterator[str]:
    if source.startswith(("http://", "https://")):
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


def _add_one(client: Client, store_id: str, source: str, added: Added) -> None:
    try:
        if source.startswith(("http://", "https://")):
            document = _add_page(client, store_id, source)
        else:
            path = _regular(Path(source))
            document = client.add_file(
                store_id, path, external_id=_text(path.resolve()), filename=_text(Path(path.name))
            )
        added.documents[document["document_id"]] = source
    except (OSError, httpx.HTTPError) as error:
        added.failures.append((source, f"cannot be read: {getattr(error, 'strerror', None) or error}."))
    except BookwheelError as error:
        added.failures.append((source, error.message))


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
    reading = progress.add_task("Reading", total=len(added.documents))

    def seen(counts: Mapping[str, int]) -> None:
        left = min(counts["in_progress"], len(added.documents))
        progress.update(reading, completed=len(added.documents) - left)

    if added.documents:
        client.wait(store_id, seen=seen)
        client.wait_for_keywords()
        added.searchable = len(added.documents)
        for failed in client.pages(f"/v1/vector_stores/{store_id}/files", filter="failed"):
            if failed["document_id"] in added.documents:
                added.searchable -= 1
                added.failures.append((added.documents[failed["document_id"]], failed["last_error"]["message"]))
