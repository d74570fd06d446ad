"""The audit log over the door: what each request leaves in it, what it never holds, how it is read and verified."""

from dataclasses import replace
from hashlib import sha256
from typing import Any

import httpx
import orjson
import pytest

from bookwheel.access import reset_caller, set_caller
from bookwheel.acts import Digest
from bookwheel.api import create_app
from bookwheel.api.audit import _chain
from bookwheel.api.openapi import operations
from bookwheel.audit import canonical, check, digest, safe_details, safe_id
from bookwheel.audit_actions import ACTIONS, UNCHANGING
from bookwheel.backends.memory.audit import MemoryAuditLog
from bookwheel.errors import PermissionDeniedError
from bookwheel.identity import hash_of, new_secret, operators_key
from bookwheel.settings import Settings
from bookwheel.testing import memory_ports
from bookwheel.testing.audit import entry
from bookwheel.testing.desk import Desk
from bookwheel.types import (
    DEFAULT_TENANT,
    SERVER_CHAIN,
    AuditEntry,
    AuditEvent,
    AuditFilter,
    Caller,
    DocumentDraft,
    Outcome,
    Role,
    Scope,
)

SECRET_TEXT = "marzipan-is-never-logged"
WRITER = Caller(id="key_1", role=Role.WRITER, scope=Scope(tenant_id=DEFAULT_TENANT))
ANY = AuditFilter()


async def chain(desk: Desk, tenant_id: Any = DEFAULT_TENANT) -> list[AuditEvent]:
    """All events, oldest first."""
    return [event async for event in desk.ports.audit.export(scope=Scope(tenant_id=tenant_id), filter=ANY)]


async def only(desk: Desk) -> AuditEvent:
    """The one event of the default tenant."""
    (event,) = await chain(desk)
    return event


def test_every_operation_that_changes_something_has_an_action() -> None:
    """A new route must be named in audit_actions.py, or be said to change nothing."""
    document = create_app(memory_ports(), Settings()).openapi()
    changing = {op["operationId"] for _, method, op in operations(document) if method != "GET"}
    assert not changing - set(ACTIONS) - UNCHANGING
    assert not UNCHANGING & set(ACTIONS)
    assert changing >= UNCHANGING


def test_actions_are_named_alike() -> None:
    """Type and verb; a creation's id is not looked for in the path."""
    assert all(action.name.startswith(f"{action.object_type}.") for action in ACTIONS.values())
    assert ACTIONS["upload"].makes
    assert not ACTIONS["delete_file"].makes


async def test_an_upload_is_told_with_hash_and_size(desk: Desk, client: httpx.AsyncClient) -> None:
    """The id, the SHA-256 and the size; the request's id; not the name and not a byte of the content."""
    data = SECRET_TEXT.encode()
    files = {"file": (f"{SECRET_TEXT}.txt", data)}
    made = (await client.post("/v1/files", files=files, headers={"x-request-id": "mine-1"})).json()
    event = await only(desk)
    assert (event.action, event.object_type, event.object_id) == ("file.create", "file", made["id"])
    assert (event.object_hash, event.details["bytes"]) == (sha256(data).hexdigest(), len(data))
    assert (event.outcome, event.request_id, event.actor) == (Outcome.SUCCESS, "mine-1", "local")
    assert event.details["operation"] == "upload"
    assert SECRET_TEXT.encode() not in canonical(event)


async def test_a_long_upload_is_one_event(desk: Desk, client: httpx.AsyncClient) -> None:
    """With counts and one hash over what was kept; lines that were refused are not in it."""
    store = await desk.store()
    documents = [{"id": f"d{number}", "text": f"{SECRET_TEXT} {number}"} for number in range(300)]
    lines = [*documents, {"id": "refused"}]
    body = b"\n".join(orjson.dumps(line) for line in lines)
    await client.post(f"/v1/vector_stores/vs_{store.id.hex}/documents", content=body)
    event = await only(desk)
    assert (event.action, event.object_id) == ("document.put", None)
    assert event.details == {
        "operation": "put_documents",
        "store_id": f"vs_{store.id.hex}",
        "documents": 300,
        "whole": True,
    }
    pairs = [f"{one['id']}\0{sha256(one['text'].encode()).hexdigest()}\0" for one in documents]
    assert event.object_hash == sha256("".join(pairs).encode()).hexdigest()
    assert SECRET_TEXT.encode() not in canonical(event)


def test_digest_tells_content_by_text_or_file() -> None:
    """Another text, another file, another order: another hash."""

    def of(*drafts: DocumentDraft) -> str:
        made = Digest()
        made.add(drafts)
        return made.hex()

    one = DocumentDraft(external_id="a", text="one", attributes={})
    two = replace(one, text="two")
    linked = replace(one, text=None, file_id=DEFAULT_TENANT)
    assert len({of(one), of(two), of(linked), of(one, two), of(two, one)}) == 5


