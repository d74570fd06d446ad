"""The routes in OpenAI's shapes, over the memory backend."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest

from bookwheel.api import create_app
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.testing import memory_ports
from bookwheel.types import FileStatus

MAX_FILE = 200_000
MAX_LINE = 2_000


@pytest.fixture
def ports() -> Ports:
    """Empty ports in memory."""
    return memory_ports()


@pytest.fixture
async def client(ports: Ports) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the door."""
    app = create_app(ports, Settings(max_file_bytes=MAX_FILE, max_line_bytes=MAX_LINE))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


@pytest.fixture
async def store(client: httpx.AsyncClient) -> dict[str, Any]:
    """An empty store."""
    response = await client.post("/v1/vector_stores", json={"name": "books", "metadata": {"owner": "me"}})
    made: dict[str, Any] = response.json()
    return made


async def upload(
    client: httpx.AsyncClient, data: bytes = b"text", name: str = "a.txt", purpose: str = "assistants"
) -> dict[str, Any]:
    """An uploaded file."""
    response = await client.post("/v1/files", files={"file": (name, data)}, data={"purpose": purpose})
    assert response.status_code == 200, response.text
    made: dict[str, Any] = response.json()
    return made


def ndjson(*lines: Any) -> bytes:
    """Lines as an upload; bytes stay as they are."""
    return b"\n".join(line if isinstance(line, bytes) else orjson.dumps(line) for line in lines) + b"\n"


async def put(client: httpx.AsyncClient, store: dict[str, Any], *lines: Any) -> list[dict[str, Any]]:
    """The results of an NDJSON upload."""
    response = await client.post(
        f"/v1/vector_stores/{store['id']}/documents",
        content=ndjson(*lines),
        headers={"content-type": "application/x-ndjson"},
    )
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [orjson.loads(line) for line in response.content.splitlines()]


async def test_file_comes_back_as_it_was_sent(client: httpx.AsyncClient) -> None:
    """The bytes and the name of an upload survive, and its content is never shown in place."""
    data = b"\r\n--not-the-boundary\r\n" + bytes(range(256)) * 100
    file = await upload(client, data, name='../../etc/Über "uns".pdf')
    assert file["filename"] == 'Über "uns".pdf'
    assert (file["object"], file["bytes"], file["purpose"]) == ("file", len(data), "assistants")
    assert (await client.get(f"/v1/files/{file['id']}")).json() == file
    content = await client.get(f"/v1/files/{file['id']}/content")
    assert content.content == data
    assert content.headers["content-disposition"].startswith("attachment")


async def test_deleted_file_is_gone(client: httpx.AsyncClient) -> None:
    """After a delete the file is neither listed nor found nor readable."""
    file = await upload(client)
    assert (await client.delete(f"/v1/files/{file['id']}")).json() == {
        "id": file["id"],
        "object": "file",
        "deleted": True,
    }
    assert (await client.get("/v1/files")).json()["data"] == []
    for path in ("", "/content"):
        assert (await client.get(f"/v1/files/{file['id']}{path}")).status_code == 404


async def test_shared_blob_survives_the_delete_of_one_file(client: httpx.AsyncClient) -> None:
    """Two files with the same bytes do not take each other's content away."""
    one, other = await upload(client, b"same"), await upload(client, b"same")
    await client.delete(f"/v1/files/{one['id']}")
    assert (await client.get(f"/v1/files/{other['id']}/content")).content == b"same"


async def test_files_are_listed_in_pages(client: httpx.AsyncClient) -> None:
    """`after`, `limit`, `order` and `purpose` walk the whole list without repeats."""
    made = [(await upload(client, purpose=purpose))["id"] for purpose in ("batch", "user_data", "batch", "batch")]
    first = (await client.get("/v1/files", params={"limit": 3, "order": "asc"})).json()
    assert [file["id"] for file in first["data"]] == made[:3]
    assert (first["object"], first["has_more"], first["last_id"]) == ("list", True, made[2])
    rest = (await client.get("/v1/files", params={"after": made[2], "order": "asc"})).json()
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == (made[3:], False)
    batch = (await client.get("/v1/files", params={"purpose": "batch", "limit": 2})).json()
    assert ([file["id"] for file in batch["data"]], batch["has_more"]) == ([made[3], made[2]], True)


