"""The pool of reading processes: limits, crashes, and what a process may know."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from bookwheel import sandbox
from bookwheel.chunk import split
from bookwheel.errors import (
    BrokenFileError,
    ParseMemoryError,
    ParseTimeoutError,
    TooManyChunksError,
    UnsupportedFileError,
)
from bookwheel.parse import parse
from bookwheel.sandbox import ParserPool
from bookwheel.settings import Settings
from bookwheel.types import Chunking, CutText

ROWS = 300_000  # of a web page that takes seconds and a gigabyte
WORDS = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
WORDS.pre_tokenizer = Whitespace()
CHUNKING = Chunking(max_tokens=64, overlap_tokens=8)


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that keeps a reader busy and hungry."""
    path = tmp_path_factory.mktemp("heavy") / "heavy.html"
    path.write_text("<table>" + "<tr><td>1</td><td>2</td><td>3</td></tr>\n" * ROWS + "</table>")
    return path


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A small file that only a reading process may read."""
    path = tmp_path / "page.html"
    path.write_text("<h1>Title</h1><p>Grüße &amp; words</p>")
    return path


async def read(pool: ParserPool, path: Path, filename: str) -> CutText:
    """The whole file in one piece of news."""
    cuts = [cut async for cut in pool.cut(path, filename, chunking=CHUNKING, tokenizer=WORDS)]
    return replace(cuts[0], pieces=[piece for cut in cuts for piece in cut.pieces])


async def counted(cuts: AsyncIterator[CutText], seen: list[int]) -> None:
    """Take all batches and count their pieces."""
    async for cut in cuts:
        seen[0] += len(cut.pieces)


def reader_pid(pool: ParserPool) -> int:
    reader = pool._all[0]._reader
    assert reader is not None
    return reader._process.pid


async def until(condition: Callable[[], bool], step: Callable[[], Awaitable[None]] | None = None) -> None:
    """Wait for the condition, at most half a minute."""
    async with asyncio.timeout(30):
        while not condition():
            await (step() if step else asyncio.sleep(0.01))


async def test_a_process_gives_what_parse_gives(page: Path) -> None:
    """Nothing is lost between the processes."""
    async with ParserPool(Settings(), size=1) as pool:
        cut = await read(pool, page, "ü page.html")
    parsed = parse(page, "ü page.html", ocr=False)
    assert (cut.media_type, cut.title, cut.warnings) == (parsed.media_type, parsed.title, parsed.warnings)
    assert cut.pieces == list(split(parsed, chunking=CHUNKING, tokenizer=WORDS))


async def test_errors_keep_their_kind_and_line_and_the_process_lives_on(page: Path, tmp_path: Path) -> None:
    """A refused file costs no process."""
    (tmp_path / "a.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    async with ParserPool(Settings(), size=1) as pool:
        before = reader_pid(pool)
        with pytest.raises(UnsupportedFileError, match=r'^"a\.zip" is an archive'):
            await read(pool, tmp_path / "a.zip", "a.zip")
        await read(pool, page, "page.html")
        assert reader_pid(pool) == before


async def test_a_slow_file_is_stopped_and_the_next_one_is_read(heavy: Path, page: Path) -> None:
    """Time is limited, and the pool goes on with a new process."""
    async with ParserPool(Settings(parse_timeout_seconds=3), size=1) as pool:
        before = reader_pid(pool)
        with pytest.raises(ParseTimeoutError, match=r'^"heavy\.html" took longer than 3 s'):
            await read(pool, heavy, "heavy.html")
        assert not psutil.pid_exists(before)
        assert (await read(pool, page, "page.html")).title == "Title"


async def test_a_hungry_file_is_stopped_and_the_next_one_is_read(heavy: Path, page: Path) -> None:
    """Memory is limited, and the pool goes on with a new process."""
    async with ParserPool(Settings(parse_memory_bytes=256 << 20), size=1) as pool:
        with pytest.raises(ParseMemoryError, match=r'^"heavy\.html" needed more than 256 MiB'):
            await read(pool, heavy, "heavy.html")
        assert (await read(pool, page, "page.html")).title == "Title"


async def test_a_crash_costs_only_its_own_job(heavy: Path, page: Path) -> None:
    """A reader that dies of a signal is the file's failure; the other jobs are read."""
    async with ParserPool(Settings(), size=2) as pool:
        victim = reader_pid(pool)
        crash = asyncio.create_task(read(pool, heavy, "heavy.html"))
        await until(lambda: psutil.Process(victim).cpu_times().user > 0.3)
        other = asyncio.create_task(read(pool, page, "page.html"))
        os.kill(victim, signal.SIGSEGV)
        with pytest.raises(BrokenFileError, match=r'^"heavy\.html" is damaged'):
            await crash
        assert (await other).title == "Title"
        assert (await read(pool, page, "page.html")).title == "Title"


