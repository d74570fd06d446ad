"""A small client for the HTTP API: what the command line uses, and what OpenAI's SDK lacks."""

import contextlib
import itertools
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self, cast
from urllib.parse import quote

import httpx
import orjson

from bookwheel.errors import BookwheelError, ConflictError, NotFoundError, UnavailableError
from bookwheel.replies.answers import Ranked
from bookwheel.replies.service import Delivery, Job, Source, Status, WholeSource
from bookwheel.replies.stores import Document, LineResult, Passage

TIMEOUT = httpx.Timeout(60.0, connect=5.0, write=600.0)
POLL_SECONDS = (0.05, 0.1, 0.2, 0.2, 0.5)  # between looks while waiting; the last one goes on
PAGE = 100
LIMITED_TRIES = 10
MOST_LIMITED_SECONDS = 60.0  #: a minute's limit is whole again then; what says more is told to the caller
SETTLE_SECONDS = 10.0  # for files of a source that are being written

DocumentStatus = Literal["in_progress", "completed", "failed", "cancelled"]
JobState = Literal["waiting", "running", "retrying", "paused", "failed", "cancelled"]


class RequestFailedError(BookwheelError):
    """The server refused the request. Its message says why."""

    code = "request_failed"


class Client:
    """One server; threads may share it. Raises NotFoundError, RequestFailedError or UnavailableError."""

    def __init__(self, url: str, *, key: str = "", tls: ssl.SSLContext | None = None) -> None:
        """`key` is an API key; the machine's own user needs none where the server asks for none. `tls` says whom to
        trust and what to show, where that is not what the machine has; `tls.client_context` makes one of settings."""
        self.url = url
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT, headers=headers, verify=True if tls is None else tls)

    def __enter__(self) -> Self:
        """Use as a context manager, or call close()."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """One JSON request; one that a limit holds up is sent again when the server says so."""
        for _ in range(LIMITED_TRIES):
            with self._reaching():
                response = self._http.request(method, path, **options)
            wait = _limited_seconds(response)
            if wait is None:
                break
            time.sleep(wait)
        return dict(_checked(response))

    def lines(self, path: str, **parameters: str) -> Iterator[str]:
        """The lines of a stream, as they come."""
        with self._reaching(), self._http.stream("GET", path, params=parameters) as response:
            if response.is_error:
                response.read()
                _checked(response)
            yield from response.iter_lines()

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise UnavailableError(f"{self.url} does not answer ({error}). Is `bookwheel up` running?") from error

    def store(self, name: str, *, create: bool = True, chunking: str | None = None) -> str:
        """The id of the store with this name, made when it is missing, with this chunking strategy when given.

        Raises ConflictError when a store that is there has another strategy."""
        for store in self.pages("/v1/vector_stores", order="asc"):
            if store["name"] == name:
                _check_chunking(store, chunking)
                return str(store["id"])
        if not create:
            raise NotFoundError(
                f"There is no vector store named {name!r}. Make one with `bookwheel add --store {name}`."
            )
        body = {"name": name, **({"chunking_strategy": {"type": chunking}} if chunking else {})}
        return str(self.call("POST", "/v1/vector_stores", json=body)["id"])

    def pages(self, path: str, **parameters: str) -> Iterator[dict[str, Any]]:
        """All items of a list, page by page."""
        page: dict[str, Any] | None = self.call("GET", path, params={"limit": str(PAGE), **parameters})
        while page is not None:
            shown, page = page, None
            if shown["has_more"]:  # asked for first: what the caller does with an item may move or remove it
                after = {"after": shown["last_id"]}
                page = self.call("GET", path, params={"limit": str(PAGE), **parameters, **after})
            yield from shown["data"]

    def upload(self, filename: str, data: BinaryIO | bytes) -> dict[str, Any]:
        """Upload a file's bytes, streamed."""
        return self.call("POST", "/v1/files", files={"file": (filename, data)}, data={"purpose": "assistants"})

    def add_file(
        self,
        store_id: str,
        path: Path,
        *,
        external_id: str,
        filename: str | None = None,
        bulk: bool = False,
        replaces: str | None = None,
    ) -> dict[str, Any]:
        """Upload a file and put it into a store under the caller's id; the same id again replaces it. With `bulk`
        single uploads of others go first. `replaces` names the file that the document was made of before: it is
        removed unless something else is made of it."""
        with path.open("rb") as data:
            uploaded = self.upload(filename or path.name, data)
        body = {"file_id": uploaded["id"], "external_id": external_id, "bulk": bulk}
        made = self.call("POST", f"/v1/vector_stores/{store_id}/files", json=body)
        if replaces is not None:
            with contextlib.suppress(NotFoundError):  # its owner was quicker
                self.call("DELETE", f"/v1/files/{replaces}", params={"unless_used": "true"})
        return made

    def put_documents(self, store_id: str, lines: Iterable[Mapping[str, Any]]) -> Iterator[LineResult]:
        """Upsert many small documents in one request; yields the server's line for each, as it comes."""
        body = (orjson.dumps(dict(line)) + b"\n" for line in lines)
        headers = {"content-type": "application/x-ndjson"}
        path = f"/v1/vector_stores/{store_id}/documents"
        with (
            self._reaching(),
            self._http.stream("POST", path, content=body, headers=headers) as response,
        ):
            if response.is_error:
                response.read()
                _checked(response)
            for line in response.iter_lines():
                if line:
                    yield cast("LineResult", orjson.loads(line))

    def documents(self, store_id: str, *, status: DocumentStatus | None = None) -> Iterator[Document]:
        """All documents of a store, or those with this status, newest first."""
        found = self.pages(f"/v1/vector_stores/{store_id}/documents", **_given(status=status))
        return cast("Iterator[Document]", found)

    def document(self, store_id: str, external_id: str, *, content: bool = False) -> Document:
        """The document with the caller's id, with `content` its passages too. Raises NotFoundError."""
        parameters = _given(include="content" if content else None)
        return cast("Document", self.call("GET", _document_path(store_id, external_id), params=parameters))

    def delete_document(self, store_id: str, external_id: str) -> None:
        """Remove the document with the caller's id. Raises NotFoundError."""
        self.call("DELETE", _document_path(store_id, external_id))

    def pause(self, store_id: str) -> None:
        """Ingest nothing more into a store until `resume`; it stays searchable and takes uploads."""
        self.call("POST", f"/v1/vector_stores/{store_id}/pause")

    def resume(self, store_id: str) -> None:
        """Ingest what waits in a store."""
        self.call("POST", f"/v1/vector_stores/{store_id}/resume")

    def wait(self, store_id: str, *, seen: Callable[[Mapping[str, Any]], None] | None = None) -> Mapping[str, int]:
        """Wait until nothing in the store is in progress; returns its file counts. `seen` gets the store each time."""
        for pause in itertools.chain(POLL_SECONDS, itertools.repeat(POLL_SECONDS[-1])):
            store = self.call("GET", f"/v1/vector_stores/{store_id}")
            if seen:
                seen(store)
            if store["file_counts"]["in_progress"] == 0:
                return dict(store["file_counts"])
            time.sleep(pause)
        raise AssertionError("unreachable")

    def wait_for_keywords(self, *, seconds: float = 30.0) -> bool:
        """Wait until the keyword index, which follows the catalog, has caught up; False when it takes longer."""
        deadline = time.monotonic() + seconds
        while self.call("GET", "/v1/status")["keywords_behind"] != 0:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS[0])
        return True

    def search(self, store_id: str, query: str, *, limit: int = 10, **options: Any) -> dict[str, Any]:
        """Search one store."""
        body = {"query": query, "max_num_results": limit, **options}
        return self.call("POST", f"/v1/vector_stores/{store_id}/search", json=body)

    def find(
        self,
        query: str,
        *,
        top_k: int = 10,
        filter: Mapping[str, Any] | None = None,
        stores: Sequence[str] = (),
        vector_store_ids: Sequence[str] = (),
        **options: Any,
    ) -> list[Passage]:
        """Passages of the stores with these names or ids, of all where none is given: `text`, `score`, `document`. The
        other options, such as `query_vector`, are those of POST /v1/search."""
        where = {"stores": list(stores), "vector_store_ids": list(vector_store_ids)}
        body = {"query": query, "top_k": top_k, "filter": filter, **where, **options}
        return list(self.call("POST", "/v1/search", json=body)["results"])

    def rerank(self, query: str, documents: Sequence[str], *, top_n: int | None = None) -> list[Ranked]:
        """The texts by how well they answer, best first."""
        body = {"model": "bookwheel-rerank", "query": query, "documents": list(documents), "top_n": top_n}
        return cast("list[Ranked]", self.call("POST", "/v2/rerank", json=body)["results"])

    def ask(self, store_id: str, question: str) -> dict[str, Any]:
        """A cited answer, as a chat completion."""
        messages = [{"role": "user", "content": question}]
        body = {"model": "bookwheel", "messages": messages, "vector_store_ids": [store_id]}
        return self.call("POST", "/v1/chat/completions", json=body)

    def jobs(self, *, state: JobState | None = None, store_id: str | None = None) -> Iterator[Job]:
        """Documents that wait, run or failed, longest unchanged first."""
        return cast("Iterator[Job]", self.pages("/v1/jobs", **_given(state=state, store_id=store_id)))

    def retry_job(self, id: str) -> None:
        """Do a failed, cancelled or waiting-to-retry job now. Raises NotFoundError for others."""
        self.call("POST", f"/v1/jobs/{id}/retry")

    def retry_jobs(self, *, store_id: str | None = None) -> int:
        """Retry every failed job, of one store or of all; returns how many."""
        return int(self.call("POST", "/v1/jobs/retry", params=_given(store_id=store_id))["retried"])

    def cancel_job(self, id: str) -> None:
        """End an unfinished job; what was live stays live. Raises NotFoundError for others."""
        self.call("POST", f"/v1/jobs/{id}/cancel")

    def drop_job(self, id: str) -> None:
        """Forget a failed or cancelled job: the document goes back to what is live of it, or away. Raises NotFoundError
        for others."""
        self.call("DELETE", f"/v1/jobs/{id}")

    def add_source(self, store_id: str, kind: str, **fields: Any) -> Source:
        """Keep a store in step with a place: `kind` is directory (`path`), urls (`urls`) or sitemap (`url`); the other
        fields, such as `every_seconds`, are those of POST /v1/sources."""
        body = {"kind": kind, "vector_store_id": store_id, **fields}
        return cast("Source", self.call("POST", "/v1/sources", json=body))

    def sources(self) -> Iterator[Source]:
        """All sources, oldest first."""
        return cast("Iterator[Source]", self.pages("/v1/sources", order="asc"))

    def source(self, id: str) -> WholeSource:
        """One source, with its first failures. Raises NotFoundError."""
        return cast("WholeSource", self.call("GET", f"/v1/sources/{id}"))

    def change_source(self, id: str, **fields: Any) -> Source:
        """Change the given fields of a source, also `paused`. Raises NotFoundError."""
        return cast("Source", self.call("POST", f"/v1/sources/{id}", json=fields))

    def run_source(self, id: str) -> Source:
        """Run a source now and wait for the end of that run, and some seconds for files that were written a moment ago,
        which a run leaves to the next one. Raises NotFoundError."""
        before = self.call("POST", f"/v1/sources/{id}/run")["runs"]
        patience = time.monotonic() + SETTLE_SECONDS
        while True:
            source = self.source(id)
            unsettled = source["last_run_counts"].get("waiting", 0) > 0 and time.monotonic() < patience
            if source["runs"] != before and not _is_due(source) and not unsettled:
                return source
            time.sleep(POLL_SECONDS[1])

    def delete_source(self, id: str, *, keep_documents: bool = False) -> None:
        """Remove a source, with its documents unless they are to be kept. Raises NotFoundError."""
        self.call("DELETE", f"/v1/sources/{id}", params={"keep_documents": keep_documents})

    def status(self) -> Status:
        """Counts of stores, documents and jobs, and what runs there."""
        return cast("Status", self.call("GET", "/v1/status"))

    def orphans(self, *, repair: bool = False) -> dict[str, int]:
        """What a backend holds that the catalog does not, or the other way round, by kind; `repair` puts it right."""
        return dict(self.call("POST" if repair else "GET", "/v1/orphans")["counts"])

    def deliveries(self, webhook_id: str) -> Iterator[Delivery]:
        """The log of a webhook endpoint, newest first. Raises NotFoundError."""
        return cast("Iterator[Delivery]", self.pages(f"/v1/webhook_endpoints/{webhook_id}/deliveries"))


