"""A directory as a source: what is seen, what changed, what is never taken."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bookwheel.errors import NotFoundError, SourceError, SourceGoneError
from bookwheel.fetching import Fetcher
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.sources import directory
from bookwheel.sources.directory import Selection, allowed_root, difference, scan
from bookwheel.sources.keeping import backoff_seconds
from bookwheel.sources.running import run_once
from bookwheel.testing import memory_ports
from bookwheel.types import (
    DEFAULT_TENANT,
    Chunking,
    Scope,
    Source,
    SourceDraft,
    SourceItem,
    SourceKind,
    SourceOutcome,
)

LONG_AGO = 1_600_000_000
TENANT = Scope(tenant_id=DEFAULT_TENANT)


def write(path: Path, text: str = "text", *, age: float | None = None) -> Path:
    """A file that was written long ago unless said otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    moment = LONG_AGO if age is None else time.time() - age
    os.utime(path, (moment, moment))
    return path


class Bench:
    """A source over a directory, run by hand over ports in memory."""

    def __init__(self, ports: Ports, root: Path, settings: Settings) -> None:
        self.ports, self.root, self.settings = ports, root, settings
        self.source: Source
        self.scope = TENANT

    async def start(self, **config: Any) -> None:
        """Make the store and the source."""
        store = await self.ports.stores.create(
            "s", scope=TENANT, space=self.ports.space, chunking=Chunking(), metadata={}
        )
        self.scope = Scope(tenant_id=DEFAULT_TENANT, store_ids=(store.id,))
        draft = SourceDraft(kind=SourceKind.DIRECTORY, config={"path": str(self.root), **config}, every_seconds=60)
        self.source = await self.ports.sources.create(draft, scope=TENANT, store=store)

    async def run(self) -> SourceOutcome:
        """One run, as the worker does it."""
        await self.ports.source_runs.wake([self.source.id])
        (claimed,) = await self.ports.source_runs.claim(owner="me", lease_seconds=60, limit=1)
        async with Fetcher(self.settings) as fetcher:
            outcome = await run_once(claimed, ports=self.ports, settings=self.settings, fetcher=fetcher)
        await self.ports.source_runs.finish(claimed, outcome, owner="me")
        return outcome

    async def documents(self) -> dict[str, int]:
        """Paths of the documents with their versions."""
        found = await self.ports.documents.list(scope=self.scope, limit=1000)
        return {str(document.external_id).partition("/")[2]: document.version for document in found}

    async def files(self) -> int:
        """Uploaded files that exist."""
        return len(await self.ports.files.list(scope=TENANT, limit=1000))


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A source over an empty directory. No worker brings its documents to life."""
    monkeypatch.setattr(directory, "MOVING_SECONDS", 0.1)
    root = tmp_path / "root"
    root.mkdir()
    made = Bench(memory_ports(), root, Settings(data_dir=tmp_path / "data", max_file_bytes=1000))
    await made.start()
    return made


def done(outcome: SourceOutcome) -> dict[str, int]:
    """Counts that are not zero."""
    return {name: count for name, count in outcome.counts.items() if count}


async def test_life_of_a_file(bench: Bench) -> None:
    """Made, left alone, touched, changed, renamed and removed: one document and one file at every moment."""
    path = write(bench.root / "sub" / "a.md")
    assert done(await bench.run()) == {"added": 1}
    assert await bench.documents() == {"sub/a.md": 1}
    assert done(await bench.run()) == {"unchanged": 1}
    os.utime(path, (LONG_AGO + 1, LONG_AGO + 1))
    assert done(await bench.run()) == {"unchanged": 1}
    assert await bench.documents() == {"sub/a.md": 1}
    write(path, "other text")
    assert done(await bench.run()) == {"changed": 1}
    assert (await bench.documents(), await bench.files()) == ({"sub/a.md": 2}, 1)
    path.rename(bench.root / "b.md")
    assert done(await bench.run()) == {"added": 1, "removed": 1}
    assert (await bench.documents(), await bench.files()) == ({"b.md": 1}, 1)
    (bench.root / "b.md").unlink()
    assert done(await bench.run()) == {"removed": 1}
    assert (await bench.documents(), await bench.files()) == ({}, 0)


async def test_document_names_its_source(bench: Bench) -> None:
    """Its attributes say which source and which path; another source's file of the same path is another document."""
    write(bench.root / "a.md")
    await bench.run()
    (document,) = await bench.ports.documents.list(scope=bench.scope, limit=10)
    assert document.attributes == {"source": f"src_{bench.source.id.hex}", "path": "a.md"}
    assert document.external_id == f"src_{bench.source.id.hex}/a.md"
    assert document.filename == "a.md"


