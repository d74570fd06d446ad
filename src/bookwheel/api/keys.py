"""/v1/keys: the API keys of the caller's tenant."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from bookwheel.access import caller
from bookwheel.acts import note
from bookwheel.api.attributes import MAX_LABEL, MAX_PRINCIPALS
from bookwheel.api.bodies import Body, Name
from bookwheel.api.ids import parse, public
from bookwheel.api.limits import LimitsBody, limits_object
from bookwheel.api.pages import ThePage, fetch, listed
from bookwheel.api.shapes import seconds
from bookwheel.api.wiring import JSON, ThePorts, TheScope, router
from bookwheel.errors import AuthenticationError, InvalidRequestError, PermissionDeniedError
from bookwheel.filters import parse as checked_filter
from bookwheel.filters import uses_chunks
from bookwheel.identity import SHOWN, hash_of, new_secret
from bookwheel.ports import Ports
from bookwheel.types import ApiKey, Caller, Role, Scope

MAX_STORES = 1_000  #: that one key may name
MAX_DAYS = 3_650
OVERLAP_SECONDS = 86_400  #: that a rotated key goes on by default
MAX_OVERLAP_SECONDS = 30 * 86_400

Principal = Annotated[str, Field(min_length=1, max_length=MAX_LABEL, pattern=r"^[^\x00]*$")]

routes = router("keys")


class KeyCreate(Body):
    """POST /v1/keys."""

    name: Name = ""
    role: Literal["reader", "writer", "admin", "operator"] = "reader"
    principals: list[Principal] = Field([], max_length=MAX_PRINCIPALS)
    store_ids: list[str] | None = Field(None, min_length=1, max_length=MAX_STORES)
    rule: dict[str, Any] | None = None  #: a filter that every document must pass
    limits: LimitsBody = LimitsBody()
    expires_in_days: Annotated[float, Field(gt=0, le=MAX_DAYS)] | None = None


class KeyRotate(Body):
    """POST /v1/keys/{id}/rotate."""

    overlap_seconds: Annotated[int, Field(ge=0, le=MAX_OVERLAP_SECONDS)] = OVERLAP_SECONDS


@routes.post("/v1/keys")
async def create_key(body: KeyCreate, ports: ThePorts, scope: TheScope) -> Response:
    """Make a key, at most as strong as the caller's own. The secret is shown here and nowhere else."""
    return JSON(await made_key(body, scope=scope, ports=ports))


@routes.get("/v1/keys")
async def list_keys(ports: ThePorts, scope: TheScope, page: ThePage) -> Response:
    """A page of the tenant's keys, newest first."""
    if not page.newest:
        raise InvalidRequestError("Keys are listed newest first only.", param="order")
    after = parse("key", page.after) if page.after else None
    keys, more = await fetch(page.limit, lambda count: ports.keys.list(scope=scope, limit=count, after=after))
    return JSON(listed([key_object(key) for key in keys], more=more))


@routes.get("/v1/keys/{key_id}")
async def get_key(key_id: str, ports: ThePorts, scope: TheScope) -> Response:
    """One key, without its secret."""
    return JSON(key_object(await ports.keys.get(parse("key", key_id), scope=scope)))


@routes.post("/v1/keys/{key_id}/rotate")
async def rotate_key(
    key_id: str, ports: ThePorts, scope: TheScope, request: Request, body: KeyRotate | None = None
) -> Response:
    """Make a key like this one; this one goes on for the overlap, so that nothing stops while clients change over."""
    old = await ports.keys.get(parse("key", key_id), scope=scope)
    _check_role(old.role)
    overlap = OVERLAP_SECONDS if body is None else body.overlap_seconds
    made = await kept_with_secret(_successor(old), ports)
    await ports.keys.expire(old.id, scope=scope, at=datetime.now(UTC) + timedelta(seconds=overlap))
    request.app.state.authenticator.forget()
    return JSON(made)


