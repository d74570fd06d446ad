"""The composition root: settings in, ports out. The only importer of backends, each when a URL asks for it."""

import asyncio
import gc
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bookwheel.errors import DatabaseUnavailableError, SettingsError
from bookwheel.settings import Settings

if TYPE_CHECKING:
    from bookwheel.backends.postgres.database import Database
    from bookwheel.backends.postgres.embedded import EmbeddedPostgres
    from bookwheel.backends.postgres.jobs import Calls
    from bookwheel.backends.tantivy import TantivyIndex
    from bookwheel.ports import (
        Blobs,
        Cache,
        Caches,
        Embedder,
        EmbeddingBudget,
        Generator,
        Limiter,
        Ports,
        Reranker,
        Tenants,
    )
    from bookwheel.types import AnswerPolicy, Space

DATABASE_PATIENCE_SECONDS = 30.0
DATABASE_POLL_SECONDS = 0.2
SETTLED_STORES = 100_000  # whose versions are remembered
GARBAGE_THRESHOLD = (10_000, 20, 20)  # Python's own 700 looks for cycles some hundred times in each batch of documents


def embedded_database(settings: Settings) -> "EmbeddedPostgres":
    """The server that `up` and `demo` start in the data directory."""
    from bookwheel.backends.postgres.embedded import EmbeddedPostgres

    return EmbeddedPostgres(settings.directory / "postgres")


async def migrate_database(settings: Settings) -> list[str]:
    """Apply pending migrations; returns their names. Raises SettingsError or DatabaseUnavailableError."""
    from bookwheel.backends.postgres.migrate import migrate

    return await migrate(database_url(settings))


async def make_first_key(settings: Settings, *, again: bool = False) -> str | None:
    """The secret of an operator's key, made where there is no key at all, or `again`; kept nowhere. Raises
    DatabaseUnavailableError."""
    from bookwheel.acts import by_hand
    from bookwheel.backends.postgres.audit import PostgresAuditLog
    from bookwheel.backends.postgres.keys import PostgresKeys
    from bookwheel.backends.postgres.ports import open_database
    from bookwheel.identity import hash_of, new_secret, operators_key

    async with open_database(database_url(settings), works=True) as database:
        keys = PostgresKeys(database)
        if await keys.any() and not again:
            return None
        secret = new_secret()
        made = await keys.create(operators_key(secret), secret_hash=hash_of(secret))
        await PostgresAuditLog(database).append([by_hand("key.create", f"key_{made.id.hex}", role=made.role.value)])
        return secret


async def row_security(database_url: str) -> bool:
    """Whether the database itself keeps tenants apart too. Raises DatabaseUnavailableError."""
    from bookwheel.backends.postgres.migrate import wall_stands

    return await wall_stands(database_url)


def worker_calls(settings: Settings, run: Callable[..., Awaitable[None]]) -> "Calls":
    """What wakes a worker: `run(urgent=...)` is called when documents wait."""
    from bookwheel.backends.postgres.jobs import Calls

    return Calls(database_url(settings), run)


@asynccontextmanager
async def open_ports(settings: Settings, *, writes_keywords: bool) -> "AsyncIterator[Ports]":
    """Everything wired and open, closed again at the end. One process at a time may write the keyword index."""
    from bookwheel.backends.extractive import ExtractiveGenerator
    from bookwheel.backends.postgres.migrate import ensure_space
    from bookwheel.backends.postgres.ports import open_database, postgres_ports
    from bookwheel.parts import SearchParts
    from bookwheel.ports import Embedders, Ports

    url = database_url(settings)
    async with AsyncExitStack() as opened:
        limiter = await _limiter(settings, opened)
        embedder = await _embedder(settings, opened, limiter, bulk=writes_keywords)
        space = await _patiently(
            lambda: ensure_space(url, model=embedder.model, revision=embedder.revision, dimensions=embedder.dimensions)
        )
        keywords = _keywords(settings, writable=writes_keywords)
        opened.callback(keywords.close)
        database = await opened.enter_async_context(open_database(url, works=writes_keywords))
        parts = SearchParts.within(settings.search_part_seconds)
        extractive = ExtractiveGenerator(embedder, part=parts.embed)
        _settle()
        filled = postgres_ports(database)
        yield Ports(
            **filled,
            keywords=keywords,
            blobs=_blobs(settings),
            embedders=Embedders({space.id: embedder}),
            space=space,
            generators=_generators(settings, embedder, extractive, limiter, opened),
            extractive=extractive,
            reranker=_reranker(settings, embedder, limiter, opened),
            caches=_caches(settings, database, opened),
            limiter=limiter,
            budget=_budget(settings, limiter, filled["tenants"]),
            parts=parts,
        )


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
    from bookwheel.backends.postgres.database import checked_url

    return checked_url(settings.database_url)


