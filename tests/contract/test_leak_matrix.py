"""Every route, every role, everything that is not theirs, over every backend: nothing is told, nothing is changed.

The requests are made from the OpenAPI document. A new route needs a row here as soon as it has a parameter or a body
that nobody here knows: without one the test fails.
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from bookwheel.api import create_app, roles
from bookwheel.api.ids import parse
from bookwheel.api.openapi import operations
from bookwheel.backends.postgres import migrate
from bookwheel.follow import catch_up
from bookwheel.identity import hash_of, new_secret, operators_key
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.testing import answered_by, memory_ports
from bookwheel.testing.desk import Desk
from bookwheel.types import Role
from tests.contract.over_postgres import whole_ports

READER = "user:ada"
QUESTION = "What is the secret of the bookwheel?"
ADDRESS = "https://hooks.example.com/events"


@dataclass(slots=True, kw_only=True)
class Thing:
    """What a request may name: a document with all that hangs on it, and its marks."""

    name: str
    store_id: str = ""
    file_id: str = ""
    external_id: str = ""
    document_id: str = ""
    batch_id: str = ""
    source_id: str = ""
    response_id: str = ""
    webhook_id: str = ""
    key_id: str = ""
    receipt_id: str = f"receipt_{'0' * 32}"  # of nothing: only operators see receipts
    tenant_id: str = ""

    @property
    def text(self) -> str:
        """What its documents say, and nothing else does."""
        return f"textmark{self.name}"

    @property
    def label(self) -> str:
        """What its names and attributes hold."""
        return f"labelmark{self.name}"

    def ids(self) -> dict[str, str]:
        """All ids."""
        return {key: getattr(self, key) for key in self.__slots__ if key.endswith("_id") and getattr(self, key)}


Body = Callable[[Thing], Any]


def _search(thing: Thing) -> Any:
    return {"query": QUESTION, "max_num_results": 50}


#: JSON bodies of operations, by what they name.
BODIES: Mapping[str, Body] = {
    "search": _search,
    "plain_search": lambda thing: {"query": QUESTION, "vector_store_ids": [thing.store_id], "top_k": 50},
    "complete": lambda thing: {
        "model": f"bookwheel/{thing.store_id}",
        "messages": [{"role": "user", "content": QUESTION}],
    },
    "create_response": lambda thing: {
        "input": QUESTION,
        "store": False,
        "include": ["file_search_call.results"],
        "tools": [{"type": "file_search", "vector_store_ids": [thing.store_id]}],
    },
    "embed": lambda thing: {"input": "a", "model": "hash"},
    "rerank": lambda thing: {"query": "a", "documents": ["b"], "model": "lexical"},
    "create_store": lambda thing: {"name": "new", "file_ids": [thing.file_id]},
    "modify_store": lambda thing: {"name": "changed"},
    "create_batch": lambda thing: {"file_ids": [thing.file_id]},
    "attach": lambda thing: {"file_id": thing.file_id, "external_id": thing.external_id},
    "update_attributes": lambda thing: {"attributes": {"changed": True}},
    "create_webhook": lambda thing: {"url": ADDRESS, "event_types": ["response.completed"]},
    "modify_webhook": lambda thing: {"name": "changed"},
    "modify_tenant": lambda thing: {"generator": None},
    "create_source": lambda thing: {"vector_store_id": thing.store_id, "kind": "urls", "urls": ["https://example.com"]},
    "modify_source": lambda thing: {"paused": True},
    "create_key": lambda thing: {"store_ids": [thing.store_id]},
    "create_tenant": lambda thing: {"name": uuid4().hex},
    "change_tenant": lambda thing: {"weight": 2.0},
    "create_tenant_key": lambda thing: {"store_ids": [thing.store_id]},
    "offboard_tenant": lambda thing: {"name": "not its name"},
}
#: Operations whose POST takes no body, or not one in JSON.
BODILESS = frozenset(
    {
        "cancel_response",
        "rotate_secret",
        "try_webhook",
        "pause_store",
        "resume_store",
        "cancel_batch",
        "retry_all",
        "retry",
        "cancel",
        "repair_orphans",
        "run_source",
        "rotate_key",
        "move_tenant",
    }
)
#: Where a path's parameter means something else than a thing's attribute of that name.
PATH: Mapping[str, Mapping[str, str]] = {
    "get_document": {"id": "external_id"},
    "delete_document": {"id": "external_id"},
    "retry": {"id": "document_id"},
    "cancel": {"id": "document_id"},
    "drop": {"id": "document_id"},
}
#: What a server has for all its callers: nobody's things are in it.
COMMON = frozenset(
    {
        "get_model",
        "list_models",
        "list_event_types",
        "get_signing_key",
    }
)
QUERY: Mapping[str, Callable[[Thing], dict[str, str]]] = {
    "search_by_link": lambda thing: {"query": QUESTION, "vector_store_ids": thing.store_id, "top_k": "50"},
    "get_document": lambda thing: {"include": "content"},
}
#: Operations that show the caller's own thing, by which mark: they prove that the matrix would see a leak.
SHOWS: Mapping[str, str] = {
    **dict.fromkeys(("search", "plain_search", "search_by_link", "complete", "create_response"), "text"),
    **dict.fromkeys(("get_document", "content"), "text"),
    **dict.fromkeys(("list_documents", "list_stores", "get_store", "list_files", "get_file"), "label"),
    **dict.fromkeys(("list_store_files", "get_store_file", "list_batch_files", "store_file_content"), "label"),
}


@dataclass(slots=True, kw_only=True)
class World:
    """A server with two tenants, and a caller in one of them for each role."""

    client: httpx.AsyncClient
    ports: Ports
    operator: str
    app: Any = None
    admins: dict[str, str] = field(default_factory=dict)  #: secrets, by the tenant's name
    tenants: dict[str, str] = field(default_factory=dict)
    things: dict[str, Thing] = field(default_factory=dict)
    callers: dict[Role, str] = field(default_factory=dict)

    async def call(self, secret: str, method: str, path: str, **options: Any) -> Any:
        """One request that must succeed."""
        response = await self.client.request(method, path, headers={"authorization": f"Bearer {secret}"}, **options)
        assert response.status_code == 200, f"{method} {path}: {response.text}"
        return response.json() if response.headers["content-type"] == "application/json" else response.text

    async def publish(self, thing: Thing, tenant: str) -> None:
        """Do a worker's work for the thing's documents."""
        desk = Desk(ports=self.ports, tenant=parse("tenant", self.tenants[tenant]))
        scope = replace(desk.scope(), store_ids=(parse("store", thing.store_id),))
        for document in await self.ports.documents.list(scope=scope, limit=100):
            if document.live_version is None:
                await desk.publish(document)
        while await catch_up(self.ports):
            pass


async def _tenant(world: World, name: str) -> None:
    made = await world.call(world.operator, "POST", "/v1/tenants", json={"name": f"{name}-{uuid4().hex}"})
    world.tenants[name] = made["id"]
    body = {"role": "admin", "limits": {"requests_per_minute": 0}}
    key = await world.call(world.operator, "POST", f"/v1/tenants/{made['id']}/keys", json=body)
    world.admins[name] = key["secret"]
    await world.call(
        world.operator,
        "POST",
        f"/v1/tenants/{made['id']}",
        json={"limits": {"requests_per_minute": 0}},
    )


async def _thing(world: World, name: str, tenant: str, store_id: str | None = None, **document: Any) -> Thing:
    """A store unless it is given, a document in it by text and one by file, and all that can hang on them."""
    admin, thing = world.admins[tenant], Thing(name=name, tenant_id=world.tenants[tenant])
    owns_store = store_id is None
    if store_id is None:
        body = {"name": thing.label, "metadata": {"m": thing.label}}
        store_id = (await world.call(admin, "POST", "/v1/vector_stores", json=body))["id"]
    thing.store_id, thing.external_id = store_id, f"{thing.label}-id"
    attributes = {"department": "sales", "mark": thing.label, **document.pop("attributes", {})}
    line = {"id": thing.external_id, "text": f"The secret of the bookwheel is {thing.text}.", "title": thing.label}
    path = f"/v1/vector_stores/{store_id}"
    await world.call(admin, "POST", f"{path}/documents", json={**line, "attributes": attributes, **document})
    upload = {"file": (f"{thing.label}.txt", f"The secret of the bookwheel is {thing.text} too.".encode())}
    thing.file_id = (await world.call(admin, "POST", "/v1/files", files=upload, data={"purpose": "assistants"}))["id"]
    files = [{"file_id": thing.file_id, "attributes": attributes, **document}]
    thing.batch_id = (await world.call(admin, "POST", f"{path}/file_batches", json={"files": files}))["id"]
    thing.document_id = (await world.call(admin, "GET", f"{path}/documents/{thing.external_id}"))["document_id"]
    await world.publish(thing, tenant)
    thing.source_id = f"src_{uuid4().hex}"  # of nothing, where the source would be that of another thing's store
    if owns_store:
        body = {"vector_store_id": store_id, "kind": "urls", "urls": [f"https://example.com/{thing.label}"]}
        thing.source_id = (await world.call(admin, "POST", "/v1/sources", json=body))["id"]
    body = {"name": thing.label, "url": f"{ADDRESS}?{thing.label}", "event_types": ["response.completed"]}
    thing.webhook_id = (await world.call(admin, "POST", "/v1/webhook_endpoints", json=body))["id"]
    thing.key_id = (await world.call(admin, "POST", "/v1/keys", json={"name": thing.label}))["id"]
    body = {"input": f"{QUESTION} {thing.label}", "metadata": {"m": thing.label}}
    tools = [{"type": "file_search", "vector_store_ids": [store_id]}]
    thing.response_id = (await world.call(admin, "POST", "/v1/responses", json={**body, "tools": tools}))["id"]
    world.things[name] = thing
    return thing


async def built(client: httpx.AsyncClient, ports: Ports, operator: str) -> World:
    """The whole world."""
    world = World(client=client, ports=ports, operator=operator)
    for name in ("ours", "theirs"):
        await _tenant(world, name)
    own = await _thing(world, "own", "ours")
    await _thing(world, "sibling", "ours")
    await _thing(world, "denied", "ours", own.store_id, access=["group:board"])
    await _thing(world, "refused", "ours", own.store_id, denied=[READER])
    await _thing(world, "ruled", "ours", own.store_id, attributes={"department": "legal"})
    gone = await _thing(world, "deleted", "ours", own.store_id)
    await _thing(world, "other", "theirs")
    admin = world.admins["ours"]
    await world.call(admin, "DELETE", f"/v1/vector_stores/{own.store_id}/documents/{gone.external_id}")
    for path in ("files", "responses", "webhook_endpoints", "keys"):
        attribute = {"webhook_endpoints": "webhook_id"}.get(path, f"{path[:-1]}_id")
        await world.call(admin, "DELETE", f"/v1/{path}/{getattr(gone, attribute)}")
    limited = {"store_ids": [own.store_id], "principals": [READER], "rule": {"department": "sales"}}
    for role in Role:
        body = {"role": role.value, "principals": [READER], "limits": {"requests_per_minute": 0}}
        if not role.covers(Role.ADMIN):
            body |= limited
        path = f"/v1/tenants/{world.tenants['ours']}/keys"
        world.callers[role] = (await world.call(operator, "POST", path, json=body))["secret"]
    return world


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """It, over memory, and over PostgreSQL with tantivy."""
    if request.param == "memory":
        ports = memory_ports()
        async for made in _served(answered_by(ports, ports.extractive)):
            yield made
        return
    url = request.getfixturevalue("database_url")
    await migrate.migrate(url)
    with psycopg.connect(url, autocommit=True) as connection:
        (before,) = connection.execute("SELECT coalesce(max(sequence), 0) FROM outbox").fetchone() or (0,)
    async with whole_ports(url, tmp_path, position=before) as ports:
        async for made in _served(ports):
            yield made


async def _served(ports: Ports) -> AsyncIterator[World]:
    operator = new_secret()
    await ports.keys.create(operators_key(operator), secret_hash=hash_of(operator))
    app = create_app(ports, Settings(auth="keys"))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        world = await built(client, ports, operator)
        world.app = app
        yield world


def visible(role: Role, name: str) -> frozenset[str]:
    """The kinds of marks of a thing that a role may see: an admin sees that what its lists keep from it exists."""
    if name == "own":
        return frozenset({"text", "label"})
    if role.covers(Role.ADMIN) and name in {"sibling", "ruled"}:  # the whole tenant, without a rule
        return frozenset({"text", "label"})
    if role.covers(Role.ADMIN) and name in {"denied", "refused"}:
        return frozenset({"label"})
    return frozenset({"label"}) if role is Role.OPERATOR and name == "tenant" else frozenset()


def sent(operation: str, method: str, path: str, parameters: list[Any], thing: Thing) -> dict[str, Any]:
    """The request that names this thing wherever the operation can name something."""
    names = PATH.get(operation, {})
    for parameter in parameters:
        if parameter["in"] == "path":
            attribute = names.get(parameter["name"], parameter["name"])
            value = "lexical" if attribute == "model" else getattr(thing, attribute, None)
            assert value is not None, f"{operation} has the parameter {parameter['name']!r}: say what it names."
            path = path.replace("{" + parameter["name"] + "}", value)
    made: dict[str, Any] = {"method": method, "url": path, "params": QUERY.get(operation, lambda _: {})(thing)}
    if operation == "upload":
        return {**made, "files": {"file": ("n.txt", b"new")}, "data": {"purpose": "assistants"}}
    if operation == "put_documents":
        return {**made, "json": {"id": thing.external_id, "text": "changed"}}
    if method == "POST" and operation not in BODILESS:
        assert operation in BODIES, f"{operation} takes a body: say which."
        return {**made, "json": BODIES[operation](thing)}
    return made


def told(response: httpx.Response, world: World, role: Role) -> list[str]:
    """Marks in a response that this role must not see, but for the id that a refusal repeats."""
    text = response.text + repr(sorted(response.headers.items()))
    if response.status_code in {403, 404, 409} or '"isError":true' in text:
        text = re.sub(r"'labelmark\w+(-id)?'", "", text)
    hidden = [
        getattr(thing, kind)
        for thing in world.things.values()
        for kind in ("text", "label")
        if kind not in visible(role, thing.name)
    ]
    return [mark for mark in hidden if mark in text]


def without_ids(response: httpx.Response, thing: Thing) -> str:
    """The body of an error, with ids and names of things left out."""
    text = response.text
    for value in (*thing.ids().values(), thing.label):
        text = text.replace(value, "ID")
    return re.sub(r"[0-9a-f]{32}", "ID", text)


async def snapshot(world: World) -> str:
    """All that the tenants' own admins see of everything, without what changes by itself."""
    seen: list[Any] = []
    for tenant, admin in world.admins.items():
        for thing in world.things.values():
            if thing.tenant_id != world.tenants[tenant] or thing.name in {"own", "deleted"}:
                continue
            store = f"/v1/vector_stores/{thing.store_id}"
            for path in (
                f"{store}/documents/{thing.external_id}",
                f"{store}/files/{thing.file_id}",
                f"/v1/files/{thing.file_id}",
                f"/v1/responses/{thing.response_id}",
                f"/v1/webhook_endpoints/{thing.webhook_id}",
                f"/v1/keys/{thing.key_id}",
                *([store, f"/v1/sources/{thing.source_id}"] if thing.name in {"sibling", "other"} else []),
            ):
                seen.append(await world.call(admin, "GET", path))  # noqa: PERF401
    return re.sub(r'"(last_used_at|last_active_at|version)": [^,}]*', "", json.dumps(seen, sort_keys=True))


