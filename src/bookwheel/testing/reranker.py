"""The contract of ports.Reranker."""

import math

import pytest

from bookwheel.ports import Reranker

QUERY = "Which animal of the sea is the largest?"
RIGHT = "The blue whale is the largest animal of the sea. It eats krill."
WRONG = "A windmill turns the power of the wind into the turning of a millstone."


class RerankerContract:
    """Subclass it for a backend that fills ports.Reranker."""

    @pytest.fixture
    def reranker(self) -> Reranker:
        """The reranker under test."""
        raise NotImplementedError

    async def test_each_text_gets_a_score_in_order(self, reranker: Reranker) -> None:
        """What speaks of the query scores higher, wherever it stands."""
        first, second = await reranker.rerank(QUERY, [RIGHT, WRONG])
        assert first > second
        first, second = await reranker.rerank(QUERY, [WRONG, RIGHT])
        assert second > first

    async def test_scores_are_from_0_to_1(self, reranker: Reranker) -> None:
        """Whatever the texts are: empty, long, in another script."""
        texts = [RIGHT, WRONG, "", " \n", "鯨は最大の動物です。", RIGHT * 200, QUERY]
        scores = await reranker.rerank(QUERY, texts)
        assert len(scores) == len(texts)
        assert all(math.isfinite(score) and 0 <= score <= 1 for score in scores)

    async def test_equal_texts_get_equal_scores(self, reranker: Reranker) -> None:
        """The place in the list is no reason."""
        scores = await reranker.rerank(QUERY, [RIGHT, WRONG, RIGHT])
        assert scores[0] == pytest.approx(scores[2], abs=1e-3)

    async def test_no_texts_no_scores(self, reranker: Reranker) -> None:
        """An empty list is answered with one."""
        assert list(await reranker.rerank(QUERY, [])) == []

    def test_model_is_named(self, reranker: Reranker) -> None:
        """Callers choose it by this name."""
        assert reranker.model
