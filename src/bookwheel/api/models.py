"""/v1/models: what a chat may name as its model."""

from typing import Any

from starlette.responses import Response

from bookwheel.api.ids import parse
from bookwheel.api.pages import listed
from bookwheel.api.shapes import seconds
from bookwheel.api.wiring import JSON, ThePorts, TheScope, router
from bookwheel.errors import NotFoundError
from bookwheel.ports import Ports

OWN = "bookwheel"  #: the configured generator over the stores that the request names
PREFIX = "bookwheel/"  #: before a store's id

routes = router("models")


def names(ports: Ports) -> tuple[str, ...]:
    """Models that need stores to be named beside them."""
    return tuple(dict.fromkeys((OWN, "bookwheel-extractive", ports.generator.model)))


def store_of(model: str, ports: Ports) -> str | None:
    """The store's public id inside a model name, None for a plain one. Raises NotFoundError."""
    if model in names(ports):
        return None
    store = model.removeprefix(PREFIX)
    if not store.startswith("vs_"):
        known = ", ".join(names(ports))
        raise NotFoundError(f"No model {model[:80]!r}. Use {known}, or {PREFIX}vs_... for one store.", param="model")
    return store


@routes.get("/v1/models")
async def list_models(ports: ThePorts) -> Response:
    """The plain models."""
    return JSON(listed([_model(name, 0) for name in names(ports)], more=False))


@routes.get("/v1/models/{model:path}")
async def get_model(model: str, ports: ThePorts, scope: TheScope) -> Response:
    """One model; a store is one too."""
    public_id = store_of(model, ports)
    if public_id is None:
        return JSON(_model(model, 0))
    store = await ports.stores.get(parse("store", public_id), scope=scope)
    return JSON(_model(model, seconds(store.created_at)))


def _model(id: str, created: int) -> dict[str, Any]:
    return {"id": id, "object": "model", "created": created, "owned_by": "bookwheel"}
