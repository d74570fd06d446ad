"""The command line: `bookwheel up`, `add`, `ask` and the others. Talks to the HTTP API like any other client."""

import asyncio
import contextlib
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from bookwheel import __version__, show
from bookwheel.adding import add_sources
from bookwheel.audit_cli import audit_app
from bookwheel.cli_options import FAILED, MISUSED, DataDir, StoreName
from bookwheel.client import Client
from bookwheel.data_directory import holder
from bookwheel.doctor import examine
from bookwheel.errors import BookwheelError, NotFoundError
from bookwheel.jobs_cli import jobs_app, show_orphans
from bookwheel.keys_cli import keys_app
from bookwheel.query_log import QUERIES
from bookwheel.settings import Settings, load_settings
from bookwheel.sources_cli import sources_app
from bookwheel.supervisor import Stack, die_with, running_stack
from bookwheel.telemetry import configure_logging, hide_in_tracebacks
from bookwheel.tenants_cli import tenants_app
from bookwheel.tls import local_trust
from bookwheel.types import Strategy

STORE = "default"
QUESTION = "Why can a deleted document never be found again?"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Documents in, cited answers out, on your own machines.",
)
out = Console()
err = Console(stderr=True)

Supervisor = Annotated[int | None, typer.Option(help="The process that started us.", hidden=True)]
Port = Annotated[int | None, typer.Option(help="Port of the API (BOOKWHEEL_PORT); 0 picks a free one.")]


@app.command()
def demo(
    path: Annotated[list[str] | None, typer.Option("--path", help="A file or folder to read too; repeatable.")] = None,
    question: Annotated[str, typer.Option(help="What to ask.")] = QUESTION,
    data_dir: DataDir = None,
) -> None:
    """Start everything, read Bookwheel's own documentation, answer a question with citations, stop everything."""
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        directory = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bookwheel-demo-")))
        settings = load_settings(data_dir=directory, port=0, log_level="error")
        clock = show.Clock()
        client = stack.enter_context(_stack_client(settings))
        clock.lap("start database, API and worker")
        store_id = client.store("demo")
        added = add_sources(client, store_id, [*documentation(), *(path or [])], out)
        clock.lap(f"read, cut, embed and index {len(added.documents)} documents")
        answer = client.ask(store_id, question)
        clock.lap("search and answer")
        show.answer(out, question, answer)
        show.steps(out, answer, clock, total=time.perf_counter() - began)
    if added.failures:
        raise typer.Exit(FAILED)


@app.command()
def up(
    paths: Annotated[list[str] | None, typer.Argument(help="Files, folders or URLs to add at once.")] = None,
    data_dir: DataDir = None,
    port: Port = None,
    store: StoreName = STORE,
) -> None:
    """Run everything in the foreground: database, API, worker. Ctrl-C stops it all."""
    settings = load_settings(data_dir=data_dir, port=port)
    asyncio.run(_up(settings, paths or [], store))


@app.command()
def add(
    sources: Annotated[list[str], typer.Argument(help="Files, folders or URLs.")],
    data_dir: DataDir = None,
    store: StoreName = STORE,
    chunking: Annotated[
        Strategy | None, typer.Option(help="How a store that this command makes cuts its documents.")
    ] = None,
) -> None:
    """Add files, folders or URLs to a store and wait until they are searchable."""
    with _client(data_dir) as client:
        added = add_sources(client, client.store(store, chunking=chunking), sources, out)
    unchanged = f" ({added.unchanged} unchanged)" if added.unchanged else ""
    out.print(f"{added.searchable} searchable in {store!r}{unchanged}, {len(added.failures)} failed", highlight=False)
    if added.failures:
        raise typer.Exit(FAILED)


@app.command()
def search(
    query: str,
    limit: Annotated[int, typer.Option(min=1, max=50)] = 5,
    data_dir: DataDir = None,
    store: StoreName = STORE,
) -> None:
    """Show the passages that match best."""
    with _client(data_dir) as client:
        show.hits(out, client.search(client.store(store, create=False), query, limit=limit))


@app.command()
def ask(question: str, data_dir: DataDir = None, store: StoreName = STORE) -> None:
    """Answer a question from the documents, with citations."""
    with _client(data_dir) as client:
        show.answer(out, question, client.ask(client.store(store, create=False), question))


