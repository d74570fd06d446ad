"""What the contracts of the stored ports share: the fixtures that a backend overrides."""

from uuid import UUID, uuid4

import pytest

from bookwheel.ports import Ports
from bookwheel.testing.desk import Desk


class PortsContract:
    """Override `ports`; also `new_tenant` where a tenant must be registered before it is used.

    The tests assume nothing about what else is stored: they may share one database, also with one another.
    """

    @pytest.fixture
    def ports(self) -> Ports:
        """The ports under test. Ports that are not under test may be of another backend."""
        raise NotImplementedError

    async def new_tenant(self, ports: Ports) -> UUID:  # noqa: ARG002 - for those that override it
        """The id of a tenant that nobody has used."""
        return uuid4()

    @pytest.fixture
    async def tenant(self, ports: Ports) -> UUID:
        """A tenant of its own for each test."""
        return await self.new_tenant(ports)

    @pytest.fixture
    async def other_tenant(self, ports: Ports) -> UUID:
        """A second tenant, which must see nothing of the first."""
        return await self.new_tenant(ports)

    @pytest.fixture
    def desk(self, ports: Ports, tenant: UUID) -> Desk:
        """The first tenant at work."""
        return Desk(ports=ports, tenant=tenant)

    @pytest.fixture
    def stranger(self, ports: Ports, other_tenant: UUID) -> Desk:
        """The second tenant at work."""
        return Desk(ports=ports, tenant=other_tenant)
