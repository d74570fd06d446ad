"""The application: every route, error handler and middleware of the door."""

import asyncio
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from bookwheel.api import (
    chat,
    documents,
    embeddings,
    failures,
    file_batches,
    files,
    jobs,
    link_search,
    mcp,
    models,
    openapi,
    plain_search,
    rerank,
    responses,
    search,
    sources,
    status,
    store_files,
    tenant,
    vector_stores,
    webhooks,
)
from bookwheel.api.idempotency import Idempotency
from bookwheel.api.middleware import Attendant
from bookwheel.api.wiring import JSON
from bookwheel.ports import Ports
from bookwheel.settings import Settings

OFF = TelemetryConfig(tracing=False, metrics=False, logs=False, operation_spans=False)  # we have our own


def create_app(ports: Ports, settings: Settings, **options: Any) -> FastAPI:
    """The HTTP door over these ports. `options` go to FastAPI, such as `lifespan`."""
    app = FastAPI(
        title="Bookwheel",
        summary="Documents in, cited answers out, in OpenAI's shapes.",
        version=version("bookwheel"),
        openapi_url="/openapi.json",
        docs_url=None,  # these pages load scripts from the internet
        redoc_url=None,
        redirect_slashes=False,  # an id may end in a slash
        default_response_class=JSON,
        generate_unique_id_function=lambda route: route.name,
        telemetry=OFF,
        **{"lifespan": mcp.lifespan, **options},
    )
    app.state.ports = ports
    app.state.settings = settings
    app.state.embedding_turn = asyncio.Lock()
    for module in (
        search,
        plain_search,
        link_search,
        chat,
        responses,
        webhooks,
        embeddings,
        rerank,
        documents,
        vector_stores,
        file_batches,
        store_files,
        files,
        jobs,
        models,
        sources,
        tenant,
        status,
    ):
        app.include_router(module.routes)
    mcp.install(app, ports, settings)
    failures.install(app)
    openapi.install(app)
    app.add_middleware(Idempotency)
    app.add_middleware(Attendant)
    return app
