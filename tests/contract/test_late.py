"""The late-interaction reranker keeps the contract, over the bundled model's token vectors."""

from collections.abc import Iterator

import numpy as np
import pytest

from bookwheel.backends.openvino.embedder import open_embedder
from bookwheel.backends.openvino.late import LateReranker, highest_cosines, open_late_reranker, scores_of
from bookwheel.errors import RerankerUnavailableError, SettingsError
from bookwheel.settings import Settings
from bookwheel.testing.reranker import QUERY, RIGHT, WRONG, RerankerContract

CLOSE = 0.01  # of a cosine; half-precision models differ a little from batch to batch


@pytest.fixture(scope="module")
def late() -> Iterator[LateReranker]:
    """MiniLM, compiled once."""
    made = open_late_reranker("late:", Settings(embed_threads=1))
    yield made
    made.close()


class TestLateReranker(RerankerContract):
    """MaxSim over MiniLM."""

    @pytest.fixture
    def reranker(self, late: LateReranker) -> LateReranker:
        """The shared one: it has no state."""
        return late


async def test_token_vectors_are_those_that_the_embedder_pools(late: LateReranker) -> None:
    """Of a text without punctuation the mean of its vectors points where the embedder's does, but for the special
    tokens and for lengths, which are one here."""
    text = "the blue whale is the largest animal of the sea"
    embedder = open_embedder(None, threads=1)
    (pooled,) = await embedder.embed([text])
    embedder.close()
    (vectors,) = await late.token_vectors([text])
    assert len(vectors) == 10
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    mean = vectors.mean(axis=0)
    assert float(mean @ pooled) / float(np.linalg.norm(mean)) > 0.97


async def test_special_tokens_and_punctuation_have_no_vector(late: LateReranker) -> None:
    """They are near to everything and say nothing."""
    texts = ["", " ...!? (–)", "whale", "whale, [SEP] sea!"]
    assert [len(rows) for rows in await late.token_vectors(texts)] == [0, 0, 1, 2]


async def test_a_long_text_has_all_its_tokens(late: LateReranker) -> None:
    """Behind the window another begins; what stands in any of them is found."""
    (vectors,) = await late.token_vectors(["whale " * 600 + "windmill"])
    assert len(vectors) > 600
    other = "The ship sails on. " * 200
    last, first, never = await late.rerank("windmill millstone", [other + WRONG, WRONG + other, other])
    assert min(last, first) > never + 0.2


async def test_scores_are_those_of_the_formula(late: LateReranker) -> None:
    """MaxSim from the public token vectors, whatever the batches; the best text for a token weighs it."""
    texts = [RIGHT, WRONG, "", RIGHT * 30, "whale"] * 5
    (query,) = await late.token_vectors([QUERY])
    expected = scores_of(np.array([highest_cosines(query, rows) for rows in await late.token_vectors(texts)]))
    np.testing.assert_allclose(await late.rerank(QUERY, texts), expected, atol=CLOSE)


def test_a_token_that_all_texts_have_counts_little() -> None:
    """The second text has the token that the others lack, the first only what all have."""
    first, second = scores_of(np.array([[1.0, 0.2], [0.9, 0.8]], np.float32))
    assert second > first + 0.4
    assert scores_of(np.array([[0.5, 0.7]], np.float32)) == pytest.approx([0.6])
    assert scores_of(np.array([[-0.5, -0.7], [-0.1, -0.2]], np.float32)) == [0.0, 0.0]
    assert scores_of(np.zeros((2, 0), np.float32)) == [0.0, 0.0]


async def test_a_query_without_words_scores_nothing(late: LateReranker) -> None:
    """All texts answer it equally well."""
    assert list(await late.rerank("?!", [RIGHT, WRONG])) == [0.0, 0.0]


async def test_failures_are_an_unavailable_reranker() -> None:
    """Also after it was closed."""
    closed = open_late_reranker("late:", Settings(embed_threads=1))
    closed.close()
    with pytest.raises(RerankerUnavailableError, match="local reranker failed"):
        await closed.rerank("a", ["a"])


def test_it_needs_a_local_embedder() -> None:
    """The error names both settings."""
    with pytest.raises(SettingsError, match=r"BOOKWHEEL_RERANKER_URL.*BOOKWHEEL_EMBEDDER_URL"):
        open_late_reranker("late:", Settings(embedder_url="openai:https://host/v1?model=m"))
    with pytest.raises(SettingsError, match="late:more"):
        open_late_reranker("late:more", Settings())