async def test_unread_file_is_not_opened_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Size and time unchanged: the file is not even opened."""
    write(bench.root / "a.md")
    await bench.run()
    monkeypatch.setattr(directory, "_open", None)
    assert done(await bench.run()) == {"unchanged": 1}


async def test_what_is_never_taken(bench: Bench, tmp_path: Path) -> None:
    """Hidden files, folders nobody reads, links that leave the root, pipes, and our own data."""
    inside, outside = write(bench.root / "a.md"), write(tmp_path / "secret.md")
    for name in (".hidden.md", ".git/a.md", "node_modules/a.md", "__pycache__/a.md"):
        write(bench.root / name)
    (bench.root / "link.md").symlink_to(inside)
    (bench.root / "out.md").symlink_to(outside)
    (bench.root / "folder").symlink_to(tmp_path)
    (bench.root / "nowhere.md").symlink_to(tmp_path / "nothing")
    os.mkfifo(bench.root / "pipe.md")
    await bench.run()
    assert await bench.documents() == {"a.md": 1, "link.md": 1}
    bench.settings = replace_settings(bench.settings, data_dir=bench.root / "data")
    write(bench.root / "data" / "blobs" / "x.md")
    await bench.run()
    assert await bench.documents() == {"a.md": 1, "link.md": 1}


def replace_settings(settings: Settings, **changes: Any) -> Settings:
    """Settings with some changed."""
    return Settings.model_validate({**settings.model_dump(), **changes})


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (Selection(), {"a.md", "b.txt", "sub/c.md"}),
        (Selection(include=["*.md"]), {"a.md", "sub/c.md"}),
        (Selection(include=["sub/*"]), {"sub/c.md"}),
        (Selection(exclude=["c.*", "b.txt"]), {"a.md"}),
        (Selection(include=["*.md"], exclude=["sub/*"]), {"a.md"}),
    ],
)
def test_patterns_select(tmp_path: Path, selection: Selection, taken: set[str]) -> None:
    """Patterns fit the name or the whole path; exclude wins."""
    for name in ("a.md", "b.txt", "sub/c.md"):
        write(tmp_path / name)
    assert set(scan(str(tmp_path), selection).files) == taken


async def test_half_written_file_waits(bench: Bench) -> None:
    """A file that was written to a moment ago waits, and the next run comes soon; one from the future does not."""
    write(bench.root / "a.md", age=0.0)
    write(bench.root / "future.md", age=-1000.0)
    outcome = await bench.run()
    assert done(outcome) == {"added": 1, "waiting": 1}
    assert outcome.next_in_seconds < 1
    assert await bench.documents() == {"future.md": 1}


async def test_file_that_changes_while_it_is_read_waits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read half old and half new is not stored."""
    path, original = write(bench.root / "a.md"), directory._open

    def change_meanwhile(name: str) -> Any:
        file = original(name)
        write(path, "longer text")
        return file

    monkeypatch.setattr(directory, "_open", change_meanwhile)
    assert done(await bench.run()) == {"waiting": 1}
    assert await bench.documents() == {}


async def test_gone_directory_keeps_its_documents(bench: Bench) -> None:
    """A root that is not there is an error of the source, with a growing distance to the next try; back again, it is
    as if nothing had been."""
    write(bench.root / "a.md")
    await bench.run()
    away = bench.root.rename(bench.root.with_name("away"))
    waits = []
    for _ in range(4):
        outcome = await bench.run()
        assert outcome.failed
        assert "the directory is gone" in str(outcome.error).lower()
        waits.append(outcome.next_in_seconds)
    assert await bench.documents() == {"a.md": 1}
    assert waits[3] > 3 * waits[0]
    away.rename(bench.root)
    assert done(await bench.run()) == {"unchanged": 1}


