"""The composition root: settings in, ports out. The only importer of backends, each when a URL asks for it."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bookwheel.errors import DatabaseUnavailableError, SettingsError
from bookwheel.settings import Settings

if TYPE_CHECKING:
    from bookwheel.backends.openvino.embedder import OpenVinoEmbedder
    from bookwheel.backends.postgres.embedded import EmbeddedPostgres
    from bookwheel.backends.postgres.jobs import Calls
    from bookwheel.backends.tantivy import TantivyIndex
    from bookwheel.ports import Blobs, Embedder, Generator, Ports, Reranker
    from bookwheel.types import Space

DATABASE_PATIENCE_SECONDS = 30.0
DATABASE_POLL_SECONDS = 0.2
GARBAGE_THRESHOLD = (10_000, 20, 20)  # Python's own 700 looks for cycles some hundred times in each batch of documents


def embedded_database(settings: Settings) -> "EmbeddedPostgres":
    """The server that `up` and `demo` start in the data directory."""
    from bookwheel.backends.postgres.embedded import EmbeddedPostgres

    return EmbeddedPostgres(settings.directory / "postgres")


async def migrate_database(settings: Settings) -> list[str]:
    """Apply pending migrations; returns their names. Raises SettingsError or DatabaseUnavailableError."""
    from bookwheel.backends.postgres.migrate import migrate

    return await migrate(database_url(settings))


def worker_calls(settings: Settings, run: Callable[..., Awaitable[None]]) -> "Calls":
    """What wakes a worker: `run(urgent=...)` is called when documents wait."""
    from bookwheel.backends.postgres.jobs import Calls

    return Calls(database_url(settings), run)


@asynccontextmanager
async def open_ports(settings: Settings, *, writes_keywords: bool) -> "AsyncIterator[Ports]":
    """Everything wired and open, closed again at the end. One process at a time may write the keyword index."""
    from bookwheel.backends.postgres.migrate import ensure_space
    from bookwheel.backends.postgres.ports import open_database, postgres_ports
    from bookwheel.ports import Embedders, Ports

    url = database_url(settings)
    embedder = _embedder(settings, bulk=writes_keywords)
    space = await _patiently(
        lambda: ensure_space(url, model=embedder.model, revision=embedder.revision, dimensions=embedder.dimensions)
    )
    keywords = _keywords(settings, writable=writes_keywords)
    async with open_database(url, works=writes_keywords) as database:
        _settle()
        try:
            yield Ports(
                **postgres_ports(database),
                keywords=keywords,
                blobs=_blobs(settings),
                embedders=Embedders({space.id: embedder}),
                space=space,
                generator=_generator(settings, embedder),
                reranker=_reranker(settings, embedder),
            )
        finally:
            keywords.close()
            embedder.close()


@asynccontextmanager
async def answering_ports(settings: Settings, ports: "Ports") -> "AsyncIterator[Ports]":
    """The same ports for a worker that also answers: over sessions that are set up for searching."""
    from bookwheel.backends.postgres.ports import open_database, postgres_ports

    async with open_database(database_url(settings), works=False) as database:
        yield replace(ports, **postgres_ports(database))


def _settle() -> None:
    """What stands after the start stays: the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLD)


async def _patiently(connect: "Callable[[], Awaitable[Space]]") -> "Space":
    """A database that is just starting, or recovering from a crash, is worth some seconds. Raises
    DatabaseUnavailableError."""
    deadline = time.monotonic() + DATABASE_PATIENCE_SECONDS
    while True:
        try:
            return await connect()
        except DatabaseUnavailableError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(DATABASE_POLL_SECONDS)


def database_url(settings: Settings) -> str:
    """A PostgreSQL URL. Raises SettingsError for the embedded server, which only `up` and `demo` start."""
    if settings.database_url == "embedded:":
        raise SettingsError(
            "BOOKWHEEL_DATABASE_URL is not set. Set it to a PostgreSQL URL, or use `bookwheel up`,"
            " which starts a database of its own."
        )
    if not settings.database_url.startswith(("postgresql://", "postgres://")):
        raise SettingsError(f"BOOKWHEEL_DATABASE_URL has scheme {_scheme(settings.database_url)!r}: use postgresql://.")
    return settings.database_url


def _scheme(url: str) -> str:
    return url.partition(":")[0]


def _embedder(settings: Settings, *, bulk: bool) -> "OpenVinoEmbedder":
    if _scheme(settings.embedder_url) != "openvino":
        raise SettingsError(f"BOOKWHEEL_EMBEDDER_URL has value {settings.embedder_url!r}: use openvino:[DIRECTORY].")
    from bookwheel.backends.openvino.embedder import open_embedder

    directory = settings.embedder_url.removeprefix("openvino:")
    return open_embedder(Path(directory) if directory else None, threads=settings.embed_threads, bulk=bulk)


def _keywords(settings: Settings, *, writable: bool) -> "TantivyIndex":
    if settings.keywords_url != "tantivy:":
        raise SettingsError(f"BOOKWHEEL_KEYWORDS_URL has value {settings.keywords_url!r}: use tantivy:.")
    from bookwheel.backends.tantivy import TantivyIndex

    return TantivyIndex(settings.directory / "keywords", writable=writable)


def _blobs(settings: Settings) -> "Blobs":
    if settings.blobs_url != "directory:":
        raise SettingsError(f"BOOKWHEEL_BLOBS_URL has value {settings.blobs_url!r}: use directory:.")
    from bookwheel.backends.directory import DirectoryBlobs

    return DirectoryBlobs(settings.directory / "blobs")


def _generator(settings: Settings, embedder: "Embedder") -> "Generator":
    if settings.generator_url != "extractive:":
        raise SettingsError(f"BOOKWHEEL_GENERATOR_URL has value {settings.generator_url!r}: use extractive:.")
    from bookwheel.backends.extractive import ExtractiveGenerator

    return ExtractiveGenerator(embedder)


def _reranker(settings: Settings, embedder: "Embedder") -> "Reranker":
    if settings.reranker_url != "lexical:":
        raise SettingsError(f"BOOKWHEEL_RERANKER_URL has value {settings.reranker_url!r}: use lexical:.")
    from bookwheel.backends.lexical import LexicalReranker

    return LexicalReranker(embedder)