def _scheme(url: str) -> str:
    return url.partition(":")[0]


async def _limiter(settings: Settings, opened: AsyncExitStack) -> "Limiter":
    url = settings.limits_url
    match _scheme(url):
        case "off":
            from bookwheel.lenient import NoLimiter

            return NoLimiter()
        case "memory":
            from bookwheel.backends.memory.limits import MemoryLimiter

            return MemoryLimiter()
        case "postgresql":
            from bookwheel.backends.postgres.limits import open_limiter

            return await opened.enter_async_context(open_limiter(database_url(settings)))
        case "redis" | "rediss":
            from bookwheel.backends.redis import RedisLimiter

            shared = RedisLimiter(url)
            opened.push_async_callback(shared.close)
            return shared
    raise SettingsError(
        f"BOOKWHEEL_LIMITS_URL has scheme {_scheme(url)!r}: use postgresql:, redis://HOST, memory: or off:."
    )


def _budget(settings: Settings, limiter: "Limiter", tenants: "Tenants") -> "EmbeddingBudget":
    from bookwheel.budget import DailyBudget
    from bookwheel.limits import Guard

    return DailyBudget(Guard(limiter, settings), tenants)


async def _embedder(settings: Settings, opened: AsyncExitStack, limiter: "Limiter", *, bulk: bool) -> "Embedder":
    scheme = _scheme(settings.embedder_url)
    if scheme == "openai":
        from bookwheel.backends.openai.embedder import open_embedder as open_remote
        from bookwheel.backends.openvino.embedder import model_at, open_tokenizer

        tokenizer = open_tokenizer(model_at(None))
        remote = await open_remote(settings.embedder_url, settings, tokenizer=tokenizer, limiter=limiter)
        opened.push_async_callback(remote.close)
        return remote
    if scheme != "openvino":
        raise SettingsError(
            f"BOOKWHEEL_EMBEDDER_URL has value {settings.embedder_url!r}: use openvino:[DIRECTORY] or"
            " openai:https://HOST/v1?model=NAME."
        )
    from bookwheel.backends.openvino.embedder import open_embedder

    directory = settings.embedder_url.removeprefix("openvino:")
    local = open_embedder(Path(directory) if directory else None, threads=settings.embed_threads, bulk=bulk)
    opened.callback(local.close)
    return local


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


def _generators(
    settings: Settings, embedder: "Embedder", extractive: "Generator", limiter: "Limiter", opened: AsyncExitStack
) -> "dict[str, Generator]":
    """By model name, the default first; the extractive one is always among them. Raises SettingsError."""
    found: dict[str, Generator] = {}
    for url in settings.generator_url.split() or ["extractive:"]:
        generator = _generator(url, settings, embedder, limiter, opened) or extractive
        found.setdefault(generator.model, generator)
    return {**found, extractive.model: extractive}


