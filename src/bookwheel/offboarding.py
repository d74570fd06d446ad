"""A tenant goes: everything of it is removed, and what was removed and what is left is counted and signed.

The walk is a row of steps that may each be done again. `departures` remembers that it has begun, so that a call after
a kill goes on, also when the tenant itself is gone already and only its receipt is missing:

1. the tenant is suspended; after a pause no process lets anybody in for it;
2. what it has is noted and counted;
3. what brings it more goes first (keys, sources, webhooks, responses), then documents, stores and files in batches,
   then the tenant itself, in the transaction that sees that nobody has brought more;
4. its audit chain is sealed and removed, its cache entries and counters are forgotten;
5. bytes that no file has any more go once they are old enough, and the keyword index applies what was removed;
6. what is left is counted anew, and the receipt is signed.
"""

import asyncio
import time
from dataclasses import dataclass

import structlog

from bookwheel.access import within
from bookwheel.errors import ConflictError, InvalidRequestError, NotFoundError
from bookwheel.identity import TRUST_SECONDS
from bookwheel.orphans import KEEP_SECONDS
from bookwheel.ports import Ports
from bookwheel.types import DEFAULT_TENANT, Counts, Departure, Receipt, Scope, Store

BATCH = 500  # rows, or documents, of one transaction
PAGE = 100  # stores or files
MOST_PAUSE = 5.0
ROUNDS = 20  # in each of which somebody brought something: then he must be stopped first

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """How long an offboarding waits, in seconds."""

    closing: float = TRUST_SECONDS + 0.5  #: until every process has read that the tenant is suspended
    bytes: float = KEEP_SECONDS  #: an upload may stand without its row so long: see orphans.py
    settling: float = KEEP_SECONDS + 15.0  #: at most, for such bytes and for the keyword index
    between: float = 0.25  #: looks, at first; counting costs something where there was much


PAUSES = Pauses()


async def offboard(name: str, *, scope: Scope, ports: Ports, private: bytes, pauses: Pauses = PAUSES) -> Receipt:
    """Remove the scope's tenant, which must have this name; the receipt is kept. One that is not complete says what is
    left: call again. Raises NotFoundError when there is no such tenant (any more), InvalidRequestError for another
    name or the default tenant, ConflictError while somebody goes on bringing documents, and UnavailableError when a
    store is away: call again."""
    departure = await _begin(name, scope=scope, ports=ports)
    await _close(scope, ports, pauses)
    await ports.departures.note(scope=scope)
    if departure.held is None:
        held = {**await ports.departures.holdings(scope=scope), **await _forget_kept(scope, ports)}
        await ports.departures.count(held, scope=scope)
    await _remove(scope, ports)
    await ports.departures.seal(scope=scope)
    await ports.audit.offboard(scope=scope)
    left = await _settle(scope, ports, pauses)
    return await _sign(left, scope=scope, ports=ports, private=private)


async def _begin(name: str, *, scope: Scope, ports: Ports) -> Departure:
    if scope.tenant_id == DEFAULT_TENANT:
        raise InvalidRequestError("The default tenant has the operator's keys: it cannot be offboarded.")
    begun = await ports.departures.begun(scope=scope)
    known = begun.name if begun else (await ports.tenants.get(scope=scope)).name
    if name != known:
        raise InvalidRequestError("This is not the name of that tenant. Send its name as `name`.", param="name")
    return begun or await ports.departures.begin(name, scope=scope)


async def _close(scope: Scope, ports: Ports, pauses: Pauses) -> None:
    """Nobody comes in for the tenant any more, and nothing of it is begun."""
    try:
        await ports.tenants.update(scope=scope, suspended=True)
    except NotFoundError:  # an earlier call has removed it
        return
    await asyncio.sleep(pauses.closing)


async def _remove(scope: Scope, ports: Ports) -> None:
    """All rows and vectors, and the tenant last. Requests that were let in before may still bring some meanwhile."""
    for _ in range(ROUNDS):
        await ports.departures.note(scope=scope)
        while await ports.departures.shrink(scope=scope, limit=BATCH):
            pass
        while stores := await ports.stores.list(scope=scope, limit=PAGE, newest=False):
            for store in stores:
                await _remove_store(store, scope=scope, ports=ports)
        await _remove_files(scope, ports)
        if await ports.departures.remove(scope=scope):
            return
    raise ConflictError("Something still brings documents for this tenant. Call again when its last requests are over.")


async def _remove_store(store: Store, *, scope: Scope, ports: Ports) -> None:
    inside = within(scope, store.id)
    while documents := await ports.documents.list(scope=inside, limit=BATCH, newest=False):
        await ports.documents.delete([document.id for document in documents], scope=inside)
    try:
        await ports.stores.delete(store.id, scope=scope)
    except NotFoundError:  # another call does the same
        log.debug("store gone already", store=store.id.hex)


async def _remove_files(scope: Scope, ports: Ports) -> None:
    while files := await ports.files.list(scope=scope, limit=PAGE, newest=False):
        for file in files:
            try:
                await ports.files.delete(file.id, scope=scope)
            except NotFoundError:  # another call does the same, or its time was over
                log.debug("file gone already", file=file.id.hex)


async def _settle(scope: Scope, ports: Ports, pauses: Pauses) -> Counts:
    """Wait for what comes later, and count what is left then."""
    until, pause = time.monotonic() + pauses.settling, pauses.between
    while True:
        await ports.departures.shrink(scope=scope, limit=BATCH)  # what ended only now may have left a trace
        gone = await _remove_blobs(scope, ports, pauses)
        await ports.departures.forget(scope=scope, blobs=gone, position=await ports.keywords.position())
        left = await ports.departures.holdings(scope=scope)
        if not any(left.values()) or time.monotonic() > until:
            await _forget_kept(scope, ports)
            return {**left, **await _forget_kept(scope, ports)}
        await asyncio.sleep(pause)
        pause = min(2 * pause, MOST_PAUSE)


async def _remove_blobs(scope: Scope, ports: Ports, pauses: Pauses) -> list[bytes]:
    """Bytes that no file has, of any tenant, unless somebody put the same ones just now and has no row for them yet."""
    unused = await ports.departures.blobs(scope=scope)
    gone = [sha256 for sha256 in unused if await ports.blobs.delete(sha256, older_than_seconds=pauses.bytes)]
    if gone:
        await ports.files.forget_blobs(gone)
    return gone


async def _forget_kept(scope: Scope, ports: Ports) -> Counts:
    """What the caches and the limiter have of the tenant goes; how much that was."""
    return {
        "cache_entries": await ports.caches.cache.forget(scope.tenant_id.hex),
        "limit_counters": await ports.limiter.forget(f"tenant:{scope.tenant_id}:"),
    }


async def _sign(left: Counts, *, scope: Scope, ports: Ports, private: bytes) -> Receipt:
    from bookwheel.receipts import receipt_of  # only where it is needed: it brings a library for cryptography

    departure = await ports.departures.begun(scope=scope)
    if departure is None:
        raise NotFoundError("There is no such tenant: another call has just offboarded it. See GET /v1/receipts.")
    receipt = receipt_of(departure, left=left, private=private)
    await ports.receipts.keep(receipt)
    log.info("tenant offboarded", tenant=scope.tenant_id.hex, complete=receipt.complete)
    return receipt
