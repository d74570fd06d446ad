"""The API process: ports and routes under uvicorn."""

import asyncio
import socket

from bookwheel.access import require_loopback
from bookwheel.app import open_ports
from bookwheel.popular import note_asked, warm
from bookwheel.settings import Settings

BACKLOG = 1024
KEEP_ALIVE_SECONDS = 30
STOP_SECONDS = 10  # that running requests get to finish


def listen(settings: Settings) -> socket.socket:
    """The listening socket; API processes share it. Raises SettingsError for an address beyond this machine, OSError
    when the port is taken."""
    require_loopback(settings.host)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((settings.host, settings.port))
    bound.listen(BACKLOG)
    return bound


async def serve(settings: Settings, listening: socket.socket) -> None:
    """Serve the API until SIGTERM or SIGINT."""
    import uvicorn  # here: the supervisor needs only `listen`

    from bookwheel.api import create_app

    async with open_ports(settings, writes_keywords=False) as ports:
        config = uvicorn.Config(
            create_app(ports, settings),
            log_config=None,
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
            server_header=False,
            lifespan="on",
        )
        stop = asyncio.Event()
        noting = asyncio.create_task(note_asked(ports, stop))
        await warm(ports)
        try:
            await uvicorn.Server(config).serve(sockets=[listening])
        finally:
            stop.set()
            await noting
