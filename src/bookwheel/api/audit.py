"""/v1/audit_events: what was done, by whom."""

import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import Depends, Query
from starlette.responses import Response, StreamingResponse

from bookwheel.access import require_role
from bookwheel.api.lines import MEDIA_TYPE
from bookwheel.api.ocsf import api_activity
from bookwheel.api.pages import ThePage, fetch, listed
from bookwheel.api.wiring import JSON, ThePorts, TheScope, router
from bookwheel.audit import as_json
from bookwheel.errors import InvalidRequestError, NotFoundError
from bookwheel.types import SERVER_CHAIN, AuditEvent, AuditFilter, Role, Scope

PREFIX = "audit_"
BATCH = 100  #: events of one piece of an export
_SEQUENCE = re.compile(r"[1-9][0-9]{0,17}")
_HASH = re.compile(r"[0-9a-f]{64}")

routes = router("audit")

Chain = Literal["tenant", "server"]


async def _chain(scope: TheScope, chain: Chain = "tenant") -> Scope:
    """The chain that is asked for. Raises PermissionDeniedError for the server's, unless an operator asks."""
    if chain == "tenant":
        return scope
    require_role(Role.OPERATOR)
    return Scope(tenant_id=SERVER_CHAIN)


async def _filter(
    since: Annotated[datetime | None, Query()] = None,
    until: Annotated[datetime | None, Query()] = None,
    action: Annotated[str | None, Query(max_length=100)] = None,
    actor: Annotated[str | None, Query(max_length=200)] = None,
) -> AuditFilter:
    for name, moment in (("since", since), ("until", until)):
        if moment is not None and moment.tzinfo is None:
            raise InvalidRequestError(f"{name} has no time zone. Add Z, or an offset such as +02:00.", param=name)
    for name, text in (("action", action), ("actor", actor)):
        if text is not None and "\0" in text:
            raise InvalidRequestError(f"{name} has a NUL character, which nothing in the log has.", param=name)
    return AuditFilter(since=since, until=until, action=action, actor=actor)


TheChain = Annotated[Scope, Depends(_chain)]
TheFilter = Annotated[AuditFilter, Depends(_filter)]


@routes.get("/v1/audit_events")
async def list_audit_events(ports: ThePorts, chain: TheChain, filter: TheFilter, page: ThePage) -> Response:
    """A page of the tenant's chain, or of the server's."""
    after = _sequence(page.after) if page.after else None
    events, more = await fetch(
        page.limit,
        lambda count: ports.audit.list(scope=chain, limit=count, after=after, newest=page.newest, filter=filter),
    )
    return JSON(listed([audit_object(event) for event in events], more=more))


@routes.get("/v1/audit_events/export")
async def export_audit_events(ports: ThePorts, chain: TheChain, filter: TheFilter) -> Response:
    """All of them from the beginning, a line of JSON each, with the fields of OCSF's API Activity."""
    events = ports.audit.export(scope=chain, filter=filter)
    return StreamingResponse(_lines(events), media_type=MEDIA_TYPE, headers={"cache-control": "no-store"})


@routes.get("/v1/audit_events/verify")
async def verify_audit_log(
    ports: ThePorts, chain: TheChain, head: Annotated[str | None, Query(max_length=64)] = None
) -> Response:
    """Compute every hash of the chain anew. With `head`, a head that was kept elsewhere, also see whether the chain
    still has it: without it nobody can tell that its newest events are gone."""
    if head is not None and not _HASH.fullmatch(head):
        raise InvalidRequestError("head must be the 64 lower-case hex digits of a hash.", param="head")
    found = await ports.audit.verify(scope=chain, expected=bytes.fromhex(head) if head else None)
    return JSON(
        {
            "object": "bookwheel.audit_verification",
            "valid": found.broken is None,
            "count": found.count,
            "head": found.head.hex(),
            "first_broken": found.broken,
            "reason": found.reason,
        }
    )


def audit_object(event: AuditEvent) -> dict[str, Any]:
    """A `bookwheel.audit_event`: the fields of its canonical form and its hash."""
    return {"id": f"{PREFIX}{event.sequence}", "object": "bookwheel.audit_event", **as_json(event)}


async def _lines(events: AsyncIterator[AuditEvent]) -> AsyncIterator[bytes]:
    batch: list[bytes] = []
    async for event in events:
        batch.append(orjson.dumps(api_activity(event), option=orjson.OPT_APPEND_NEWLINE))
        if len(batch) == BATCH:
            yield b"".join(batch)
            batch.clear()
    yield b"".join(batch)


def _sequence(id: str) -> int:
    digits = id.removeprefix(PREFIX)
    if len(digits) == len(id) or not _SEQUENCE.fullmatch(digits):
        raise NotFoundError(f"No audit event has the id {id[:80]!r}; such ids are {PREFIX} and a number.")
    return int(digits)