@pytest.mark.parametrize(
    ("files", "data", "status", "param"),
    [
        ({"file": ("a.txt", b"x" * (MAX_FILE + 1))}, {"purpose": "assistants"}, 413, None),
        ({"file": ("a.txt", b"x" * (MAX_FILE + 2_000_000))}, {"purpose": "assistants"}, 413, None),
        ({"file": ("a.txt", b"")}, {"purpose": "assistants"}, 400, "file"),
        ({"other": ("a.txt", b"x")}, {"purpose": "assistants"}, 400, "other"),
        ({"file": ("a.txt", b"x")}, {"purpose": "fun"}, 400, "purpose"),
        ({"file": ("a.txt", b"x")}, {"purpose": "x" * 100_000}, 400, "purpose"),
    ],
)
async def test_wrong_uploads_are_refused(
    client: httpx.AsyncClient, files: Any, data: Any, status: int, param: str | None
) -> None:
    """An upload that is too large, empty or incomplete leaves no file."""
    response = await client.post("/v1/files", files=files, data=data)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)
    assert (await client.get("/v1/files")).json()["data"] == []


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"nothing of the kind"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\ncut of',
        ),
        ("multipart/form-data; boundary=" + "b" * 500, b"--b"),
    ],
)
async def test_broken_forms_are_refused(client: httpx.AsyncClient, content_type: str, body: bytes) -> None:
    """A form that is no form, or ends in the middle, is the caller's error and stores nothing."""
    response = await client.post("/v1/files", content=body, headers={"content-type": content_type})
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")
    assert (await client.get("/v1/files")).json()["data"] == []


async def test_store_life(client: httpx.AsyncClient, store: dict[str, Any]) -> None:
    """A store is made, read, changed in part, listed and deleted."""
    assert store["object"] == "vector_store"
    assert store["id"].startswith("vs_")
    assert (store["name"], store["metadata"], store["status"]) == ("books", {"owner": "me"}, "completed")
    path = f"/v1/vector_stores/{store['id']}"
    renamed = (await client.post(path, json={"name": "more books"})).json()
    assert (renamed["name"], renamed["metadata"]) == ("more books", {"owner": "me"})
    assert [one["id"] for one in (await client.get("/v1/vector_stores")).json()["data"]] == [store["id"]]
    assert (await client.delete(path)).json() == {
        "id": store["id"],
        "object": "vector_store.deleted",
        "deleted": True,
    }
    assert (await client.get(path)).status_code == 404


async def test_store_is_made_with_files(client: httpx.AsyncClient) -> None:
    """Files given at creation are attached, with the sizes given there."""
    file = await upload(client)
    chunking = {"type": "static", "static": {"max_chunk_size_tokens": 512, "chunk_overlap_tokens": 64}}
    made = (
        await client.post("/v1/vector_stores", json={"file_ids": [file["id"]] * 2, "chunking_strategy": chunking})
    ).json()
    assert made["file_counts"]["total"] == 1
    attached = (await client.get(f"/v1/vector_stores/{made['id']}/files/{file['id']}")).json()
    assert attached["chunking_strategy"] == chunking
    assert attached["status"] == "in_progress"


async def test_unknown_file_leaves_no_store(client: httpx.AsyncClient) -> None:
    """A store with a file that does not exist is not made."""
    response = await client.post("/v1/vector_stores", json={"file_ids": ["file-" + "0" * 32]})
    assert response.status_code == 404
    assert (await client.get("/v1/vector_stores")).json()["data"] == []


