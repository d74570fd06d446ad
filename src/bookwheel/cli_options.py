"""What the commands have in common: options, exit statuses, how they reach the service."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from bookwheel.client import Client

FAILED, MISUSED = 1, 2  # exit statuses: some input failed; the command itself could not run

OpenClient = Callable[[Path | None], contextlib.AbstractContextManager[Client]]
DataDir = Annotated[
    Path | None, typer.Option(help="Where everything is kept (BOOKWHEEL_DATA_DIR).", show_default=False)
]
StoreName = Annotated[str, typer.Option("--store", help="The vector store's name.")]