def _given(**parameters: str | None) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value is not None}


def _document_path(store_id: str, external_id: str) -> str:
    name = quote(external_id, safe="").replace(".", "%2E")  # "..", as it is, would be the way up to the store
    return f"/v1/vector_stores/{store_id}/documents/{name}"


def _is_due(source: Source) -> bool:
    """It is to run again at once: the run that has ended was under way before."""
    last, following = source["last_run_at"], source["next_run_at"]
    return None not in (last, following) and following <= last  # type: ignore[operator]


def _check_chunking(store: Mapping[str, Any], wanted: str | None) -> None:
    """`static` is how the API shows the strategy `structure`."""
    held = store["chunking_strategy"]["type"].replace("static", "structure")
    if wanted not in (None, "auto", held):
        raise ConflictError(
            f"The store {store['name']!r} exists and is cut by {held!r}. Leave --chunking out, or name a new store."
        )


def _limited_seconds(response: httpx.Response) -> float | None:
    """How long to wait before the same request may pass a limit; None when there is nothing to wait for."""
    if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
        return None
    given = response.headers.get("retry-after", "")
    return float(given) if given.isdigit() and float(given) <= MOST_LIMITED_SECONDS else None


def _checked(response: httpx.Response) -> Any:
    if response.is_success:
        return orjson.loads(response.content) if response.content else {}
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = f"HTTP {response.status_code} from {response.request.url}"
    if response.status_code == httpx.codes.NOT_FOUND:
        raise NotFoundError(message)
    if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise UnavailableError(message)
    raise RequestFailedError(message)
