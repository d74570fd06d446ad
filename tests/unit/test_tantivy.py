"""tantivy: what its contract (tests/contract) does not say: languages, other processes, broken files."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from bookwheel.backends import tantivy
from bookwheel.backends.tantivy import TantivyIndex, chunk_terms, question_words
from bookwheel.errors import IndexUnavailableError
from bookwheel.testing.keywords import open_to, streamed
from bookwheel.types import Change, KeywordEntry, Scope

_IDS = count(2**62 + 1)
KILLED_WRITER = """
import asyncio, sys, time
from pathlib import Path
from bookwheel.backends.tantivy import TantivyIndex
index = TantivyIndex(Path(sys.argv[1]), writable=True)
asyncio.run(index.reset(5))
print("ready", flush=True)
time.sleep(60)
"""


@dataclass(slots=True, kw_only=True)
class Library:
    """A tenant's store in an index."""

    index: TantivyIndex
    tenant: UUID = field(default_factory=uuid4)
    store: UUID = field(default_factory=uuid4)
    sequence: int = 0

    async def add(self, *texts: str, language: str = "en", version: int = 1, document: UUID | None = None) -> list[int]:
        """Publish a document with these chunks; returns their ids."""
        owner, self.sequence = document or uuid4(), self.sequence + 1
        entries = [
            KeywordEntry(
                chunk_id=next(_IDS), tenant_id=self.tenant, store_id=self.store, document_id=owner, version=version,
                text=text, title="", language=language,
            )
            for text in texts
        ]  # fmt: skip
        await self.index.apply([self.change("publish", owner, version)], streamed(entries))
        return [entry.chunk_id for entry in entries]

    def change(self, operation: str, document: UUID, version: int) -> Change:
        """A line of the outbox."""
        assert operation in {"publish", "remove"}
        return Change(
            sequence=self.sequence, operation="publish" if operation == "publish" else "remove", tenant_id=self.tenant,
            store_id=self.store, document_id=document, version=version,
        )  # fmt: skip

    async def found(self, text: str, *, limit: int = 10, by: TantivyIndex | None = None) -> Sequence[int]:
        """Ids of the chunks found."""
        scope = Scope(tenant_id=self.tenant, store_ids=(self.store,))
        return [
            one.chunk_id
            for one in await (by or self.index).search(text, scope=scope, reach=open_to(scope), limit=limit)
        ]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """An empty index."""
    return Library(index=TantivyIndex(tmp_path / "keywords", writable=True))


@pytest.mark.parametrize(
    ("language", "text", "question"),
    [
        ("en", "The whales were swimming", "a whale swims"),
        ("de", "Die Häuser der Walfänger", "Haus"),
        ("fr", "Les baleines nageaient", "baleine"),
        ("ru", "Белые киты плавали", "белый кит"),
        ("tr", "gemilerden", "gemiler"),
        ("ja", "白鯨は海を泳ぐ", "海の鯨"),
        ("und", "Ｗｈａｌｅ №5", "whale 5"),
        ("ja", "ﾓﾋﾞｰ･ﾃﾞｨｯｸ", "モビー"),
    ],
)
async def test_words_are_found_in_other_forms(library: Library, language: str, text: str, question: str) -> None:
    """A question finds its words inflected, by the rules of the chunk's language."""
    await library.add("nothing to see", language="en")
    wanted = await library.add(text, language=language)
    assert await library.found(question) == wanted


async def test_rare_in_its_own_language(library: Library) -> None:
    """Words that are common in one language are not rare because most chunks are in another."""
    await library.add(*(f"a common word for chunk {number}" for number in range(400)))
    german = [f"der die und Wal Nummer {number}" for number in range(150)]
    await library.add(*german, language="de")
    (wanted,) = await library.add("Kapitän, ein langer Satz über See und Land und allerlei", language="de")
    assert (await library.found("der die und Wal Nummer Kapitän"))[0] == wanted


