"""What reads and writes text."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bookwheel.errors import EmbedderUnavailableError
from bookwheel.types import Prompt

Vectors = NDArray[np.float32]  # (count, dimensions), rows of length 1


class Embedder(Protocol):
    """Texts to vectors of one embedding space."""

    model: str
    revision: str
    dimensions: int
    window: int  #: tokens the model reads at once, special tokens included
    tokenizer: Tokenizer  #: what chunk sizes are counted with; neither truncates nor pads

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit vector for each text, in order; a text longer than the window is pooled over windows."""

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text without special tokens."""

    def coverage(self, text: str) -> float:
        """The share of the text, 0 to 1, that the model's vocabulary knows."""

    async def ping(self) -> None:
        """Raises EmbedderUnavailableError when it cannot answer."""


class Embedders(dict[int, Embedder]):
    """Those that are configured, by embedding space: the model of any other space is unavailable."""

    def __missing__(self, space_id: int) -> Embedder:
        raise EmbedderUnavailableError(
            "The store was made with another embedding model than the one that is configured. Set"
            " BOOKWHEEL_EMBEDDER_URL back to it, or make a new store."
        )


class LengthReachedError(Exception):
    """The model stopped at a limit of length: what it wrote is the beginning of an answer."""


class Generator(Protocol):
    """Writes the answer to a question from hits."""

    model: str
    writes_json: bool  #: can follow a JSON schema; others are not given one

    def generate(self, prompt: Prompt) -> AsyncGenerator[str, None]:
        """The answer as a stream of text with [n] after each sentence, n counting the hits from 1. An empty stream
        means that the hits do not support an answer. Raises GeneratorUnavailableError, also in the midst of the
        stream, OverloadedError before it, and LengthReachedError at its end."""
        ...

    async def ping(self) -> None:
        """Raises GeneratorUnavailableError when it cannot answer. Cheap: no text is written."""


class Reranker(Protocol):
    """Judges how well texts answer a query, more closely than a search can."""

    model: str
    reads_as_embedder: bool  #: with the embedder's own model, so its word counts only as far as that knows the language

    async def rerank(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """A score from 0 to 1 for each text, in order; higher is better. Scores of different queries do not compare.
        Raises RerankerUnavailableError."""