def _generator(
    url: str, settings: Settings, embedder: "Embedder", limiter: "Limiter", opened: AsyncExitStack
) -> "Generator | None":
    if url == "extractive:":
        return None
    if _scheme(url) == "openai":
        from bookwheel.backends.openai.generator import open_generator as open_openai

        openai = open_openai(url, settings, count=embedder.token_counts, limiter=limiter)
        opened.push_async_callback(openai.close)
        return openai
    if _scheme(url) == "anthropic":
        from bookwheel.backends.anthropic import open_generator as open_anthropic

        anthropic = open_anthropic(url, settings, count=embedder.token_counts, limiter=limiter)
        opened.push_async_callback(anthropic.close)
        return anthropic
    raise SettingsError(
        f"BOOKWHEEL_GENERATOR_URL has {url!r}: use extractive:, openai:https://HOST/v1?model=NAME or"
        " anthropic:?model=NAME."
    )


def _reranker(settings: Settings, embedder: "Embedder", limiter: "Limiter", opened: AsyncExitStack) -> "Reranker":
    url = settings.reranker_url
    match _scheme(url):
        case "lexical":
            from bookwheel.backends.lexical import LexicalReranker

            return LexicalReranker(embedder)
        case "late":
            from bookwheel.backends.openvino.late import open_late_reranker

            late = open_late_reranker(url, settings)
            opened.callback(late.close)
            return late
        case "cross-encoder":
            from bookwheel.backends.openvino.cross_encoder import open_cross_encoder

            crossing = open_cross_encoder(url, settings)
            opened.callback(crossing.close)
            return crossing
        case "cohere":
            from bookwheel.backends.cohere import open_cohere_reranker

            remote = open_cohere_reranker(url, settings, limiter=limiter)
            opened.push_async_callback(remote.close)
            return remote
    raise SettingsError(
        f"BOOKWHEEL_RERANKER_URL has value {url!r}: use lexical:, late:, cross-encoder:DIRECTORY or"
        " cohere:https://HOST/v2/rerank?model=NAME."
    )


def _caches(settings: Settings, database: "Database", opened: AsyncExitStack) -> "Caches":
    from cachetools import LRUCache

    from bookwheel.earlier_questions import SharedEarlierQuestions
    from bookwheel.ports import Caches

    cache = _cache(settings, database, opened)
    return Caches(
        cache=cache,
        questions=SharedEarlierQuestions(cache),
        policy=_policy(settings),
        settled=LRUCache(SETTLED_STORES),
        asked={},
        pending={},
    )


def _cache(settings: Settings, database: "Database", opened: AsyncExitStack) -> "Cache":
    from bookwheel.backends.memory.cache import MemoryCache
    from bookwheel.tiers import NoCache, TieredCache

    url = settings.cache_url
    if url == "off:":
        return NoCache()
    own = MemoryCache(settings.cache_bytes)
    match _scheme(url):
        case "memory":
            return own
        case "postgresql":
            from bookwheel.backends.postgres.cache import PostgresCache

            return TieredCache(own, _behind(PostgresCache(database), opened))
        case "redis" | "rediss":
            from bookwheel.backends.redis import RedisCache

            shared = RedisCache(url)
            opened.push_async_callback(shared.close)
            return TieredCache(own, _behind(shared, opened))
    raise SettingsError(
        f"BOOKWHEEL_CACHE_URL has scheme {_scheme(url)!r}: use postgresql:, redis://HOST, memory: or off:."
    )


def _behind(shared: "Cache", opened: AsyncExitStack) -> "Cache":
    from bookwheel.write_behind import WriteBehind

    behind = WriteBehind(shared)
    opened.push_async_callback(behind.flush)
    return behind


def _policy(settings: Settings) -> "AnswerPolicy":
    from bookwheel.types import AnswerPolicy

    manner = (settings.generator_url, settings.generator_context_tokens, settings.reranker_url, settings.answer_links)
    return AnswerPolicy(
        unsupported=settings.unsupported_sentences,
        links=settings.answer_links,
        answer_seconds=settings.cache_answer_seconds,
        search_seconds=settings.cache_search_seconds,
        embedding_seconds=settings.cache_embedding_seconds,
        fresh_seconds=settings.cache_fresh_seconds,
        similarity=settings.cache_similarity,
        popular=settings.popular_questions if settings.cache_url != "off:" else 0,
        manner=hashlib.blake2b(repr(manner).encode(), digest_size=8).hexdigest(),
    )
