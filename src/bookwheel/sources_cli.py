"""`bookwheel sources`: what stores are kept in step with, from the command line."""

import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bookwheel.adding import printable
from bookwheel.cli_options import FAILED, DataDir, OpenClient, StoreName
from bookwheel.client import Client
from bookwheel.errors import InvalidRequestError

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
MOMENT = "%Y-%m-%d %H:%M:%S"
SHORT_ID = 12  #: characters of an id that are enough to name a source

Every = Annotated[str | None, typer.Option(help="From one run to the next: 30s, 5m, 1h or 1d.", show_default=False)]
SourceId = Annotated[str, typer.Argument(metavar="ID", help="As `bookwheel sources list` shows it.")]


def sources_app(open_client: OpenClient, out: Console) -> typer.Typer:
    """The commands; `open_client` gives a client of the running Bookwheel."""
    app = typer.Typer(no_args_is_help=True, help="Keep stores in step with directories, URLs and sitemaps.")
    app.add_typer(_adding(open_client, out), name="add")

    @app.command("list")
    def list_(data_dir: DataDir = None) -> None:
        """Show all sources."""
        with open_client(data_dir) as client:
            names = {store["id"]: store["name"] for store in client.pages("/v1/vector_stores")}
            show_sources(out, client.pages("/v1/sources", order="asc"), names)

    @app.command()
    def run(id: SourceId, data_dir: DataDir = None) -> None:
        """Run a source now and wait for its end."""
        with open_client(data_dir) as client:
            ended = client.run_source(_find(client, id))
        out.print(_counts_line(ended), highlight=False)
        if ended["last_error"]:
            out.print(f"[red]✗[/red] {printable(ended['last_error']['message'])}", highlight=False, soft_wrap=True)
            raise typer.Exit(FAILED)

    @app.command()
    def pause(id: SourceId, data_dir: DataDir = None) -> None:
        """Stop keeping the store in step; documents stay."""
        _modify(open_client, out, data_dir, id, paused=True)

    @app.command()
    def resume(id: SourceId, data_dir: DataDir = None) -> None:
        """Go on after a pause, with a run at once."""
        _modify(open_client, out, data_dir, id, paused=False)

    @app.command()
    def rm(
        id: SourceId,
        keep_documents: Annotated[bool, typer.Option("--keep-documents", help="Leave its documents.")] = False,
        data_dir: DataDir = None,
    ) -> None:
        """Remove a source and its documents."""
        with open_client(data_dir) as client:
            found = _find(client, id)
            client.call("DELETE", f"/v1/sources/{found}", params={"keep_documents": str(keep_documents).lower()})
        out.print(f"removed {found}", highlight=False)

    return app


def _adding(open_client: OpenClient, out: Console) -> typer.Typer:
    app = typer.Typer(no_args_is_help=True, help="Add a source; its first run begins at once.")

    @app.command()
    def directory(
        path: Path,
        store: StoreName = "default",
        every: Every = None,
        include: Annotated[list[str] | None, typer.Option(help="Only files like '*.md'; repeatable.")] = None,
        exclude: Annotated[list[str] | None, typer.Option(help="No files like this; repeatable.")] = None,
        data_dir: DataDir = None,
    ) -> None:
        """Watch a directory: what changes in it is searchable within seconds."""
        where = {"path": str(path.expanduser().absolute()), "include": include or [], "exclude": exclude or []}
        _add(open_client, out, data_dir, store, every, kind="directory", **where)

    @app.command()
    def urls(
        urls: Annotated[list[str] | None, typer.Argument(metavar="URL...")] = None,
        file: Annotated[Path | None, typer.Option(help="A file with one URL a line; # begins a remark.")] = None,
        store: StoreName = "default",
        every: Every = None,
        data_dir: DataDir = None,
    ) -> None:
        """Fetch pages again and again; only changes are stored."""
        listed = [*(urls or []), *(_listed(file) if file else [])]
        _add(open_client, out, data_dir, store, every, kind="urls", urls=listed)

    @app.command()
    def sitemap(
        url: str,
        store: StoreName = "default",
        every: Every = None,
        limit: Annotated[int | None, typer.Option(min=1, help="Most pages taken.", show_default=False)] = None,
        data_dir: DataDir = None,
    ) -> None:
        """Follow a site's sitemap."""
        more = {} if limit is None else {"limit": limit}
        _add(open_client, out, data_dir, store, every, kind="sitemap", url=url, **more)

    return app


def _add(
    open_client: OpenClient, out: Console, data_dir: Path | None, store: str, every: str | None, **fields: Any
) -> None:
    schedule = {} if every is None else {"every_seconds": duration(every)}
    with open_client(data_dir) as client:
        body = {"vector_store_id": client.store(store), **schedule, **fields}
        made = client.call("POST", "/v1/sources", json=body)
    out.print(f"{made['id']} keeps {store!r} in step with {printable(made['place'])}", highlight=False, soft_wrap=True)


def _modify(open_client: OpenClient, out: Console, data_dir: Path | None, id: str, *, paused: bool) -> None:
    with open_client(data_dir) as client:
        changed = client.call("POST", f"/v1/sources/{_find(client, id)}", json={"paused": paused})
    out.print(f"{changed['id']} is {changed['status']}", highlight=False)


def _find(client: Client, given: str) -> str:
    """A whole id, or the one whose beginning is given."""
    found = [source["id"] for source in client.pages("/v1/sources") if source["id"].startswith(given)]
    if len(found) > 1 and len(given) >= len("src_"):
        raise InvalidRequestError(f"{len(found)} sources have ids that begin with {given}. Give more of it.")
    return str(found[0]) if len(found) == 1 else given


def _listed(file: Path) -> list[str]:
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def duration(text: str) -> float:
    """`90s`, `5m`, `1h`, `1d` or bare seconds, in seconds. Raises InvalidRequestError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if match is None:
        raise InvalidRequestError(f"--every has value {text!r}: use a number and s, m, h or d, such as 60s.")
    return float(match[1]) * UNITS[match[2] or "s"]


def show_sources(out: Console, sources: Iterable[Mapping[str, Any]], stores: Mapping[str, str]) -> None:
    """What is kept in step with what, each with its state below it."""
    listed = list(sources)
    if not listed:
        out.print("no sources; add one with `bookwheel sources add`")
    for source in listed:
        counts, store = source["document_counts"], printable(stores.get(source["vector_store_id"], ""))
        place = f"[cyan]{printable(source['place'])}[/cyan]"
        out.print(f"[bold]{source['id'][:SHORT_ID]}[/bold]  {source['kind']} {place} → {store}", highlight=False)
        state = f"{source['status']}, {counts['total']} documents, {counts['failed']} failed"
        when = f"every {_every(source['every_seconds'])}, last run {_moment(source['last_run_at'])}"
        out.print(f"  [dim]{state}, {when}[/dim]", highlight=False)
        if source["last_error"]:
            out.print(f"  [red]{printable(source['last_error']['message'])}[/red]", highlight=False)


def _every(seconds: float) -> str:
    for unit, size in reversed(UNITS.items()):
        if seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _moment(stamp: int | None) -> str:
    return "never" if stamp is None else time.strftime(MOMENT, time.localtime(stamp))


def _counts_line(source: Mapping[str, Any]) -> str:
    counts = source["last_run_counts"]
    names = ("added", "changed", "unchanged", "removed", "failed")
    return ", ".join(f"{counts.get(name, 0)} {name}" for name in names)
