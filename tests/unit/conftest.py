"""The HTTP door over ports in memory, for the tests that need nothing else."""

from collections.abc import AsyncIterator

import httpx
import pytest

from bookwheel.api import create_app
from bookwheel.identity import hash_of, new_secret, operators_key
from bookwheel.settings import Settings
from bookwheel.testing import memory_ports
from bookwheel.testing.desk import Desk
from bookwheel.types import DEFAULT_TENANT


@pytest.fixture
def desk() -> Desk:
    """The default tenant over empty ports."""
    return Desk(ports=memory_ports(), tenant=DEFAULT_TENANT)


@pytest.fixture
async def client(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the door."""
    transport = httpx.ASGITransport(app=create_app(desk.ports, Settings()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


@pytest.fixture
async def operator(desk: Desk) -> str:
    """The first key of the server."""
    secret = new_secret()
    await desk.ports.keys.create(operators_key(secret), secret_hash=hash_of(secret))
    return secret
