"""API keys over HTTP: who may come in, with what role, and for how long."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from bookwheel import identity
from bookwheel.access import within
from bookwheel.api import create_app, roles
from bookwheel.api.openapi import operations
from bookwheel.errors import NotFoundError
from bookwheel.identity import hash_of
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.testing.desk import Desk
from bookwheel.types import DEFAULT_TENANT, Role, Scope

STORES = "/v1/vector_stores"


@pytest.fixture
def ports(desk: Desk) -> Ports:
    """Empty ports."""
    return desk.ports


@pytest.fixture
async def client(ports: Ports) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a door that asks for keys."""
    transport = httpx.ASGITransport(app=create_app(ports, Settings(auth="keys")), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://books.example.org") as made:
        yield made


def bearing(secret: str) -> dict[str, str]:
    """The header of a key."""
    return {"authorization": f"Bearer {secret}"}


async def made(client: httpx.AsyncClient, by: str, **wanted: Any) -> dict[str, Any]:
    """A new key with its secret."""
    response = await client.post("/v1/keys", json=wanted, headers=bearing(by))
    assert response.status_code == 200, response.text
    return dict(response.json())


def code(response: httpx.Response) -> tuple[int, str]:
    """Status and code of an error."""
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer bw-guess", "Basic bw-guess", "Bearer sk-1", "Bearer a.b.c"])
async def test_without_a_known_key_nothing_is_told(client: httpx.AsyncClient, operator: str, header: str) -> None:
    """Not even which paths there are; only that the service lives is public."""
    headers = {"authorization": header} if header else {}
    for path in (STORES, "/v1/status", "/metrics", "/mcp", "/v1/nothing"):
        assert code(await client.get(path, headers=headers)) == (401, "invalid_api_key")
    assert (await client.get("/health/live", headers=headers)).status_code == 200
    assert (await client.get("/openapi.json", headers=headers)).status_code == 200


async def test_a_key_is_shown_once_and_only_its_hash_is_kept(
    client: httpx.AsyncClient, ports: Ports, operator: str
) -> None:
    """Neither the list nor the object of a key holds the secret, and no answer that is kept for a repeated request."""
    headers = {**bearing(operator), "idempotency-key": "k"}
    first, second = [(await client.post("/v1/keys", json={"name": "n"}, headers=headers)).json() for _ in range(2)]
    assert first["secret"] != second["secret"]
    assert first["secret"].startswith(first["prefix"])
    shown = await client.get(f"/v1/keys/{first['id']}", headers=bearing(operator))
    listed = await client.get("/v1/keys", headers=bearing(operator))
    assert first["secret"] not in shown.text + listed.text
    kept = await ports.keys.by_hash(hash_of(first["secret"]))
    assert kept is not None
    assert first["secret"] not in repr(kept)


@pytest.mark.parametrize("role", ["reader", "writer", "admin", "operator"])
async def test_each_role_may_call_what_its_row_says(client: httpx.AsyncClient, operator: str, role: str) -> None:
    """Every operation of the API, asked with ids that nobody has: 403 exactly where the role is too weak."""
    secret = (await made(client, operator, role=role))["secret"]
    document = (await client.get("/openapi.json")).json()
    for path, method, operation in operations(document):
        name = operation["operationId"]
        needed = roles.needed(name)
        response = await client.request(method, path.replace("{", "").replace("}", ""), headers=bearing(secret))
        refused = needed is not None and not Role(role).covers(needed)
        assert (response.status_code == 403) == refused, (name, response.text)


async def test_a_route_without_a_role_cannot_be_made() -> None:
    """Whoever adds a route must say who may call it."""
    with pytest.raises(LookupError, match=r"api/roles\.py"):
        roles.needed("new_route")


async def test_nobody_makes_a_stronger_key(client: httpx.AsyncClient, operator: str) -> None:
    """An admin makes admins at most, a writer none, and neither rotates nor revokes an operator's."""
    admin = (await made(client, operator, role="admin"))["secret"]
    assert code(await client.post("/v1/keys", json={"role": "operator"}, headers=bearing(admin)))[0] == 403
    assert (await client.post("/v1/keys", json={"role": "admin"}, headers=bearing(admin))).status_code == 200
    first = (await client.get("/v1/keys", headers=bearing(admin))).json()["data"][-1]
    assert first["role"] == "operator"
    assert (await client.delete(f"/v1/keys/{first['id']}", headers=bearing(admin))).status_code == 403
    assert (await client.post(f"/v1/keys/{first['id']}/rotate", headers=bearing(admin))).status_code == 403


async def test_a_revoked_key_is_refused_at_once(client: httpx.AsyncClient, operator: str) -> None:
    """Here; other processes trust what they read for two seconds."""
    key = await made(client, operator, role="reader")
    assert (await client.get(STORES, headers=bearing(key["secret"]))).status_code == 200
    assert (await client.delete(f"/v1/keys/{key['id']}", headers=bearing(operator))).status_code == 200
    assert (await client.get(STORES, headers=bearing(key["secret"]))).status_code == 401


async def test_a_rotated_key_goes_on_for_the_overlap(
    client: httpx.AsyncClient, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both work, then the new one alone; it has the role, the name and the rule of the old one."""
    old = await made(client, operator, role="writer", name="n", rule={"a": 1}, principals=["user:a"])
    rotated = await client.post(
        f"/v1/keys/{old['id']}/rotate", json={"overlap_seconds": 100}, headers=bearing(operator)
    )
    new = rotated.json()
    same = ("role", "name", "rule", "principals", "store_ids", "limits")
    assert {field: new[field] for field in same} == {field: old[field] for field in same}
    for secret in (old["secret"], new["secret"]):
        assert (await client.get(STORES, headers=bearing(secret))).status_code == 200
    later = datetime.now(UTC) + timedelta(seconds=101)
    monkeypatch.setattr(identity.time, "time", later.timestamp)
    assert (await client.get(STORES, headers=bearing(old["secret"]))).status_code == 401
    assert (await client.get(STORES, headers=bearing(new["secret"]))).status_code == 200


async def test_a_key_of_some_stores_sees_no_others(client: httpx.AsyncClient, operator: str) -> None:
    """And no such key is an admin's, who could make one that does."""
    ours, theirs = [
        (await client.post(STORES, json={"name": name}, headers=bearing(operator))).json()["id"] for name in "ab"
    ]
    key = (await made(client, operator, role="writer", store_ids=[ours]))["secret"]
    assert (await client.get(f"{STORES}/{ours}", headers=bearing(key))).status_code == 200
    assert (await client.get(f"{STORES}/{theirs}", headers=bearing(key))).status_code == 404
    assert [one["id"] for one in (await client.get(STORES, headers=bearing(key))).json()["data"]] == [ours]
    body = {"query": "a"}
    assert (await client.post(f"{STORES}/{theirs}/search", json=body, headers=bearing(key))).status_code == 404
    chunks = {"role": "reader", "rule": {"chunk.page": 1}}
    assert (await client.post("/v1/keys", json=chunks, headers=bearing(operator))).status_code == 400
    for limited in ({"store_ids": [ours]}, {"rule": {"a": 1}}):
        body = {"role": "admin", **limited}
        assert (await client.post("/v1/keys", json=body, headers=bearing(operator))).status_code == 400


async def test_tenants_do_not_see_each_others_keys(client: httpx.AsyncClient, operator: str) -> None:
    """An operator makes a tenant and its first key; that key makes more, and sees only its own."""
    tenant = (await client.post("/v1/tenants", json={"name": "t"}, headers=bearing(operator))).json()
    path = f"/v1/tenants/{tenant['id']}/keys"
    admin = (await client.post(path, json={"role": "admin"}, headers=bearing(operator))).json()
    listed = (await client.get("/v1/keys", headers=bearing(admin["secret"]))).json()["data"]
    assert [one["id"] for one in listed] == [admin["id"]]
    first = (await client.get("/v1/keys", headers=bearing(operator))).json()["data"][0]
    assert (await client.get(f"/v1/keys/{first['id']}", headers=bearing(admin["secret"]))).status_code == 404
    assert (await client.get("/v1/tenants", headers=bearing(admin["secret"]))).status_code == 403
    other = await client.post("/v1/tenants", json={"name": "t"}, headers=bearing(operator))
    assert other.status_code == 409


async def test_a_suspended_tenant_is_refused_until_it_is_resumed(client: httpx.AsyncClient, operator: str) -> None:
    """With a reason; the default tenant, which has the operators, cannot be suspended."""
    tenant = (await client.post("/v1/tenants", json={"name": "t"}, headers=bearing(operator))).json()
    path = f"/v1/tenants/{tenant['id']}"
    key = (await client.post(f"{path}/keys", json={}, headers=bearing(operator))).json()["secret"]
    assert (await client.get(STORES, headers=bearing(key))).status_code == 200
    assert (await client.post(path, json={"status": "suspended"}, headers=bearing(operator))).status_code == 200
    assert code(await client.get(STORES, headers=bearing(key))) == (403, "permission_denied")
    assert (await client.post(path, json={"status": "active"}, headers=bearing(operator))).status_code == 200
    assert (await client.get(STORES, headers=bearing(key))).status_code == 200
    own = f"/v1/tenants/tenant_{DEFAULT_TENANT.hex}"
    assert (await client.post(own, json={"status": "suspended"}, headers=bearing(operator))).status_code == 400


# ---- without keys


@pytest.fixture
async def local(ports: Ports) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a door that asks for none."""
    transport = httpx.ASGITransport(app=create_app(ports, Settings()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as made:
        yield made


async def test_on_loopback_any_bearer_passes_but_a_wrong_key(local: httpx.AsyncClient, operator: str) -> None:
    """Clients of OpenAI's API must send something; what looks like a key of ours must be one."""
    assert (await local.get(STORES)).status_code == 200
    assert (await local.get(STORES, headers=bearing("sk-anything"))).status_code == 200
    assert (await local.get(STORES, headers=bearing("bw-guess"))).status_code == 401
    reader = (await made(local, operator, role="reader"))["secret"]
    assert (await local.post(STORES, json={}, headers=bearing(reader))).status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-forwarded-for": "203.0.113.9"}, 401),
        ({"forwarded": "for=203.0.113.9"}, 401),
        ({"host": "books.example.org"}, 403),
        ({"host": "127.0.0.1.example.org:8000"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://[x"}, 403),
        ({"origin": "http://localhost:3000"}, 200),
        ({"host": "bookwheel:8000"}, 200),
        ({"host": "[::1]:8000"}, 200),
    ],
)
async def test_without_keys_only_this_machine_is_served(
    local: httpx.AsyncClient, operator: str, headers: dict[str, str], status: int
) -> None:
    """No proxy's callers, no page from elsewhere, no name that somebody else gave this machine; a key helps."""
    assert (await local.get(STORES, headers=headers)).status_code == status
    assert (await local.get(STORES, headers={**headers, **bearing(operator)})).status_code == 200


async def test_a_page_that_the_operator_allows_needs_no_key_here(ports: Ports) -> None:
    """BOOKWHEEL_CORS_ORIGINS names it; others are refused as before."""
    settings = Settings(cors_origins="https://app.example.com")
    transport = httpx.ASGITransport(app=create_app(ports, settings), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        for origin, status in (("https://app.example.com", 200), ("https://evil.example.com", 403)):
            assert (await client.get(STORES, headers={"origin": origin})).status_code == status


def test_a_narrower_scope_keeps_to_what_was_granted() -> None:
    """Whatever a door asks for."""
    store, other = DEFAULT_TENANT, Scope(tenant_id=DEFAULT_TENANT).tenant_id
    scope = Scope(tenant_id=DEFAULT_TENANT, granted=frozenset())
    with pytest.raises(NotFoundError):
        within(scope, store)
    assert within(Scope(tenant_id=DEFAULT_TENANT, granted=frozenset([store])), other).store_ids == (store,)
