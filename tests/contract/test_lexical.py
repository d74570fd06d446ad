"""The lexical reranker keeps the contract."""

import pytest

from bookwheel.backends.lexical import LexicalReranker, overlaps
from bookwheel.errors import EmbedderUnavailableError, RerankerUnavailableError
from bookwheel.ports import Vectors
from bookwheel.testing import HashEmbedder
from bookwheel.testing.reranker import RerankerContract


class TestLexicalReranker(RerankerContract):
    """Words and cosines."""

    @pytest.fixture
    def reranker(self) -> LexicalReranker:
        """Over the hashing embedder, whose nearness is shared words."""
        return LexicalReranker(HashEmbedder())

    def test_rare_words_count_more(self) -> None:
        """A word that every text has says little."""
        both, common, rare = overlaps("whale migration", ["whale migration", "whale", "migration"])
        assert both == 1.0
        assert overlaps("whale migration", ["whale", "whale", "migration"])[2] > 0.5
        assert common == pytest.approx(rare)

    async def test_without_the_embedder(self) -> None:
        """The error names the reranker and says what it needs."""

        class Away(HashEmbedder):
            async def embed(self, texts: object) -> Vectors:
                raise EmbedderUnavailableError

        with pytest.raises(RerankerUnavailableError, match="embedder"):
            await LexicalReranker(Away()).rerank("a", ["a"])
