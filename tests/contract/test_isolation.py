"""No answer holds what is foreign or gone, over the memory backend and over PostgreSQL with a keyword index on disk.

BOOKWHEEL_ANSWERS=100000 uv run pytest tests/contract/test_isolation.py asks as often as issue and docs speak of.
"""

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from bookwheel.backends.extractive import ExtractiveGenerator
from bookwheel.backends.memory.cache import MemoryCache
from bookwheel.backends.postgres import migrate
from bookwheel.backends.postgres.cache import PostgresCache
from bookwheel.backends.postgres.ports import open_database, postgres_ports
from bookwheel.backends.tantivy import TantivyIndex
from bookwheel.earlier_questions import SharedEarlierQuestions
from bookwheel.ports import Ports
from bookwheel.testing import HashEmbedder, answered_by, memory_caches, memory_ports
from bookwheel.testing.isolation import IsolationContract
from bookwheel.tiers import TieredCache

ANSWERS = int(os.environ.get("BOOKWHEEL_ANSWERS", "0"))
SEED = int(os.environ.get("BOOKWHEEL_SEED", "1"))


class TestInMemory(IsolationContract):
    """Over ports that cost nothing."""

    answers, seed = ANSWERS or 2_000, SEED

    @pytest.fixture
    def ports(self) -> Ports:
        """Empty ports."""
        ports = memory_ports()
        return answered_by(ports, ports.extractive)


class TestOverPostgres(IsolationContract):
    """The same over PostgreSQL, tantivy and the two levels of cache."""

    answers, seed = ANSWERS or 500, SEED

    @pytest.fixture
    async def ports(self, database_url: str, tmp_path: Path) -> AsyncIterator[Ports]:
        """Ports as `bookwheel up` has them, but for the embedder."""
        await migrate.migrate(database_url)
        embedder = HashEmbedder()
        space = await migrate.ensure_space(
            database_url, model=embedder.model, revision=embedder.revision, dimensions=embedder.dimensions
        )
        keywords = TantivyIndex(tmp_path / "keywords", writable=True)
        async with open_database(database_url, works=False) as database:
            cache = TieredCache(MemoryCache(1 << 24), PostgresCache(database))
            yield answered_by(
                replace(
                    memory_ports(),
                    **postgres_ports(database),
                    embedders={space.id: embedder},
                    space=space,
                    keywords=keywords,
                    caches=replace(memory_caches(), cache=cache, questions=SharedEarlierQuestions(cache)),
                ),
                ExtractiveGenerator(embedder),
            )
        keywords.close()

    @pytest.fixture(autouse=True)
    def _url(self, database_url: str) -> None:
        self.url = database_url

    async def new_tenant(self, ports: Ports) -> UUID:
        """A registered tenant."""
        tenant_id = uuid4()
        await migrate.register_tenant(self.url, tenant_id, tenant_id.hex)
        return tenant_id
