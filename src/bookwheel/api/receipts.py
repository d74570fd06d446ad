"""/v1/receipts: what is left of tenants that were offboarded. For operators."""

from base64 import b64decode

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from bookwheel.acts import note
from bookwheel.api.bodies import Body
from bookwheel.api.ids import parse, public
from bookwheel.api.pages import ThePage, fetch, listed
from bookwheel.api.tenants import TenantName
from bookwheel.api.wiring import JSON, ThePorts, TheSettings, router
from bookwheel.errors import InvalidRequestError
from bookwheel.offboarding import offboard
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.types import Scope

routes = router("tenants")


class Offboard(Body):
    """POST /v1/tenants/{id}/offboard."""

    name: TenantName = Field(description="The tenant's name, as a guard against a slip.")


@routes.post("/v1/tenants/{tenant_id}/offboard")
async def offboard_tenant(
    tenant_id: str, body: Offboard, ports: ThePorts, settings: TheSettings, request: Request
) -> Response:
    """Remove a tenant with all that it has; there is no way back. Answers with the signed receipt: where it is not
    `complete`, or when the call broke off, call again. It may take some minutes."""
    from bookwheel.receipts import shown

    scope = Scope(tenant_id=parse("tenant", tenant_id), manages=True)
    private = await _private_key(ports, settings)
    receipt = await offboard(body.name, scope=scope, ports=ports, private=private)
    request.app.state.authenticator.forget()
    note(receipt=public("receipt", receipt.id), complete=receipt.complete)
    return JSON(shown(receipt))


@routes.get("/v1/receipts")
async def list_receipts(ports: ThePorts, page: ThePage) -> Response:
    """A page of the receipts, newest first."""
    from bookwheel.receipts import shown

    if not page.newest:
        raise InvalidRequestError("Receipts are listed newest first only.", param="order")
    after = parse("receipt", page.after) if page.after else None
    receipts, more = await fetch(page.limit, lambda count: ports.receipts.list(limit=count, after=after))
    return JSON(listed([shown(receipt) for receipt in receipts], more=more))


@routes.get("/v1/receipts/{receipt_id}")
async def get_receipt(receipt_id: str, ports: ThePorts) -> Response:
    """One receipt, as it was signed."""
    from bookwheel.receipts import shown

    return JSON(shown(await ports.receipts.get(parse("receipt", receipt_id))))


@routes.get("/v1/signing_key")
async def get_signing_key(ports: ThePorts, settings: TheSettings) -> Response:
    """The public key that receipts of this server are checked with. Keep it where the receipts are."""
    from bookwheel.receipts import public_key

    shown_key = public_key(await _private_key(ports, settings))
    return JSON({"object": "bookwheel.signing_key", "algorithm": "ed25519", "public_key": shown_key})


async def _private_key(ports: Ports, settings: Settings) -> bytes:
    """The one that is set, else the server's own."""
    from bookwheel.receipts import new_key  # only where it is needed: it brings a library for cryptography

    given = settings.signing_key.get_secret_value()
    return b64decode(given) if given else await ports.receipts.signing_key(new_key())