async def test_a_walk_through_the_door(desk: Desk, client: httpx.AsyncClient) -> None:
    """Changes of every kind are told in order, reads and searches are not, and the chain holds."""
    store = (await client.post("/v1/vector_stores", json={"name": SECRET_TEXT})).json()["id"]
    path = f"/v1/vector_stores/{store}"
    put = {"id": "caller's own id: " + SECRET_TEXT, "text": SECRET_TEXT}
    document = (await client.post(f"{path}/documents", json=put)).json()["document_id"]
    await client.get(path)
    await client.post(f"{path}/search", json={"query": SECRET_TEXT})
    await client.post(path, json={"name": "other"})
    await client.delete(f"{path}/documents/{put['id']}")
    await client.delete(f"{path}/documents/{put['id']}")
    await client.delete(path)
    told = await chain(desk)
    assert [(event.action, event.object_id, event.outcome) for event in told] == [
        ("store.create", store, "success"),
        ("document.put", document, "success"),
        ("store.update", store, "success"),
        ("document.delete", document, "success"),
        ("document.delete", None, "failure"),
        ("store.delete", store, "success"),
    ]
    assert told[4].details["status"] == 404
    assert SECRET_TEXT.encode() not in b"".join(canonical(event) for event in told)
    assert (await desk.ports.audit.verify(scope=desk.scope())).broken is None


async def test_refused_callers_are_told(desk: Desk) -> None:
    """Over a door that asks for keys: none, a wrong one, and one whose role does not suffice."""
    secret = new_secret()
    key = replace(operators_key(secret), role=Role.READER)
    await desk.ports.keys.create(key, secret_hash=hash_of(secret))
    transport = httpx.ASGITransport(app=create_app(desk.ports, Settings(auth="keys")), client=("192.0.2.7", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as door:
        statuses = [
            (await door.get("/v1/files", headers=headers)).status_code
            for headers in ({}, {"authorization": "Bearer bw-wrong"}, {"authorization": f"Bearer {secret}"})
        ]
        denied = await door.post(
            "/v1/files", files={"file": ("a", b"a")}, headers={"authorization": f"Bearer {secret}"}
        )
    assert (statuses, denied.status_code) == ([401, 401, 200], 403)
    unknown = await chain(desk, SERVER_CHAIN)
    assert [(event.action, event.outcome, event.address) for event in unknown] == [
        ("access.request", "denied", "192.0.2.7")
    ] * 2
    event = await only(desk)
    assert (event.action, event.outcome, event.actor) == ("file.create", "denied", f"key_{key.id.hex}")
    assert (event.actor_role, event.details["status"]) == ("reader", 403)
    assert secret.encode() not in b"".join(canonical(one) for one in [*unknown, event])


async def test_what_is_not_valid_is_a_failure(desk: Desk, client: httpx.AsyncClient) -> None:
    """With the status that the caller got."""
    await client.post("/v1/vector_stores", json={"name": 7, SECRET_TEXT: 1})
    event = await only(desk)
    assert (event.action, event.outcome, event.details["status"]) == ("store.create", "failure", 400)
    assert SECRET_TEXT.encode() not in canonical(event)


async def test_a_replayed_request_is_told_once(desk: Desk, client: httpx.AsyncClient) -> None:
    """The answer that comes again changed nothing."""
    for _ in range(2):
        await client.post("/v1/vector_stores", json={"name": "a"}, headers={"idempotency-key": "one"})
        await client.post("/v1/files", files={"file": ("a", b"a")}, headers={"idempotency-key": "two"})
    assert [event.action for event in await chain(desk)] == ["store.create", "file.create"]


def test_only_what_is_safe_stands_in_details() -> None:
    """Short printable ASCII and whole numbers; nothing else, and not too many."""
    given: dict[str, object] = {"a": "x" * 500, "b": "né\nw", "c": True, "d": None, "e": 1.5, "f": 2**60, "g": ["no"]}
    assert safe_details(given) == {"a": "x" * 200, "b": "n??w", "c": True}
    assert len(safe_details({str(number): number for number in range(99)})) == 16
    assert safe_id("file-1") == "file-1"
    assert [safe_id(text) for text in ("", "two words", "x" * 200, "ü", None)] == [None] * 5


async def listed(client: httpx.AsyncClient, **parameters: str) -> dict[str, Any]:
    """A page of the audit log."""
    response = await client.get("/v1/audit_events", params=parameters)
    assert response.status_code == 200, response.text
    page: dict[str, Any] = response.json()
    return page


async def test_events_are_listed_in_pages(desk: Desk, client: httpx.AsyncClient) -> None:
    """Newest first, behind an id, narrowed by time, action and actor."""
    made = await desk.ports.audit.append([entry(DEFAULT_TENANT, number) for number in range(5)])
    page = await listed(client, limit="2")
    assert [one["id"] for one in page["data"]] == ["audit_5", "audit_4"]
    assert page["has_more"]
    page = await listed(client, after=page["last_id"], order="desc")
    assert [one["sequence"] for one in page["data"]] == [3, 2, 1]
    shown = page["data"][-1]
    assert (shown["hash"], shown["at"]) == (made[0].hash.hex(), "2026-11-22T03:04:05.123456Z")
    since = "2026-11-22T04:04:08.123456+01:00"
    assert [one["sequence"] for one in (await listed(client, since=since))["data"]] == [5, 4]
    assert (await listed(client, actor="nobody"))["data"] == []
    assert (await listed(client, action="file.create", until="2026-11-22T03:04:06Z"))["data"] == [shown]


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"since": "2026-11-22T03:04:05"}, 400),
        ({"since": "x"}, 400),
        ({"after": "audit_0"}, 404),
        ({"actor": "a\0"}, 400),
    ],
)
async def test_bad_parameters_are_refused(client: httpx.AsyncClient, parameters: dict[str, str], status: int) -> None:
    """A time needs its zone, an id its shape."""
    assert (await client.get("/v1/audit_events", params=parameters)).status_code == status


