"""`bookwheel serve` whose answers are written only as far as a test allows: what a slow language model is like.

The test writes the number of pieces that may be told into the file `allowed` of the folder BOOKWHEEL_TEST_PACE; the
generator writes the number that it has told into `told`, and makes the file `left` when it is ended before its time.
"""

import asyncio
import os
import re
from collections.abc import AsyncGenerator
from pathlib import Path

from bookwheel import app, cli
from bookwheel.types import Prompt

PIECES = 10_000
PAUSE_SECONDS = 0.005


def sentence(number: int) -> str:
    """What is told in one piece: long enough to show that the sentence before it has ended."""
    return f"This is piece number {number} of the answer."


class PacedGenerator:
    """Fills ports.Generator. The first number of the question, if any, is the length of a piece in characters."""

    model = "paced"
    writes_json = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def ping(self) -> None:
        """See ports.Generator: it always answers."""

    async def generate(self, prompt: Prompt) -> AsyncGenerator[str, None]:
        """Sentence by sentence until `allowed` is negative."""
        told, length = 0, int((re.findall(r"\d+", prompt.question) or ["0"])[0])
        (self.folder / "told").write_text("0")
        try:
            while told < PIECES and await self._may_tell(told):
                yield f" {sentence(told)}".ljust(length, ".")
                told += 1
                (self.folder / "told").write_text(str(told))
        except (asyncio.CancelledError, GeneratorExit):
            (self.folder / "left").touch()
            raise

    async def _may_tell(self, number: int) -> bool:
        while (allowed := int((self.folder / "allowed").read_text() or 0)) == number:  # noqa: ASYNC110 - a file tells
            await asyncio.sleep(PAUSE_SECONDS)
        return allowed > number


def main() -> None:
    """The command line with this generator in place of the configured one."""
    folder = Path(os.environ["BOOKWHEEL_TEST_PACE"])
    app._generator = lambda *_: PacedGenerator(folder)
    cli.main()


if __name__ == "__main__":
    main()
