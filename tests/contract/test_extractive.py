"""The extractive generator keeps the contract."""

import pytest

from bookwheel.backends.extractive import ExtractiveGenerator
from bookwheel.testing import HashEmbedder
from bookwheel.testing.generator import GeneratorContract


class TestExtractiveGenerator(GeneratorContract):
    """Best sentences, cited."""

    @pytest.fixture
    def generator(self) -> ExtractiveGenerator:
        """Over the hashing embedder, whose nearness is shared words."""
        return ExtractiveGenerator(HashEmbedder())