@app.command()
def status(data_dir: DataDir = None) -> None:
    """Show stores, documents and work in progress."""
    with _client(data_dir) as client:
        show.status(out, client.call("GET", "/v1/status"), client.pages("/v1/vector_stores", order="asc"))


@app.command()
def rm(
    names: Annotated[list[str], typer.Argument(help="Paths or ids as they were added.")],
    data_dir: DataDir = None,
    store: StoreName = STORE,
) -> None:
    """Remove documents; the next search does not find them."""
    missing = 0
    with _client(data_dir) as client:
        store_id = client.store(store, create=False)
        for name in names:
            missing += not _remove(client, store_id, name)
    if missing:
        raise typer.Exit(FAILED)


@app.command()
def pause(store: StoreName = STORE, data_dir: DataDir = None) -> None:
    """Stop ingesting into a store; it stays searchable and takes uploads."""
    _steer(data_dir, store, "pause")


@app.command()
def resume(store: StoreName = STORE, data_dir: DataDir = None) -> None:
    """Ingest what waits in a paused store."""
    _steer(data_dir, store, "resume")


@app.command()
def check(
    data_dir: DataDir = None,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="Compare what every backend holds with the catalog.")
    ] = False,
    repair: Annotated[bool, typer.Option("--repair", help="With --orphans: remove or ingest again.")] = False,
) -> None:
    """Say what is configured, what answers, and what to do about what does not."""
    if orphans or repair:
        with _client(data_dir) as client:
            none = show_orphans(out, client.call("POST" if repair else "GET", "/v1/orphans"))
        if not none and not repair:
            raise typer.Exit(FAILED)
        return
    if not show.findings(out, asyncio.run(examine(load_settings(data_dir=data_dir)))):
        raise typer.Exit(FAILED)


@app.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the database at BOOKWHEEL_DATABASE_URL to this version's schema."""
    from bookwheel.app import make_first_key, migrate_database  # imported here: other commands start faster

    settings = load_settings(data_dir=data_dir)
    applied = asyncio.run(migrate_database(settings))
    out.print("\n".join(f"applied {name}" for name in applied) or "nothing to do")
    _show_first_key(asyncio.run(make_first_key(settings)))


@app.command()
def reindex(data_dir: DataDir = None) -> None:
    """Make the keyword index anew from the catalog. Stop the worker first."""
    from bookwheel.maintenance import rebuild_keywords  # imported here: other commands start faster

    count = asyncio.run(rebuild_keywords(load_settings(data_dir=data_dir), out.print))
    out.print(f"keyword index rebuilt from {count} documents")


@app.command()
def serve(
    data_dir: DataDir = None,
    port: Port = None,
    fd: Annotated[int | None, typer.Option(help="An open listening socket to serve on.", hidden=True)] = None,
    supervisor: Supervisor = None,
) -> None:
    """Run the API alone, against BOOKWHEEL_DATABASE_URL."""
    from bookwheel import server  # imported here: other commands start faster

    settings = _process_settings(data_dir, port, supervisor)
    listening = socket.socket(fileno=fd) if fd is not None else server.listen(settings)
    if fd is None:
        out.print(f"serving on {server.served_url(settings, *listening.getsockname()[:2])}")
    _run(server.serve(settings, listening))


@app.command()
def work(data_dir: DataDir = None, supervisor: Supervisor = None) -> None:
    """Run one worker alone, against BOOKWHEEL_DATABASE_URL."""
    from bookwheel.worker import work as run_worker  # imported here: other commands start faster

    _run(run_worker(_process_settings(data_dir, None, supervisor)))


@app.command()
def version() -> None:
    """Print the version."""
    out.print(__version__)


def main() -> None:
    """The entry point: errors become one line and an exit status."""
    hide_in_tracebacks()
    try:
        app()
    except BookwheelError as error:
        err.print(f"[red]error:[/red] {escape(error.message)}", highlight=False, soft_wrap=True)
        sys.exit(MISUSED)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        sys.exit(0)


