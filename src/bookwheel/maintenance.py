"""Commands that work on the stores directly, with no service running."""

import asyncio
from collections.abc import Callable

from bookwheel.app import embedded_database, migrate_database, open_ports
from bookwheel.data_directory import held
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
