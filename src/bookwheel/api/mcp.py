"""/mcp: the Model Context Protocol over streamable HTTP, without sessions.

Two tools in the shapes that OpenAI's connectors ask for, `search` and `fetch`, and every document as a resource.
"""

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import Any
from urllib.parse import quote
from uuid import UUID

import orjson
import structlog
from fastapi import FastAPI
from mcp import MCPError, types
from mcp.server import Server, ServerRequestContext
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from bookwheel.access import request_scope, within
from bookwheel.api.bodies import Body, Name, PlainSearch, QueryText
from bookwheel.api.cache_control import CacheControl
from bookwheel.api.failures import invalid_request
from bookwheel.api.ids import parse, public
from bookwheel.api.plain_search import found_for
from bookwheel.api.store_choice import live_stores
from bookwheel.errors import BookwheelError, InvalidRequestError, NotFoundError
from bookwheel.expiry import note_search
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.telemetry import ERRORS
from bookwheel.types import Document, Hit, Scope

PATH = "/mcp"
SCHEME = "bookwheel://"
PAGE = 100  # resources
MANY_STORES = 10_000  #: whose documents are listed
MAX_PASSAGES = 2_000  #: of a document that is given whole: some 2 MB of text
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

log = structlog.get_logger("bookwheel.api.mcp")

Context = ServerRequestContext[Any, Any]


class SearchArguments(Body):
    """Arguments of the tool `search`."""

    query: QueryText = Field(description="What to look for, in natural language.")
    top_k: int = Field(10, ge=1, le=50, description="Passages at most.")
    stores: list[Name] = Field([], description="Names of vector stores; all where none is given.")
    filter: dict[str, Any] | None = Field(None, description='On attributes, such as {"year": {"$gte": 2020}}.')


class FetchArguments(Body):
    """Arguments of the tool `fetch`."""

    id: str = Field(description="The id of a search result.")


TOOLS = (
    types.Tool(
        name="search",
        title="Search documents",
        description="Find passages by meaning and by keywords. Returns the best passage of each document: id, title,"
        " url and text. Fetch a document by its id to read all of it.",
        input_schema=SearchArguments.model_json_schema(),
        annotations=types.ToolAnnotations(read_only_hint=True, open_world_hint=False),
    ),
    types.Tool(
        name="fetch",
        title="Read a document",
        description="The whole text of one document by the id that search returned.",
        input_schema=FetchArguments.model_json_schema(),
        annotations=types.ToolAnnotations(read_only_hint=True, open_world_hint=False),
    ),
)


class Library:
    """The documents of these ports, as the protocol asks for them."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def tools(self, _context: Context, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        """What can be called."""
        return types.ListToolsResult(tools=list(TOOLS))

    async def call(self, context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        """Run a tool. What goes wrong is told to the model that called it, with the remedy."""
        try:
            data = await self._run(params.name, params.arguments or {}, base=_base(context))
        except ValidationError as error:
            return _refused(_invalid(error))
        except BookwheelError as error:
            return _refused(error)
        except Exception:
            log.exception("unexpected error", tool=params.name)
            return _refused(BookwheelError())
        text = types.TextContent(type="text", text=orjson.dumps(data).decode())
        return types.CallToolResult(content=[text], structured_content=data)

    async def resources(
        self, _context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        """A page of the documents that can be read, newest first."""
        scope = await request_scope()
        try:
            after = parse("document", params.cursor) if params and params.cursor else None
            reading = replace(await self._all(scope), manages=False)
            documents = await self._ports.documents.list(scope=reading, limit=PAGE, after=after)
        except BookwheelError as error:
            raise _protocol_error(error) from error
        return types.ListResourcesResult(
            resources=[_resource(document) for document in documents if document.live_version is not None],
            next_cursor=public("document", documents[-1].id) if len(documents) == PAGE else None,
        )

    async def read(self, _context: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        """The text of one document."""
        try:
            _, text = await self._document(str(params.uri).removeprefix(SCHEME))
        except BookwheelError as error:
            raise _protocol_error(error) from error
        contents = types.TextResourceContents(uri=params.uri, mime_type="text/plain", text=text)
        return types.ReadResourceResult(contents=[contents])

    async def _run(self, name: str, arguments: dict[str, Any], *, base: str) -> dict[str, Any]:
        if name == "search":
            return await self._search(SearchArguments.model_validate(arguments), base=base)
        if name == "fetch":
            return await self._fetch(FetchArguments.model_validate(arguments), base=base)
        raise InvalidRequestError(f"There is no tool {name[:80]!r}; use search or fetch.", param="name")

    async def _search(self, wanted: SearchArguments, *, base: str) -> dict[str, Any]:
        scope, ports = await request_scope(), self._ports
        control = CacheControl(as_of=time.time())
        found = await found_for(PlainSearch.model_validate(wanted.model_dump()), control, ports=ports, scope=scope)
        shown = {"results": [_result(hit, base=base) for hit in _one_each(found.hits)]}
        told = {"warnings": list(found.warnings), "degraded": list(found.degraded)}
        return shown | {name: notes for name, notes in told.items() if notes}

    async def _fetch(self, wanted: FetchArguments, *, base: str) -> dict[str, Any]:
        document, text = await self._document(wanted.id)
        return {
            "id": _id(document.store_id, document.id),
            "title": document.title or document.filename,
            "text": text,
            "url": _url(document.store_id, document.id, document.external_id, base=base),
            "metadata": {**document.attributes, "filename": document.filename, "version": document.live_version},
        }

    async def _document(self, id: str) -> tuple[Document, str]:
        """A document by `vs_.../doc_...`, with its text. Raises NotFoundError, InvalidRequestError when too long."""
        store, _, name = id.partition("/")
        scope = within(await request_scope(), parse("store", store))
        kept = await self._ports.stores.get(parse("store", store), scope=scope)
        await note_search([kept], scope=scope, ports=self._ports)
        reading = replace(scope, manages=False)
        document = await self._ports.documents.get(parse("document", name), scope=reading)
        if document.live_version is None:
            raise NotFoundError(f"The document {id!r} cannot be read yet: it is {document.status.value}.")
        if document.chunk_count > MAX_PASSAGES:
            raise InvalidRequestError(
                f"The document has {document.chunk_count} passages; at most {MAX_PASSAGES} are given at once."
                " Search for the part that you need.",
                param="id",
            )
        passages = await self._ports.passages.of_document(document.id, scope=scope)
        return document, "".join(_joined(passages))

    async def _all(self, scope: Scope) -> Scope:
        stores = await live_stores(scope=scope, ports=self._ports, limit=MANY_STORES)
        return within(scope, *(store.id for store in stores))


class _Door:
    """The protocol's ASGI application, as an endpoint for every method."""

    def __init__(self, sessions: StreamableHTTPSessionManager) -> None:
        self._sessions = sessions

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            await self._sessions.handle_request(scope, receive, send)
        else:  # a GET would hold a stream open that never says anything: there are no sessions
            await Response(status_code=405, headers={"allow": "POST"})(scope, receive, send)


