"""For authors of backends and of applications: doubles, ports in memory, and one contract test class for each port.

The contract classes live in modules of their own (`bookwheel.testing.stores.StoresContract` and so on) and need pytest
and pytest-asyncio in auto mode; nothing else here does. A backend's test subclasses the contracts of the ports that it
fills and overrides their fixtures:

    class TestMyVectorIndex(VectorIndexContract):
        @pytest.fixture
        def ports(self) -> Ports:
            return replace(memory_ports(), vectors=MyVectorIndex(...))
"""

from dataclasses import replace

from bookwheel.backends.extractive import ExtractiveGenerator
from bookwheel.backends.lexical import LexicalReranker
from bookwheel.backends.memory import MemoryDatabase, memory_backend
from bookwheel.backends.memory.cache import MemoryCache
from bookwheel.backends.memory.limits import MemoryLimiter
from bookwheel.budget import NoBudget
from bookwheel.earlier_questions import SharedEarlierQuestions
from bookwheel.parts import SearchParts
from bookwheel.ports import Caches, Generator, Ports
from bookwheel.testing.doubles import HASH_SPACE, EchoGenerator, HashEmbedder
from bookwheel.types import AnswerPolicy

CACHE_BYTES = 1 << 24
PART_SECONDS = 2.0

__all__ = ["HASH_SPACE", "EchoGenerator", "HashEmbedder", "answered_by", "memory_caches", "memory_ports"]


def memory_caches(policy: AnswerPolicy | None = None) -> Caches:
    """Empty caches of this process alone."""
    cache = MemoryCache(CACHE_BYTES)
    return Caches(
        cache=cache,
        questions=SharedEarlierQuestions(cache),
        policy=policy or AnswerPolicy(),
        settled={},
        asked={},
        pending={},
    )


def answered_by(ports: Ports, generator: Generator) -> Ports:
    """The same ports with this generator alone."""
    return replace(ports, generators={generator.model: generator})


def memory_ports(database: MemoryDatabase | None = None) -> Ports:
    """Ports that need nothing but memory: empty, or over a database that is shared with other ports."""
    return Ports(
        **memory_backend(database or MemoryDatabase()),
        embedders={HASH_SPACE.id: HashEmbedder()},
        space=HASH_SPACE,
        generators={EchoGenerator.model: EchoGenerator()},
        extractive=ExtractiveGenerator(HashEmbedder()),
        reranker=LexicalReranker(HashEmbedder()),
        caches=memory_caches(),
        limiter=MemoryLimiter(),
        budget=NoBudget(),
        parts=SearchParts.within(PART_SECONDS),
    )
