"""For authors of backends and of applications: doubles, ports in memory, and one contract test class for each port.

The contract classes live in modules of their own (`bookwheel.testing.stores.StoresContract` and so on) and need pytest
and pytest-asyncio in auto mode; nothing else here does. A backend's test subclasses the contracts of the ports that it
fills and overrides their fixtures:

    class TestMyVectorIndex(VectorIndexContract):
        @pytest.fixture
        def ports(self) -> Ports:
            return replace(memory_ports(), vectors=MyVectorIndex(...))
"""

from bookwheel.backends.lexical import LexicalReranker
from bookwheel.backends.memory import MemoryDatabase, memory_backend
from bookwheel.ports import Ports
from bookwheel.testing.doubles import HASH_SPACE, EchoGenerator, HashEmbedder

__all__ = ["HASH_SPACE", "EchoGenerator", "HashEmbedder", "memory_ports"]


def memory_ports(database: MemoryDatabase | None = None) -> Ports:
    """Ports that need nothing but memory: empty, or over a database that is shared with other ports."""
    return Ports(
        **memory_backend(database or MemoryDatabase()),
        embedders={HASH_SPACE.id: HashEmbedder()},
        space=HASH_SPACE,
        generator=EchoGenerator(),
        reranker=LexicalReranker(HashEmbedder()),
    )