def install(app: FastAPI, ports: Ports, settings: Settings) -> None:
    """Add the route; `lifespan` must run around the application."""
    library = Library(ports)
    server = Server(
        "bookwheel",
        version=version("bookwheel"),
        title="Bookwheel",
        instructions="Search the documents, then fetch those that you need whole. Cite their url.",
        on_list_tools=library.tools,
        on_call_tool=library.call,
        on_list_resources=library.resources,
        on_read_resource=library.read,
    )
    hosts = [*LOOPBACK, *filter(None, (host.strip() for host in settings.hosts.split(",")))]
    app.state.mcp = StreamableHTTPSessionManager(
        server,
        json_response=True,
        stateless=True,
        security_settings=TransportSecuritySettings(
            enable_dns_rebinding_protection=True,
            allowed_hosts=[pattern for host in hosts for pattern in (host, f"{host}:*")],
            allowed_origins=[
                f"{way}://{host}{port}" for host in hosts for way in ("http", "https") for port in ("", ":*")
            ],
        ),
    )
    app.router.routes.append(Route(PATH, endpoint=_Door(app.state.mcp), include_in_schema=False))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Serve the protocol while the application runs."""
    sessions: StreamableHTTPSessionManager = app.state.mcp
    async with sessions.run():
        yield


def _base(context: Context) -> str:
    request = context.request
    return str(request.base_url).rstrip("/") if isinstance(request, Request) else ""


def _id(store_id: UUID, document_id: UUID) -> str:
    return f"{public('store', store_id)}/{public('document', document_id)}"


def _url(store_id: UUID, document_id: UUID, external_id: str | None, *, base: str) -> str:
    """Where a person finds the document: its own address, or ours."""
    if external_id and external_id.startswith(("http://", "https://")):
        return external_id
    store, document = public("store", store_id), quote(public("document", document_id))
    return f"{base}/v1/vector_stores/{store}/documents/{document}?include=content"


def _one_each(hits: Sequence[Hit]) -> list[Hit]:
    """The best hit of each document."""
    best: dict[UUID, Hit] = {}
    for hit in hits:
        best.setdefault(hit.document_id, hit)
    return list(best.values())


def _result(hit: Hit, *, base: str) -> dict[str, Any]:
    return {
        "id": _id(hit.store_id, hit.document_id),
        "title": hit.title or hit.filename,
        "url": _url(hit.store_id, hit.document_id, hit.external_id, base=base),
        "text": hit.text,
    }


def _resource(document: Document) -> types.Resource:
    return types.Resource(
        uri=SCHEME + _id(document.store_id, document.id),
        name=document.external_id or document.filename,
        title=document.title or document.filename,
        mime_type="text/plain",
    )


def _joined(passages: Sequence[Hit]) -> Iterator[str]:
    """The text in pieces that do not overlap, a blank line where something lies between."""
    reached = 0
    for passage in passages:
        if passage.start > reached > 0:
            yield "\n\n"
        yield passage.text[max(0, reached - passage.start) :]
        reached = max(reached, passage.end)


def _invalid(error: ValidationError) -> InvalidRequestError:
    return invalid_request([{**problem, "loc": ("arguments", *problem["loc"])} for problem in error.errors()])


def _refused(error: BookwheelError) -> types.CallToolResult:
    if error.status >= BookwheelError.status:
        ERRORS.labels("mcp", type(error).__name__).inc()
    return types.CallToolResult(content=[types.TextContent(type="text", text=error.message)], is_error=True)


def _protocol_error(error: BookwheelError) -> MCPError:
    code = types.INTERNAL_ERROR if error.status >= BookwheelError.status else types.INVALID_PARAMS
    return MCPError(code, error.message)
