"""The process that reads and cuts documents for sandbox.py: one job at a time in on stdin, its pieces out on stdout.

After a job comes a batch of pieces, and the next one whenever the parent asks for it, so nothing is cut ahead of what
the parent can take. A message is eight bytes of length, big-endian, then JSON. JSON and not pickle: the parent must not
run what a hostile file may have made of this process.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from tokenizers import Tokenizer

from bookwheel.chunk import GROUPS, Cutter, batches
from bookwheel.confine import confine
from bookwheel.errors import ParseMemoryError, UnprocessableFileError
from bookwheel.media_types import refusal, too_many_chunks
from bookwheel.parse import parse_segments
from bookwheel.types import Chunking, ParsedText, Piece, Section

LENGTH_BYTES = 8
NICENESS = 5  # answering questions comes first
OOM_SCORE = 500  # of 1,000: the kernel takes this process before any other of ours
MAX_WRITTEN_BYTES = 256 << 20  # no file that it writes may be larger
MAX_OPEN_FILES = 256
PR_SET_PDEATHSIG = 1
SURELY = 4  # times too many passages, by an estimate: a character may have four bytes


def main() -> None:
    """Serve jobs until stdin ends. Arguments: the address space in bytes, and 1 when Tesseract may be used.

    It starts in an empty folder, the only place where it writes."""
    address_space, ocr = int(sys.argv[1]), sys.argv[2] == "1"
    _restrain(address_space)
    missing = confine(Path.cwd())
    _Server(sys.stdin.buffer, _private_stdout(), ocr=ocr, missing=missing).serve()


class _Server:
    """The pipes to the parent, and the tokenizers that it has sent."""

    def __init__(self, jobs: BinaryIO, answers: BinaryIO, *, ocr: bool, missing: Sequence[str]) -> None:
        self._jobs, self._answers, self._ocr, self._missing = jobs, answers, ocr, missing
        self._tokenizers: dict[int, Tokenizer] = {}

    def serve(self) -> None:
        """Answer until the parent goes."""
        self._send({"ready": True, "missing": self._missing})
        while (message := self._receive()) is not None:
            if "tokenizer" in message:
                self._tokenizers[message["model"]] = Tokenizer.from_str(message["tokenizer"])
            elif "filename" in message:
                self._answer(message)

    def _answer(self, job: dict[str, Any]) -> None:
        """All batches of one job, each when it is asked for; the end or the error last."""
        try:
            for batch in self._batches(job):
                self._send(batch)
                if self._receive() is None:
                    return
            last: dict[str, Any] = {"end": True}
        except UnprocessableFileError as error:
            last = {"error": error.code, "message": error.message}
        except MemoryError:
            reason = "needed too much memory to read. Split it, or raise BOOKWHEEL_PARSE_MEMORY_BYTES"
            last = {
                "error": ParseMemoryError.code,
                "message": refusal(ParseMemoryError, job["filename"], reason).message,
            }
        self._send(last)

    def _batches(self, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        chunking = Chunking(**job["chunking"])
        cutter = Cutter(chunking=chunking, tokenizer=self._tokenizers[job["model"]], title=job["title"])
        made = 0
        for number, parsed in enumerate(_texts(job, ocr=self._ocr)):
            if number == 1:
                _check_count(made, parsed.base, job)
            head = {"segment": number, "media_type": parsed.media_type, "title": parsed.title}
            head["warnings"] = parsed.warnings
            empty = True
            for batch in batches(cutter.pieces(parsed)):
                empty, made = False, made + len(batch)
                yield {**head, **as_json(batch)}
            if empty:
                yield {**head, **as_json([])}

    def _receive(self) -> dict[str, Any] | None:
        """The next message; None when the parent is gone."""
        header = self._jobs.read(LENGTH_BYTES)
        if len(header) < LENGTH_BYTES:
            return None
        message: dict[str, Any] = orjson.loads(self._jobs.read(int.from_bytes(header, "big")))
        return message

    def _send(self, message: dict[str, Any]) -> None:
        body = orjson.dumps(message)
        self._answers.write(len(body).to_bytes(LENGTH_BYTES, "big") + body)
        self._answers.flush()


def _check_count(pieces: int, characters: int, job: dict[str, Any]) -> None:
    """Refuse early what would be far too much, judged by its first segment, instead of embedding most of it.

    Raises TooManyChunksError.
    """
    per_chunk = GROUPS if job["chunking"]["strategy"] == "semantic" else 1
    chunks = pieces // per_chunk * Path(os.fsdecode(bytes.fromhex(job["path"]))).stat().st_size // max(characters, 1)
    if chunks > SURELY * job["max_chunks"]:
        raise too_many_chunks(job["filename"], job["max_chunks"])


def _texts(job: dict[str, Any], *, ocr: bool) -> Iterator[ParsedText]:
    """What the job wants cut: a text that it brings, or the segments of a file."""
    if "text" in job:
        return iter([ParsedText(text=job["text"], media_type="text/plain", format="plain", title=job["title"])])
    return parse_segments(Path(os.fsdecode(bytes.fromhex(job["path"]))), job["filename"], ocr=ocr)


def _restrain(address_space: int) -> None:
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_WRITTEN_BYTES, MAX_WRITTEN_BYTES))
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError):  # some containers forbid it
            Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))


def _private_stdout() -> BinaryIO:
    """The pipe to the parent; whatever libraries print goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return answers


def as_json(pieces: Sequence[Piece]) -> dict[str, Any]:
    """Pieces and their sections as they are sent; `pieces_of` reads them."""
    sections = {piece.section.ordinal: piece.section for piece in pieces if piece.section}
    return {
        "sections": [(one.ordinal, one.start, one.end, one.text) for one in sections.values()],
        "pieces": [
            (
                *(piece.text, piece.start, piece.end, piece.page, piece.heading_path, piece.language),
                piece.embed_text.removesuffix(piece.text),
                piece.section.ordinal if piece.section else None,
            )
            for piece in pieces
        ],
    }


def pieces_of(message: Mapping[str, Any]) -> list[Piece]:
    """What `as_json` was given."""
    sections = {
        ordinal: Section(ordinal=ordinal, start=start, end=end, text=text)
        for ordinal, start, end, text in message["sections"]
    }
    return [
        Piece(
            text=text,
            start=start,
            end=end,
            page=page,
            heading_path=tuple(path),
            language=language,
            embed_text=context + text,
            section=None if section is None else sections[section],
        )
        for text, start, end, page, path, language, context, section in message["pieces"]
    ]


if __name__ == "__main__":
    main()
