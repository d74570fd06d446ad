"""Limits around every request of a known caller: admitted or refused, and told in OpenAI's headers how they stand."""

from contextvars import ContextVar
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bookwheel.access import caller
from bookwheel.api.audited import audited_refusal
from bookwheel.api.failures import respond
from bookwheel.errors import BookwheelError
from bookwheel.limits import Admission, Guard


@dataclass(slots=True)
class _Spending:
    """What one request takes of its caller's tokens per minute."""

    admission: Admission
    tokens: int = 0


_spending: ContextVar[_Spending | None] = ContextVar("spending", default=None)


def spend(tokens: int) -> None:
    """Book what an answer took; it counts from the end of the request on."""
    spending = _spending.get()
    if spending is not None:
        spending.tokens += tokens


def counts_tokens() -> bool:
    """Whether the present caller's tokens are limited: else nobody needs to count them."""
    spending = _spending.get()
    return spending is not None and spending.admission.counts_tokens


class Limiting:
    """Pure ASGI middleware, inside what finds out who calls."""

    def __init__(self, app: ASGIApp, *, guard: Guard) -> None:
        self.app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; what nobody needs a key for is not limited."""
        present = caller()
        if scope["type"] != "http" or present is None:
            await self.app(scope, receive, send)
            return
        try:
            admission = await self._guard.admit(present)
        except BookwheelError as error:
            await audited_refusal(scope, error)
            await respond(error)(scope, receive, send)
            return
        async with admission:
            await self._serve(scope, receive, send, admission)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, admission: Admission) -> None:
        spending = _Spending(admission)
        token = _spending.set(spending)
        try:
            await self.app(scope, receive, _told(admission, send))
        finally:
            _spending.reset(token)
            await admission.spend(spending.tokens)


def _told(admission: Admission, send: Send) -> Send:
    """With the headers of the limits on the response."""
    if not admission.headers:
        return send

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(admission.headers)
        await send(message)

    return sent
