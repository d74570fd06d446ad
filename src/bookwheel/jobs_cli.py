"""`bookwheel jobs`: what waits, runs and failed, and what to do about it."""

import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bookwheel.adding import printable
from bookwheel.cli_options import FAILED, MISUSED, DataDir, OpenClient
from bookwheel.client import Client
from bookwheel.errors import BookwheelError

Ids = Annotated[list[str] | None, typer.Argument(help="Ids that `jobs list` shows.")]
STYLES = {"failed": "red", "retrying": "yellow", "running": "green"}


def jobs_app(open_client: OpenClient, out: Console) -> typer.Typer:
    """The commands; `open_client` gives a client of the Bookwheel that runs on a data directory."""
    app = typer.Typer(no_args_is_help=True, help="Show and steer what is being ingested.")

    @app.command("list")
    def list_jobs(
        state: Annotated[
            str | None, typer.Option(help="waiting, running, retrying, paused, failed or cancelled.")
        ] = None,
        limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
        data_dir: DataDir = None,
    ) -> None:
        """Unfinished and failed documents, longest unchanged first."""
        with open_client(data_dir) as client:
            parameters = {"limit": str(limit), **({"state": state} if state else {})}
            page = client.call("GET", "/v1/jobs", params=parameters)
        show_jobs(out, page["data"], more=page["has_more"])

    @app.command()
    def retry(
        ids: Ids = None,
        every: Annotated[bool, typer.Option("--all", help="Every failed job.")] = False,
        data_dir: DataDir = None,
    ) -> None:
        """Try failed or cancelled jobs again, before all others."""
        with open_client(data_dir) as client:
            if every:
                out.print(f"retried {client.call('POST', '/v1/jobs/retry')['retried']}", highlight=False)
            else:
                _each(client, ids, "POST", "/retry", "retried")

    @app.command()
    def cancel(ids: Ids = None, data_dir: DataDir = None) -> None:
        """End unfinished jobs; what was live stays live."""
        with open_client(data_dir) as client:
            _each(client, ids, "POST", "/cancel", "cancelled")

    @app.command()
    def drop(ids: Ids = None, data_dir: DataDir = None) -> None:
        """Forget failed or cancelled jobs: the document goes back to what is live of it, or away."""
        with open_client(data_dir) as client:
            _each(client, ids, "DELETE", "", "dropped")

    def _each(client: Client, ids: list[str] | None, method: str, path: str, done: str) -> None:
        if not ids:
            out.print("Name the jobs by their ids: `bookwheel jobs list` shows them.")
            raise typer.Exit(MISUSED)
        failures = 0
        for one in ids:
            try:
                client.call(method, f"/v1/jobs/{one}{path}")
            except BookwheelError as error:
                out.print(f"[red]✗[/red] {printable(error.message)}", highlight=False, soft_wrap=True)
                failures += 1
            else:
                out.print(f"{done} {one}", highlight=False)
        if failures:
            raise typer.Exit(FAILED)

    return app


def show_jobs(out: Console, jobs: list[dict[str, Any]], *, more: bool) -> None:
    """Each job on a line, with what troubles it below."""
    if not jobs:
        out.print("Nothing waits, nothing failed.")
    for job in jobs:
        state = job["state"] + (f" in {max(0, job['retry_at'] - int(time.time()))} s" if job["retry_at"] else "")
        state += f", {job['chunks_written']} passages written" if job["chunks_written"] else ""
        state += f", {job['attempts']} tries" if job["attempts"] else ""
        style = STYLES.get(job["state"], "dim")
        name = printable(job["external_id"] or job["filename"])
        out.print(f"{job['id']}  [{style}]{state}[/{style}]  {name}", highlight=False, soft_wrap=True)
        if job["last_error"]:
            out.print(f"  [dim]{printable(job['last_error']['message'])}[/dim]", highlight=False, soft_wrap=True)
    if more:
        out.print("… and more: --limit shows up to 500.")


def show_orphans(out: Console, found: dict[str, Any]) -> bool:
    """Counts by kind; True when there are none."""
    table = Table("orphans", "count", box=None, pad_edge=False, header_style="dim")
    for kind, count in found["counts"].items():
        table.add_row(kind.replace("_", " "), Text(str(count), style="red" if count else "green"))
    out.print(table)
    return not any(found["counts"].values())