def unknown(thing: Thing) -> Thing:
    """A thing whose ids nobody has."""
    fresh = {key: re.sub(r"[0-9a-f]{32}", uuid4().hex, value) for key, value in thing.ids().items()}
    return replace(thing, **{**fresh, "external_id": uuid4().hex})


async def test_nothing_is_told_and_nothing_is_changed(world: World) -> None:
    """Foreign things are not there, whatever the role: in no body, no header, no error, no count."""
    document = (await world.client.get("/openapi.json")).json()
    before, shown, leaks = await snapshot(world), set(), []
    for role, secret in world.callers.items():
        headers = {"authorization": f"Bearer {secret}"}
        for path, method, operation in operations(document):
            name = operation["operationId"]
            needed = roles.needed(name)
            for thing in world.things.values():
                if thing.name == "own" and (method == "DELETE" or name in CHANGING):
                    continue
                if role.covers(Role.ADMIN) and visible(role, thing.name) and (method == "DELETE" or name in CHANGING):
                    continue  # its own tenant's: it may
                whole_store = path.endswith("{store_id}") or "{store_id}/pause" in path or "{store_id}/resume" in path
                if whole_store and method != "GET" and thing.store_id == world.things["own"].store_id:
                    continue  # the store is its own
                if thing.name == "deleted" and name == "put_documents" and role.covers(Role.WRITER):
                    continue  # nobody has the id now
                if name in OPERATING and role is Role.OPERATOR:
                    continue  # it serves all tenants
                request = sent(name, method, path, operation.get("parameters", []), thing)
                response = await world.client.request(**request, headers=headers)
                case = f"{role.value} {name} {thing.name}: {response.status_code} {response.text[:300]}"
                assert response.status_code < 500, case
                if needed is not None and not role.covers(needed):
                    assert response.status_code == 403, case
                found = told(response, world, role)
                if name == "export_tenant":  # a tenant's own copy of all that is its own, for its admins, and audited
                    found = [
                        mark for mark in found if mark in (world.things["deleted"].text, world.things["other"].text)
                    ]
                if found:
                    leaks.append(f"{case} tells {found}")
                if thing.name == "own" and name in SHOWS and getattr(thing, SHOWS[name]) in response.text:
                    shown.add((role, name))
                if not visible(role, thing.name) and response.status_code == 404 and "{" in path:
                    nobody = (
                        unknown(thing)
                        if thing.name in {"sibling", "other"}
                        else replace(unknown(thing), store_id=thing.store_id)
                    )
                    other = sent(name, method, path, operation.get("parameters", []), nobody)
                    same = await world.client.request(**other, headers=headers)
                    assert same.status_code == 404, case
                    if without_ids(response, thing) != without_ids(same, nobody):
                        leaks.append(f"{case} differs from what is not there: {same.text[:300]}")
    assert not leaks, "\n".join(leaks)
    assert {(role, name) for role in Role for name in SHOWS} - shown == set()  # else the matrix would not see a leak
    assert await snapshot(world) == before


