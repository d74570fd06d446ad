"""The contract of ports.Embedder."""

import asyncio

import numpy as np
import pytest

from bookwheel.ports import Embedder

TEXTS = [
    "The whale is the largest animal of the sea.",
    "Interest rates were raised by the central bank.",
    "x",
    "Ein Satz auf Deutsch, mit Umlauten: äöü.",
]
SAME = 0.999  # cosine of one text embedded in different company; half-precision models differ a little


class EmbedderContract:
    """Subclass it for a backend that fills ports.Embedder."""

    @pytest.fixture
    def embedder(self) -> Embedder:
        """The embedder under test."""
        raise NotImplementedError

    async def test_vectors_are_unit_rows(self, embedder: Embedder) -> None:
        """One float32 row of length 1 and of the model's dimensions for each text, whatever the text."""
        texts = [*TEXTS, "", " \n\t", "🐳", "a\0b", "word " * 3 * embedder.window]
        vectors = await embedder.embed(texts)
        assert vectors.shape == (len(texts), embedder.dimensions)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3)

    async def test_no_texts_no_vectors(self, embedder: Embedder) -> None:
        """An empty list gives an empty matrix of the right width."""
        assert (await embedder.embed([])).shape == (0, embedder.dimensions)

    async def test_order_and_company_do_not_matter(self, embedder: Embedder) -> None:
        """A text has its vector alone, among others and in any order."""
        many = await embedder.embed([*TEXTS, "word " * embedder.window])
        backwards = await embedder.embed(TEXTS[::-1])
        for index, text in enumerate(TEXTS):
            alone = (await embedder.embed([text]))[0]
            assert float(alone @ many[index]) > SAME
            assert float(alone @ backwards[len(TEXTS) - 1 - index]) > SAME

    async def test_the_same_call_gives_the_same_vectors(self, embedder: Embedder) -> None:
        """Embedding is deterministic."""
        np.testing.assert_array_equal(await embedder.embed(TEXTS), await embedder.embed(TEXTS))

    async def test_concurrent_calls_do_not_mix(self, embedder: Embedder) -> None:
        """Callers at the same time each get their own vectors."""
        expected = await embedder.embed(TEXTS)
        results = await asyncio.gather(*(embedder.embed([text]) for text in TEXTS * 3))
        for index, vectors in enumerate(results):
            assert float(vectors[0] @ expected[index % len(TEXTS)]) > SAME

    async def test_like_texts_are_near(self, embedder: Embedder) -> None:
        """A question is nearer to its answer than to another text."""
        question, *texts = await embedder.embed(["Which animal of the sea is the largest?", *TEXTS[:2]])
        assert question @ texts[0] > question @ texts[1] + 0.1

    async def test_the_tail_of_a_long_text_matters(self, embedder: Embedder) -> None:
        """A text longer than the window is not cut off: what stands at its end changes the vector."""
        body = "The ship sails on. " * embedder.window
        vectors = await embedder.embed([body + end for end in ("", TEXTS[0] * 20, TEXTS[1] * 20)])
        assert np.abs(vectors[0] - vectors[1]).max() > 0.01
        assert np.abs(vectors[1] - vectors[2]).max() > 0.01

    def test_tokens_are_counted(self, embedder: Embedder) -> None:
        """Counts come in order, without special tokens, and are not cut at the window."""
        words = 3 * embedder.window
        counts = embedder.token_counts(["", "whale", "whale " * words])
        assert counts[0] == 0
        assert counts[1] >= 1
        assert counts[2] >= words
        assert embedder.token_counts([]) == []

    def test_tokenizer_counts_the_same(self, embedder: Embedder) -> None:
        """The tokenizer that cuts documents neither truncates nor pads."""
        texts = ["whale", "whale " * 2 * embedder.window]
        counts = [len(embedder.tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]
        assert counts == embedder.token_counts(texts)

    @pytest.mark.parametrize("text", ["", "whale", "白鯨", "🐳", "a mixed 文"])
    def test_coverage_is_a_share(self, embedder: Embedder, text: str) -> None:
        """Coverage is between 0 and 1, and plain English is known."""
        assert 0.0 <= embedder.coverage(text) <= 1.0
        assert embedder.coverage(TEXTS[0]) > 0.9

    def test_space_is_named(self, embedder: Embedder) -> None:
        """Model and revision name the embedding space; the window leaves room for text."""
        assert embedder.model
        assert embedder.revision
        assert embedder.window > 2

    async def test_ping_answers(self, embedder: Embedder) -> None:
        """A working embedder answers."""
        await embedder.ping()
