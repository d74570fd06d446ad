"""Row-level access through the door: what a key does not open is nowhere, and what was asked stays with who asked."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import httpx
import pytest

from bookwheel.api import create_app
from bookwheel.follow import catch_up
from bookwheel.identity import hash_of, new_secret, operators_key
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.testing import memory_ports
from bookwheel.testing.desk import MANY, Desk
from bookwheel.types import DEFAULT_TENANT, Role

SECRET = "The password of the vault is xylophone."
STAFF = "group:staff"
Coming = Callable[..., Awaitable[httpx.AsyncClient]]


@pytest.fixture
def ports() -> Ports:
    """Empty ports in memory."""
    return memory_ports()


@pytest.fixture
async def coming(ports: Ports) -> AsyncIterator[Coming]:
    """Clients of the door, each with a key of its own; what is not said of a key is as for a reader without names."""
    app = create_app(ports, Settings(auth="keys", search_public_seconds=60))
    async with AsyncExitStack() as opened:

        async def come(*principals: str, role: Role = Role.READER, **bounds: Any) -> httpx.AsyncClient:
            secret = new_secret()
            key = replace(operators_key(secret), role=role, principals=frozenset(principals), **bounds)
            await ports.keys.create(key, secret_hash=hash_of(secret))
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            client = httpx.AsyncClient(
                transport=transport, base_url="http://test", headers={"authorization": f"Bearer {secret}"}
            )
            return await opened.enter_async_context(client)

        yield come


@dataclass(frozen=True, slots=True)
class Shelf:
    """A store with an open document and a secret one made of a file."""

    path: str
    file: str
    secret: str  #: the id of the secret document

    @property
    def model(self) -> str:
        """A model that answers from it."""
        return f"bookwheel/{self.path.rpartition('/')[2]}"


@pytest.fixture
async def shelf(coming: Coming, ports: Ports) -> Shelf:
    """For the staff."""
    admin = await coming(role=Role.ADMIN)
    path = f"/v1/vector_stores/{(await admin.post('/v1/vector_stores', json={})).json()['id']}"
    upload = await admin.post("/v1/files", files={"file": ("plan.txt", SECRET)}, data={"purpose": "assistants"})
    file = upload.json()["id"]
    line = {"id": "vault-plan", "text": SECRET, "access": [STAFF], "attributes": {"department": "vaults"}}
    secret = (await admin.post(f"{path}/documents", json=line)).json()["document_id"]
    await admin.post(f"{path}/files", json={"file_id": file, "access": [STAFF]})
    await admin.post(f"{path}/documents", json={"id": "open", "text": "The vault is in the cellar of the password."})
    desk = Desk(ports=ports, tenant=DEFAULT_TENANT)
    (store,) = await ports.stores.list(scope=desk.scope(), limit=1)
    for document in await ports.documents.list(scope=desk.scope(store), limit=MANY):
        await desk.publish(document)
    while await catch_up(ports):
        continue
    return Shelf(path, file, secret)


async def told(client: httpx.AsyncClient, shelf: Shelf) -> dict[str, httpx.Response]:
    """What the routes say that could tell of the secret document."""
    asking = {"model": shelf.model, "messages": [{"role": "user", "content": "What is the password of the vault?"}]}
    return {
        "search": await client.post(f"{shelf.path}/search", json={"query": "password of the vault"}),
        "plain": await client.post("/v1/search", json={"query": "password of the vault"}),
        "link": await client.get("/v1/search", params={"query": "password of the vault"}),
        "filter": await client.post(
            f"{shelf.path}/search", json={"query": "vault", "filters": {"department": "vaults"}}
        ),
        "chat": await client.post("/v1/chat/completions", json=asking),
        "documents": await client.get(f"{shelf.path}/documents"),
        "document": await client.get(f"{shelf.path}/documents/{shelf.secret}?include=content"),
        "by id": await client.get(f"{shelf.path}/documents/vault-plan"),
        "files": await client.get(f"{shelf.path}/files"),
        "content": await client.get(f"{shelf.path}/files/{shelf.secret}/content"),
        "file": await client.get(f"/v1/files/{shelf.file}"),
        "bytes": await client.get(f"/v1/files/{shelf.file}/content"),
        "uploads": await client.get("/v1/files"),
        "jobs": await client.get("/v1/jobs"),
        "store": await client.get(shelf.path),
    }


def telling(responses: dict[str, httpx.Response], *words: str) -> set[str]:
    """Those of the responses that hold one of the words."""
    return {name for name, response in responses.items() if any(word in response.text for word in words)}


async def test_what_a_list_keeps_is_nowhere(coming: Coming, shelf: Shelf) -> None:
    """No route tells a stranger of the text, the name, the file or the number of hidden documents."""
    eve = await coming("user:eve")
    said = await told(eve, shelf)
    absent = {name: said.pop(name) for name in ("document", "by id", "content", "file", "bytes")}
    assert telling(said, "xylophone", "vault-plan", "plan.txt", shelf.secret, shelf.file, STAFF) == set()
    unknown = Shelf(shelf.path, f"file-{'0' * 32}", f"doc_{'0' * 32}")
    for name, response in (await told(eve, unknown)).items():
        if name in absent:  # exactly as what never was
            assert (absent[name].status_code, response.status_code) == (404, 404)
            asked = absent[name].text.replace(shelf.secret, unknown.secret).replace(shelf.file, unknown.file)
            assert asked == response.text
    assert said["store"].json()["file_counts"]["total"] == 1
    assert [hit["document"]["external_id"] for hit in said["search"].json()["data"]] == ["open"]
    assert said["filter"].json()["warnings"]  # as of an attribute that nobody has


async def test_whom_a_list_names_sees_all(coming: Coming, shelf: Shelf) -> None:
    """The same routes, so that silence above is not for another reason."""
    said = await told(await coming(STAFF), shelf)
    shown = {"search", "plain", "link", "filter", "chat", "document", "content", "bytes"}
    assert shown <= telling(said, "xylophone")
    assert said["store"].json()["file_counts"]["total"] == 3


async def test_admins_see_that_it_is_there(coming: Coming, shelf: Shelf) -> None:
    """And no content of it, until a list names them; then in all routes."""
    admin = await coming("user:boss", role=Role.ADMIN)
    said = await told(admin, shelf)
    assert telling(said, "xylophone") == set()
    assert {"documents", "by id", "files"} <= telling(said, "vault-plan")
    assert (said["file"].status_code, said["bytes"].status_code) == (200, 404)
    path = f"{shelf.path}/files/{shelf.secret}"
    assert (await admin.post(path, json={"access": ["user:boss"]})).json()["access"] == ["user:boss"]
    assert "search" in telling(await told(admin, shelf), "xylophone")
    assert telling(await told(await coming(STAFF), shelf), "vault-plan") == {"by id"}  # its 404 says what was asked


async def test_denied_and_bounds(coming: Coming, shelf: Shelf, ports: Ports) -> None:
    """A deny wins over a list; a rule and granted stores bound whom the list names, admins too."""
    admin = await coming(role=Role.ADMIN)
    await admin.post(f"{shelf.path}/files/{shelf.secret}", json={"denied": ["user:eve"]})
    await admin.delete(f"{shelf.path}/files/{shelf.file}")
    denied = await coming(STAFF, "user:eve")
    ruled = await coming(STAFF, rule={"department": {"$ne": "vaults"}})
    away = await coming(STAFF, store_ids=frozenset({UUID(int=1)}))
    boss = await coming(STAFF, role=Role.ADMIN, rule={"department": {"$ne": "vaults"}})
    for client in (denied, ruled, away, boss):
        said = {name: response for name, response in (await told(client, shelf)).items() if name != "bytes"}
        assert telling(said, "xylophone") == set()
        assert said["document"].status_code == 404
    assert (await away.get(shelf.path)).status_code == 404
    assert "search" in telling(await told(await coming(STAFF), shelf), "xylophone")


async def test_a_stores_lists(coming: Coming, shelf: Shelf) -> None:
    """They come back, hold at once, are told in the tag, and a wrong one is refused."""
    admin, eve = await coming(role=Role.ADMIN), await coming("user:eve")
    tag = (await admin.get(shelf.path)).headers["etag"]
    changed = await admin.post(shelf.path, json={"access": ["a", "a"], "denied": ["b"]})
    assert (changed.json()["access"], changed.json()["denied"]) == (["a"], ["b"])
    assert changed.headers["etag"] != tag
    assert (await eve.post(f"{shelf.path}/search", json={"query": "cellar"})).json()["data"] == []
    assert (await eve.get(shelf.path)).json()["file_counts"]["total"] == 0
    assert (await admin.post(shelf.path, json={"access": None, "denied": None})).json()["denied"] == []
    assert len((await eve.post(f"{shelf.path}/search", json={"query": "cellar"})).json()["data"]) == 1
    await admin.post(shelf.path, json={"denied": ["user:eve"]})
    assert (await eve.get(shelf.path)).status_code == 404
    assert (await eve.post("/v1/search", json={"query": "cellar"})).json()["results"] == []
    refused = await admin.post(shelf.path, json={"denied": [""]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "denied[0]")
    made = await admin.post("/v1/vector_stores", json={"name": "n", "access": ["a"], "denied": ["b"]})
    assert (made.json()["access"], made.json()["denied"]) == (["a"], ["b"])


async def test_nothing_is_put_over_what_is_hidden(coming: Coming, shelf: Shelf) -> None:
    """A writer that cannot see a document neither replaces nor reads it by its id."""
    writer = await coming("user:eve", role=Role.WRITER)
    refused = await writer.post(f"{shelf.path}/documents", json={"id": "vault-plan", "text": "mine"})
    assert (refused.status_code, "xylophone" in refused.text, STAFF in refused.text) == (409, False, False)
    assert (await writer.delete(shelf.path)).status_code == 409
    assert "search" in telling(await told(await coming(STAFF), shelf), "xylophone")


async def test_responses_are_their_callers(coming: Coming, shelf: Shelf) -> None:
    """Nobody else reads, continues or ends one; an admin deletes it unread."""
    staff, other, admin = await coming(STAFF), await coming(STAFF), await coming(STAFF, role=Role.ADMIN)
    asking = {"model": shelf.model, "input": "What is the password of the vault?"}
    made = (await staff.post("/v1/responses", json=asking)).json()
    path = f"/v1/responses/{made['id']}"
    for client in (other, admin):
        assert (await client.get(path)).status_code == 404
        assert (await client.get(f"{path}/input_items")).status_code == 404
        assert (await client.post(f"{path}/cancel")).status_code == 404
        following = await client.post("/v1/responses", json=asking | {"previous_response_id": made["id"]})
        assert following.status_code == 404
    assert (await other.delete(path)).status_code == 404
    assert (await staff.get(path)).json()["id"] == made["id"]
    assert (await admin.delete(path)).status_code == 200
    assert (await staff.get(path)).status_code == 404


async def test_answers_given_twice_do_not_cross(coming: Coming, shelf: Shelf) -> None:
    """Neither kept searches and answers nor kept results of a request that comes again are another caller's; HTTP's
    caches keep nothing that a list restricts."""
    headers = {"idempotency-key": "one-and-the-same"}
    asking = {"model": shelf.model, "messages": [{"role": "user", "content": "What is the password of the vault?"}]}
    staff, eve = await coming(STAFF), await coming("user:eve")
    ruled = await coming(STAFF, rule={"department": {"$ne": "vaults"}, "document.title": {"$exists": False}})
    for _ in range(2):
        assert "search" in telling(await told(staff, shelf), "xylophone")
        assert "chat" in telling(await told(staff, shelf), "xylophone")
    assert "xylophone" in (await staff.post("/v1/chat/completions", json=asking, headers=headers)).text
    assert "xylophone" not in (await eve.post("/v1/chat/completions", json=asking, headers=headers)).text
    assert telling(await told(eve, shelf), "xylophone") == set()
    for client in (staff, eve, ruled):
        assert (await told(client, shelf))["link"].headers["cache-control"] == "private, no-cache"
    await (await coming(role=Role.ADMIN)).delete(f"{shelf.path}/files/{shelf.file}")
    assert telling(await told(ruled, shelf), "xylophone") <= {"bytes"}
