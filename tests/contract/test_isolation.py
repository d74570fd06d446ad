"""No answer holds what is foreign or gone, over the memory backend and over PostgreSQL with a keyword index on disk.

BOOKWHEEL_ANSWERS=100000 uv run pytest tests/contract/test_isolation.py asks as often as issue and docs speak of.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from bookwheel.backends.postgres import migrate
from bookwheel.ports import Ports
from bookwheel.testing import answered_by, memory_ports
from bookwheel.testing.isolation import IsolationContract
from tests.contract.over_postgres import whole_ports

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
        async with whole_ports(database_url, tmp_path) as ports:
            yield ports

    @pytest.fixture(autouse=True)
    def _url(self, database_url: str) -> None:
        self.url = database_url

    async def new_tenant(self, ports: Ports) -> UUID:
        """A registered tenant."""
        tenant_id = uuid4()
        await migrate.register_tenant(self.url, tenant_id, tenant_id.hex)
        return tenant_id
