"""/v1/tenant: the caller's tenant and what it chose."""

from typing import Any

from starlette.responses import Response

from bookwheel.acts import note
from bookwheel.api.bodies import TenantModify
from bookwheel.api.wiring import JSON, ThePorts, TheScope, router
from bookwheel.errors import NotFoundError
from bookwheel.ports import Ports
from bookwheel.types import Tenant

routes = router("tenant")


@routes.get("/v1/tenant")
async def get_tenant(ports: ThePorts, scope: TheScope) -> Response:
    """The tenant with the model that writes its answers, and those that it may choose."""
    return JSON(_object(await ports.tenants.get(scope=scope), ports))


@routes.post("/v1/tenant")
async def modify_tenant(body: TenantModify, ports: ThePorts, scope: TheScope) -> Response:
    """Choose the model that writes the answers of requests that name none; null for the server's default."""
    if body.generator is not None and body.generator not in ports.generators:
        known = ", ".join(ports.generators)
        raise NotFoundError(f"No generator {body.generator[:80]!r}. Use one of: {known}.", param="generator")
    chosen = body.generator if "generator" in body.model_fields_set else "keep"
    note(changed=",".join(sorted(body.model_fields_set)))
    return JSON(_object(await ports.tenants.update(scope=scope, generator=chosen), ports))


def _object(tenant: Tenant, ports: Ports) -> dict[str, Any]:
    return {
        "id": f"tenant_{tenant.id.hex}",
        "object": "tenant",
        "name": tenant.name,
        "generator": tenant.generator,
        "generators": list(ports.generators),
    }
