"""/v1/sources: directories, URL lists and sitemaps that stores are kept in step with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import Field
from starlette.responses import Response

from bookwheel.access import LOCAL, caller
from bookwheel.acts import note
from bookwheel.api.bodies import Body
from bookwheel.api.ids import parse, public
from bookwheel.api.pages import ThePage, fetch, listed
from bookwheel.api.shapes import seconds
from bookwheel.api.wiring import JSON, ThePorts, TheScope, TheSettings, router
from bookwheel.errors import FetchRefusedError, InvalidRequestError, PermissionDeniedError
from bookwheel.settings import Settings
from bookwheel.sources.directory import ANYWHERE, allowed_root
from bookwheel.sources.keeping import remove_source_documents
from bookwheel.sources.pages import MAX_PAGES, checked_urls
from bookwheel.types import Scope, Source, SourceChange, SourceDraft, SourceItem, SourceKind

DAY_SECONDS = 86_400.0
DEFAULT_SECONDS = {SourceKind.DIRECTORY: 60.0, SourceKind.URLS: 3_600.0, SourceKind.SITEMAP: 3_600.0}
FIELDS = {  #: of a source's config, by kind; the first is where it is
    SourceKind.DIRECTORY: ("path", "include", "exclude"),
    SourceKind.URLS: ("urls",),
    SourceKind.SITEMAP: ("url", "limit"),
}
SHOWN_FAILURES = 20

Text = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]
Pattern = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00]*$")]
Patterns = Annotated[list[Pattern], Field(max_length=100)]

routes = router("sources")


class SourceModify(Body):
    """POST /v1/sources/{id}: what is not given stays. Which fields fit depends on the kind."""

    path: Text | None = None
    include: Patterns | None = None
    exclude: Patterns | None = None
    urls: Annotated[list[Text], Field(min_length=1, max_length=MAX_PAGES)] | None = None
    url: Text | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGES)] | None = None
    every_seconds: Annotated[float, Field(ge=1, le=31 * DAY_SECONDS)] | None = None
    paused: bool | None = None


class SourceCreate(SourceModify):
    """POST /v1/sources."""

    kind: SourceKind
    vector_store_id: str


async def _unbounded(scope: TheScope) -> Scope:
    """A source brings, shows and removes documents whatever the rule of a key says."""
    if scope.rule is not None:
        raise PermissionDeniedError("A source is for callers without a rule. Use a key that has none.")
    return scope


UnboundedScope = Annotated[Scope, Depends(_unbounded)]


@routes.post("/v1/sources")
async def create_source(body: SourceCreate, ports: ThePorts, scope: UnboundedScope, settings: TheSettings) -> Response:
    """Keep a store in step with a place; the first run begins at once."""
    store = await ports.stores.get(parse("store", body.vector_store_id), scope=scope)
    config = _checked(body.kind, {}, body, settings)
    every_seconds = body.every_seconds or DEFAULT_SECONDS[body.kind]
    draft = SourceDraft(kind=body.kind, config=config, every_seconds=every_seconds)
    source = await ports.sources.create(draft, scope=scope, store=store)
    note(object_id=public("source", source.id), kind=body.kind.value, store_id=body.vector_store_id)
    if body.paused:
        source = await ports.sources.update(source.id, SourceChange(paused=True), scope=scope)
    return JSON(source_object(source))


@routes.get("/v1/sources")
async def list_sources(ports: ThePorts, scope: UnboundedScope, page: ThePage) -> Response:
    """A page of the caller's sources."""
    after = parse("source", page.after) if page.after else None
    sources, more = await fetch(
        page.limit, lambda count: ports.sources.list(scope=scope, limit=count, after=after, newest=page.newest)
    )
    return JSON(listed([source_object(source) for source in sources], more=more))


@routes.get("/v1/sources/{source_id}")
async def get_source(source_id: str, ports: ThePorts, scope: UnboundedScope) -> Response:
    """One source with its whole configuration and the first of its failures."""
    source = await ports.sources.get(parse("source", source_id), scope=scope)
    failures = await ports.sources.failures(source.id, scope=scope, limit=SHOWN_FAILURES)
    return JSON(_detailed(source, failures))


@routes.post("/v1/sources/{source_id}")
async def modify_source(
    source_id: str, body: SourceModify, ports: ThePorts, scope: UnboundedScope, settings: TheSettings
) -> Response:
    """Change place, schedule or pause; the next run begins at once unless it is paused."""
    source = await ports.sources.get(parse("source", source_id), scope=scope)
    config = _checked(source.kind, source.config, body, settings)
    change = SourceChange(
        config=config if config != dict(source.config) else None, every_seconds=body.every_seconds, paused=body.paused
    )
    return JSON(source_object(await ports.sources.update(source.id, change, scope=scope)))


