"""Commands that work on the stores directly, beside the API."""

import asyncio
from collections.abc import Callable
from uuid import UUID

from bookwheel.app import embedded_database, migrate_database, open_ports
from bookwheel.data_directory import held, holder
from bookwheel.follow import rebuild
from bookwheel.settings import Settings


async def rebuild_keywords(settings: Settings, say: Callable[[str], None]) -> int:
    """Make the keyword index anew; returns the number of documents. Raises DataDirectoryInUseError."""
    with held(settings):
        if settings.database_url != "embedded:":
            return await _rebuild(settings)
        database = embedded_database(settings)
        say("starting the database …")
        await asyncio.to_thread(database.start)
        try:
            return await _rebuild(settings.model_copy(update={"database_url": database.url}))
        finally:
            await asyncio.to_thread(database.stop)


async def _rebuild(settings: Settings) -> int:
    await migrate_database(settings)
    async with open_ports(settings, writes_keywords=True) as ports:
        return await rebuild(ports)


async def move_tenant(settings: Settings, tenant_id: UUID, *, own_partition: bool) -> None:
    """Give a tenant's vectors a partition of their own, or put them back among the others, while it is served. Raises
    NotFoundError, ConflictError, and DatabaseUnavailableError: with the embedded database `up` must be running."""
    async with open_ports(reached(settings), writes_keywords=False) as ports:
        await ports.vectors.move(tenant_id, own_partition=own_partition)


def reached(settings: Settings) -> Settings:
    """The same, with the address of the embedded database while `up` runs it."""
    running = holder(settings.directory)
    if settings.database_url != "embedded:" or "database_url" not in running:
        return settings
    return settings.model_copy(update={"database_url": running["database_url"]})
