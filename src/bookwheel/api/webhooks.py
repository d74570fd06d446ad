"""/v1/webhook_endpoints: places that are told when background work has ended."""

import secrets
from base64 import b64encode
from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response

from bookwheel.acts import note
from bookwheel.api.bodies import Body, Name
from bookwheel.api.ids import parse, public
from bookwheel.api.pages import ThePage, fetch, listed
from bookwheel.api.shapes import seconds
from bookwheel.api.wiring import JSON, ThePorts, TheScope, TheSettings, router
from bookwheel.deliver import EVENT_TYPES, EventType, send_test
from bookwheel.errors import FetchRefusedError, InvalidRequestError
from bookwheel.fetching import checked_place
from bookwheel.settings import Settings
from bookwheel.types import Delivery, WebhookEndpoint

MAX_ENDPOINTS = 20  #: each takes a row for every event that it asks for
SECRET_BYTES = 32
SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix that the scheme prescribes

Url = Annotated[str, Field(min_length=1, max_length=2_000)]

routes = router("webhooks")


class WebhookModify(Body):
    """POST /v1/webhook_endpoints/{id}: what is not given stays."""

    name: Name | None = None
    url: Url | None = None
    event_types: Annotated[list[EventType], Field(min_length=1, max_length=100)] | None = None


class WebhookCreate(Body):
    """POST /v1/webhook_endpoints."""

    name: Name = ""
    url: Url
    event_types: list[EventType] = Field(min_length=1, max_length=100)


class SecretRotate(Body):
    """POST /v1/webhook_endpoints/{id}/rotate_secret."""

    keep_old_secret_active_for_24_hours: bool = False


class WebhookTest(Body):
    """POST /v1/webhook_endpoints/{id}/test."""

    event_type: EventType = "response.completed"


@routes.post("/v1/webhook_endpoints")
async def create_webhook(body: WebhookCreate, ports: ThePorts, scope: TheScope, settings: TheSettings) -> Response:
    """Tell an endpoint of events from now on. The secret is shown here and nowhere else."""
    if len(await ports.webhooks.list(scope=scope, limit=MAX_ENDPOINTS)) == MAX_ENDPOINTS:
        raise InvalidRequestError(f"There are {MAX_ENDPOINTS} webhook endpoints already. Delete one first.")
    secret = secrets.token_bytes(SECRET_BYTES)
    made = await ports.webhooks.create(
        body.name, scope=scope, url=_checked(body.url, settings), event_types=_once(body.event_types), secret=secret
    )
    note(object_id=public("webhook", made.id))
    return JSON(_with_secret(made))


@routes.get("/v1/webhook_endpoints")
async def list_webhooks(ports: ThePorts, scope: TheScope, page: ThePage) -> Response:
    """A page of the caller's endpoints."""
    after = parse("webhook", page.after) if page.after else None
    endpoints, more = await fetch(
        page.limit, lambda count: ports.webhooks.list(scope=scope, limit=count, after=after, newest=page.newest)
    )
    return JSON(listed([webhook_object(endpoint) for endpoint in endpoints], more=more))


@routes.get("/v1/webhook_event_types")
async def list_event_types() -> Response:
    """What an endpoint can be told of."""
    return JSON({"object": "list", "data": list(EVENT_TYPES)})


@routes.get("/v1/webhook_endpoints/{webhook_id}")
async def get_webhook(webhook_id: str, ports: ThePorts, scope: TheScope) -> Response:
    """One endpoint, without its secret."""
    return JSON(webhook_object(await ports.webhooks.get(parse("webhook", webhook_id), scope=scope)))


@routes.post("/v1/webhook_endpoints/{webhook_id}")
async def modify_webhook(
    webhook_id: str, body: WebhookModify, ports: ThePorts, scope: TheScope, settings: TheSettings
) -> Response:
    """Change name, URL or events."""
    changed = await ports.webhooks.update(
        parse("webhook", webhook_id),
        scope=scope,
        name=body.name,
        url=None if body.url is None else _checked(body.url, settings),
        event_types=None if body.event_types is None else _once(body.event_types),
    )
    return JSON(webhook_object(changed))