async def test_common_words_find_what_rare_ones_do_not(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a large index common words do not search, unless the rare ones find too little."""
    monkeypatch.setattr(tantivy, "LARGE", 1)
    whales = await library.add(*(f"whale number {number}" for number in range(40)))
    (rare,) = await library.add("the harpoon")
    assert await library.found("whale harpoon", limit=1) == [rare]
    assert set(await library.found("whale harpoon", limit=50)) == {rare, *whales}
    assert len(await library.found("whale", limit=50)) == 40


async def test_a_stale_remove_leaves_newer_versions(library: Library) -> None:
    """Removing version 1 keeps version 2."""
    document = uuid4()
    kept = await library.add("whale", document=document, version=2)
    await library.index.apply([library.change("remove", document, 1)], streamed([]))
    assert await library.found("whale") == kept


async def test_readers_see_each_commit(library: Library, tmp_path: Path) -> None:
    """A reader that is open sees what the writer publishes and resets, without being told."""
    reader = TantivyIndex(tmp_path / "keywords", writable=False)
    first = await library.add("whale")
    assert await library.found("whale", by=reader) == first
    second = await library.add("whale")
    assert set(await library.found("whale", by=reader)) == {*first, *second}
    await library.index.reset(9)
    assert await library.found("whale", by=reader) == []
    assert await reader.position() == 9


async def test_readers_do_not_write(library: Library, tmp_path: Path) -> None:
    """A reader neither applies changes nor makes an index."""
    reader = TantivyIndex(tmp_path / "other", writable=False)
    with pytest.raises(IndexUnavailableError):
        await reader.reset(1)
    with pytest.raises(IndexUnavailableError):
        await reader.ping()
    assert await reader.position() == 0
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("verb", ["ping", "position"])
async def test_a_writer_that_starts_makes_the_index(library: Library, tmp_path: Path, verb: str) -> None:
    """An empty index answers readers as soon as its writer has looked where it stands."""
    await getattr(library.index, verb)()
    reader = TantivyIndex(tmp_path / "keywords", writable=False)
    await reader.ping()
    assert await library.found("whale", by=reader) == []


@pytest.mark.parametrize("damage", ["meta", "segment", "missing", "schema"])
async def test_a_broken_index_is_built_anew(library: Library, tmp_path: Path, damage: str) -> None:
    """What cannot be read counts as empty; the writer goes on with a new index and readers follow."""
    directory = tmp_path / "keywords"
    await library.add("whale")
    library.index.close()
    if damage == "meta":
        (directory / "meta.json").write_text("{")
    elif damage == "schema":
        meta = directory / "meta.json"
        meta.write_text(meta.read_text().replace('"reader"', '"ocean"'))
    for path in directory.glob("*.term"):
        if damage == "segment":
            path.write_bytes(path.read_bytes()[:3])
        elif damage == "missing":
            path.unlink()
    library.index, reader = (TantivyIndex(directory, writable=writable) for writable in (True, False))
    with pytest.raises(IndexUnavailableError):
        await library.found("whale", by=reader)
    assert await library.index.position() == 0
    wanted = await library.add("whale")
    assert await library.found("whale", by=reader) == wanted


async def test_a_break_found_while_writing_heals_too(library: Library, tmp_path: Path) -> None:
    """A commit that meets an unreadable index fails once; the next one starts a new index."""
    await library.add("whale")
    library.index.close()
    (tmp_path / "keywords" / "meta.json").write_text("{")
    with pytest.raises(IndexUnavailableError):
        await library.add("whale")
    wanted = await library.add("whale")
    assert await library.found("whale") == wanted


async def test_trouble_that_passes_does_not_empty_the_index(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files is no reason to throw an index away: the position is not 0, but unknown."""
    await library.add("whale")

    def fail(*_: object) -> object:
        raise ValueError("Failed to open file for read: Too many open files")

    again = TantivyIndex(tmp_path / "keywords", writable=True)
    with monkeypatch.context() as patch:
        patch.setattr(tantivy, "_open_view", fail)
        with pytest.raises(IndexUnavailableError):
            await again.position()
    assert await again.position() == 1


async def test_a_killed_writer_blocks_nobody(tmp_path: Path) -> None:
    """The lock goes with its process; while that lives, a second writer is told to retry."""
    directory = tmp_path / "keywords"
    command = [sys.executable, "-c", KILLED_WRITER, str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220 - it only starts
    assert process.stdout is not None
    with process.stdout:
        assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
        index = TantivyIndex(directory, writable=True)
        with pytest.raises(IndexUnavailableError):
            await index.reset(6)
        os.kill(process.pid, signal.SIGKILL)
        await asyncio.to_thread(process.wait)
    assert await index.position() == 5
    await index.reset(6)
    assert await index.position() == 6


async def test_applies_take_turns(library: Library) -> None:
    """Applies that overlap in time all arrive."""
    made = await asyncio.gather(*(library.add(f"whale {number}") for number in range(8)))
    assert set(await library.found("whale", limit=50)) == {chunk for chunks in made for chunk in chunks}


def test_terms_carry_their_language() -> None:
    """Words are stemmed, spaceless scripts are characters and pairs, and all say whose rules made them."""
    assert chunk_terms("Running 白鯨", "en") == ["en:run", "en:白", "en:鯨", "en:白鯨"]
    assert chunk_terms("Ｒｕｎｎｉｎｇ", "plain") == ["plain:running"]
    assert not any(" " in term for term in chunk_terms("a\u3000b\u00a0c\nd", "en"))


def test_a_word_is_asked_for_once() -> None:
    """Repeated words count once, each in the form of every language."""
    assert question_words("whales, Whales!", ["en", "plain"]) == [("en:whale", "plain:whales")]
