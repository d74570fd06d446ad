"""The API process: ports and routes under uvicorn."""

import asyncio
import socket

import structlog

from bookwheel.app import open_ports
from bookwheel.errors import UnavailableError
from bookwheel.popular import note_asked, warm
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.tls import server_certificate

log = structlog.get_logger("bookwheel.server")

BACKLOG = 1024
KEEP_ALIVE_SECONDS = 30
STOP_SECONDS = 10  # that running requests get to finish


def listen(settings: Settings) -> socket.socket:
    """The listening socket; API processes share it. Raises SettingsError for an address beyond this machine, OSError
    when the port is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((settings.host, settings.port))
    bound.listen(BACKLOG)
    return bound


def served_url(settings: Settings, host: str, port: int) -> str:
    """Where the API answers."""
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


async def serve(settings: Settings, listening: socket.socket) -> None:
    """Serve the API until SIGTERM or SIGINT."""
    import uvicorn  # here: the supervisor needs only `listen`

    from bookwheel.api import create_app
    from bookwheel.connections import Door, GuardedServer, allow_connections

    certificate = server_certificate(settings)
    allow_connections(settings.max_connections)
    async with open_ports(settings, writes_keywords=False) as ports:
        config = uvicorn.Config(
            create_app(ports, settings),
            log_config=None,
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
            server_header=False,
            lifespan="on",
            ws="none",  # else another protocol would take the connection over, whose end nobody counts
        )
        stop = asyncio.Event()
        noting = asyncio.create_task(note_asked(ports, stop))
        await warm(ports)
        trying = asyncio.create_task(try_generators(ports))
        try:
            await GuardedServer(config, door=Door.of(settings), certificate=certificate).serve(sockets=[listening])
        finally:
            stop.set()
            trying.cancel()
            await asyncio.gather(noting, trying, return_exceptions=True)


async def try_generators(ports: Ports) -> None:
    """Tell at the start what would only show with the first question: a model's server that does not answer, or that
    refuses the key. Answers go on without it, and with it as soon as it is back."""
    for name, generator in ports.generators.items():
        try:
            await generator.ping()
        except UnavailableError as error:
            log.warning("generator does not answer", model=name, reason=error.message)