@routes.delete("/v1/keys/{key_id}")
async def revoke_key(key_id: str, ports: ThePorts, scope: TheScope, request: Request) -> Response:
    """End a key: refused at once here, after 2 seconds by other API processes."""
    parsed = parse("key", key_id)
    _check_role((await ports.keys.get(parsed, scope=scope)).role)
    await ports.keys.revoke(parsed, scope=scope)
    request.app.state.authenticator.forget()
    return JSON({"id": public("key", parsed), "object": "key.deleted", "deleted": True})


async def made_key(body: KeyCreate, *, scope: Scope, ports: Ports) -> dict[str, Any]:
    """A new key of the scope's tenant, with its secret. Raises PermissionDeniedError, NotFoundError and
    InvalidFilterError."""
    stores = None if body.store_ids is None else frozenset([parse("store", one) for one in body.store_ids])
    await _check_grant(body, stores, scope=scope, ports=ports)
    now = datetime.now(UTC)
    key = ApiKey(
        id=uuid4(),
        tenant_id=scope.tenant_id,
        name=body.name,
        prefix="",
        role=Role(body.role),
        principals=frozenset(body.principals),
        store_ids=stores,
        rule=body.rule,
        limits=body.limits.limits(),
        created_at=now,
        expires_at=None if body.expires_in_days is None else now + timedelta(days=body.expires_in_days),
        last_used_at=None,
    )
    note(object_id=public("key", key.id))
    return await kept_with_secret(key, ports)


async def kept_with_secret(key: ApiKey, ports: Ports) -> dict[str, Any]:
    """Keep a new key; its object with the secret."""
    secret = new_secret()
    made = await ports.keys.create(replace(key, prefix=secret[:SHOWN]), secret_hash=hash_of(secret))
    note(
        made=public("key", made.id),
        role=made.role.value,
        principals=" ".join(sorted(made.principals)),
        of_tenant=public("tenant", made.tenant_id),
    )
    return {**key_object(made), "secret": secret}


def key_object(key: ApiKey) -> dict[str, Any]:
    """A key as callers see it."""
    return {
        "id": public("key", key.id),
        "object": "key",
        "created_at": seconds(key.created_at),
        "name": key.name,
        "prefix": key.prefix,
        "role": key.role.value,
        "principals": sorted(key.principals),
        "store_ids": None if key.store_ids is None else sorted(public("store", one) for one in key.store_ids),
        "rule": key.rule,
        "limits": limits_object(key.limits),
        "expires_at": None if key.expires_at is None else seconds(key.expires_at),
        "last_used_at": None if key.last_used_at is None else seconds(key.last_used_at),
    }


async def _check_grant(body: KeyCreate, stores: frozenset[UUID] | None, *, scope: Scope, ports: Ports) -> None:
    """The new key sees no more than its maker may give."""
    _check_role(Role(body.role))
    if body.rule is not None and uses_chunks(checked_filter(body.rule, path="rule")):
        raise InvalidRequestError("A rule is about documents: chunk.* cannot stand in it.", param="rule")
    if Role(body.role).covers(Role.ADMIN) and (stores is not None or body.rule is not None):
        raise InvalidRequestError(
            "An admin has the whole tenant: leave store_ids and rule out, or make a reader or a writer.", param="role"
        )
    for store in sorted(stores or ()):
        await ports.stores.get(store, scope=scope)


def _check_role(role: Role) -> None:
    present = _present()
    if not present.role.covers(role):
        raise PermissionDeniedError(
            f"This key has the role {present.role.value}; it takes {role.value} to make, rotate or revoke such a key."
        )


def _present() -> Caller:
    present = caller()
    if present is None:
        raise AuthenticationError
    return present


def _successor(old: ApiKey) -> ApiKey:
    now = datetime.now(UTC)
    ends = None if old.expires_at is None else now + (old.expires_at - old.created_at)
    return replace(old, id=uuid4(), created_at=now, expires_at=ends, last_used_at=None)
