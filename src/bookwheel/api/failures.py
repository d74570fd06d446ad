"""Every error as a response in OpenAI's shape."""

from collections.abc import Sequence
from math import ceil
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from bookwheel.api.wiring import JSON
from bookwheel.errors import (
    AuthenticationError,
    BookwheelError,
    ConflictError,
    IdempotencyKeyBusyError,
    InvalidRequestError,
    QuotaError,
    RateLimitError,
    SourceError,
    StorageFullError,
)
from bookwheel.telemetry import ERRORS

INTERNAL = BookwheelError()


def install(app: FastAPI) -> None:
    """Register the handlers. Unknown exceptions are the middleware's."""
    app.add_exception_handler(BookwheelError, _designed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def respond(error: BookwheelError) -> JSON:
    """The response of a designed error; a retryable one says when to come back."""
    return JSON(error.body(), status_code=error.status, headers=retry_headers(error))


def retry_headers(error: BookwheelError) -> dict[str, str]:
    """Seconds to wait, for errors that may pass; OpenAI's clients would repeat any 409 and 5xx."""
    if isinstance(error, IdempotencyKeyBusyError):
        return {"retry-after": "1"}
    if isinstance(error, AuthenticationError):
        return {"www-authenticate": "Bearer"}
    if not error.retryable:
        return {"x-should-retry": "false"} if isinstance(error, ConflictError | QuotaError | SourceError) else {}
    seconds = 30.0 if isinstance(error, StorageFullError) else error.retry_after or 1.0
    standing = error.headers if isinstance(error, RateLimitError) else {}
    return {"retry-after": str(max(1, ceil(seconds))), **standing}


async def _designed(_request: Request, error: Exception) -> JSON:
    known = error if isinstance(error, BookwheelError) else INTERNAL
    if known.status >= INTERNAL.status:
        ERRORS.labels("api", type(error).__name__).inc()
    return respond(known)


async def _invalid(_request: Request, error: Exception) -> JSON:
    problems = error.errors() if isinstance(error, RequestValidationError) else ()
    return respond(invalid_request(problems))


def invalid_request(problems: Sequence[Any]) -> InvalidRequestError:
    """The first of pydantic's problems as an error that names the field."""
    if not problems:
        return InvalidRequestError()
    first = problems[0]
    if first["type"] == "json_invalid":
        return InvalidRequestError(f"The body is not valid JSON: {first['ctx']['error']}.")
    param = _param(first["loc"])
    return InvalidRequestError(f"{param or 'The body'}: {first['msg']}.", param=param)


def _param(location: Sequence[str | int]) -> str | None:
    """`("body", "filters", 1, "key")` as `filters[1].key`."""
    text = ""
    for part in location[1:]:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".") or None


async def _http(request: Request, error: Exception) -> JSON:
    if not isinstance(error, HTTPException):
        return respond(INTERNAL)
    code, message = _http_words(request, error)
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    return JSON(body, status_code=error.status_code, headers=dict(error.headers or {}))


def _http_words(request: Request, error: HTTPException) -> tuple[str, str]:
    where = f"{request.method} {request.url.path[:200]}"
    words = {
        404: ("unknown_url", f"Unknown path: {where}. The routes are listed in /openapi.json."),
        400: ("invalid_request", str(error.detail)),
        405: ("method_not_allowed", f"The path exists, but not with this method: {where}."),
        416: ("range_not_satisfiable", str(error.detail)),
    }
    return words.get(error.status_code, ("http_error", str(error.detail)))
