"""Who asks, what they may do, and what they may see."""

from contextvars import ContextVar
from dataclasses import replace
from ipaddress import ip_address
from uuid import UUID

from bookwheel.errors import AuthenticationError, NotFoundError, PermissionDeniedError
from bookwheel.settings import Settings
from bookwheel.types import DEFAULT_TENANT, Caller, Role, Scope

#: The machine's own user, where the server listens on loopback only and asks for no keys.
LOCAL = Caller(id="local", role=Role.OPERATOR, scope=Scope(tenant_id=DEFAULT_TENANT, manages=True), limited=False)

_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)
set_caller, reset_caller = _caller.set, _caller.reset


def caller() -> Caller | None:
    """Who sends the present request; None outside of requests, and in those that anybody may send."""
    return _caller.get()


async def caller_id() -> str:
    """Who sends the present request, as a dependency of the routes. Raises AuthenticationError."""
    present = _caller.get()
    if present is None:
        raise AuthenticationError
    return present.id


async def request_scope() -> Scope:
    """The scope of the present request, as a dependency of the routes. Raises AuthenticationError."""
    present = _caller.get()
    if present is None:  # a route that nobody guards shows nothing
        raise AuthenticationError
    return present.scope


def require_role(needed: Role) -> None:
    """Raises PermissionDeniedError where the present caller's role does not cover it, AuthenticationError where there
    is no caller."""
    present = _caller.get()
    if present is None:
        raise AuthenticationError
    if not present.role.covers(needed):
        raise PermissionDeniedError(
            f"This key has the role {present.role.value}; this needs {needed.value}. Use another key, or ask an admin."
        )


def within(scope: Scope, *store_ids: UUID) -> Scope:
    """The same caller, looking at these stores only. Raises NotFoundError for one that was not granted."""
    if scope.granted is not None and not scope.granted.issuperset(store_ids):
        raise NotFoundError("There is no such vector store here, or this key may not see it. Check the id.")
    return replace(scope, store_ids=store_ids)


def is_open(settings: Settings) -> bool:
    """Whether callers need no key: only where nobody beyond this machine can come, and nobody asked for keys."""
    return settings.auth == "auto" and is_loopback(settings.host)


def is_loopback(host: str) -> bool:
    """Whether an address, or the name of one, is this machine's own."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
