"""Stand-ins for models: deterministic, instant, with no weights."""

import hashlib
import re
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from bookwheel.ports import Vectors
from bookwheel.types import Hit, Prompt, Space

DIMENSIONS = 64
HASH_SPACE = Space(id=1, model="hash", revision="1", dimensions=DIMENSIONS)
ECHOED_HITS = 3
WORD = re.compile(r"\w+")


def a_hit(text: str, *, score: float = 1.0, start: int = 0, title: str | None = None, document: int = 0) -> Hit:
    """A hit with this text at this place of its document."""
    name = str(document)
    return Hit(
        chunk_id=start + document,
        score=score,
        dense=None,
        keyword=None,
        text=text,
        start=start,
        end=start + len(text),
        page=None,
        heading_path=(),
        language="en",
        ordinal=0,
        document_id=UUID(int=document),
        store_id=UUID(int=0),
        file_id=None,
        external_id=name,
        filename=name,
        title=title,
        version=1,
        sha256=bytes(32),
        attributes={},
        access=None,
        created_at=datetime.fromtimestamp(0, UTC),
        updated_at=datetime.fromtimestamp(0, UTC),
    )


class HashEmbedder:
    """Fills ports.Embedder: the sum of one random vector for each word, so texts are as near as they share words."""

    def __init__(self) -> None:
        self.model = HASH_SPACE.model
        self.revision = HASH_SPACE.revision
        self.dimensions = DIMENSIONS
        self.window = 256
        self.tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))  # noqa: S106 - a token of a text
        self.tokenizer.pre_tokenizer = Whitespace()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """See ports.Embedder."""
        return np.stack([_text_vector(text) for text in texts]) if texts else np.zeros((0, DIMENSIONS), np.float32)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """See ports.Embedder."""
        return [len(code.ids) for code in self.tokenizer.encode_batch(list(texts))]

    def coverage(self, text: str) -> float:
        """See ports.Embedder: every word has a hash."""
        return 1.0 if text.strip() else 0.0

    async def ping(self) -> None:
        """See ports.Embedder: it always answers."""


class EchoGenerator:
    """Fills ports.Generator: the first sentences of the best hits, each cited; nothing without hits."""

    model = "echo"
    writes_json = False

    async def ping(self) -> None:
        """See ports.Generator: it always answers."""

    async def generate(self, prompt: Prompt) -> AsyncGenerator[str, None]:
        """See ports.Generator."""
        for number, hit in enumerate(prompt.hits[:ECHOED_HITS], start=1):
            sentence = hit.text.partition(". ")[0].strip().removesuffix(".")
            if sentence:
                yield f"{sentence}. [{number}] "


def _text_vector(text: str) -> NDArray[np.float32]:
    vector = np.zeros(DIMENSIONS, np.float32)
    for word in WORD.findall(text.casefold()):
        vector += _word_vector(word)
    if not vector.any():  # no words, or words that cancel out
        vector[0] = 1.0
    return vector / np.float32(np.linalg.norm(vector))


@lru_cache(maxsize=10_000)
def _word_vector(word: str) -> NDArray[np.float32]:
    bits = np.unpackbits(np.frombuffer(hashlib.blake2b(word.encode(), digest_size=DIMENSIONS // 8).digest(), np.uint8))
    return bits.astype(np.float32) * 2 - 1
