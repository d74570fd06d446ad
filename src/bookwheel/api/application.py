"""The application: every route, error handler and middleware of the door."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from bookwheel.access import is_open
from bookwheel.acts import Recorder
from bookwheel.api import (
    audit,
    chat,
    cross_origin,
    documents,
    embeddings,
    failures,
    file_batches,
    files,
    jobs,
    keys,
    link_search,
    mcp,
    models,
    openapi,
    plain_search,
    receipts,
    rerank,
    responses,
    search,
    sources,
    status,
    store_files,
    tenant,
    tenant_export,
    tenants,
    vector_stores,
    webhooks,
)
from bookwheel.api.authentication import Authentication
from bookwheel.api.body_pace import BodyPace
from bookwheel.api.idempotency import Idempotency
from bookwheel.api.limiting import Limiting
from bookwheel.api.middleware import Attendant
from bookwheel.api.security_headers import SecurityHeaders
from bookwheel.api.wiring import JSON
from bookwheel.identity import Authenticator
from bookwheel.limits import Guard
from bookwheel.pace import Patience
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
        **{"lifespan": lifespan, **options},
    )
    app.state.ports = ports
    app.state.settings = settings
    app.state.recorder = Recorder(ports.audit, ports.key_uses)
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
        tenant_export,
        tenants,
        receipts,
        keys,
        audit,
        status,
    ):
        app.include_router(module.routes)
    mcp.install(app, ports, settings)
    failures.install(app)
    openapi.install(app)
    app.add_middleware(BodyPace, patience=Patience.of(settings))
    app.add_middleware(Idempotency)
    app.state.guard = Guard(ports.limiter, settings)
    app.add_middleware(Limiting, guard=app.state.guard)
    app.state.authenticator = authenticator(ports, settings)
    app.add_middleware(Authentication, authenticator=app.state.authenticator, settings=settings)
    app.add_middleware(Attendant)
    cross_origin.install(app, settings)
    app.add_middleware(SecurityHeaders)
    return app


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """What runs beside the requests."""
    async with mcp.lifespan(app):
        try:
            yield
        finally:
            await app.state.guard.close()
            await app.state.authenticator.close()


def authenticator(ports: Ports, settings: Settings) -> Authenticator:
    """Who finds out who calls: by keys, by tokens where an issuer is set."""
    if not settings.oidc_issuer:
        return Authenticator(ports.keys, tokens=None, is_open=is_open(settings))
    from bookwheel.tokens import TokenVerifier  # only where it is needed: it brings a library for cryptography

    return Authenticator(ports.keys, tokens=TokenVerifier(settings, ports.tenants), is_open=is_open(settings))
