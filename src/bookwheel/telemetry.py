"""Logs, metrics and timings; who is being served is carried in context variables."""

import logging
import re
import secrets
import sys
import traceback
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter
from types import TracebackType
from typing import Any, Final

import orjson
import structlog
from prometheus_client import Counter, Gauge, Histogram

from bookwheel.redaction import redacted

request_id: ContextVar[str] = ContextVar("request_id", default="")
traceparent: ContextVar[str] = ContextVar("traceparent", default="")  #: W3C trace context of the caller, or ""

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

RETRIEVAL = Histogram("bookwheel_retrieval_latency_seconds", "One whole search.", buckets=SECONDS)
GENERATION = Histogram("bookwheel_generation_latency_seconds", "One generated answer.", buckets=SECONDS)
EMBED = Histogram("bookwheel_embed_latency_seconds", "One call of the embedder.", buckets=SECONDS)
SEARCH = Histogram("bookwheel_search_latency_seconds", "One stage of a search.", ("stage", "backend"), buckets=SECONDS)
INGEST = Histogram("bookwheel_ingest_latency_seconds", "One stage of an ingest batch.", ("stage",), buckets=SECONDS)
INDEX_BUILD = Histogram("bookwheel_index_build_seconds", "One index build.", buckets=(1, 10, 60, 300, 1800, 7200))
STALE_PASSAGES = Histogram(
    "bookwheel_stale_passage_ratio",
    "Candidates of a search that hydration dropped as no longer live.",
    buckets=(0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0),
)
CACHE_REQUESTS = Counter("bookwheel_cache_requests_total", "Cache lookups.", ("cache", "result"))
INGEST_DOCUMENTS = Counter("bookwheel_ingest_documents_total", "Document versions finished.", ("status",))
SOURCE_RUNS = Counter("bookwheel_source_runs_total", "Runs of sources.", ("kind", "result"))
SOURCE_ITEMS = Counter("bookwheel_source_items_total", "Files and pages of sources, by run.", ("kind", "result"))
WEBHOOK_ATTEMPTS = Counter("bookwheel_webhook_attempts_total", "Attempts to deliver a webhook.", ("result",))
ERRORS = Counter("bookwheel_errors_total", "Errors by where they came up.", ("stage", "type"))
DEGRADED = Counter("bookwheel_degraded_total", "Answers given without this stage.", ("stage",))
UPSTREAM_CALLS = Counter("bookwheel_upstream_calls_total", "Attempts at services.", ("upstream", "result"))
UPSTREAM_RETRIES = Counter("bookwheel_upstream_retries_total", "Attempts after a first one.", ("upstream",))
UPSTREAM_SHED = Counter("bookwheel_upstream_shed_total", "Calls turned away, for too many waited.", ("upstream",))
UPSTREAM_OPEN = Gauge("bookwheel_upstream_open", "1 while a service is left alone after failures.", ("upstream",))
MARKED_PASSAGES = Counter("bookwheel_marked_passages_total", "Passages that speak to a model, by sign.", ("sign",))
REFRESHED = Counter("bookwheel_popular_refreshed_total", "Popular questions answered ahead of time.")
QUEUE_DEPTH = Gauge("bookwheel_queue_depth", "Waiting and running jobs.", ("queue",))
HTTP_REQUESTS = Counter("bookwheel_http_requests_total", "HTTP requests.", ("method", "route", "status"))
HTTP_LATENCY = Histogram(
    "bookwheel_http_latency_seconds", "HTTP requests, first byte in to last byte out.", ("route",), buckets=SECONDS
)

_WHOLE: Mapping[str, Histogram] = {
    "retrieval": RETRIEVAL,
    "generate": GENERATION,
    "embed": EMBED,
    "index.build": INDEX_BUILD,
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def sane_request_id(given: str | None) -> str:
    """The caller's own id when it is harmless in logs and headers, else a new one."""
    return given if given and _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"


def sane_traceparent(given: str | None) -> str:
    """The caller's trace context, or "" when it is missing or ill-formed."""
    return given if given and _TRACEPARENT.fullmatch(given) else ""


@contextmanager
def stage(name: str, timings: MutableMapping[str, float], *, backend: str = "") -> Iterator[None]:
    """Time a stage: its seconds are added to `timings[name]` and observed in the stage's histogram.

    An error inside is counted under the stage and passes on."""
    start = perf_counter()
    try:
        yield
    except Exception as error:
        ERRORS.labels(name, type(error).__name__).inc()
        raise
    finally:
        seconds = perf_counter() - start
        timings[name] = timings.get(name, 0.0) + seconds
        _histogram(name, backend).observe(seconds)


def _histogram(name: str, backend: str) -> Histogram:
    if name in _WHOLE:
        return _WHOLE[name]
    if name.startswith("ingest."):
        return INGEST.labels(name.removeprefix("ingest."))
    return SEARCH.labels(name.removeprefix("search."), backend)


def configure_logging(*, level: str = "info", format: str = "text") -> None:
    """Send all logs, the libraries' too, to standard error as text for people or JSON lines for machines."""
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    shared: list[structlog.typing.Processor] = [
        _add_context,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer = [*_renderers(format), _redacted]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=max(number, logging.INFO), force=True)
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # we tell ourselves when the database is away


def hide_in_tracebacks() -> None:
    """What ends this process unexpectedly is told without secrets too."""

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))

    sys.excepthook = tell


def _renderers(format: str) -> list[structlog.typing.Processor]:
    if format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_dumps)]
    plain = structlog.dev.plain_traceback  # the default shows local variables, passwords among them
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]


def _redacted(_logger: Any, _method: str, line: Any) -> Any:
    """The written line, tracebacks and all, without secrets."""
    return redacted(line) if isinstance(line, str) else line


def _dumps(event: Any, **options: Any) -> str:
    return orjson.dumps(event, default=options.get("default", repr)).decode()


def _add_context(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if given := request_id.get():
        event["request_id"] = given
    if trace := traceparent.get():
        event["trace_id"] = trace.split("-")[1]
    return event
