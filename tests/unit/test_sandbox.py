"""The pool of reading processes: limits, crashes, and what a process may know."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from bookwheel import sandbox
from bookwheel.errors import BrokenFileError, ParseMemoryError, ParseTimeoutError, UnsupportedFileError
from bookwheel.parse import parse
from bookwheel.sandbox import ParserPool
from bookwheel.settings import Settings

ROWS = 1_200_000  # of a CSV that takes seconds and a gigabyte


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that keeps a reader busy and hungry."""
    path = tmp_path_factory.mktemp("heavy") / "heavy.csv"
    path.write_text("a,b,c,d,e,f\n" + "1,2,3,4,5,6\n" * ROWS)
    return path


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A small file that only a reading process may read."""
    path = tmp_path / "page.html"
    path.write_text("<h1>Title</h1><p>Grüße &amp; words</p>")
    return path


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
        assert await pool.parse(page, "ü page.html") == parse(page, "ü page.html", ocr=False)


async def test_errors_keep_their_kind_and_line_and_the_process_lives_on(page: Path, tmp_path: Path) -> None:
    """A refused file costs no process."""
    (tmp_path / "a.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    async with ParserPool(Settings(), size=1) as pool:
        before = reader_pid(pool)
        with pytest.raises(UnsupportedFileError, match=r'^"a\.zip" is an archive'):
            await pool.parse(tmp_path / "a.zip", "a.zip")
        await pool.parse(page, "page.html")
        assert reader_pid(pool) == before


async def test_a_slow_file_is_stopped_and_the_next_one_is_read(heavy: Path, page: Path) -> None:
    """Time is limited, and the pool goes on with a new process."""
    async with ParserPool(Settings(parse_timeout_seconds=0.2), size=1) as pool:
        before = reader_pid(pool)
        with pytest.raises(ParseTimeoutError, match=r'^"heavy\.csv" took longer than 0\.2 s'):
            await pool.parse(heavy, "heavy.csv")
        assert not psutil.pid_exists(before)
        assert (await pool.parse(page, "page.html")).title == "Title"


async def test_a_hungry_file_is_stopped_and_the_next_one_is_read(heavy: Path, page: Path) -> None:
    """Memory is limited, and the pool goes on with a new process."""
    async with ParserPool(Settings(parse_memory_bytes=256 << 20), size=1) as pool:
        with pytest.raises(ParseMemoryError, match=r'^"heavy\.csv" needed more than 256 MiB'):
            await pool.parse(heavy, "heavy.csv")
        assert (await pool.parse(page, "page.html")).title == "Title"


async def test_a_crash_costs_only_its_own_job(heavy: Path, page: Path) -> None:
    """A reader that dies of a signal is the file's failure; the other jobs are read."""
    async with ParserPool(Settings(), size=2) as pool:
        victim = reader_pid(pool)
        crash = asyncio.create_task(pool.parse(heavy, "heavy.csv"))
        await until(lambda: psutil.Process(victim).cpu_times().user > 0.3)
        other = asyncio.create_task(pool.parse(page, "page.html"))
        os.kill(victim, signal.SIGSEGV)
        with pytest.raises(BrokenFileError, match=r'^"heavy\.csv" is damaged'):
            await crash
        assert (await other).title == "Title"
        assert (await pool.parse(page, "page.html")).title == "Title"


async def test_a_process_that_died_while_idle_is_replaced(page: Path) -> None:
    """The kernel may take an idle process; the next file does not notice."""
    async with ParserPool(Settings(), size=1) as pool:
        os.kill(reader_pid(pool), signal.SIGKILL)
        await until(lambda: not pool._all[0]._reader or not pool._all[0]._reader.alive)
        assert (await pool.parse(page, "page.html")).title == "Title"


async def test_a_cancelled_job_leaves_no_stale_answer(heavy: Path, page: Path) -> None:
    """The next job gets its own answer, not that of the one that was given up."""
    async with ParserPool(Settings(), size=1) as pool:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await pool.parse(heavy, "heavy.csv")
        assert (await pool.parse(page, "page.html")).title == "Title"


async def test_processes_are_replaced_after_many_files(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a library leaks goes with the process."""
    monkeypatch.setattr(sandbox, "RECYCLE_FILES", 2)
    async with ParserPool(Settings(), size=1) as pool:
        first = reader_pid(pool)
        for _ in range(3):
            await pool.parse(page, "page.html")
        assert reader_pid(pool) != first


async def test_more_files_than_processes_all_come_out(page: Path) -> None:
    """Jobs wait for a free process."""
    async with ParserPool(Settings(), size=2) as pool:
        texts = await asyncio.gather(*(pool.parse(page, f"{i}.html") for i in range(12)))
    assert len({text.text for text in texts}) == 1


async def test_a_process_is_nice_leaves_no_core_and_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hostile files meet a process with little to gain."""
    monkeypatch.setenv("BOOKWHEEL_DATABASE_URL", "postgresql://u:secret@h/d")
    async with ParserPool(Settings(), size=1) as pool:
        process = psutil.Process(reader_pid(pool))
        assert process.nice() >= os.nice(0) + 5 or process.nice() == 19
        assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert "secret" not in str(process.environ())


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
