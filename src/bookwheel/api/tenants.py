"""/v1/tenants: everybody whom this server serves. For operators."""

from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from bookwheel.acts import note
from bookwheel.api.bodies import Body
from bookwheel.api.ids import parse, public
from bookwheel.api.keys import KeyCreate, made_key
from bookwheel.api.limits import LimitsBody, limits_object
from bookwheel.api.pages import ThePage, fetch, listed
from bookwheel.api.shapes import seconds
from bookwheel.api.wiring import JSON, ThePorts, router
from bookwheel.errors import InvalidRequestError
from bookwheel.types import DEFAULT_TENANT, Scope, Tenant

MAX_WEIGHT = 1_000.0

TenantName = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00]*$")]
Weight = Annotated[float, Field(gt=0, le=MAX_WEIGHT)]

routes = router("tenants")


class TenantCreate(Body):
    """POST /v1/tenants."""

    name: TenantName
    weight: Weight = 1.0
    limits: LimitsBody = LimitsBody()


class TenantChange(Body):
    """POST /v1/tenants/{id}: what is not given stays."""

    name: TenantName | None = None
    status: Literal["active", "suspended"] | None = None
    weight: Weight | None = None
    limits: LimitsBody | None = None


@routes.post("/v1/tenants")
async def create_tenant(body: TenantCreate, ports: ThePorts) -> Response:
    """Make a tenant. It has no keys yet: POST /v1/tenants/{id}/keys makes its first."""
    made = await ports.tenants.create(body.name, limits=body.limits.limits(), weight=body.weight)
    note(object_id=public("tenant", made.id))
    return JSON(tenant_object(made))


@routes.get("/v1/tenants")
async def list_tenants(ports: ThePorts, page: ThePage) -> Response:
    """A page of the tenants, oldest first."""
    after = parse("tenant", page.after) if page.after else None
    tenants, more = await fetch(page.limit, lambda count: ports.tenants.list(limit=count, after=after))
    return JSON(listed([tenant_object(tenant) for tenant in tenants], more=more))


@routes.get("/v1/tenants/{tenant_id}")
async def show_tenant(tenant_id: str, ports: ThePorts) -> Response:
    """One tenant."""
    return JSON(tenant_object(await ports.tenants.get(scope=_scope(tenant_id))))


@routes.post("/v1/tenants/{tenant_id}")
async def change_tenant(tenant_id: str, body: TenantChange, ports: ThePorts, request: Request) -> Response:
    """Rename, suspend or resume it, or change what it may use. While it is suspended, its keys are refused and nothing
    of it is ingested."""
    scope = _scope(tenant_id)
    if body.status == "suspended" and scope.tenant_id == DEFAULT_TENANT:
        raise InvalidRequestError("The default tenant has the operator's keys: it cannot be suspended.", param="status")
    changed = await ports.tenants.update(
        scope=scope,
        name=body.name,
        suspended=None if body.status is None else body.status == "suspended",
        weight=body.weight,
        limits=None if body.limits is None else body.limits.limits(),
    )
    note(changed=",".join(sorted(body.model_fields_set)), suspended=changed.suspended)
    request.app.state.authenticator.forget()
    return JSON(tenant_object(changed))


@routes.post("/v1/tenants/{tenant_id}/keys")
async def create_tenant_key(tenant_id: str, body: KeyCreate, ports: ThePorts) -> Response:
    """Make a key of that tenant, such as its first admin's. The secret is shown here and nowhere else."""
    scope = _scope(tenant_id)
    await ports.tenants.get(scope=scope)
    return JSON(await made_key(body, scope=scope, ports=ports))


def tenant_object(tenant: Tenant) -> dict[str, Any]:
    """A tenant as its operator sees it."""
    return {
        "id": public("tenant", tenant.id),
        "object": "tenant",
        "created_at": None if tenant.created_at is None else seconds(tenant.created_at),
        "name": tenant.name,
        "status": "suspended" if tenant.suspended else "active",
        "weight": tenant.weight,
        "limits": limits_object(tenant.limits),
    }


def _scope(tenant_id: str) -> Scope:
    return Scope(tenant_id=parse("tenant", tenant_id), manages=True)
