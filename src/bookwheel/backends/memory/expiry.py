"""Stores that nobody uses and files whose time is over, in memory."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice

from bookwheel.backends.memory.database import MemoryDatabase
from bookwheel.backends.memory.files import remove_file
from bookwheel.types import Scope, Store


class MemoryExpiry:
    """Fills ports.Expiry."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def touch(self, *, scope: Scope, every_seconds: float) -> None:
        """See ports.Expiry."""
        before = self.database.now() - timedelta(seconds=every_seconds)
        mine = [store for store in self.database.stores.values() if store.id in scope.store_ids]
        for store in mine:
            if store.tenant_id == scope.tenant_id and not store.expired and store.last_active_at < before:
                self.database.touch_store(store.id)

    async def stores(self, *, older_than_seconds: float, limit: int) -> int:
        """See ports.Expiry."""
        before = self._before(older_than_seconds)
        waiting = [store for store in self.database.stores.values() if not store.expired]
        over = list(islice((store for store in waiting if _is_over(store.expires_at, before)), limit))
        for store in over:
            self._expire(store)
        return len(over)

    async def files(self, *, older_than_seconds: float, limit: int) -> int:
        """See ports.Expiry."""
        before = self._before(older_than_seconds)
        over = [file for file in self.database.files.values() if _is_over(file.expires_at, before)][:limit]
        for file in over:
            remove_file(self.database, file)
        return len(over)

    def _before(self, older_than_seconds: float) -> datetime:
        return self.database.now() - timedelta(seconds=older_than_seconds)

    def _expire(self, store: Store) -> None:
        rows = self.database.documents.values()
        self.database.remove_documents([row.document for row in rows if row.document.store_id == store.id])
        for source in self.database.sources.values():
            if source.store_id == store.id:  # or it would take the documents for being there
                self.database.source_items.pop(source.id, None)
        left = self.database.stores[store.id]  # removing its documents counted as activity
        self.database.stores[store.id] = replace(left, expired=True, last_active_at=store.last_active_at)


def _is_over(end: datetime | None, before: datetime) -> bool:
    return end is not None and end <= before
