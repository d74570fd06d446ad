"""Caches over the memory backend and over PostgreSQL with a keyword index on disk never serve what has changed.

BOOKWHEEL_INTERLEAVINGS=1000 uv run pytest tests/contract/test_staleness.py tries as many as issue and docs speak of.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from bookwheel.ports import Ports
from bookwheel.testing import answered_by, memory_ports
from bookwheel.testing.staleness import StalenessContract
from tests.contract.over_postgres import whole_ports

INTERLEAVINGS = int(os.environ.get("BOOKWHEEL_INTERLEAVINGS", "0"))


class TestInMemory(StalenessContract):
    """Over ports that cost nothing."""

    interleavings = INTERLEAVINGS or 60

    @pytest.fixture
    def ports(self) -> Ports:
        """Empty ports."""
        ports = memory_ports()
        return answered_by(ports, ports.extractive)


class TestOverPostgres(StalenessContract):
    """The same over PostgreSQL, tantivy and the two levels of cache."""

    interleavings = INTERLEAVINGS or 10

    @pytest.fixture
    async def ports(self, database_url: str, tmp_path: Path) -> AsyncIterator[Ports]:
        """Ports as `bookwheel up` has them, but for the embedder."""
        async with whole_ports(database_url, tmp_path) as ports:
            yield ports

    async def new_tenant(self, ports: Ports) -> UUID:
        """A tenant of its own."""
        tenant = uuid4()
        with psycopg.connect(self.url) as connection:
            connection.execute("INSERT INTO tenants (id, name, shard) VALUES (%s, %s, 0)", (tenant, tenant.hex))
        return tenant

    @pytest.fixture(autouse=True)
    def _url(self, database_url: str) -> None:
        self.url = database_url
