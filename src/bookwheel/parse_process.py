"""The process that reads files for sandbox.py: a job in on stdin, a text or an error out on stdout, one at a time.

A message is eight bytes of length, big-endian, then JSON. JSON and not pickle: the parent must not run what a hostile
file may have made of this process.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from bookwheel.errors import ParseMemoryError, UnprocessableFileError
from bookwheel.media_types import refusal
from bookwheel.parse import parse
from bookwheel.types import ParsedText

LENGTH_BYTES = 8
NICENESS = 5  # answering questions comes first
OOM_SCORE = 500  # of 1,000: the kernel takes this process before any other of ours
MAX_WRITTEN_BYTES = 256 << 20  # no file that it writes may be larger
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve jobs until stdin ends. Arguments: the address space in bytes, and 1 when Tesseract may be used."""
    address_space, ocr = int(sys.argv[1]), sys.argv[2] == "1"
    _restrain(address_space)
    jobs, answers = sys.stdin.buffer, _private_stdout()
    _send(answers, {"ready": True})
    while (header := jobs.read(LENGTH_BYTES)) and len(header) == LENGTH_BYTES:
        job = orjson.loads(jobs.read(int.from_bytes(header, "big")))
        _send(answers, _answer(Path(os.fsdecode(bytes.fromhex(job["path"]))), job["filename"], ocr=ocr))


def _restrain(address_space: int) -> None:
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_WRITTEN_BYTES, MAX_WRITTEN_BYTES))
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
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


def _send(answers: BinaryIO, message: dict[str, Any]) -> None:
    body = orjson.dumps(message)
    answers.write(len(body).to_bytes(LENGTH_BYTES, "big") + body)
    answers.flush()


def _answer(path: Path, filename: str, *, ocr: bool) -> dict[str, Any]:
    try:
        return {"text": _as_dict(parse(path, filename, ocr=ocr))}
    except UnprocessableFileError as error:
        return {"error": error.code, "message": error.message}
    except MemoryError:
        reason = "needed too much memory to read. Split it, or raise BOOKWHEEL_PARSE_MEMORY_BYTES"
        return {"error": ParseMemoryError.code, "message": refusal(ParseMemoryError, filename, reason).message}


def _as_dict(parsed: ParsedText) -> dict[str, Any]:
    return {
        "text": parsed.text,
        "media_type": parsed.media_type,
        "format": parsed.format,
        "title": parsed.title,
        "pages": [(page.number, page.start, page.end) for page in parsed.pages],
        "warnings": parsed.warnings,
    }


if __name__ == "__main__":
    main()
