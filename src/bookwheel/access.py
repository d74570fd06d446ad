"""Who asks, and what they may see."""

from ipaddress import ip_address
from uuid import UUID

from bookwheel.errors import SettingsError
from bookwheel.types import DEFAULT_TENANT, Scope


async def request_scope() -> Scope:
    """The scope of one request, as a dependency of the routes."""
    # Any bearer token passes: the server binds loopback only until keys exist.
    return Scope(tenant_id=DEFAULT_TENANT)


def within(scope: Scope, *store_ids: UUID) -> Scope:
    """The same caller, looking at these stores only."""
    return Scope(tenant_id=scope.tenant_id, store_ids=store_ids, principals=scope.principals)


def require_loopback(host: str) -> None:
    """Refuse an address that other machines can reach. Raises SettingsError."""
    if not _is_loopback(host):
        raise SettingsError(
            f"BOOKWHEEL_HOST has value {host!r}: without keys the server listens on this machine only."
            " Use 127.0.0.1, ::1 or localhost, with a proxy that checks callers in front of it."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
