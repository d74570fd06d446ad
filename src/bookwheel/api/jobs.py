"""/v1/jobs: what is being ingested, what waits, what failed; and /v1/orphans."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from starlette.responses import Response

from bookwheel.access import within
from bookwheel.acts import note
from bookwheel.api.ids import parse, public
from bookwheel.api.pages import fetch, listed
from bookwheel.api.shapes import seconds
from bookwheel.api.wiring import JSON, ThePorts, TheScope, router
from bookwheel.errors import NotFoundError
from bookwheel.orphans import find_orphans
from bookwheel.types import Job, JobState, Scope

PAGE = 500

routes = router("jobs")


@routes.get("/v1/jobs")
async def list_jobs(
    ports: ThePorts,
    scope: TheScope,
    state: JobState | None = None,
    store_id: str | None = None,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = 20,
    after: str | None = None,
) -> Response:
    """A page of unfinished and dead jobs, longest unchanged first."""
    start = parse("document", after) if after else None
    inside = _inside(scope, store_id)
    jobs, more = await fetch(limit, lambda count: ports.jobs.list(scope=inside, state=state, limit=count, after=start))
    return JSON(listed([job_object(job) for job in jobs], more=more))


@routes.post("/v1/jobs/retry")
async def retry_all(ports: ThePorts, scope: TheScope, store_id: str | None = None) -> Response:
    """Retry every failed job, of one store or of all."""
    inside, retried = _inside(scope, store_id), 0
    while failed := await ports.jobs.list(scope=inside, state=JobState.FAILED, limit=PAGE):
        retried += await ports.jobs.retry([job.document_id for job in failed], scope=inside)
    note(retried=retried)
    return JSON({"object": "bookwheel.jobs.retried", "retried": retried})


@routes.post("/v1/jobs/{id}/retry")
async def retry(id: str, ports: ThePorts, scope: TheScope) -> Response:
    """Do a failed, cancelled or waiting-to-retry job now."""
    return _changed(
        id, await ports.jobs.retry([_document(id)], scope=scope), "retried", "failed, cancelled or retrying"
    )


@routes.post("/v1/jobs/{id}/cancel")
async def cancel(id: str, ports: ThePorts, scope: TheScope) -> Response:
    """End an unfinished job; what was live of the document stays live."""
    return _changed(id, await ports.jobs.cancel([_document(id)], scope=scope), "cancelled", "unfinished")


@routes.delete("/v1/jobs/{id}")
async def drop(id: str, ports: ThePorts, scope: TheScope) -> Response:
    """Forget a failed or cancelled job: the document goes back to what is live of it, or away."""
    return _changed(id, await ports.jobs.drop([_document(id)], scope=scope), "dropped", "failed or cancelled")


@routes.get("/v1/orphans")
async def count_orphans(ports: ThePorts) -> Response:
    """What any backend holds that the catalog does not, and the other way round, by kind."""
    return JSON({"object": "bookwheel.orphans", "repaired": False, "counts": await find_orphans(ports, repair=False)})


@routes.post("/v1/orphans")
async def repair_orphans(ports: ThePorts) -> Response:
    """The same, removed or ingested again."""
    return JSON({"object": "bookwheel.orphans", "repaired": True, "counts": await find_orphans(ports, repair=True)})


def job_object(job: Job) -> dict[str, Any]:
    """A job; its id is its document's."""
    return {
        "id": public("document", job.document_id),
        "object": "bookwheel.job",
        "vector_store_id": public("store", job.store_id),
        "file_id": public("file", job.file_id) if job.file_id else None,
        "external_id": job.external_id,
        "filename": job.filename,
        "version": job.version,
        "live_version": job.live_version,
        "state": job.state.value,
        "urgent": job.urgent,
        "attempts": job.attempts,
        "retry_at": seconds(job.retry_at) if job.retry_at else None,
        "worker": job.worker,
        "chunks_written": job.chunks_written,
        "last_error": {"code": job.error_code or "retrying", "message": job.error_message}
        if job.error_message
        else None,
        "updated_at": seconds(job.updated_at),
    }


def _inside(scope: Scope, store_id: str | None) -> Scope:
    return scope if store_id is None else within(scope, parse("store", store_id))


def _document(id: str) -> UUID:
    return parse("document", id)


def _changed(id: str, count: int, done: str, states: str) -> Response:
    if not count:
        raise NotFoundError(f"No {states} job with id {id}. List them with GET /v1/jobs.")
    return JSON({"id": id, "object": "bookwheel.job", done: True})