@pytest.mark.parametrize(("size", "overlap", "field"), [(63, 0, "max_"), (1025, 0, "max_"), (100, 51, "chunk_")])
async def test_chunk_sizes_are_bounded(client: httpx.AsyncClient, size: int, overlap: int, field: str) -> None:
    """Sizes that the splitter cannot honour are refused by name."""
    sizes = {"max_chunk_size_tokens": size, "chunk_overlap_tokens": overlap}
    response = await client.post("/v1/vector_stores", json={"chunking_strategy": {"type": "static", "static": sizes}})
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith(f"chunking_strategy.static.{field}")


OWN_STRATEGIES = [
    ({"type": "structure"}, {"type": "static", "static": {"max_chunk_size_tokens": 256, "chunk_overlap_tokens": 32}}),
    ({"type": "fixed"}, {"type": "fixed", "max_chunk_size_tokens": 256, "chunk_overlap_tokens": 32}),
    (
        {"type": "sentence", "max_chunk_size_tokens": 100, "chunk_overlap_tokens": 50},
        {"type": "sentence", "max_chunk_size_tokens": 100, "chunk_overlap_tokens": 50},
    ),
    (
        {"type": "parent_child"},
        {
            "type": "parent_child",
            "max_chunk_size_tokens": 128,
            "chunk_overlap_tokens": 16,
            "parent_chunk_size_tokens": 1024,
        },
    ),
    ({"type": "semantic"}, {"type": "semantic", "max_chunk_size_tokens": 256, "chunk_overlap_tokens": 0}),
]


@pytest.mark.parametrize(("asked", "shown"), OWN_STRATEGIES)
async def test_own_chunking_strategies(client: httpx.AsyncClient, asked: dict[str, Any], shown: dict[str, Any]) -> None:
    """A strategy of ours is shown with all its sizes, and what is shown can be sent again."""
    made = (await client.post("/v1/vector_stores", json={"chunking_strategy": asked})).json()
    again = (await client.post("/v1/vector_stores", json={"chunking_strategy": made["chunking_strategy"]})).json()
    assert made["chunking_strategy"] == again["chunking_strategy"] == shown


@pytest.mark.parametrize(
    ("strategy", "param"),
    [
        ({"type": "fixed", "max_chunk_size_tokens": 63}, "max_chunk_size_tokens"),
        ({"type": "fixed", "max_chunk_size_tokens": 0}, "max_chunk_size_tokens"),
        ({"type": "sentence", "max_chunk_size_tokens": 1025}, "max_chunk_size_tokens"),
        ({"type": "sentence", "max_chunk_size_tokens": 100, "chunk_overlap_tokens": 51}, "chunk_overlap_tokens"),
        ({"type": "semantic", "chunk_overlap_tokens": 1}, "chunk_overlap_tokens"),
        ({"type": "parent_child", "parent_chunk_size_tokens": 1025}, "parent_chunk_size_tokens"),
        ({"type": "parent_child", "parent_chunk_size_tokens": 127}, "parent_chunk_size_tokens"),
        ({"type": "by_moon"}, "type"),
    ],
)
async def test_sizes_of_own_strategies_are_bounded(
    client: httpx.AsyncClient, strategy: dict[str, Any], param: str
) -> None:
    """The same limits as OpenAI's, and the same shape of error."""
    response = await client.post("/v1/vector_stores", json={"chunking_strategy": strategy})
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert response.json()["error"]["param"].startswith(f"chunking_strategy.{param}")


async def test_file_in_a_store(client: httpx.AsyncClient, store: dict[str, Any]) -> None:
    """A file is attached with attributes, listed by status, changed and taken out; the file itself stays."""
    file = await upload(client)
    base = f"/v1/vector_stores/{store['id']}/files"
    attached = (await client.post(base, json={"file_id": file["id"], "attributes": {"year": 2024}})).json()
    assert (attached["id"], attached["object"], attached["last_error"]) == (file["id"], "vector_store.file", None)
    assert attached["attributes"] == {"year": 2024}
    listed = (await client.get(base, params={"filter": "in_progress"})).json()["data"]
    assert [one["id"] for one in listed] == [file["id"]]
    assert (await client.get(base, params={"filter": "failed"})).json()["data"] == []
    changed = await client.post(f"{base}/{file['id']}", json={"attributes": {"year": 2025}})
    assert changed.json()["attributes"] == {"year": 2025}
    deleted = (await client.delete(f"{base}/{file['id']}")).json()
    assert (deleted["object"], deleted["deleted"]) == ("vector_store.file.deleted", True)
    assert (await client.get(f"{base}/{file['id']}")).status_code == 404
    assert (await client.get(f"/v1/files/{file['id']}")).status_code == 200


