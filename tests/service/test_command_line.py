"""The commands as a user types them."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

from bookwheel.client import Client
from tests.service.conftest import LiveServer

OK, FAILED, MISUSED = 0, 1, 2


def bookwheel(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "bookwheel.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "200", **environment},
    )


def test_demo_answers_with_a_citation_and_leaves_nothing(tmp_path: Path) -> None:
    """The main job: documents in, a cited answer out, no process left behind."""
    note = tmp_path / "note.md"
    note.write_text("# Harbour\n\nThe harbour of Tarn was opened in 1931 by the fisherman Aldo Brisk.\n")
    before = {process.pid for process in psutil.process_iter()}
    done = bookwheel("demo", "--path", str(note), "--question", "Who opened the harbour of Tarn?")
    assert done.returncode == OK, done.stderr
    assert "Aldo Brisk" in done.stdout
    assert "[1]" in done.stdout
    assert "note.md" in done.stdout
    assert "seconds" in done.stdout
    left = [
        p for p in psutil.process_iter(["cmdline"]) if p.pid not in before and "bookwheel" in str(p.info["cmdline"])
    ]
    assert left == []


def test_demo_without_a_path_answers_from_the_documentation() -> None:
    """A newcomer's first look: the answer comes from a page of ours, not from a picture's source."""
    done = bookwheel("demo")
    assert done.returncode == OK, done.stderr
    assert "checked against the live catalog" in " ".join(done.stdout.split())
    assert ".md" in done.stdout
    assert ".svg" not in done.stdout


def test_a_second_up_says_who_holds_the_directory(live_server: LiveServer) -> None:
    """One clear line with the holder, no traceback."""
    done = bookwheel("up", "--data-dir", str(live_server.data_dir), "--port", "0")
    assert done.returncode == MISUSED
    assert f"process {live_server.process.pid}" in done.stderr
    assert live_server.url in done.stderr
    assert "Traceback" not in done.stderr


def test_add_ask_search_status_rm(live_server: LiveServer, tmp_path: Path) -> None:
    """A document's life on the command line, against the server that runs."""
    where = ("--data-dir", str(live_server.data_dir))
    page = tmp_path / "kites.md"
    page.write_text("# Kites\n\nThe tallest kite festival is held in Weifang every April.\n")
    added = bookwheel("add", str(tmp_path), *where)
    assert added.returncode == OK, added.stdout + added.stderr
    assert "Weifang" in bookwheel("ask", "Where is the kite festival held?", *where).stdout
    assert "kites.md" in bookwheel("search", "kite festival", *where).stdout
    assert "default" in bookwheel("status", *where).stdout
    assert bookwheel("rm", str(page), *where).returncode == OK
    assert "Weifang" not in bookwheel("search", "kite festival", *where).stdout
    assert bookwheel("rm", str(page), *where).returncode == FAILED


def test_a_store_is_made_with_a_chunking_strategy(live_server: LiveServer, tmp_path: Path) -> None:
    """A small chunk is found and its section shown, once; a store that is there keeps its strategy."""
    handbook = tmp_path / "handbook.md"
    paragraphs = [f"Chapter {number} of the lighthouse handbook says how lamp {number} is lit." for number in range(30)]
    handbook.write_text("# Lamps\n\n" + "\n\n".join(paragraphs) + "\n\n# Stairs\n\nThe stairs are steep.\n")
    arguments = ("--data-dir", str(live_server.data_dir), "--store", "sections")
    added = bookwheel("add", str(handbook), *arguments, "--chunking", "parent_child")
    assert added.returncode == OK, added.stderr
    with Client(live_server.url) as client:
        found = client.search(client.store("sections"), "How is lamp 7 lit?")["data"]
    assert [hit["content"][0]["text"].splitlines()[0] for hit in found] == ["# Lamps", "# Stairs"]
    assert all(paragraph in found[0]["content"][0]["text"] for paragraph in paragraphs)
    refused = bookwheel("add", str(handbook), *arguments, "--chunking", "fixed")
    assert refused.returncode == MISUSED
    assert "exists and is cut by 'parent_child'" in " ".join(refused.stderr.split())


def test_bad_settings_are_named() -> None:
    """The setting, its value and the reason, in one line."""
    done = bookwheel("status", BOOKWHEEL_PORT="eighty")
    assert done.returncode == MISUSED
    assert "BOOKWHEEL_PORT" in done.stderr
    assert "eighty" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_says_what_answers(live_server: LiveServer) -> None:
    """Every part of a healthy server is listed as good."""
    done = bookwheel("check", "--data-dir", str(live_server.data_dir))
    assert done.returncode == OK, done.stdout
    for part in ("catalog", "vectors", "keywords", "blobs", "embedder"):
        assert f"✓ {part}" in done.stdout


def test_serve_needs_a_database() -> None:
    """`serve` alone says what to set."""
    done = bookwheel("serve", "--port", "0")
    assert done.returncode == MISUSED
    assert "BOOKWHEEL_DATABASE_URL" in done.stderr