async def test_unmounted_directory_keeps_its_documents(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory on another file system than before is a mount point without its mount."""
    path, original = write(bench.root / "a.md"), directory.scan
    await bench.run()
    path.unlink()
    monkeypatch.setattr(directory, "scan", lambda *given: replace(original(*given), device=-1))
    outcome = await bench.run()
    assert outcome.failed
    assert await bench.documents() == {"a.md": 1}
    monkeypatch.undo()
    assert done(await bench.run()) == {"removed": 1}


async def test_unreadable_is_a_failure_by_name_and_loses_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or folder that cannot be read keeps its documents and is told; so is one that is too large."""
    write(bench.root / "a.md")
    write(bench.root / "sub" / "b.md")
    await bench.run()
    original = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied")
        return original(path)

    monkeypatch.setattr(os, "scandir", refuse)
    write(bench.root / "large.md", "x" * 1001)
    outcome = await bench.run()
    assert done(outcome) == {"unchanged": 1, "failed": 2}
    assert await bench.documents() == {"a.md": 1, "sub/b.md": 1}
    failures = await bench.ports.sources.failures(bench.source.id, scope=TENANT, limit=10)
    assert {item.key for item in failures} == {"large.md", "sub"}
    assert "permission denied" in str({item.key: item.last_error for item in failures}["sub"])
    monkeypatch.undo()
    (bench.root / "large.md").unlink()
    assert done(await bench.run()) == {"unchanged": 2}
    assert list(await bench.ports.sources.failures(bench.source.id, scope=TENANT, limit=10)) == []


async def test_many_deletions_are_done(bench: Bench) -> None:
    """While the root is there, what is gone is gone, however much it is."""
    paths = [write(bench.root / f"{number}.md", str(number)) for number in range(25)]
    await bench.run()
    for path in paths[:20]:
        path.unlink()
    assert done(await bench.run()) == {"unchanged": 5, "removed": 20}
    assert len(await bench.documents()) == 5


async def test_lost_note_makes_no_second_document(bench: Bench) -> None:
    """A run that was killed after storing and before noting is repeated under the same id, with one file left."""
    write(bench.root / "a.md")
    await bench.run()
    await bench.ports.source_runs.save(bench.source.id, (), gone=["a.md"])
    await bench.run()
    assert (await bench.documents(), await bench.files()) == ({"a.md": 1}, 1)


async def test_source_removed_during_its_run_leaves_nothing(bench: Bench) -> None:
    """A document that was being stored when its source was removed goes too."""
    write(bench.root / "a.md")
    (claimed,) = await bench.ports.source_runs.claim(owner="me", lease_seconds=60, limit=1)
    await bench.ports.sources.delete(bench.source.id, scope=TENANT)
    async with Fetcher(bench.settings) as fetcher:
        with pytest.raises(NotFoundError):
            await run_once(claimed, ports=bench.ports, settings=bench.settings, fetcher=fetcher)
    assert (await bench.documents(), await bench.files()) == ({}, 0)


async def test_root_outside_the_allowed_folders_is_not_read(bench: Bench) -> None:
    """What was allowed when the source was made may be forbidden later; its documents stay."""
    write(bench.root / "a.md")
    await bench.run()
    bench.settings = replace_settings(bench.settings, source_roots="/nowhere")
    write(bench.root / "b.md")
    assert (await bench.run()).failed
    assert await bench.documents() == {"a.md": 1}


async def test_names_that_are_not_text(bench: Bench) -> None:
    """A name whose bytes are no UTF-8 is taken under a name that can be kept."""
    write(bench.root / os.fsdecode(b"caf\xe9.md"))
    await bench.run()
    assert await bench.documents() == {"caf\\xe9.md": 1}


def test_difference_is_by_size_and_time(tmp_path: Path) -> None:
    """Known and alike: unchanged. New, other, or failed before: changed. Known and not there: gone."""
    for name in ("same", "other", "failed", "new"):
        write(tmp_path / name)
    found = scan(str(tmp_path), Selection())
    told = found.files["same"].validator
    items = {
        "same": SourceItem(key="same", validator=told),
        "other": SourceItem(key="other", validator={**told, "size": 1}),
        "failed": SourceItem(key="failed", validator=told, last_error="why"),
        "gone": SourceItem(key="gone", validator=told),
    }
    work = difference(found, items, now=time.time())
    assert (sorted(work.changed), work.unchanged, work.gone) == (["failed", "new", "other"], 1, ["gone"])


def test_root_that_is_a_file_is_gone(tmp_path: Path) -> None:
    """A file at the root's place is no directory."""
    with pytest.raises(SourceGoneError):
        scan(str(write(tmp_path / "file")), Selection())


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of files is in memory during a run, so there is a limit."""
    monkeypatch.setattr(directory, "MAX_FILES", 2)
    for number in range(3):
        write(tmp_path / str(number))
    with pytest.raises(SourceError, match="include"):
        scan(str(tmp_path), Selection())


def test_roots_bound_what_may_be_watched(tmp_path: Path) -> None:
    """Only folders below BOOKWHEEL_SOURCE_ROOTS, links followed; empty allows none."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to("/")
    settings = Settings(source_roots=f"/nowhere:{tmp_path / 'in'}")
    assert allowed_root(str(tmp_path / "in"), settings)
    assert not allowed_root(str(tmp_path), settings)
    assert not allowed_root(str(tmp_path / "in" / ".."), settings)
    assert not allowed_root(str(tmp_path / "in" / "link"), settings)
    assert not allowed_root(str(tmp_path / "in"), Settings(source_roots=""))
    assert allowed_root(str(tmp_path / "in"), Settings())
    assert not allowed_root(str(tmp_path / "in"), Settings(auth="keys"))


def test_backoff_doubles_to_an_hour() -> None:
    """With some spread; a rare schedule does not delay the next try, and a frequent one begins sooner."""
    for every_seconds, middles in ((60, (60, 120, 240, 3600)), (86_400, (60, 120, 240, 3600)), (5, (5, 10, 20, 3600))):
        for failures, middle in zip((1, 2, 3, 20), middles, strict=True):
            assert 0.9 * middle <= backoff_seconds(every_seconds, failures) <= 1.1 * middle
