"""/v1/models: what a chat, a request for embeddings or a reranking may name as its model."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from bookwheel.api.ids import parse
from bookwheel.api.pages import listed
from bookwheel.api.shapes import seconds
from bookwheel.api.wiring import JSON, ThePorts, TheScope, router
from bookwheel.errors import InvalidRequestError, NotFoundError
from bookwheel.ports import Embedder, Ports
from bookwheel.types import Scope

EMBEDDER = "bookwheel-embeddings"  #: the model of new stores
RERANKER = "bookwheel-rerank"  #: the configured reranker
OWN = "bookwheel"  #: the configured generator over the stores that the request names
PREFIX = "bookwheel/"  #: before a store's id

routes = router("models")


def names(ports: Ports) -> tuple[str, ...]:
    """Models that need stores to be named beside them."""
    return tuple(dict.fromkeys((OWN, *ports.generators)))


def store_of(model: str, ports: Ports) -> str | None:
    """The store's public id inside a model name, None for a plain one. Raises NotFoundError."""
    if model in names(ports):
        return None
    store = model.removeprefix(PREFIX)
    if not store.startswith("vs_"):
        known = ", ".join(names(ports))
        raise NotFoundError(f"No model {model[:80]!r}. Use {known}, or {PREFIX}vs_... for one store.", param="model")
    return store


async def generator_for(model: str, schema: Mapping[str, Any] | None, *, scope: Scope, ports: Ports) -> str:
    """The generator that a model name asks for: its own name, else the tenant's choice, else the default. Raises
    InvalidRequestError for a schema that it cannot follow."""
    name = model if model in ports.generators else await _of_tenant(scope, ports)
    if schema is not None and not ports.generators[name].writes_json:
        raise InvalidRequestError(
            f"{name} writes no JSON: response_format needs a language model. Set BOOKWHEEL_GENERATOR_URL, or leave"
            " response_format out.",
            param="response_format",
        )
    return name


async def _of_tenant(scope: Scope, ports: Ports) -> str:
    if len(ports.generators) > 1:
        chosen = (await ports.tenants.get(scope=scope)).generator
        if chosen is not None and chosen in ports.generators:
            return chosen
    return ports.generator.model


def embedder_named(model: str, ports: Ports) -> Embedder:
    """The embedder by its model's name or as EMBEDDER. Raises NotFoundError that names the known ones."""
    known = _embedders(ports)
    if model not in known:
        raise NotFoundError(f"No embedding model {model[:80]!r}. Use {' or '.join(known)}.", param="model")
    return known[model]


def _embedders(ports: Ports) -> dict[str, Embedder]:
    own = ports.embedders[ports.space.id]
    return {EMBEDDER: own} | {embedder.model: embedder for embedder in (*ports.embedders.values(), own)}


def _plain(ports: Ports) -> tuple[str, ...]:
    """Every model that is not a store."""
    return tuple(dict.fromkeys((*names(ports), *_embedders(ports), RERANKER, ports.reranker.model)))


@routes.get("/v1/models")
async def list_models(ports: ThePorts) -> Response:
    """The plain models."""
    return JSON(listed([_model(name, 0) for name in _plain(ports)], more=False))


@routes.get("/v1/models/{model:path}")
async def get_model(model: str, ports: ThePorts, scope: TheScope) -> Response:
    """One model; a store is one too."""
    public_id = None if model in _plain(ports) else store_of(model, ports)
    if public_id is None:
        return JSON(_model(model, 0))
    store = await ports.stores.get(parse("store", public_id), scope=scope)
    return JSON(_model(model, seconds(store.created_at)))


def _model(id: str, created: int) -> dict[str, Any]:
    return {"id": id, "object": "model", "created": created, "owned_by": "bookwheel"}
