"""Pages of other origins may call the API from a browser only where the operator names them."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from bookwheel.errors import SettingsError
from bookwheel.settings import Settings

SHOWN: Final = (  # headers that scripts may read, besides those that all may
    "age",
    "cache-status",
    "etag",
    "retry-after",
    "x-request-id",
    "x-should-retry",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
)


def install(app: FastAPI, settings: Settings) -> None:
    """Let the origins of BOOKWHEEL_CORS_ORIGINS in, which send a key and never a cookie. Raises SettingsError."""
    if origins := _origins(settings.cors_origins):
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=SHOWN,
        )


def _origins(given: str) -> Sequence[str]:
    origins = [one.strip().lower() for one in given.split(",") if one.strip()]
    for origin in origins:
        if not _is_origin(origin):
            raise SettingsError(
                f"BOOKWHEEL_CORS_ORIGINS names {origin!r}: name each origin as a browser does, such as"
                " https://app.example.com, without a path and without *."
            )
    return origins


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        whole = parts.port != 0 and f"{parts.scheme}://{parts.netloc}" == text
    except ValueError:
        return False
    return whole and parts.scheme in ("http", "https") and bool(parts.hostname) and "*" not in text and "@" not in text
