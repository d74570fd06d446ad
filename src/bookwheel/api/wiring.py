"""What every route is given: the ports, the settings, the caller's scope, the store in the path."""

from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from bookwheel.access import request_scope, require_role, within
from bookwheel.api.audited import audited
from bookwheel.api.ids import parse
from bookwheel.api.roles import needed
from bookwheel.errors import TooLargeError
from bookwheel.ports import Ports
from bookwheel.settings import MIB, Settings
from bookwheel.types import Scope, Store

MAX_BODY_BYTES = 4 * MIB  #: of a JSON request; uploads and document lines have limits of their own


class JSON(Response):
    """A JSON response written by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The content as UTF-8 JSON."""
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


class _JSONRequest(Request):
    """Reads bodies with orjson, which refuses lone surrogates and NaN that no store could keep."""

    async def fetch(self) -> None:
        """Read the body within the limit. Raises TooLargeError."""
        body = bytearray()
        async for chunk in self.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise TooLargeError(f"The body is larger than {MAX_BODY_BYTES} bytes. Split the request.")
        self._body = bytes(body)

    async def json(self) -> Any:
        return orjson.loads(await self.body())


class _GuardedRoute(APIRoute):
    """A route for callers of the role that api/roles.py says; checked before anything of the request is read."""

    def get_route_handler(self) -> Any:
        handler, role = self._handler(), needed(self.name)

        async def handle(request: Request) -> Response:
            if role is not None:
                require_role(role)
            response: Response = await handler(request)
            return response

        return partial(audited, operation=self.name, handle=handle)

    def _handler(self) -> Any:
        return super().get_route_handler()


class _JSONRoute(_GuardedRoute):
    """A route whose body, if any, is JSON of bounded size."""

    def _handler(self) -> Any:
        handler = super()._handler()

        async def handle(request: Request) -> Response:
            bounded = _JSONRequest(request.scope, request.receive)
            if request.method == "POST":
                await bounded.fetch()
            response: Response = await handler(bounded)
            return response

        return handle


def router(tag: str, *, streams: bool = False) -> APIRouter:
    """A router of the door; `tag` groups its routes in the OpenAPI document. With `streams` its routes read their
    bodies themselves, with limits of their own."""
    return APIRouter(tags=[tag], route_class=_GuardedRoute if streams else _JSONRoute, default_response_class=JSON)


async def _ports(request: Request) -> Ports:
    ports: Ports = request.app.state.ports
    return ports


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


TheScope = Annotated[Scope, Depends(request_scope)]
ThePorts = Annotated[Ports, Depends(_ports)]
TheSettings = Annotated[Settings, Depends(_settings)]


async def _store(store_id: str, ports: ThePorts, scope: TheScope) -> Store:
    return await ports.stores.get(parse("store", store_id), scope=scope)


async def _store_scope(store_id: str, scope: TheScope) -> Scope:
    return within(scope, parse("store", store_id))


TheStore = Annotated[Store, Depends(_store)]
StoreScope = Annotated[Scope, Depends(_store_scope)]  #: the caller's scope narrowed to the store in the path