async def test_lines_are_answered_in_order(client: httpx.AsyncClient, store: dict[str, Any]) -> None:
    """Each line gets one result in its place, and a wrong line does not hold up the next."""
    results = await put(
        client,
        store,
        {"id": "a", "text": "one", "attributes": {"n": 1}},
        b"",
        b"{broken",
        {"id": "b"},
        {"id": "c", "text": "x" * MAX_LINE},
        {"id": "d", "text": "two", "attributes": {"n": {}}},
        [1],
        {"id": "e", "text": "nul \0 byte"},
    )
    told = [(one["line"], one["id"], one.get("status", one.get("error", {}).get("code"))) for one in results]
    assert told == [
        (1, "a", "in_progress"),
        (3, None, "invalid_document"),
        (4, "b", "invalid_document"),
        (5, None, "too_large"),
        (6, "d", "invalid_request"),
        (7, None, "invalid_document"),
        (8, "e", "in_progress"),
    ]
    assert results[0]["document_id"].startswith("doc_")
    assert results[4]["error"]["param"] == "attributes.n"
    listed = (await client.get(f"/v1/vector_stores/{store['id']}/documents", params={"order": "asc"})).json()
    assert [one["id"] for one in listed["data"]] == ["a", "e"]


async def test_putting_again_makes_a_version_only_for_new_text(
    client: httpx.AsyncClient, store: dict[str, Any]
) -> None:
    """The same id with other text is a new version, with the same text it is not."""
    (first,) = await put(client, store, {"id": "a", "text": "one"})
    same, other = await put(client, store, {"id": "a", "text": "one"}, {"id": "a", "text": "two"})
    assert [first["version"], same["version"], other["version"]] == [1, 1, 2]
    assert first["document_id"] == other["document_id"]


