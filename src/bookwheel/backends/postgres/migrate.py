"""Numbered SQL migrations, applied once each, in order, under one lock."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from procrastinate.schema import SchemaManager
from psycopg import AsyncConnection, errors
from psycopg.rows import TupleRow

from bookwheel.backends.postgres.database import (
    ACT_FOR,
    EVERYBODY,
    LOGIN_ROLE,
    MAY_TAKE_ROLE,
    WALLED_ROLE,
    rows,
    translated,
)
from bookwheel.backends.postgres.shards import SHARDS, shard_of
from bookwheel.errors import SettingsError
from bookwheel.types import Space

MIGRATIONS = Path(__file__).parent / "migrations"
# Whether there are policies, and whether they bind who logs in: not superusers, and owners only where that is forced.
POLICIES = """
SELECT c.relrowsecurity, c.relforcerowsecurity AND NOT (r.rolsuper OR r.rolbypassrls)
FROM pg_class c, pg_roles r WHERE c.oid = to_regclass('documents') AND r.rolname = session_user
"""
LOCK = 7304  # an arbitrary number that all Bookwheel processes share


async def migrate(url: str) -> list[str]:
    """Bring the database to this program's schema; returns the migrations applied now.

    Raises DatabaseUnavailableError, or SettingsError when pgvector is missing or may not be installed.
    """
    async with _connected(url) as connection:
        await connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, applied_at timestamptz DEFAULT now())"
        )
        applied = {row[0] for row in await (await connection.execute("SELECT name FROM migrations")).fetchall()}
        pending = [(name, sql) for name, sql in _available() if name not in applied]
        for name, sql in pending:
            await _apply(connection, name, sql)
    return [name for name, _ in pending]


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[AsyncConnection[TupleRow]]:
    """A connection of its own that acts for all tenants. Raises DatabaseUnavailableError."""
    with translated():
        connection = await AsyncConnection.connect(url, autocommit=True)
    async with connection:
        await connection.execute(ACT_FOR, (EVERYBODY, LOGIN_ROLE))
        yield connection


def _available() -> list[tuple[str, str]]:
    ours = [(path.stem, path.read_text()) for path in sorted(MIGRATIONS.glob("*.sql"))]
    return [("0000_procrastinate", SchemaManager.get_schema()), *ours]


async def _apply(connection: AsyncConnection[TupleRow], name: str, sql: str) -> None:
    try:
        async with connection.transaction():
            await connection.execute(sql.encode())
            await connection.execute("INSERT INTO migrations (name) VALUES (%s)", (name,))
    except (errors.UndefinedFile, errors.FeatureNotSupported, errors.InsufficientPrivilege) as error:
        raise SettingsError(
            f"Migration {name} failed: {error.diag.message_primary}. "
            "Bookwheel needs PostgreSQL 15 or newer with pgvector 0.8 and the right to create it."
        ) from error


async def wall_stands(url: str) -> bool:
    """Whether row security binds those who act for a tenant (migration 0018). Raises DatabaseUnavailableError."""
    async with _connected(url) as connection:
        ((takes_role,),) = await rows(connection, MAY_TAKE_ROLE, (WALLED_ROLE,))
        found = await rows(connection, POLICIES)
    return any(there and (binds or takes_role) for there, binds in found)


async def ensure_space(url: str, *, model: str, revision: str, dimensions: int) -> Space:
    """The embedding space with its vector table, made when it is new. Raises DatabaseUnavailableError."""
    with translated():
        return await _ensure_space(url, model, revision, dimensions)


async def _ensure_space(url: str, model: str, revision: str, dimensions: int) -> Space:
    async with _connected(url) as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        found = await connection.execute(
            "SELECT id FROM spaces WHERE (model, revision, dimensions) = (%s, %s, %s)", (model, revision, dimensions)
        )
        row = await found.fetchone()
        if row is None:
            made = await connection.execute(
                "INSERT INTO spaces (model, revision, dimensions) VALUES (%s, %s, %s) RETURNING id",
                (model, revision, dimensions),
            )
            row = await made.fetchone()
        assert row is not None  # noqa: S101 - RETURNING gives a row
        space = Space(id=row[0], model=model, revision=revision, dimensions=dimensions)
        await connection.execute(vector_table(space).encode())
        owned = await (await connection.execute("SELECT shard FROM own_partitions")).fetchall()
        for shard in (*range(SHARDS), *(row[0] for row in owned)):
            await ensure_partition(connection, space, shard)
    return space


def vector_table(space: Space) -> str:
    """SQL of a space's vector table, partitioned by the tenant's shard; graphs come later, see vectors.py."""
    return f"""
    CREATE TABLE IF NOT EXISTS vectors_{space.id} (
        shard integer NOT NULL,
        chunk_id bigint NOT NULL,
        store_id uuid NOT NULL,
        document_id uuid NOT NULL,
        version integer NOT NULL,
        ordinal integer NOT NULL,
        text_hash uuid NOT NULL, -- 16 bytes; with the space it is the key of the embedding cache
        embedding halfvec({space.dimensions}) NOT NULL,
        PRIMARY KEY (shard, chunk_id)
    ) PARTITION BY LIST (shard);
    CREATE INDEX IF NOT EXISTS vectors_{space.id}_by_document ON vectors_{space.id} (store_id, document_id);
    CREATE INDEX IF NOT EXISTS vectors_{space.id}_by_text ON vectors_{space.id} (text_hash);
    """


async def ensure_partition(connection: AsyncConnection[TupleRow], space: Space, shard: int) -> None:
    """Make one partition where there is none. It is attached when it is made: that waits for no search and no write."""
    table, name = f"vectors_{space.id}", f"vectors_{space.id}_{shard}"
    found = await connection.execute("SELECT FROM pg_inherits WHERE inhrelid = to_regclass(%s)", (name,))
    if await found.fetchone() is not None:
        return
    for statement in (
        f"CREATE TABLE IF NOT EXISTS {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING STORAGE)",
        f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES IN ({shard})",
    ):
        await connection.execute(statement.encode())


async def register_tenant(url: str, tenant_id: UUID, name: str) -> None:
    """Make a tenant known; its shard follows from its id. Idempotent."""
    async with _connected(url) as connection:
        await connection.execute(
            "INSERT INTO tenants (id, name, shard) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            (tenant_id, name, shard_of(tenant_id)),
        )
