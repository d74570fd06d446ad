"""Health, metrics, request ids, traces and the loopback rule."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from bookwheel import telemetry
from bookwheel.access import is_open
from bookwheel.api import create_app
from bookwheel.api.middleware import Attendant
from bookwheel.errors import IndexUnavailableError
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.testing import memory_ports

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Ailing:
    """An index that is away, or never answers."""

    def __init__(self, *, hangs: bool) -> None:
        self.hangs = hangs

    async def ping(self) -> None:
        """Fail as told."""
        if self.hangs:
            await asyncio.Event().wait()
        raise IndexUnavailableError


def client_of(app: Any) -> httpx.AsyncClient:
    """A client of an ASGI application."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.fixture
def ports() -> Ports:
    """Empty ports in memory."""
    return memory_ports()


@pytest.fixture
async def client(ports: Ports) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the door."""
    async with client_of(create_app(ports, Settings())) as made:
        yield made


async def test_ready_when_every_part_answers(client: httpx.AsyncClient) -> None:
    """Ready means that each part was asked and answered."""
    response = await client.get("/health/ready")
    assert response.status_code == 200
    parts = response.json()["parts"]
    assert parts.keys() == {"catalog", "jobs", "vectors", "keywords", "blobs", "embedder"}
    assert all(part == {"status": "ok"} for part in parts.values())


@pytest.mark.parametrize("hangs", [False, True])
async def test_not_ready_names_the_part(ports: Ports, monkeypatch: pytest.MonkeyPatch, hangs: bool) -> None:
    """A part that fails or hangs makes 503, with what to do; the others are told apart, and liveness holds."""
    monkeypatch.setattr("bookwheel.api.status.PING_SECONDS", 0.05)
    ailing: Any = Ailing(hangs=hangs)
    async with client_of(create_app(replace(ports, vectors=ailing), Settings())) as client:
        response = await client.get("/health/ready")
        assert response.status_code == 503
        parts = response.json()["parts"]
        assert [name for name, part in parts.items() if part["status"] != "ok"] == ["vectors"]
        assert parts["vectors"]["remedy"]
        assert (await client.get("/health/live")).status_code == 200


async def test_metrics_have_routes_not_paths(client: httpx.AsyncClient) -> None:
    """Requests are counted by route, so that callers cannot grow the metrics with names of their own."""
    labels = {"method": "GET", "route": "/v1/vector_stores/{store_id}", "status": "404"}
    before = REGISTRY.get_sample_value("bookwheel_http_requests_total", labels) or 0
    await client.get("/v1/vector_stores/vs_mine")
    await client.get("/v1/made/up")
    text = (await client.get("/metrics")).text
    assert REGISTRY.get_sample_value("bookwheel_http_requests_total", labels) == before + 1
    assert "vs_mine" not in text
    assert "made/up" not in text
    assert "bookwheel_queue_depth" in text


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-1.2_X", True), ("a b", False), ("", False), ("x" * 129, False), ("é", False)]
)
async def test_request_id_is_kept_when_harmless(client: httpx.AsyncClient, given: str, kept: bool) -> None:
    """A sane id of the caller comes back; another is replaced."""
    response = await client.get("/health/live", headers={"x-request-id": given.encode("latin-1")})
    assert (response.headers["x-request-id"] == given) is kept
    assert response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [(TRACE, True), ("00-0-0-01", False), (TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32), False)],
)
async def test_trace_context_is_passed_on(given: str, kept: bool) -> None:
    """A well-formed traceparent and the request id are known to everything below, and only during the request."""
    seen = []

    async def below(scope: Any, receive: Any, send: Any) -> None:
        seen.append((telemetry.traceparent.get(), telemetry.request_id.get()))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with client_of(Attendant(below)) as client:
        await client.get("/", headers={"traceparent": given, "x-request-id": "mine"})
    assert seen == [(given if kept else "", "mine")]
    assert (telemetry.traceparent.get(), telemetry.request_id.get()) == ("", "")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_on_loopback_no_key_is_asked_for(host: str) -> None:
    """Addresses that only this machine reaches, unless somebody wants keys there too."""
    assert is_open(Settings(host=host))
    assert not is_open(Settings(host=host, auth="keys"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "", "localhost.example.org"])
def test_elsewhere_every_caller_needs_a_key(host: str) -> None:
    """Whoever else can reach the server must say who they are."""
    assert not is_open(Settings(host=host))


def test_stage_adds_up_and_counts_errors() -> None:
    """A stage entered twice is summed; an error inside is counted under it and passes on."""
    timings: dict[str, float] = {"embed": 1.0}
    labels = {"stage": "embed", "type": "KeyError"}
    before = REGISTRY.get_sample_value("bookwheel_errors_total", labels) or 0
    with pytest.raises(KeyError), telemetry.stage("embed", timings):
        raise KeyError
    assert timings["embed"] >= 1.0
    assert REGISTRY.get_sample_value("bookwheel_errors_total", labels) == before + 1


def test_metrics_have_the_names_of_the_design() -> None:
    """Dashboards and alerts rest on these names."""
    names = {metric.name for metric in REGISTRY.collect()}
    fixed = (
        "retrieval_latency_seconds generation_latency_seconds embed_latency_seconds search_latency_seconds"
        " cache_requests stale_passage_ratio queue_depth ingest_documents errors degraded index_build_seconds"
    )
    assert {f"bookwheel_{name}" for name in fixed.split()} <= names


@pytest.mark.parametrize("format", ["json", "text"])
def test_log_lines_carry_the_request(format: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Our lines and the libraries' have the request id and the trace id; debug lines stay out at info."""
    root = logging.getLogger()
    saved = root.handlers[:], root.level
    configured = telemetry.structlog.get_config()
    tokens = telemetry.request_id.set("mine"), telemetry.traceparent.set(TRACE)
    try:
        telemetry.configure_logging(level="info", format=format)
        telemetry.structlog.get_logger("bookwheel").info("ours", size=3)
        telemetry.structlog.get_logger("bookwheel").debug("too fine")
        logging.getLogger("library").warning("theirs %s", 4)
    finally:
        telemetry.request_id.reset(tokens[0])
        telemetry.traceparent.reset(tokens[1])
        telemetry.structlog.configure(**configured)
        root.handlers[:], root.level = saved[0], saved[1]
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    for line, word in zip(lines, ("ours", "theirs 4"), strict=True):
        assert word in line
        assert "mine" in line
        assert "4bf92f3577b34da6a3ce929d0e0e4736" in line