async def test_a_process_that_died_while_idle_is_replaced(page: Path) -> None:
    """The kernel may take an idle process; the next file does not notice."""
    async with ParserPool(Settings(), size=1) as pool:
        os.kill(reader_pid(pool), signal.SIGKILL)
        await until(lambda: not pool._all[0]._reader or not pool._all[0]._reader.alive)
        assert (await read(pool, page, "page.html")).title == "Title"


async def test_a_cancelled_job_leaves_no_stale_answer(heavy: Path, page: Path) -> None:
    """The next job gets its own answer, not that of the one that was given up."""
    async with ParserPool(Settings(), size=1) as pool:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await read(pool, heavy, "heavy.html")
        assert (await read(pool, page, "page.html")).title == "Title"


async def test_processes_are_replaced_after_many_files(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a library leaks goes with the process."""
    monkeypatch.setattr(sandbox, "RECYCLE_FILES", 2)
    async with ParserPool(Settings(), size=1) as pool:
        first = reader_pid(pool)
        for _ in range(3):
            await read(pool, page, "page.html")
        assert reader_pid(pool) != first


async def test_more_files_than_processes_all_come_out(page: Path) -> None:
    """Jobs wait for a free process."""
    async with ParserPool(Settings(), size=2) as pool:
        texts = await asyncio.gather(*(read(pool, page, f"{i}.html") for i in range(12)))
    assert len({piece.text for text in texts for piece in text.pieces}) == 1


async def test_a_process_is_nice_leaves_no_core_and_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hostile files meet a process with little to gain."""
    monkeypatch.setenv("BOOKWHEEL_DATABASE_URL", "postgresql://u:secret@h/d")
    async with ParserPool(Settings(), size=1) as pool:
        process = psutil.Process(reader_pid(pool))
        assert process.nice() >= os.nice(0) + 5 or process.nice() == 19
        assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert "secret" not in str(process.environ())


INTRUDER = """
import os, socket, sys
from pathlib import Path
from bookwheel import parse_process
from bookwheel.confine import confine
def tried(name, action):
    try:
        action()
    except OSError:
        return
    print(name)
missing = confine(Path.cwd())
print("missing", *missing) if missing else None
tried("internet", lambda: socket.socket())
tried("database", lambda: socket.socket(socket.AF_UNIX))
tried("environment", lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes())
tried("memory", lambda: Path(f"/proc/{os.getppid()}/mem").open("rb"))
tried("signal", lambda: os.kill(os.getppid(), 0))
tried("write", lambda: Path(sys.argv[1]).write_text("x"))
tried("remove", lambda: Path(sys.argv[1]).unlink())
Path("mine").write_text("x")
print("secret" in str(dict(os.environ)), os.listdir())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the means are Linux's")
def test_a_process_that_was_taken_over_reaches_nothing(tmp_path: Path) -> None:
    """No network, no database, nothing of its parent's, no file but its own: what a reading process gives up."""
    (victim := tmp_path / "victim").write_text("kept")
    (folder := tmp_path / "folder").mkdir()
    env = sandbox._environment(str(folder))
    call = [sys.executable, "-P", "-c", INTRUDER, str(victim)]
    told = subprocess.run(call, env=env, cwd=folder, capture_output=True, text=True, timeout=60, check=True).stdout
    assert told == "False ['mine']\n"
    assert victim.read_text() == "kept"


async def test_a_process_is_confined_and_leaves_its_folder_behind_empty(page: Path) -> None:
    """The running ones are, each in a folder of its own, which goes with it."""
    async with ParserPool(Settings(), size=1) as pool:
        await read(pool, page, "page.html")
        process = psutil.Process(reader_pid(pool))
        status = await asyncio.to_thread(Path(f"/proc/{process.pid}/status").read_text)
        folder = Path(process.cwd())
        assert folder.name.startswith("bookwheel-reader-")
        assert re.search(r"NoNewPrivs:\s+1", status)
        assert re.search(r"Seccomp:\s+2", status)
        assert re.search(r"CapEff:\s+0+\n", status)
    assert not await asyncio.to_thread(folder.exists)


def test_processes_die_with_their_parent() -> None:
    """Killing the worker leaves nothing behind."""
    code = (
        "import asyncio\nfrom bookwheel.sandbox import ParserPool\nfrom bookwheel.settings import Settings\n"
        "async def main():\n    async with ParserPool(Settings(), size=1) as pool:\n"
        "        print(pool._all[0]._reader._process.pid, flush=True)\n        await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    gone, _ = psutil.wait_procs([child], timeout=30)
    assert gone


LINE = "A line about whales number {}.\n"


@pytest.fixture
def long_text(tmp_path: Path) -> Path:
    """A plain text of a megabyte: many batches."""
    path = tmp_path / "long.txt"
    path.write_text("".join(LINE.format(number) for number in range(40_000)))
    return path


async def test_a_long_text_is_cut_in_the_process(long_text: Path) -> None:
    """Its batches are bounded, and together they are what cutting it here gives, from a file and from memory."""
    parsed = parse(long_text, "long.txt", ocr=False)
    text = parsed.text
    async with ParserPool(Settings(), size=1) as pool:
        for source in (long_text, text):
            cuts = [c async for c in pool.cut(source, "long.txt", chunking=CHUNKING, tokenizer=WORDS, title="Whales")]
            assert len(cuts) > 5
            assert max(len(cut.pieces) for cut in cuts) <= 256
            pieces = [piece for cut in cuts for piece in cut.pieces]
            assert pieces == list(split(parsed, chunking=CHUNKING, tokenizer=WORDS, title="Whales"))
        assert pool._all[0]._reader is not None
        assert pool._all[0]._reader.read == 2


async def test_sections_come_through(tmp_path: Path) -> None:
    """Children of one section hold it, also when a batch ends inside the section."""
    path = tmp_path / "long.md"
    path.write_text("# Whales\n\n" + "A line about whales. " * 30_000)
    how = Chunking(strategy="parent_child", max_tokens=64, overlap_tokens=8, parent_tokens=1024)
    async with ParserPool(Settings(), size=1) as pool:
        cuts = [cut async for cut in pool.cut(path, "long.md", chunking=how, tokenizer=WORDS)]
    assert len(cuts) > 2
    made = list(split(parse(path, "long.md", ocr=False), chunking=how, tokenizer=WORDS))
    assert [piece for cut in cuts for piece in cut.pieces] == made


async def test_a_small_text_needs_no_process() -> None:
    """Short texts, which come by the million, are cut here; an empty one is one empty batch."""
    pool = ParserPool(Settings(), size=1)  # not started
    for text, count in (("whale " * 500, 9), ("", 0)):
        cuts = [cut async for cut in pool.cut(text, "note", chunking=CHUNKING, tokenizer=WORDS)]
        assert [len(cut.pieces) for cut in cuts] == [count]


async def test_the_process_waits_for_the_worker(long_text: Path) -> None:
    """Nothing is cut ahead of what was asked for, and waiting is not counted as time that reading takes."""
    async with ParserPool(Settings(parse_timeout_seconds=4), size=1) as pool:
        cuts = pool.cut(long_text, "long.txt", chunking=CHUNKING, tokenizer=WORDS)
        first = await anext(cuts)
        process = psutil.Process(reader_pid(pool))
        await asyncio.sleep(0.5)
        before = process.cpu_times()
        await asyncio.sleep(4.5)
        after = process.cpu_times()
        assert after.user + after.system - before.user - before.system < 0.2
        rest = [cut async for cut in cuts]
    assert rest[-1].pieces[-1].text.endswith("number 39999.")
    assert first.pieces[0].start == 0


class SlowReader:
    """A process that takes a fifth of a second for each answer."""

    def memory(self) -> int:
        """Nothing to speak of."""
        return 0

    async def ask(self, message: Mapping[str, int]) -> dict[str, int]:
        """The segment asked for."""
        await asyncio.sleep(0.2)
        return {"segment": message["segment"]}


async def test_time_is_counted_for_each_segment() -> None:
    """A document may not take its time batch by batch; the next segment of a huge text has its own."""
    limits = sandbox._Limits(seconds=0.5, memory_bytes=1, ocr=False)
    watch = sandbox._Watch(SlowReader(), "a", limits)  # type: ignore[arg-type]
    for segment in range(4):
        await watch.ask({"segment": segment})
    await watch.ask({"segment": 3})
    with pytest.raises(ParseTimeoutError):
        await watch.ask({"segment": 3})


async def test_giving_up_frees_the_place(long_text: Path, page: Path) -> None:
    """A consumer that stops in the middle leaves the place to the next file."""
    async with ParserPool(Settings(), size=1) as pool:
        async with aclosing(pool.cut(long_text, "long.txt", chunking=CHUNKING, tokenizer=WORDS)) as cuts:
            await anext(cuts)
        assert (await read(pool, page, "page.html")).title == "Title"


async def test_what_makes_far_too_many_passages_is_refused_early(tmp_path: Path) -> None:
    """After the first segment, not after all that may be indexed."""
    path = tmp_path / "huge.txt"
    path.write_text("A line about whales and the sea.\n" * 1_100_000)
    async with ParserPool(Settings(max_chunks_per_document=20_000), size=1) as pool:
        cuts = pool.cut(path, "huge.txt", chunking=CHUNKING, tokenizer=WORDS)
        seen = [0]
        with pytest.raises(TooManyChunksError, match=r'^"huge\.txt" makes more than 20,000 passages\. Split it'):
            await counted(cuts, seen)
    assert 0 < seen[0] < 20_000


async def test_every_model_is_taught_once(long_text: Path) -> None:
    """A process knows several tokenizers, each by its own number."""
    other = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    async with ParserPool(Settings(), size=1) as pool:
        words = await read(pool, long_text, "long.txt")
        cuts = [cut async for cut in pool.cut(long_text, "long.txt", chunking=CHUNKING, tokenizer=other)]
        again = await read(pool, long_text, "long.txt")
        assert pool._all[0]._reader is not None
        assert pool._all[0]._reader._models == {0, 1}
    assert words.pieces == again.pieces
    assert sum(len(cut.pieces) for cut in cuts) != len(words.pieces)
