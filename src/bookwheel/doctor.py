"""`bookwheel check`: what is configured, what answers, what to do."""

import shutil
import ssl
from dataclasses import dataclass

import httpx
import psutil

from bookwheel.app import row_security
from bookwheel.data_directory import holder
from bookwheel.errors import DatabaseUnavailableError
from bookwheel.settings import Settings
from bookwheel.tls import local_trust

RESERVE_BYTES = 1 << 30
MEMORY_BYTES = 1 << 30
TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report."""

    part: str
    good: bool
    detail: str
    remedy: str = ""


async def examine(settings: Settings) -> list[Finding]:
    """Look at the machine, the settings and, when one runs, the service."""
    found = [_disk(settings), _memory(), _ocr()]
    running = holder(settings.directory)
    database = running.get("database_url") or settings.database_url
    if database != "embedded:":
        found.append(await _row_security(database))
    if "url" not in running:
        return [
            *found,
            Finding(
                part="service", good=True, detail=f"nothing runs on {settings.directory}; `bookwheel up` starts it"
            ),
        ]
    return [*found, *await _service(running["url"], local_trust(running, settings))]


def _disk(settings: Settings) -> Finding:
    directory = settings.directory
    while not directory.exists():
        directory = directory.parent
    free = shutil.disk_usage(directory).free
    return Finding(
        part="disk",
        good=free > RESERVE_BYTES,
        detail=f"{free / (1 << 30):.1f} GiB free for {settings.directory}",
        remedy="Free some space, or choose another place with --data-dir.",
    )


def _memory() -> Finding:
    free = psutil.virtual_memory().available
    return Finding(
        part="memory",
        good=free > MEMORY_BYTES,
        detail=f"{free / (1 << 30):.1f} GiB available; Bookwheel takes about 1",
        remedy="Close other programs, or use a larger machine.",
    )


def _ocr() -> Finding:
    found = shutil.which("tesseract")
    detail = f"Tesseract at {found}" if found else "no Tesseract: scanned pages are refused (apt install tesseract-ocr)"
    return Finding(part="OCR", good=True, detail=detail)


async def _row_security(database_url: str) -> Finding:
    try:
        good = await row_security(database_url)
    except DatabaseUnavailableError as error:
        return Finding(part="row security", good=False, detail="the database does not answer", remedy=error.message)
    return Finding(
        part="row security",
        good=good,
        detail="PostgreSQL keeps tenants apart too" if good else "PostgreSQL shows this user every tenant's rows",
        remedy="Grant it the role bookwheel_api, or connect as one that is no superuser; see docs/row_security.md.",
    )


async def _service(url: str, trust: ssl.SSLContext | None) -> list[Finding]:
    try:
        verify = True if trust is None else trust
        async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS, verify=verify) as client:
            parts = (await client.get("/health/ready")).json()["parts"]
    except (httpx.HTTPError, ssl.SSLError, ValueError, KeyError) as error:
        remedy = "Look at the messages of `bookwheel up`; stop it and start it again."
        return [Finding(part="service", good=False, detail=f"{url} does not answer: {error}", remedy=remedy)]
    return [
        Finding(part="service", good=True, detail=f"answers at {url}"),
        *(
            Finding(part=name, good=part["status"] == "ok", detail=part["status"], remedy=part.get("remedy", ""))
            for name, part in parts.items()
        ),
    ]
