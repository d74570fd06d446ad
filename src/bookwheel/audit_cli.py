"""`bookwheel audit`: what was done, by whom, and whether the log of it is whole."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console

from bookwheel.adding import printable
from bookwheel.cli_options import FAILED, DataDir, OpenClient

Since = Annotated[str | None, typer.Option(help="From this moment on, such as 2026-11-22T00:00:00Z.")]
Until = Annotated[str | None, typer.Option(help="Before this moment.")]
Action = Annotated[str | None, typer.Option(help="Such as file.create.")]
Actor = Annotated[str | None, typer.Option(help="Such as key_... or local.")]
Server = Annotated[bool, typer.Option("--server", help="The server's own chain, for operators.")]
STYLES = {"denied": "red", "failure": "yellow"}


def audit_app(open_client: OpenClient, out: Console) -> typer.Typer:
    """The commands; `open_client` gives a client of the Bookwheel that runs on a data directory."""
    app = typer.Typer(no_args_is_help=True, help="Show, export and verify the audit log.")

    @app.command("list")
    def list_(
        since: Since = None,
        until: Until = None,
        action: Action = None,
        actor: Actor = None,
        server: Server = False,
        limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
        data_dir: DataDir = None,
    ) -> None:
        """The newest events."""
        with open_client(data_dir) as client:
            parameters = _given(server, since=since, until=until, action=action, actor=actor)
            page = client.call("GET", "/v1/audit_events", params={**parameters, "limit": str(limit)})
        for event in page["data"]:
            _show(out, event)
        if page["has_more"]:
            out.print("… and more: --limit shows up to 100, `bookwheel audit export` all.")

    @app.command()
    def verify(
        head: Annotated[str | None, typer.Option(help="A head that was kept elsewhere.", show_default=False)] = None,
        server: Server = False,
        data_dir: DataDir = None,
    ) -> None:
        """Compute every hash anew; with --head also see whether the newest events are still there."""
        with open_client(data_dir) as client:
            found = client.call("GET", "/v1/audit_events/verify", params=_given(server, head=head))
        if not found["valid"]:
            out.print(f"[red]✗[/red] broken at event {found['first_broken']}: {found['reason']}", highlight=False)
            raise typer.Exit(FAILED)
        out.print(f"[green]✓[/green] {found['count']} events, head {found['head']}", highlight=False, soft_wrap=True)

    @app.command()
    def export(
        since: Since = None,
        until: Until = None,
        action: Action = None,
        actor: Actor = None,
        server: Server = False,
        data_dir: DataDir = None,
    ) -> None:
        """All events as lines of JSON with OCSF's fields, to standard output."""
        with open_client(data_dir) as client:
            parameters = _given(server, since=since, until=until, action=action, actor=actor)
            for line in client.lines("/v1/audit_events/export", **parameters):
                sys.stdout.write(f"{line}\n")

    return app


def _given(server: bool, **options: str | None) -> dict[str, str]:
    given = {name: value for name, value in options.items() if value is not None}
    return given | ({"chain": "server"} if server else {})


def _show(out: Console, event: Mapping[str, Any]) -> None:
    style = STYLES.get(event["outcome"], "green")
    what = f"{event['action']} {printable(event['object_id'] or '')}".strip()
    line = f"{event['sequence']}  {event['at']}  [{style}]{event['outcome']}[/{style}]  {what}"
    out.print(
        f"{line}  [dim]{printable(event['actor'])} {event['address'] or ''}[/dim]", highlight=False, soft_wrap=True
    )
