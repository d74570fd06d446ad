"""The composition root: settings in, ports out. The only importer of backends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bookwheel.backends.directory import DirectoryBlobs
from bookwheel.backends.extractive import ExtractiveGenerator
from bookwheel.backends.openvino import open_embedder
from bookwheel.backends.postgres import migrate
from bookwheel.backends.postgres.database import Database
from bookwheel.backends.postgres.documents import PostgresDocuments
from bookwheel.backends.postgres.embedded import EmbeddedPostgres
from bookwheel.backends.postgres.files import PostgresFiles
from bookwheel.backends.postgres.ingestion import PostgresIngestion
from bookwheel.backends.postgres.jobs import PostgresJobs, job_app
from bookwheel.backends.postgres.outbox import PostgresOutbox
from bookwheel.backends.postgres.passages import PostgresPassages
from bookwheel.backends.postgres.stores import PostgresStores
from bookwheel.backends.postgres.vectors import PgVectorIndex
from bookwheel.backends.tantivy import TantivyIndex
from bookwheel.errors import SettingsError
from bookwheel.ports import Blobs, Embedder, Generator, KeywordIndex, Ports
from bookwheel.settings import Settings

__all__ = ["embedded_database", "job_app", "migrate_database", "open_ports"]


def embedded_database(settings: Settings) -> EmbeddedPostgres:
    """The server that `up` and `demo` start in the data directory."""
    return EmbeddedPostgres(settings.directory / "postgres")


async def migrate_database(settings: Settings) -> list[str]:
    """Apply pending migrations; returns their names. Raises SettingsError or DatabaseUnavailableError."""
    return await migrate.migrate(database_url(settings))


@asynccontextmanager
async def open_ports(settings: Settings, *, writes_keywords: bool) -> AsyncIterator[Ports]:
    """Everything wired and open, closed again at the end. One process at a time may write the keyword index."""
    url = database_url(settings)
    embedder = _embedder(settings)
    space = await migrate.ensure_space(
        url, model=embedder.model, revision=embedder.revision, dimensions=embedder.dimensions
    )
    database = Database(url)
    await database.open()
    try:
        yield Ports(
            stores=PostgresStores(database),
            files=PostgresFiles(database),
            documents=PostgresDocuments(database),
            ingestion=PostgresIngestion(database),
            passages=PostgresPassages(database),
            outbox=PostgresOutbox(database),
            jobs=PostgresJobs(database),
            vectors=PgVectorIndex(database),
            keywords=_keywords(settings, writable=writes_keywords),
            blobs=_blobs(settings),
            embedders={space.id: embedder},
            space=space,
            generator=_generator(settings, embedder),
        )
    finally:
        await database.close()


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


def _embedder(settings: Settings) -> Embedder:
    if _scheme(settings.embedder_url) != "openvino":
        raise SettingsError(f"BOOKWHEEL_EMBEDDER_URL has value {settings.embedder_url!r}: use openvino:[DIRECTORY].")
    directory = settings.embedder_url.removeprefix("openvino:")
    return open_embedder(Path(directory) if directory else None, threads=settings.embed_threads)


def _keywords(settings: Settings, *, writable: bool) -> KeywordIndex:
    if settings.keywords_url != "tantivy:":
        raise SettingsError(f"BOOKWHEEL_KEYWORDS_URL has value {settings.keywords_url!r}: use tantivy:.")
    return TantivyIndex(settings.directory / "keywords", writable=writable)


def _blobs(settings: Settings) -> Blobs:
    if settings.blobs_url != "directory:":
        raise SettingsError(f"BOOKWHEEL_BLOBS_URL has value {settings.blobs_url!r}: use directory:.")
    return DirectoryBlobs(settings.directory / "blobs")


def _generator(settings: Settings, embedder: Embedder) -> Generator:
    if settings.generator_url != "extractive:":
        raise SettingsError(f"BOOKWHEEL_GENERATOR_URL has value {settings.generator_url!r}: use extractive:.")
    return ExtractiveGenerator(embedder)