#: Operations that change what they name, beside DELETE: not sent about what the caller may change.
CHANGING = frozenset(
    {
        "modify_store",
        "update_attributes",
        "attach",
        "create_batch",
        "cancel_batch",
        "put_documents",
        "pause_store",
        "resume_store",
        "retry",
        "retry_all",
        "cancel",
        "modify_source",
        "run_source",
        "create_source",
        "rotate_secret",
        "modify_webhook",
        "try_webhook",
        "rotate_key",
        "create_store",
        "change_tenant",
        "offboard_tenant",
        "move_tenant",
        "cancel_response",
        "modify_tenant",
        "create_webhook",
    }
)
#: What operators do for all tenants.
OPERATING = frozenset(
    {
        "create_tenant",
        "list_tenants",
        "show_tenant",
        "change_tenant",
        "create_tenant_key",
        "offboard_tenant",
        "move_tenant",
        "list_receipts",
        "get_receipt",
        "count_orphans",
        "repair_orphans",
    }
)


async def test_the_protocol_for_models_tells_nothing_either(world: World) -> None:
    """/mcp is not in the OpenAPI document: its two tools and its resources, about every thing."""
    leaks, shown, own = [], set(), world.things["own"]
    async with world.app.router.lifespan_context(world.app):
        for role, secret in world.callers.items():
            for thing in world.things.values():
                for method, params in asked_of_models(thing):
                    response = await world.client.post(
                        "/mcp",
                        json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params},
                        headers={"authorization": f"Bearer {secret}", **PROTOCOL},
                    )
                    case = f"{role.value} {method} {thing.name}: {response.status_code} {response.text[:300]}"
                    assert response.status_code == 200, case
                    if found := told(response, world, role):
                        leaks.append(f"{case} tells {found}")
                    shown |= {(role, method, kind) for kind in ("text", "label") if getattr(own, kind) in response.text}
    assert not leaks, "\n".join(leaks)
    for role in Role:  # else the test would not see a leak
        assert {(role, "tools/call", "text"), (role, "resources/list", "label")} <= shown
        assert (role, "resources/read", "text") in shown


PROTOCOL = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}


def asked_of_models(thing: Thing) -> list[tuple[str, dict[str, Any]]]:
    """Calls of the protocol that name this thing."""
    name = f"{thing.store_id}/{thing.document_id}"
    return [
        ("tools/call", {"name": "search", "arguments": {"query": QUESTION, "top_k": 50}}),
        ("tools/call", {"name": "search", "arguments": {"query": QUESTION, "stores": [thing.label]}}),
        ("tools/call", {"name": "fetch", "arguments": {"id": name}}),
        ("resources/list", {}),
        ("resources/read", {"uri": f"bookwheel://{name}"}),
    ]
