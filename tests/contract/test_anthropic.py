"""A server of Anthropic's API keeps the contract, over the wire."""

from collections.abc import AsyncIterator

import pytest

from bookwheel.backends.anthropic import AnthropicGenerator, open_generator
from bookwheel.settings import Settings
from bookwheel.testing import HashEmbedder
from bookwheel.testing.generator import GeneratorContract
from tests.scripted_upstream import scripted_upstream


class TestAnthropicGenerator(GeneratorContract):
    """Messages."""

    @pytest.fixture
    async def generator(self) -> AsyncIterator[AnthropicGenerator]:
        """Over a well-behaved server."""
        with scripted_upstream() as upstream:
            url = f"anthropic:{upstream.url}?model=scripted"
            generator = open_generator(url, Settings(), count=HashEmbedder().token_counts)
            yield generator
            await generator.close()
