"""A reranker without weights of its own: the embedder's cosine and the share of the query's words, half and half.

It is no cross-encoder and does not read query and text together. What it adds to a search's own order is that a word
counts by its rarity among the texts at hand, and that all texts are judged by the same two measures.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from math import log

from bookwheel.errors import EmbedderUnavailableError, RerankerUnavailableError
from bookwheel.ports import Embedder
from bookwheel.sentences import words

COSINE_WEIGHT = 0.5  # as in fuse.py; less where the model does not know the query's script
STEM = 6  # letters that must agree: enough for founded and founding


class LexicalReranker:
    """Fills the Reranker port. Costs one embedding of each text."""

    model = "bookwheel-lexical"
    reads_as_embedder = False

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    async def rerank(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """See ports.Reranker."""
        if not texts:
            return []
        weight = COSINE_WEIGHT * self._embedder.coverage(query)
        cosines = await self._cosines(query, texts) if weight else [0.0] * len(texts)
        shares = await asyncio.to_thread(overlaps, query, texts)
        return [weight * cosine + (1 - weight) * share for cosine, share in zip(cosines, shares, strict=True)]

    async def _cosines(self, query: str, texts: Sequence[str]) -> list[float]:
        """Those below 0 as 0."""
        try:
            vectors = await self._embedder.embed([query, *texts])
        except EmbedderUnavailableError as error:
            raise RerankerUnavailableError(f"The reranker needs the embedder: {error.message}") from error
        return [min(1.0, max(0.0, float(cosine))) for cosine in vectors[1:] @ vectors[0]]


def overlaps(query: str, texts: Sequence[str]) -> list[float]:
    """The share, 0 to 1, of the query's words in each text; the rarer a word among the texts, the more it counts."""
    wanted = stems(query)
    present = [stems(text) & wanted for text in texts]
    counts = Counter(stem for found in present for stem in found)
    rarity = {stem: log(1 + (len(texts) + 1) / (counts[stem] + 0.5)) for stem in wanted}
    whole = sum(rarity.values()) or 1.0
    return [_sum(found, rarity) / whole for found in present]


def _sum(found: frozenset[str], rarity: Mapping[str, float]) -> float:
    return sum(rarity[stem] for stem in sorted(found))  # in one order: equal texts get equal scores


def stems(text: str) -> frozenset[str]:
    """Enough of each word to find its other forms; numbers stay whole."""
    return frozenset(word if word[0].isdigit() else word.removesuffix("s")[:STEM] or word for word, _, _ in words(text))