async def test_the_servers_chain_is_for_operators(desk: Desk, client: httpx.AsyncClient) -> None:
    """An admin of a tenant may not read it, only its own."""
    await desk.ports.audit.append([entry(SERVER_CHAIN, 7), entry(DEFAULT_TENANT, 1)])
    assert [one["object_id"] for one in (await listed(client, chain="server"))["data"]] == ["file-7"]
    token = set_caller(replace(WRITER, role=Role.ADMIN))
    try:
        with pytest.raises(PermissionDeniedError, match="operator"):
            await _chain(desk.scope(), "server")
        assert await _chain(desk.scope()) == desk.scope()
    finally:
        reset_caller(token)


async def test_export_speaks_ocsf(desk: Desk, client: httpx.AsyncClient) -> None:
    """A line of JSON for each event, class API Activity, with what is needed to check the chain."""
    made = await desk.ports.audit.append(
        [entry(DEFAULT_TENANT), replace(entry(DEFAULT_TENANT, 1, action="access.list_keys"), outcome=Outcome.DENIED)]
    )
    response = await client.get("/v1/audit_events/export")
    assert response.headers["content-type"].startswith("application/x-ndjson")
    first, second, itself = [orjson.loads(line) for line in response.text.splitlines()]
    assert (first["class_uid"], first["category_uid"], first["type_uid"], first["activity_id"]) == (6003, 6, 600301, 1)
    assert (first["status_id"], first["severity_id"], first["time"]) == (1, 1, 1795316645123)
    assert first["actor"]["user"] == {"uid": "key_1", "type_id": 1, "type": "User"}
    assert first["api"]["request"] == {"uid": "req_1"}
    assert first["src_endpoint"] == {"ip": "192.0.2.7"}
    assert first["resources"] == [{"type": "file", "uid": "file-0"}]
    assert first["metadata"]["uid"] == f"{DEFAULT_TENANT.hex}-1"
    assert first["unmapped"]["hash"] == made[0].hash.hex()
    assert itself["metadata"]["event_code"] == "audit.export"
    assert (second["status_id"], second["status_detail"], second["activity_id"]) == (2, "denied", 99)


async def test_verification_over_the_door(desk: Desk, client: httpx.AsyncClient) -> None:
    """It names the first broken event, and knows by a kept head what is gone."""
    made = await desk.ports.audit.append([entry(DEFAULT_TENANT, number) for number in range(3)])

    async def verified(head: str | None = None) -> dict[str, Any]:
        response = await client.get("/v1/audit_events/verify", params={"head": head} if head else {})
        found: dict[str, Any] = response.json()
        return found

    whole = await verified(made[2].hash.hex())
    assert (whole["valid"], whole["count"], whole["head"]) == (True, 3, made[2].hash.hex())
    assert isinstance(desk.ports.audit, MemoryAuditLog)
    desk.ports.audit.database.audit_events[DEFAULT_TENANT] = [made[0], replace(made[1], actor="x"), made[2]]
    broken = await verified()
    assert (broken["valid"], broken["first_broken"], broken["reason"]) == (False, 2, "event 2 is not what was written")
    desk.ports.audit.database.audit_events[DEFAULT_TENANT] = [made[0]]
    assert (await verified())["valid"]
    assert (await verified(made[2].hash.hex()))["first_broken"] is not None
    assert (await client.get("/v1/audit_events/verify", params={"head": "AB"})).status_code == 400


async def test_hashes_cover_every_field(desk: Desk) -> None:
    """What is shown is enough to compute the hash with any other program."""
    (event,) = await desk.ports.audit.append([entry(DEFAULT_TENANT)])
    assert sha256(canonical(event)).digest() == event.hash == digest(event)
    fields = orjson.loads(canonical(event))
    assert set(fields) == {*AuditEntry.__dataclass_fields__, "sequence", "previous_hash"}

    async def chain_of(*events: AuditEvent) -> Any:
        for one in events:
            yield one

    assert (await check(chain_of(event))).broken is None
