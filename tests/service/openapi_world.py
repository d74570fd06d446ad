"""Real things on a server, so that generated requests also reach what exists and not only 404."""

import contextlib
import http.server
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import httpx
from schemathesis import Case

MODELS = {"/v1/embeddings": "bookwheel-embeddings", "/v2/rerank": "bookwheel-rerank"}
FIELDS: dict[str, dict[str, Any]] = {  #: that fit together, by path
    "/v1/embeddings": {"input": "Who?", "dimensions": None},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Who?"}], "filters": None},
    "/v1/responses": {"input": "Who?", "tools": [], "previous_response_id": None, "metadata": None},
    "/v1/vector_stores/{store_id}/file_batches": {"files": None, "attributes": None, "chunking_strategy": None},
    "/v1/vector_stores/{store_id}/files": {"attributes": None, "access": None, "chunking_strategy": None},
    "/v1/vector_stores/{store_id}/files/{file_id}": {"attributes": {"year": 1588}, "access": None},
    "/v1/keys": {"role": "reader", "store_ids": None, "rule": None},
    "/v1/tenants/{tenant_id}/keys": {"role": "reader", "store_ids": None, "rule": None},
    "/v1/tenants/{tenant_id}": {"name": None, "status": "active"},
}
KEYS_KEPT = 0.1  #: of the Idempotency-Keys: they are the same few letters, and would mostly give 409
KNOWN = 0.7  #: of the ids in queries and bodies
FITTED = 0.6  #: of the bodies, where what is generated would hardly ever be taken


class World:
    """One thing of each kind; `renew` makes them anew when requests may have changed or removed them."""

    def __init__(self, client: httpx.Client, folder: Path, receiver: str, seed: int) -> None:
        self._client = client
        self._folder = folder
        self._receiver = receiver
        self._random = Random(seed)
        self._ids: dict[str, str] = {}
        self._jobs: dict[str, str] = {}  #: by the path that takes them
        self._places: dict[str, dict[str, Any]] = {}  #: more fields that fit
        self._receipt = self._offboarded()
        self.renew()

    def renew(self) -> None:
        """Make one of each."""
        for endpoint in self._get("/v1/webhook_endpoints", limit=100)["data"]:  # a server takes only twenty
            self._client.delete(f"/v1/webhook_endpoints/{endpoint['id']}")
        store = self._post("/v1/vector_stores", name="world")["id"]
        upload = self._client.post("/v1/files", files={"file": ("a.txt", b"The bookwheel turns eight books.")})
        file = upload.json()["id"]
        batch = self._post(f"/v1/vector_stores/{store}/file_batches", file_ids=[file])["id"]
        ask = {"input": "Who drew a bookwheel?", "model": f"bookwheel/{store}", "background": True}
        hook = {"url": self._receiver, "event_types": ["response.completed"]}
        source = {"kind": "directory", "path": str(self._folder), "vector_store_id": store, "paused": True}
        tenant = self._post("/v1/tenants", name=f"tenant-{self._random.random()}")
        self._ids = {
            "store_id": store,
            "vector_store_id": store,
            "file_id": file,
            "batch_id": batch,
            "id": self._document(store),
            "response_id": self._post("/v1/responses", **ask)["id"],
            "webhook_id": self._post("/v1/webhook_endpoints", **hook)["id"],
            "source_id": self._post("/v1/sources", **source)["id"],
            "model": f"bookwheel/{store}",
            "key_id": self._post("/v1/keys")["id"],
            "tenant_id": tenant["id"],
            "receipt_id": self._receipt,
        }
        self._places = {
            "/v1/tenants": {"name": f"new-{self._random.random()}"},
            "/v1/tenants/{tenant_id}/offboard": {"name": tenant["name"]},
            "/v1/sources": {**dict.fromkeys(("url", "urls", "limit")), **source},
            "/v1/sources/{source_id}": dict.fromkeys(("url", "urls", "limit", "path")),
            "/v1/vector_stores/{store_id}/file_batches": {"file_ids": [file]},
            "/v1/responses": {"model": f"bookwheel/{store}"},
            "/v1/chat/completions": {"model": f"bookwheel/{store}", "vector_store_ids": []},
        }
        self._make_jobs()

    def path(self, path: str, names: set[str]) -> dict[str, str]:
        """Values of these parameters of a path."""
        if path.startswith("/v1/jobs/"):
            self._make_jobs()
        return {name: self._jobs.get(path) or self._ids[name] for name in names}

    def touch(self, case: Case) -> None:
        """Put real ids into most cases, and take the Idempotency-Key out of most."""
        if self._random.random() > KEYS_KEPT:
            case.headers.pop("Idempotency-Key", None)
        known = {**self._ids, "generator": "bookwheel-extractive", "model": MODELS.get(case.path, self._ids["model"])}
        if case.path.startswith("/v1/webhook_endpoints"):
            known["url"] = self._receiver
        case.query = self._real(case.query, known)
        case.body = self._real(case.body, known)
        if isinstance(case.body, dict) and self._random.random() < FITTED:
            case.body = {**case.body, **FIELDS.get(case.path, {}), **self._places.get(case.path, {})}

    def _real(self, value: Any, known: Mapping[str, str]) -> Any:
        if isinstance(value, list):
            return [self._real(one, known) for one in value]
        if not isinstance(value, dict):
            return value
        return {name: self._field(name, inside, known) for name, inside in value.items()}

    def _field(self, name: str, value: Any, known: Mapping[str, str]) -> Any:
        is_list = name in ("file_ids", "vector_store_ids") and isinstance(value, list)
        if not is_list and not (name in known and isinstance(value, str)):
            return self._real(value, known)
        if self._random.random() > KNOWN:
            return value
        return [known[name.removesuffix("s")]] if is_list else known[name]

    def _offboarded(self) -> str:
        """The receipt of a tenant that has gone."""
        gone = self._post("/v1/tenants", name=f"gone-{self._random.random()}")
        receipt: str = self._post(f"/v1/tenants/{gone['id']}/offboard", name=gone["name"])["id"]
        return receipt

    def _make_jobs(self) -> None:
        """One that waits, in a store that is paused, and two that were cancelled."""
        store = self._post("/v1/vector_stores", name="jobs")["id"]
        self._post(f"/v1/vector_stores/{store}/pause")
        self._jobs = {f"/v1/jobs/{{id}}{end}": self._document(store) for end in ("/cancel", "/retry", "")}
        for end in ("/retry", ""):
            self._post(f"/v1/jobs/{self._jobs[f'/v1/jobs/{{id}}{end}']}/cancel")

    def _document(self, store: str) -> str:
        text = f"Agostino Ramelli drew a bookwheel. {self._random.random()}"
        made: str = self._post(f"/v1/vector_stores/{store}/documents", id=f"a/{self._random.random()}", text=text)[
            "document_id"
        ]
        return made

    def _get(self, path: str, /, **query: Any) -> dict[str, Any]:
        made: dict[str, Any] = self._client.get(path, params=query).raise_for_status().json()
        return made

    def _post(self, path: str, /, **body: Any) -> dict[str, Any]:
        made: dict[str, Any] = self._client.post(path, json=body).raise_for_status().json()
        return made


@contextlib.contextmanager
def receiver() -> Iterator[str]:
    """The address of an endpoint on this machine that takes every webhook."""

    class Taker(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Taker)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
