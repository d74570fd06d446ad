"""Models, health, metrics and status."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Mapping
from importlib.metadata import version
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from bookwheel.api.wiring import JSON, ThePorts, TheScope, router
from bookwheel.errors import BookwheelError, UnavailableError
from bookwheel.ports import Ports
from bookwheel.telemetry import ERRORS, QUEUE_DEPTH
from bookwheel.types import DEFAULT_TENANT, Scope, Store

PING_SECONDS = 2.0
SCAN = 500  #: stores read at once for the status
READY_STATUS, UNREADY_STATUS = 200, 503

routes = router("status")


@routes.get("/health/live")
async def live() -> Response:
    """The process runs and its loop turns."""
    return JSON({"status": "ok"})


@routes.get("/health/ready")
async def ready(ports: ThePorts) -> Response:
    """Whether every part answers; 503 with what to do until they all do."""
    pings = _pings(ports)
    results = await asyncio.gather(*(_probe(ping) for ping in pings.values()))
    parts = dict(zip(pings, results, strict=True))
    good = all(part["status"] == "ok" for part in results)
    body = {"status": "ok" if good else "unavailable", "parts": parts}
    return JSON(body, status_code=READY_STATUS if good else UNREADY_STATUS)


def _pings(ports: Ports) -> Mapping[str, Awaitable[Any]]:
    return {
        "catalog": ports.stores.list(scope=Scope(tenant_id=DEFAULT_TENANT, manages=True), limit=1),
        "jobs": ports.jobs.depth(),
        "vectors": ports.vectors.ping(),
        "keywords": ports.keywords.ping(),
        "blobs": ports.blobs.ping(),
        "embedder": ports.embedders[ports.space.id].ping(),
    }


async def _probe(ping: Awaitable[Any]) -> dict[str, str]:
    try:
        async with asyncio.timeout(PING_SECONDS):
            await ping
    except TimeoutError:
        return {"status": "unavailable", "remedy": f"No answer within {PING_SECONDS:g} s; see its log, then retry."}
    except BookwheelError as error:
        return {"status": "unavailable", "code": error.code, "remedy": error.message}
    return {"status": "ok"}


@routes.get("/metrics")
async def metrics(ports: ThePorts) -> Response:
    """Prometheus text."""
    try:
        for queue, depth in (await ports.jobs.depth()).items():
            QUEUE_DEPTH.labels(queue).set(depth)
    except UnavailableError as error:  # the other metrics are wanted most when the database is away
        ERRORS.labels("metrics", type(error).__name__).inc()
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@routes.get("/v1/status")
async def status(ports: ThePorts, scope: TheScope) -> Response:
    """Counts of stores, documents and jobs, and what runs here."""
    stores = await _all_stores(ports, scope)
    documents: Counter[str] = Counter()
    for store in stores:
        documents.update({state.value: count for state, count in store.counts.items()})
    return JSON(
        {
            "object": "bookwheel.status",
            "version": version("bookwheel"),
            "vector_stores": len(stores),
            "documents": dict(documents),
            "usage_bytes": sum(store.size for store in stores),
            "queues": await ports.jobs.depth(),
            "keywords_behind": await _keywords_behind(ports),
            "embedding_model": f"{ports.space.model}@{ports.space.revision}",
            "generator": ports.generator.model,
        }
    )


async def _keywords_behind(ports: Ports) -> int | None:
    """Changes that the keyword index has not seen yet; None when it does not answer."""
    try:
        return max(0, await ports.outbox.last() - await ports.keywords.position())
    except UnavailableError as error:
        ERRORS.labels("status", type(error).__name__).inc()
        return None


async def _all_stores(ports: Ports, scope: Scope) -> list[Store]:
    stores: list[Store] = []
    after = None
    while True:
        page = await ports.stores.list(scope=scope, limit=SCAN, after=after)
        stores += page
        if len(page) < SCAN:
            return stores
        after = page[-1].id
