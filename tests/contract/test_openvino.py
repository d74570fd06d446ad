"""The OpenVINO embedder with the bundled model keeps the contract."""

from collections.abc import Iterator

import pytest

from bookwheel.backends.openvino.embedder import OpenVinoEmbedder, open_embedder
from bookwheel.testing.embedder import EmbedderContract


@pytest.fixture(scope="session")
def bundled() -> Iterator[OpenVinoEmbedder]:
    """MiniLM, compiled once for all tests."""
    embedder = open_embedder(None, threads=0)
    yield embedder
    embedder.close()


class TestOpenVinoEmbedder(EmbedderContract):
    """MiniLM on the CPU."""

    @pytest.fixture
    def embedder(self, bundled: OpenVinoEmbedder) -> OpenVinoEmbedder:
        """The shared one: it has no state."""
        return bundled
