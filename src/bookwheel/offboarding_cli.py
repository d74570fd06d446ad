"""`bookwheel tenants offboard`, `verify-receipt` and `export`: how a tenant leaves, and what it takes along."""

import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from bookwheel.adding import printable
from bookwheel.cli_options import FAILED, DataDir, OpenClient
from bookwheel.errors import InvalidRequestError, UnavailableError

TheName = Annotated[str, typer.Option("--name", help="The tenant's name, as a guard against a slip.")]
ReceiptFile = Annotated[Path | None, typer.Option("--receipt", help="Where it goes; else it is printed.")]
PublicKey = Annotated[str, typer.Option(help="The server's: GET /v1/signing_key, kept elsewhere.")]
ExportFile = Annotated[Path, typer.Option("--out", help="A new file.")]
Content = Annotated[bool, typer.Option("--content", help="With the bytes of files.")]
PATIENCE_SECONDS = 3_600.0  # a large tenant takes its time


def add_offboarding(app: typer.Typer, open_client: OpenClient, out: Console) -> None:
    """Add the commands; `open_client` gives a client of the Bookwheel that runs on a data directory."""

    @app.command()
    def offboard(tenant_id: str, name: TheName, receipt: ReceiptFile = None, data_dir: DataDir = None) -> None:
        """Remove a tenant with all that it has; there is no way back. Gives the signed receipt."""
        with open_client(data_dir) as client:
            path = f"/v1/tenants/{tenant_id}/offboard"
            made = client.call("POST", path, json={"name": name}, timeout=PATIENCE_SECONDS)
        _write(orjson.dumps(made, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE), receipt)
        if not made["complete"]:
            left = ", ".join(f"{count} {kind}" for kind, count in made["left"].items() if count)
            out.print(f"[red]✗[/red] left: {left}. Call again.", highlight=False)
            raise typer.Exit(FAILED)

    @app.command("verify-receipt")
    def verify_receipt(file: Path, public_key: PublicKey) -> None:
        """Check a receipt's signature; needs no server."""
        from bookwheel.receipts import is_genuine  # only where it is needed: it brings a library for cryptography

        if not is_genuine(_receipt_in(file), public=public_key):
            out.print(f"[red]✗[/red] {printable(str(file))} is not what was signed with this key", highlight=False)
            raise typer.Exit(FAILED)
        out.print(f"[green]✓[/green] {printable(str(file))} is genuine", highlight=False)

    @app.command()
    def export(file: ExportFile, content: Content = False, data_dir: DataDir = None) -> None:
        """Write all that the tenant of your key has, as lines of JSON."""
        last, asked = "", {"include": "content"} if content else {}
        with open_client(data_dir) as client, _new(file) as written:
            for last in client.lines("/v1/tenant/export", **asked):
                written.write(f"{last}\n")
        if not last.startswith('{"type":"end"'):
            raise UnavailableError(f"The export was cut off, and {file} is not whole. Export again.")
        out.print(f"[green]✓[/green] {printable(str(file))}", highlight=False)


def _new(file: Path) -> Any:
    """Raises InvalidRequestError where it cannot be made."""
    try:
        return file.open("x", encoding="utf-8")
    except OSError as error:
        raise InvalidRequestError(f"{file} cannot be made: {error.strerror}. Name a new file.") from error


def _write(data: bytes, file: Path | None) -> None:
    if file is None:
        sys.stdout.write(data.decode())
    else:
        file.write_bytes(data)


def _receipt_in(file: Path) -> dict[str, Any]:
    """Raises InvalidRequestError for a file that holds none."""
    try:
        receipt = orjson.loads(file.read_bytes())
    except OSError as error:
        raise InvalidRequestError(f"{file} cannot be read: {error.strerror}.") from error
    except orjson.JSONDecodeError:
        receipt = None
    if not isinstance(receipt, dict):
        raise InvalidRequestError(f"{file} holds no receipt.")
    return receipt
