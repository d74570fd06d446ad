"""Ports as `bookwheel up` has them, but for the embedder: PostgreSQL, a keyword index on disk, two levels of cache."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from bookwheel.backends.extractive import ExtractiveGenerator
from bookwheel.backends.memory.cache import MemoryCache
from bookwheel.backends.postgres import migrate
from bookwheel.backends.postgres.cache import PostgresCache
from bookwheel.backends.postgres.ports import open_database, postgres_ports
from bookwheel.backends.tantivy import TantivyIndex
from bookwheel.earlier_questions import SharedEarlierQuestions
from bookwheel.ports import Ports
from bookwheel.testing import HashEmbedder, answered_by, memory_caches, memory_ports
from bookwheel.tiers import TieredCache

CACHE_BYTES = 1 << 24


@asynccontextmanager
async def whole_ports(database_url: str, directory: Path, *, position: int = 0) -> AsyncIterator[Ports]:
    """Over a migrated database and an empty keyword index, which begins behind this position of the outbox."""
    await migrate.migrate(database_url)
    embedder = HashEmbedder()
    space = await migrate.ensure_space(
        database_url, model=embedder.model, revision=embedder.revision, dimensions=embedder.dimensions
    )
    keywords = TantivyIndex(directory / "keywords", writable=True)
    if position:
        await keywords.reset(position)
    async with open_database(database_url, works=False) as database:
        cache = TieredCache(MemoryCache(CACHE_BYTES), PostgresCache(database))
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
