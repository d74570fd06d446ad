"""`bookwheel tenants`: everybody whom this server serves."""

import asyncio
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from bookwheel.adding import printable
from bookwheel.cli_options import DataDir, OpenClient
from bookwheel.errors import NotFoundError
from bookwheel.maintenance import move_tenant
from bookwheel.offboarding_cli import add_offboarding
from bookwheel.settings import load_settings

Weight = Annotated[float | None, typer.Option(min=0.001, help="Its share of ingestion, against the others'.")]
Limit = Annotated[int | None, typer.Option(min=0, help="0 for no limit.")]


def tenants_app(open_client: OpenClient, out: Console) -> typer.Typer:
    """The commands; `open_client` gives a client of the Bookwheel that runs on a data directory."""
    app = typer.Typer(no_args_is_help=True, help="Make, show, suspend and remove tenants (operators).")

    @app.command()
    def create(name: str, weight: Weight = None, requests_per_minute: Limit = None, data_dir: DataDir = None) -> None:
        """Make a tenant. Its first key: `bookwheel keys create --tenant ID --role admin`."""
        body = {"name": name, "limits": {"requests_per_minute": requests_per_minute}}
        with open_client(data_dir) as client:
            made = client.call("POST", "/v1/tenants", json=body | ({} if weight is None else {"weight": weight}))
        out.print(f"{made['id']} {printable(made['name'])}", highlight=False)

    @app.command("list")
    def list_tenants(data_dir: DataDir = None) -> None:
        """Show the tenants, oldest first."""
        with open_client(data_dir) as client:
            out.print(_table(list(client.pages("/v1/tenants"))))

    @app.command()
    def suspend(tenant_id: str, data_dir: DataDir = None) -> None:
        """Refuse its keys and ingest nothing of it, until it is resumed."""
        _change(tenant_id, data_dir, {"status": "suspended"})

    @app.command()
    def resume(tenant_id: str, data_dir: DataDir = None) -> None:
        """Serve it again."""
        _change(tenant_id, data_dir, {"status": "active"})

    @app.command()
    def move(
        tenant_id: str,
        own_partition: Annotated[
            bool, typer.Option("--own-partition/--shared", help="Its own, or back among the others.")
        ] = True,
        data_dir: DataDir = None,
    ) -> None:
        """Give a large tenant's vectors a partition of their own, while it is searched and written to."""
        settings = load_settings(data_dir=data_dir, log_level="error")
        with out.status("copying its vectors …"):
            asyncio.run(move_tenant(settings, _parsed(tenant_id), own_partition=own_partition))
        out.print(f"{tenant_id} has {'a partition of its own' if own_partition else 'its place among the others'}")

    add_offboarding(app, open_client, out)

    def _change(tenant_id: str, data_dir: DataDir, body: dict[str, Any]) -> None:
        with open_client(data_dir) as client:
            changed = client.call("POST", f"/v1/tenants/{tenant_id}", json=body)
        out.print(f"{changed['id']} is {changed['status']}", highlight=False)

    return app


def _parsed(tenant_id: str) -> UUID:
    """Of `tenant_<32 digits>`. Raises NotFoundError."""
    try:
        return UUID(tenant_id.removeprefix("tenant_"))
    except ValueError:
        raise NotFoundError(f"No tenant has the id {tenant_id!r}: `bookwheel tenants list` shows them.") from None


def _table(tenants: list[dict[str, Any]]) -> Table:
    table = Table(
        Column("id", no_wrap=True, overflow="ignore"), "name", "status", "weight", "requests a minute", box=None
    )
    for tenant in tenants:
        limit = tenant["limits"]["requests_per_minute"]
        shown = (
            tenant["id"],
            tenant["name"],
            tenant["status"],
            f"{tenant['weight']:g}",
            "default" if limit is None else "none" if limit == 0 else str(limit),
        )
        table.add_row(*(Text(printable(one)) for one in shown))
    return table