def documentation() -> list[str]:
    """Bookwheel's own documentation: beside the sources, or as installed."""
    here = Path(__file__).resolve()
    root = here.parents[2] if (here.parents[2] / "pyproject.toml").exists() else here.parent / "documentation"
    pages = [root / "README.md", root / "ARCHITECTURE.md", *sorted((root / "docs").rglob("*.md"))]
    return [str(path) for path in pages if path.exists()]


def _process_settings(data_dir: Path | None, port: int | None, supervisor: int | None) -> Settings:
    if supervisor is not None:
        die_with(supervisor)
    settings = load_settings(data_dir=data_dir, port=port)
    configure_logging(level=settings.log_level, format=settings.log_format)
    QUERIES.mode = settings.query_log
    return settings


def _run(coroutine) -> None:  # type: ignore[no-untyped-def]
    import uvloop  # imported here: other commands start faster

    uvloop.run(coroutine)


async def _up(settings: Settings, paths: list[str], store: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with running_stack(settings, say=lambda line: err.print(line, highlight=False), makes_key=True) as stack:
        _show_first_key(stack.first_key)
        out.print(f"Bookwheel is ready at [bold]{stack.url}[/bold] (data in {settings.directory}; Ctrl-C stops it)")
        watching = asyncio.create_task(stack.watch())
        adding = asyncio.create_task(asyncio.to_thread(_add_at_start, stack, paths, store)) if paths else None
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in filter(None, (watching, stopping, adding)):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        out.print("stopping …")


def _add_at_start(stack: Stack, paths: list[str], store: str) -> None:
    key = stack.settings.api_key.get_secret_value() or stack.first_key or ""
    with Client(stack.url, key=key, tls=local_trust(holder(stack.settings.directory), stack.settings)) as client:
        add_sources(client, client.store(store), paths, out)


def _show_first_key(secret: str | None) -> None:
    if secret is not None:
        out.print(f"Admin key, shown this once: [bold]{secret}[/bold]", highlight=False, soft_wrap=True)


def _steer(data_dir: Path | None, store: str, verb: str) -> None:
    with _client(data_dir) as client:
        client.call("POST", f"/v1/vector_stores/{client.store(store, create=False)}/{verb}")
    out.print(f"{verb}d {store!r}", highlight=False)


def _remove(client: Client, store_id: str, name: str) -> bool:
    for candidate in dict.fromkeys((str(Path(name).expanduser().resolve()), name)):
        try:
            client.delete_document(store_id, candidate)
        except NotFoundError:
            continue
        out.print(f"removed {candidate}", highlight=False)
        return True
    err.print(f"[red]✗[/red] {name}: no such document in this store. `bookwheel status` lists stores.", highlight=False)
    return False


@contextlib.contextmanager
def _client(data_dir: Path | None) -> Iterator[Client]:
    """A client of the Bookwheel that runs on the data directory, or of one started just for this command."""
    settings = load_settings(data_dir=data_dir, log_level="error")  # failures are shown by the command itself
    running = holder(settings.directory)
    if "url" in running:
        key, tls = settings.api_key.get_secret_value(), local_trust(running, settings)
        with Client(running["url"], key=key, tls=tls) as client:
            yield client
        return
    alone = {"port": 0, "host": "127.0.0.1", "auth": "auto"}  # who may write the directory needs no key to read it
    alone |= {"tls_cert": "", "tls_key": "", "tls_client_ca": ""}
    with _stack_client(settings.model_copy(update=alone)) as client:
        yield client


@contextlib.contextmanager
def _stack_client(settings: Settings) -> Iterator[Client]:
    """Start everything on a free port for as long as the block runs."""
    with asyncio.Runner() as runner:
        manager = running_stack(settings, say=lambda line: err.print(line, highlight=False))
        with out.status("starting …"):
            stack = runner.run(manager.__aenter__())
        try:
            with Client(stack.url, tls=local_trust(holder(settings.directory), settings)) as client:
                yield client
        finally:
            runner.run(manager.__aexit__(None, None, None))


app.add_typer(sources_app(_client, out), name="sources")
app.add_typer(audit_app(_client, out), name="audit")


app.add_typer(jobs_app(_client, out), name="jobs")


app.add_typer(keys_app(_client, out), name="keys")


app.add_typer(tenants_app(_client, out), name="tenants")


if __name__ == "__main__":
    main()
