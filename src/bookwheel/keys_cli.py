"""`bookwheel keys`: who may come in."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from bookwheel.adding import printable
from bookwheel.app import make_first_key
from bookwheel.cli_options import DataDir, OpenClient
from bookwheel.maintenance import reached
from bookwheel.settings import load_settings

Role = Annotated[str, typer.Option(help="reader, writer, admin or operator.")]


def keys_app(open_client: OpenClient, out: Console) -> typer.Typer:
    """The commands; `open_client` gives a client of the Bookwheel that runs on a data directory."""
    app = typer.Typer(no_args_is_help=True, help="Make, show, rotate and revoke API keys.")

    @app.command()
    def create(
        name: Annotated[str, typer.Argument(help="What it is for.")] = "",
        role: Role = "reader",
        principal: Annotated[list[str] | None, typer.Option(help="A user or group it stands for; repeatable.")] = None,
        store_id: Annotated[list[str] | None, typer.Option(help="It sees only this store; repeatable.")] = None,
        days: Annotated[float | None, typer.Option(min=0.001, help="It ends after so many days.")] = None,
        requests_per_minute: Annotated[int | None, typer.Option(min=0, help="0 for no limit.")] = None,
        tenant: Annotated[str | None, typer.Option(help="For this tenant (operators).")] = None,
        data_dir: DataDir = None,
    ) -> None:
        """Make a key and show it, once."""
        body = {
            "name": name,
            "role": role,
            "principals": principal or [],
            "store_ids": store_id or None,
            "expires_in_days": days,
            "limits": {"requests_per_minute": requests_per_minute},
        }
        path = "/v1/keys" if tenant is None else f"/v1/tenants/{tenant}/keys"
        with open_client(data_dir) as client:
            _show_secret(out, client.call("POST", path, json=body))

    @app.command("list")
    def list_keys(data_dir: DataDir = None) -> None:
        """Show the keys, newest first; never their secrets."""
        with open_client(data_dir) as client:
            out.print(_table(list(client.pages("/v1/keys"))))

    @app.command()
    def rotate(
        key_id: str,
        overlap_seconds: Annotated[int, typer.Option(min=0, help="How long the old one goes on.")] = 86_400,
        data_dir: DataDir = None,
    ) -> None:
        """Make a key like this one; the old one ends after the overlap."""
        with open_client(data_dir) as client:
            path = f"/v1/keys/{key_id}/rotate"
            _show_secret(out, client.call("POST", path, json={"overlap_seconds": overlap_seconds}))

    @app.command()
    def revoke(key_id: str, data_dir: DataDir = None) -> None:
        """End a key now."""
        with open_client(data_dir) as client:
            client.call("DELETE", f"/v1/keys/{key_id}")
        out.print(f"revoked {key_id}", highlight=False)

    @app.command()
    def recover(data_dir: DataDir = None) -> None:
        """Make an operator's key where all were lost: straight in the database, for who may write it."""
        secret = asyncio.run(make_first_key(reached(load_settings(data_dir=data_dir)), again=True))
        out.print(f"Admin key, shown this once: [bold]{secret}[/bold]", highlight=False, soft_wrap=True)

    return app


def _show_secret(out: Console, key: dict[str, Any]) -> None:
    out.print(f"{key['id']} ({key['role']}), shown this once: [bold]{key['secret']}[/bold]", soft_wrap=True)


def _table(keys: list[dict[str, Any]]) -> Table:
    table = Table(
        Column("id", no_wrap=True, overflow="ignore"),
        "name",
        "key",
        "role",
        "principals",
        "stores",
        "expires",
        "last used",
        box=None,
    )
    for key in keys:
        stores = "all" if key["store_ids"] is None else str(len(key["store_ids"]))
        shown = (
            key["id"],
            key["name"],
            f"{key['prefix']}…",
            key["role"],
            ", ".join(key["principals"]),
            stores,
            _day(key["expires_at"]),
            _day(key["last_used_at"]),
        )
        table.add_row(*(Text(printable(one)) for one in shown))
    return table


def _day(moment: int | None) -> str:
    return "" if moment is None else f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M}"