@routes.post("/v1/sources/{source_id}/run")
async def run_source(source_id: str, ports: ThePorts, scope: UnboundedScope) -> Response:
    """Run it now, also when it is paused or waits after an error. `runs` grows when the run has ended."""
    source = await ports.sources.update(parse("source", source_id), SourceChange(due=True), scope=scope)
    return JSON(source_object(source))


@routes.delete("/v1/sources/{source_id}")
async def delete_source(
    source_id: str, ports: ThePorts, scope: UnboundedScope, keep_documents: Annotated[bool, Query()] = False
) -> Response:
    """Remove a source, and its documents unless they are to be kept."""
    source = await ports.sources.update(parse("source", source_id), SourceChange(paused=True), scope=scope)
    note(keep_documents=keep_documents)
    while not await ports.sources.delete(source.id, scope=scope, if_empty=not keep_documents):
        await remove_source_documents(source, ports=ports)  # again where a run in progress added some
    return JSON({"id": public("source", source.id), "object": "source.deleted", "deleted": True})


def source_object(source: Source) -> dict[str, Any]:
    """A `source`, with where it is but without long lists."""
    return {
        "id": public("source", source.id),
        "object": "source",
        "kind": source.kind.value,
        "place": _place(source),
        "vector_store_id": public("store", source.store_id),
        "created_at": seconds(source.created_at),
        "every_seconds": source.every_seconds,
        "status": _status(source),
        "next_run_at": seconds(source.next_run_at) if source.next_run_at else None,
        "last_run_at": seconds(source.last_run_at) if source.last_run_at else None,
        "last_error": {"code": "source_error", "message": source.last_error} if source.last_error else None,
        "runs": source.runs,
        "last_run_counts": dict(source.counts),
        "document_counts": {"total": source.items, "failed": source.failed},
    }


def _detailed(source: Source, failures: Sequence[SourceItem]) -> dict[str, Any]:
    shown = [{"item": item.key, "message": item.last_error} for item in failures]
    return source_object(source) | dict(source.config) | {"failures": shown}


def _place(source: Source) -> str:
    if source.kind is not SourceKind.URLS:
        return str(source.config[FIELDS[source.kind][0]])
    first, *others = source.config["urls"]
    return f"{first} and {len(others)} more" if others else str(first)


def _status(source: Source) -> str:
    if source.paused:
        return "paused"
    if source.failures:
        return "failing"
    return "active" if source.runs else "new"


def _checked(kind: SourceKind, before: Mapping[str, Any], body: SourceModify, settings: Settings) -> dict[str, Any]:
    """The config with what is given put in. Raises InvalidRequestError."""
    given = {
        name: getattr(body, name) for names in FIELDS.values() for name in names if getattr(body, name) is not None
    }
    for name in given:
        if name not in FIELDS[kind]:
            raise InvalidRequestError(f"A source of kind {kind.value} has no {name}.", param=name)
    config = {**before, **given}
    where = FIELDS[kind][0]
    if where not in config:
        raise InvalidRequestError(f"A source of kind {kind.value} needs {where}.", param=where)
    if where in given:
        config[where] = _checked_directory(config[where], settings) if where == "path" else _checked_web(where, config)
    return config


def _checked_directory(path: str, settings: Settings) -> str:
    if not Path(path).is_absolute():
        raise InvalidRequestError(f"path must be absolute, not {path!r}.", param="path")
    try:
        is_allowed = allowed_root(path, settings) and (settings.source_roots != ANYWHERE or caller() is LOCAL)
        is_directory = is_allowed and Path(path).is_dir()  # nothing is told of what lies elsewhere
    except (OSError, RuntimeError) as error:  # such as a name that is too long, or a link to itself
        raise InvalidRequestError(f"{path[:80]!r} cannot be looked at: {error}.", param="path") from None
    if not is_allowed:
        raise InvalidRequestError(
            f"{path} is not below BOOKWHEEL_SOURCE_ROOTS ({settings.source_roots or 'none'}). Ask the operator.",
            param="path",
        )
    if not is_directory:
        raise InvalidRequestError(f"{path} is not a directory on the server. Check the path.", param="path")
    return str(Path(path))


def _checked_web(where: str, config: Mapping[str, Any]) -> list[str] | str:
    urls = config[where] if where == "urls" else [config[where]]
    try:
        found = checked_urls(urls)
    except FetchRefusedError as error:
        raise InvalidRequestError(error.message, param=where) from None
    if not found:
        raise InvalidRequestError(f"{where} names no URL.", param=where)
    return found if where == "urls" else found[0]