async def test_one_document_as_json(client: httpx.AsyncClient, store: dict[str, Any]) -> None:
    """A JSON body is one document, and what is wrong with it is the response's error."""
    path = f"/v1/vector_stores/{store['id']}/documents"
    made = (await client.post(path, json={"id": "a", "text": "one"})).json()
    assert (made["id"], made["version"], made["status"]) == ("a", 1, "in_progress")
    wrong = await client.post(path, json={"id": "a"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "text")
    long = await client.post(path, json={"id": "a", "text": "x" * MAX_LINE})
    assert (long.status_code, long.json()["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    "name",
    ["plain", "a/b/c", "a%2Fb", "100%", "ünïcode/日本", "..", "a?b#c", "a b", "trailing/", "doc_x", "file-x", "//"],
)
async def test_any_id_finds_its_document(client: httpx.AsyncClient, store: dict[str, Any], name: str) -> None:
    """The caller's id may hold slashes, percent signs and any script."""
    base = f"/v1/vector_stores/{store['id']}/documents"
    await put(client, store, {"id": name, "text": "one", "title": "T"}, {"id": "other", "text": "two"})
    path = f"{base}/{quote(name, safe='')}".replace("/..", "/%2E%2E")
    found = (await client.get(path)).json()
    assert (found["id"], found["title"], found["version"]) == (name, "T", 1)
    assert (await client.get(f"{base}/{found['document_id']}")).json() == found
    assert (await client.delete(path)).json()["deleted"] is True
    assert (await client.get(path)).status_code == 404
    assert (await client.get(f"{base}/other")).status_code == 200


async def test_document_with_content(client: httpx.AsyncClient, store: dict[str, Any]) -> None:
    """Chunks come only when asked for."""
    await put(client, store, {"id": "a", "text": "one"})
    path = f"/v1/vector_stores/{store['id']}/documents/a"
    assert "chunks" not in (await client.get(path)).json()
    assert (await client.get(path, params={"include": "content"})).json()["chunks"] == []


async def test_documents_of_another_store_are_not_found(client: httpx.AsyncClient, store: dict[str, Any]) -> None:
    """An id is looked for in its own store only, the public one too."""
    (made,) = await put(client, store, {"id": "a", "text": "one"})
    other = (await client.post("/v1/vector_stores", json={})).json()
    for name in ("a", made["document_id"]):
        for kind in ("documents", "files"):
            response = await client.get(f"/v1/vector_stores/{other['id']}/{kind}/{name}")
            assert response.status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("PUT", "/v1/files", 405, "method_not_allowed"),
        ("GET", "/v1/vector_stores/vs_x", 404, "not_found"),
        ("GET", "/v1/vector_stores/vs_" + "0" * 32, 404, "not_found"),
        ("GET", "/v1/vector_stores/file-" + "0" * 32, 404, "not_found"),
        ("GET", "/v1/files/%00", 404, "not_found"),
        ("GET", "/v1/vector_stores?limit=0", 400, "invalid_request"),
        ("GET", "/v1/vector_stores?before=vs_1", 400, "invalid_request"),
        ("POST", "/v1/vector_stores/vs_" + "0" * 32 + "/documents", 404, "not_found"),
        ("GET", "/v1/models/gpt-9", 404, "not_found"),
    ],
)
async def test_errors_have_one_shape(client: httpx.AsyncClient, method: str, path: str, status: int, code: str) -> None:
    """Every error is OpenAI's JSON, with a request id."""
    response = await client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"].keys() == {"message", "type", "param", "code"}
    assert response.json()["error"]["code"] == code
    assert response.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"[]", None),
        (b'"\\ud800"', None),
        (b'{"name": 3}', "name"),
        (b'{"name": "a\\u0000"}', "name"),
        (b'{"file_ids": ["a", 3]}', "file_ids[1]"),
        (b'{"metadata": {"a": 1}}', "metadata.a"),
        (b'{"metadata": {"": "a"}}', "metadata"),
        (b'{"chunking_strategy": {"type": "static"}}', "chunking_strategy.static"),
    ],
)
async def test_invalid_bodies_name_the_field(client: httpx.AsyncClient, body: bytes, param: str | None) -> None:
    """A body that is not valid is a 400 that names the first wrong field."""
    response = await client.post("/v1/vector_stores", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_json_bodies_are_bounded(client: httpx.AsyncClient) -> None:
    """A JSON body of any length does not fill the memory."""
    response = await client.post("/v1/vector_stores", json={"name": "x" * 5_000_000})
    assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")


async def test_status_counts(client: httpx.AsyncClient, store: dict[str, Any]) -> None:
    """The status tells stores, documents by status and queues."""
    await put(client, store, {"id": "a", "text": "one"})
    status = (await client.get("/v1/status")).json()
    assert status["vector_stores"] == 1
    assert sum(status["documents"].values()) == 1
    assert status["documents"][FileStatus.IN_PROGRESS] == 1
    assert isinstance(status["queues"], dict)


async def test_models(client: httpx.AsyncClient, store: dict[str, Any]) -> None:
    """The plain models are listed, and a store is a model."""
    names = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
    assert "bookwheel" in names
    for name in (*names, store["id"], f"bookwheel/{store['id']}"):
        assert (await client.get(f"/v1/models/{name}")).json()["id"] == name


async def test_openapi_describes_every_route(client: httpx.AsyncClient) -> None:
    """The OpenAPI document can be made and has the routes."""
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert {"/v1/files", "/v1/vector_stores/{store_id}/search", "/v1/chat/completions"} <= paths.keys()
