"""Memory of the worker and of the process that reads, over files larger than any buffer."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from bookwheel.client import Client
from bookwheel.sandbox import ParserPool
from bookwheel.settings import Settings
from bookwheel.types import Chunking
from tests.service.conftest import LiveServer, bookwheel_up, process_of

MEBIBYTE = 1 << 20
PROMISED = 700 * MEBIBYTE  # a worker with its model loaded
READER = 300 * MEBIBYTE  # a process that reads a table; a PDF takes more
ROWS = 1_000_000
FILE_BYTES = 40 * MEBIBYTE
FIRST, LAST = "The first line tells of the zebrafish aquarium.", "The last line tells of the volcano observatory."


class Peak:
    """The most resident memory that a process is seen to have while the block runs."""

    def __init__(self, process: psutil.Process) -> None:
        self.process, self.bytes = process, 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self.bytes = max(self.bytes, self.process.memory_info().rss)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def worker_of(server: LiveServer) -> psutil.Process:
    """The worker process of a stack."""
    return process_of(server, "work")


def write_long_text(path: Path, size: int) -> None:
    """Paragraphs that each fill a passage of 1,024 tokens; there are 50 of them, over and over, so few are embedded."""
    paragraphs = [
        "".join(f"Paragraph {number} tells in its sentence {line} of ships and of the sea. " for line in range(52))
        for number in range(50)
    ]
    with path.open("w") as file:
        file.write(f"{FIRST}\n\n")
        while file.tell() < size:
            file.write("\n\n".join(paragraphs) + "\n\n")
        file.write(f"{LAST}\n")


@pytest.fixture
def server(data_dir: Path) -> Iterator[LiveServer]:
    """A stack of its own, whose worker has read nothing yet."""
    with bookwheel_up(data_dir) as server:
        yield server


def test_a_large_text_is_ingested_in_bounded_memory(server: LiveServer, tmp_path: Path) -> None:
    """The worker stays under its promise, and the first line and the last are found."""
    path = tmp_path / "large.txt"
    write_long_text(path, FILE_BYTES)
    sizes = {"type": "structure", "max_chunk_size_tokens": 1024, "chunk_overlap_tokens": 0}
    with Client(server.url) as client:
        store = client.call("POST", "/v1/vector_stores", json={"name": "large", "chunking_strategy": sizes})["id"]
        with Peak(worker_of(server)) as peak:
            began = time.monotonic()
            client.add_file(store, path, external_id="large")
            client.wait(store)
            assert client.wait_for_keywords(seconds=120)
            took = time.monotonic() - began
        (found,) = client.call("GET", f"/v1/vector_stores/{store}/files")["data"]
        assert found["status"] == "completed", found["last_error"]
        for line in (FIRST, LAST):
            assert line in client.search(store, line, limit=1)["data"][0]["content"][0]["text"]
    print(f"{FILE_BYTES / MEBIBYTE:.0f} MiB in {took:.0f} s, worker's peak {peak.bytes / MEBIBYTE:.0f} MiB")
    assert peak.bytes < PROMISED


async def test_a_million_rows_are_cut_in_bounded_memory(tmp_path: Path) -> None:
    """Of a table every row is in some passage, in order; the process that reads it holds a segment at a time."""
    path = tmp_path / "rows.csv"
    with path.open("w") as file:
        file.write("number,ship\n")
        file.writelines(f"{number},ship {number % 97}\n" for number in range(ROWS))
    words = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    seen, chunking = 0, Chunking(max_tokens=1024, overlap_tokens=0)
    async with ParserPool(Settings(), size=1) as pool:
        (reader,) = [child for child in psutil.Process().children() if "bookwheel.parse_process" in child.cmdline()]
        with Peak(reader) as peak:
            async for cut in pool.cut(path, "rows.csv", chunking=chunking, tokenizer=words):
                for row in "\n".join(piece.text for piece in cut.pieces).splitlines():
                    seen += row == f"| {seen} | ship {seen % 97} |"
    assert seen == ROWS
    assert peak.bytes < READER