@routes.post("/v1/webhook_endpoints/{webhook_id}/rotate_secret")
async def rotate_secret(
    webhook_id: str, ports: ThePorts, scope: TheScope, body: SecretRotate | None = None
) -> Response:
    """Sign with a new secret from the next attempt on, and never again with the old one. It is shown only here."""
    if body and body.keep_old_secret_active_for_24_hours:
        raise InvalidRequestError(
            "Only one secret is active at a time. Leave keep_old_secret_active_for_24_hours out, and have the receiver"
            " answer 5xx until it knows the new secret: what it misses is sent again.",
            param="keep_old_secret_active_for_24_hours",
        )
    secret = secrets.token_bytes(SECRET_BYTES)
    return JSON(_with_secret(await ports.webhooks.update(parse("webhook", webhook_id), scope=scope, secret=secret)))


@routes.delete("/v1/webhook_endpoints/{webhook_id}")
async def delete_webhook(webhook_id: str, ports: ThePorts, scope: TheScope) -> Response:
    """Remove an endpoint with its log; nothing more is sent."""
    parsed = parse("webhook", webhook_id)
    await ports.webhooks.delete(parsed, scope=scope)
    return JSON({"id": public("webhook", parsed), "object": "webhook_endpoint.deleted", "deleted": True})


@routes.post("/v1/webhook_endpoints/{webhook_id}/test")
async def try_webhook(
    webhook_id: str, body: WebhookTest, ports: ThePorts, scope: TheScope, settings: TheSettings
) -> Response:
    """Send an event about nothing, once and now; `status_code` is the endpoint's answer, whatever it is."""
    endpoint = await ports.webhooks.get(parse("webhook", webhook_id), scope=scope)
    status = await send_test(endpoint, body.event_type, settings=settings)
    return JSON(
        {
            "object": "webhook_endpoint.test",
            "webhook_endpoint_id": public("webhook", endpoint.id),
            "event_type": body.event_type,
            "status_code": status,
            "success": True,
        }
    )


@routes.get("/v1/webhook_endpoints/{webhook_id}/deliveries")
async def list_deliveries(webhook_id: str, ports: ThePorts, scope: TheScope, page: ThePage) -> Response:
    """What was or is to be sent to an endpoint, and how that goes."""
    parsed, after = parse("webhook", webhook_id), parse("delivery", page.after) if page.after else None
    deliveries, more = await fetch(
        page.limit,
        lambda count: ports.webhooks.deliveries(parsed, scope=scope, limit=count, after=after, newest=page.newest),
    )
    return JSON(listed([delivery_object(delivery) for delivery in deliveries], more=more))


def webhook_object(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """A `webhook_endpoint`."""
    return {
        "id": public("webhook", endpoint.id),
        "object": "webhook_endpoint",
        "created_at": seconds(endpoint.created_at),
        "updated_at": seconds(endpoint.updated_at),
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": list(endpoint.event_types),
        "signing_secret_hint": f"{SECRET_PREFIX}...{b64encode(endpoint.secret).decode()[-5:]}",
    }


def _with_secret(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """What its caller sees once."""
    return webhook_object(endpoint) | {"signing_secret": SECRET_PREFIX + b64encode(endpoint.secret).decode()}


def delivery_object(delivery: Delivery) -> dict[str, Any]:
    """A line of the delivery log; its id is the `webhook-id` that the endpoint saw."""
    return {
        "id": public("delivery", delivery.id),
        "object": "webhook_endpoint.delivery",
        "webhook_endpoint_id": public("webhook", delivery.endpoint_id),
        "event_type": delivery.event_type,
        "payload": delivery.payload,
        "status": delivery.status.value,
        "attempts": delivery.attempts,
        "status_code": delivery.http_status,
        "last_error": delivery.error,
        "created_at": seconds(delivery.created_at),
        "updated_at": seconds(delivery.updated_at),
        "next_try_at": seconds(delivery.next_try_at) if delivery.next_try_at else None,
    }


def _checked(url: str, settings: Settings) -> str:
    try:
        return checked_place(url, allow_private=settings.fetch_allow_private)
    except FetchRefusedError as error:
        raise InvalidRequestError(error.message, param="url") from None


def _once(event_types: list[EventType]) -> list[str]:
    return list(dict.fromkeys(event_types))
