"""Headers that every response has, and whom the API lets in from other origins."""

import httpx
import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bookwheel.api import create_app
from bookwheel.api.security_headers import SecurityHeaders
from bookwheel.errors import SettingsError
from bookwheel.settings import Settings
from bookwheel.testing import memory_ports

NAMES = ("content-security-policy", "referrer-policy", "cross-origin-resource-policy")


async def _answered(*, base: str = "http://test", **headers: str) -> httpx.Headers:
    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("x", headers=headers)(scope, receive, send)

    transport = httpx.ASGITransport(app=SecurityHeaders(route))
    async with httpx.AsyncClient(transport=transport, base_url=base) as client:
        return (await client.get("/")).headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health/live", 200),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/no/such", 404),
        ("PATCH", "/v1/files", 405),
        ("GET", "/v1/files/file-nothing", 404),
        ("POST", "/v1/search", 400),
        ("GET", "/v1/search", 400),
    ],
)
async def test_every_response_has_them(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    """Good ones and bad ones."""
    response = await client.request(method, path, content=b"{" if method == "POST" else None)
    assert response.status_code == status
    assert response.headers["x-content-type-options"] == "nosniff"
    assert all(name in response.headers for name in NAMES)
    assert "strict-transport-security" not in response.headers
    assert response.headers["cache-control"]


async def test_an_unexpected_error_has_them_too() -> None:
    """The last resort is inside."""
    app = create_app(memory_ports(), Settings())
    app.add_api_route("/broken", _broken)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.get("/broken")
    assert response.status_code == 500
    assert response.headers["x-content-type-options"] == "nosniff"


async def _broken() -> None:
    raise KeyError("nobody expected that")


async def test_own_rules_of_a_route_stay() -> None:
    """Caching as the route has it; what has an ETag may be asked for again; all else is kept by nobody."""
    assert (await _answered(**{"cache-control": "public, max-age=60"}))["cache-control"] == "public, max-age=60"
    assert (await _answered(etag='"1"'))["cache-control"] == "private, no-cache"
    assert (await _answered())["cache-control"] == "no-store"
    assert (await _answered(**{"content-security-policy": "default-src 'self'"}))["content-security-policy"] == (
        "default-src 'self'"
    )


async def test_strict_transport_security_over_tls_only() -> None:
    """A browser that came over TLS comes back over TLS."""
    assert (await _answered(base="https://test"))["strict-transport-security"] == "max-age=31536000"
    assert "strict-transport-security" not in await _answered()


async def test_no_origin_is_let_in_by_default(client: httpx.AsyncClient) -> None:
    """Neither asked beforehand nor in the answer."""
    origin = {"origin": "https://app.example.com"}
    asked = await client.options("/v1/search", headers={**origin, "access-control-request-method": "POST"})
    answered = await client.get("/health/live", headers=origin)
    for response in (asked, answered):
        assert not any(name.startswith("access-control") for name in response.headers)


async def test_a_named_origin_reads_errors_too() -> None:
    """And the headers that its scripts need."""
    settings = Settings(cors_origins=" https://App.example.com , http://localhost:3000")
    transport = httpx.ASGITransport(app=create_app(memory_ports(), settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.get("/no/such", headers={"origin": "http://localhost:3000"})
        other = await client.get("/no/such", headers={"origin": "http://localhost:3001"})
        named = await client.get("/no/such", headers={"origin": "https://app.example.com"})
    assert response.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert named.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "x-request-id" in response.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    "origins", ["*", "https://*.example.com", "app.example.com", "https://a.example/path", "null", "https://u@h"]
)
def test_what_is_no_origin_is_refused(origins: str) -> None:
    """With the setting's name, when the application is made."""
    with pytest.raises(SettingsError, match="BOOKWHEEL_CORS_ORIGINS"):
        create_app(memory_ports(), Settings(cors_origins=origins))
