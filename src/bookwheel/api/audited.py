"""Between the routes and the audit log: what a request did is written when its handler has ended."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from http import HTTPStatus

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Scope as Connection

from bookwheel.access import caller
from bookwheel.acts import Act, Recorder, begin, postpone
from bookwheel.errors import BookwheelError, InvalidRequestError

UNROUTED = "request"  #: the operation of a call that was refused before its route was known


async def audited(request: Request, *, operation: str, handle: Callable[[Request], Awaitable[Response]]) -> Response:
    """What the handler of this operation answers; the audit log has what came of it before the answer is sent."""
    notes, status, replayed = begin(), BookwheelError.status, False
    try:
        response = await handle(request)
        status, replayed = response.status_code, "idempotent-replayed" in response.headers
        return response
    except Exception as error:
        status = _status(error)
        raise
    finally:
        if not replayed:  # an answer that is given again changed nothing
            act = act_of(request, operation=operation, status=status)
            await recorder(request).audited(replace(act, notes=notes))


def audited_later(request: Request, *, operation: str) -> Callable[[], Awaitable[None]]:
    """For a handler whose work goes on while its answer is sent: the event is written when the function that this
    returns is called, with what has been noted until then."""
    notes, made = postpone(), act_of(request, operation=operation, status=HTTPStatus.OK)

    async def write() -> None:
        await recorder(request).audited(replace(made, notes=replace(notes, postponed=False)))

    return write


def act_of(request: Request, *, operation: str, status: int) -> Act:
    """The request as it went."""
    path = {name: str(value) for name, value in request.path_params.items()}
    return Act(operation=operation, path=path, status=status, caller=caller(), address=client_address(request.scope))


async def audited_refusal(connection: Connection, error: BookwheelError) -> None:
    """A call that was refused before its route was known: nobody can say what it would have done."""
    act = Act(operation=UNROUTED, path={}, status=error.status, caller=caller(), address=client_address(connection))
    await connection["app"].state.recorder.audited(act)


def recorder(request: HTTPConnection) -> Recorder:
    """The one of this process."""
    found: Recorder = request.app.state.recorder
    return found


def client_address(connection: Connection) -> str | None:
    """Where the connection comes from; None for a socket that has no address."""
    client = connection.get("client")
    return str(client[0]) if client else None


def _status(error: Exception) -> int:
    """The status that the error is answered with."""
    if isinstance(error, BookwheelError):
        return error.status
    if isinstance(error, HTTPException):
        return error.status_code
    return InvalidRequestError.status if isinstance(error, RequestValidationError) else BookwheelError.status
