"""Offboarding and export over HTTP."""

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from bookwheel import offboarding
from bookwheel.api import create_app
from bookwheel.errors import PermissionDeniedError, SettingsError
from bookwheel.export import check_may_export
from bookwheel.identity import hash_of, new_secret, operators_key
from bookwheel.offboarding import Pauses
from bookwheel.ports import Ports
from bookwheel.receipts import encoded, is_genuine, public_key
from bookwheel.settings import Settings, load_settings
from bookwheel.testing import memory_ports
from bookwheel.testing.departures import following
from bookwheel.types import DEFAULT_TENANT, Scope

STORES = "/v1/vector_stores"
QUICK = Pauses(closing=0.0, bytes=0.0, settling=10.0, between=0.02)


@pytest.fixture
def ports() -> Ports:
    """Empty ports."""
    return memory_ports()


@pytest.fixture
async def operator(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The header of the first key; nothing is waited for but the keyword index."""
    monkeypatch.setattr(offboarding.offboard, "__kwdefaults__", {"pauses": QUICK})
    secret = new_secret()
    await ports.keys.create(operators_key(secret), secret_hash=hash_of(secret))
    return {"authorization": f"Bearer {secret}"}


@pytest.fixture
async def client(ports: Ports) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a door that asks for keys, beside a worker."""
    async with served(ports, Settings(auth="keys")) as made, following(ports):
        yield made


def served(ports: Ports, settings: Settings) -> httpx.AsyncClient:
    """A client of a door with these settings."""
    transport = httpx.ASGITransport(app=create_app(ports, settings), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="https://books.example.org")


async def tenant_of(client: httpx.AsyncClient, operator: dict[str, str], name: str) -> tuple[str, dict[str, str]]:
    """A tenant's path and the header of its admin."""
    made = (await client.post("/v1/tenants", json={"name": name}, headers=operator)).json()
    path = f"/v1/tenants/{made['id']}"
    key = (await client.post(f"{path}/keys", json={"role": "admin"}, headers=operator)).json()
    return path, {"authorization": f"Bearer {key['secret']}"}


async def test_a_tenant_goes_with_one_call(client: httpx.AsyncClient, operator: dict[str, str]) -> None:
    """Its key is unknown then, the receipt is signed and kept, and the act stands in the server's chain."""
    path, admin = await tenant_of(client, operator, "t")
    upload = {"file": ("a.txt", b"bytes")}
    assert (await client.post("/v1/files", files=upload, headers=admin)).status_code == 200
    receipt = (await client.post(f"{path}/offboard", json={"name": "t"}, headers=operator)).json()
    assert (receipt["complete"], receipt["held"]["files"], receipt["held"]["blobs"]) == (True, 1, 1)
    assert (await client.get(STORES, headers=admin)).status_code == 401
    assert (await client.get(path, headers=operator)).status_code == 404
    again = await client.post(f"{path}/offboard", json={"name": "t"}, headers=operator)
    assert again.status_code == 404
    assert (await client.get(f"/v1/receipts/{receipt['id']}", headers=operator)).json() == receipt
    assert (await client.get("/v1/receipts", headers=operator)).json()["data"] == [receipt]
    public = (await client.get("/v1/signing_key", headers=operator)).json()["public_key"]
    assert is_genuine(receipt, public=public)
    events = (await client.get("/v1/audit_events?chain=server&action=tenant.delete", headers=operator)).json()["data"]
    assert [(event["outcome"], event["details"].get("complete")) for event in events] == [
        ("failure", None),
        ("success", 1),
    ]


async def test_slips_are_refused(client: httpx.AsyncClient, operator: dict[str, str]) -> None:
    """Another name, the default tenant, a tenant's own admin."""
    path, admin = await tenant_of(client, operator, "t")
    assert (await client.post(f"{path}/offboard", json={"name": "T"}, headers=operator)).status_code == 400
    assert (await client.post(f"{path}/offboard", json={}, headers=operator)).status_code == 400
    assert (await client.post(f"{path}/offboard", json={"name": "t"}, headers=admin)).status_code == 403
    own = f"/v1/tenants/tenant_{DEFAULT_TENANT.hex}/offboard"
    assert (await client.post(own, json={"name": "default"}, headers=operator)).status_code == 400
    assert (await client.get(STORES, headers=admin)).status_code == 200
    assert (await client.get("/v1/receipts/receipt_x", headers=operator)).status_code == 404


async def test_the_key_that_is_set_signs(ports: Ports, operator: dict[str, str]) -> None:
    """And not one that the server makes."""
    private = bytes(range(32))
    async with served(ports, Settings(auth="keys", signing_key=encoded(private))) as client:
        shown = (await client.get("/v1/signing_key", headers=operator)).json()
        assert shown["public_key"] == public_key(private)


@pytest.mark.parametrize("value", ["c2hvcnQ=", "no base64, whatever it is", encoded(bytes(33))])
def test_a_key_that_cannot_sign_is_refused_at_the_start(value: str) -> None:
    """Without telling it."""
    with pytest.raises(SettingsError, match="SIGNING_KEY has a value that should be 32 bytes") as refused:
        load_settings(signing_key=value)
    assert value not in refused.value.message


async def lines(client: httpx.AsyncClient, headers: dict[str, str], **parameters: str) -> list[dict[str, Any]]:
    """An export."""
    response = await client.get("/v1/tenant/export", params=parameters, headers=headers)
    assert response.status_code == 200, response.text
    return [orjson.loads(line) for line in response.text.splitlines()]


async def test_an_export_has_all_of_the_tenant(client: httpx.AsyncClient, operator: dict[str, str]) -> None:
    """Also documents whose lists keep them from whoever asks; no secrets, nothing of another tenant, and at the end
    the counts."""
    _, admin = await tenant_of(client, operator, "t")
    _, stranger = await tenant_of(client, operator, "u")
    content = bytes(range(256)) * 5
    for headers in (admin, stranger):
        store = (await client.post(STORES, json={"name": "s"}, headers=headers)).json()["id"]
        body = {"id": "d", "text": "the text", "attributes": {"a": 1}, "access": ["user:b"], "denied": ["group:c"]}
        await client.post(f"{STORES}/{store}/documents", json=body, headers=headers)
        await client.post("/v1/files", files={"file": ("a.bin", content)}, headers=headers)
        hook = {"name": "h", "url": "https://example.org/hook", "event_types": ["response.completed"]}
        assert (await client.post("/v1/webhook_endpoints", json=hook, headers=headers)).status_code == 200
    found = await lines(client, admin, include="content")
    assert found[-1] == {
        "type": "end",
        "counts": {"document": 1, "file": 1, "file_content": 1, "key": 1, "tenant": 1, "vector_store": 1, "webhook": 1},
    }
    by_type = {line["type"]: line for line in found}
    assert base64.b64decode(by_type["file_content"]["base64"]) == content
    assert {name: by_type["document"][name] for name in body} == body
    text = orjson.dumps(found).decode()
    assert "secret" not in text
    assert "whsec" not in text
    assert "file_content" not in [line["type"] for line in await lines(client, admin)]


async def test_documents_of_an_export_can_be_put(client: httpx.AsyncClient, operator: dict[str, str]) -> None:
    """Line by line, as they are."""
    _, admin = await tenant_of(client, operator, "t")
    old, new = [(await client.post(STORES, json={"name": name}, headers=admin)).json()["id"] for name in "ab"]
    bodies = [{"id": f"d{number}", "text": f"text {number}", "title": "T"} for number in range(150)]
    sent = b"\n".join(orjson.dumps(body) for body in bodies)
    await client.post(f"{STORES}/{old}/documents", content=sent, headers=admin)
    documents = [line for line in await lines(client, admin) if line["type"] == "document"]
    assert len(documents) == 150
    again = b"\n".join(orjson.dumps(line) for line in documents)
    answered = await client.post(f"{STORES}/{new}/documents", content=again, headers=admin)
    assert not [line for line in answered.text.splitlines() if '"error"' in line]
    copied = (await client.get(f"{STORES}/{new}", headers=admin)).json()
    assert copied["file_counts"]["total"] == 150


async def test_a_writer_exports_nothing(client: httpx.AsyncClient, operator: dict[str, str]) -> None:
    """It takes an admin."""
    _, admin = await tenant_of(client, operator, "t")
    key = (await client.post("/v1/keys", json={"role": "writer"}, headers=admin)).json()["secret"]
    refused = await client.get("/v1/tenant/export", headers={"authorization": f"Bearer {key}"})
    assert refused.status_code == 403


@pytest.mark.parametrize("bounds", [{"granted": frozenset()}, {"rule": {"a": 1}}, {"manages": False}])
def test_who_has_bounds_exports_nothing(bounds: dict[str, Any]) -> None:
    """Such as an admin by an issuer's token whose claims make a rule."""
    scope = Scope(tenant_id=DEFAULT_TENANT, manages=True)
    check_may_export(scope)
    with pytest.raises(PermissionDeniedError):
        check_may_export(replace(scope, **bounds))
