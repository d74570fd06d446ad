"""The contracts of ports.Departures and ports.Receipts, by the walk that uses them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from bookwheel.errors import ConflictError, InvalidRequestError, NotFoundError, UnavailableError
from bookwheel.follow import follow
from bookwheel.offboarding import Pauses, offboard
from bookwheel.ports import Ports
from bookwheel.receipts import is_genuine, new_key, public_key, shown
from bookwheel.testing.audit import entry
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import MANY, Desk
from bookwheel.testing.responses import keep
from bookwheel.testing.sources import add_source
from bookwheel.testing.tenants import a_key
from bookwheel.testing.webhooks import end_response, endpoint
from bookwheel.types import AskedQuestion, DocumentDraft, File, Receipt, Scope, SourceItem, Store, Take

QUICK = Pauses(closing=0.0, bytes=0.0, settling=20.0, between=0.02)
PRIVATE = bytes(range(32))
SHARED = b"the same bytes in both tenants"
TEXT = "a marked passage\nand another"
LONG = 600.0
#: Kinds that not every backend has, or that end with the work they are for.
PASSING = {"attribute_names", "sections", "leases", "turns", "moves", "partitions"}


@dataclass(slots=True)
class Filled:
    """What a tenant was given."""

    store: Store
    files: list[File] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)


class KilledError(UnavailableError):
    """The process ended here."""


class Mortal:
    """A port whose process ends at a certain call, before it or after it."""

    def __init__(self, port: Any, clock: list[int], *, after: bool) -> None:
        self._port, self._clock, self._after = port, clock, after

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._port, name)
        if not asyncio.iscoroutinefunction(verb):
            return verb

        async def call(*given: Any, **named: Any) -> Any:
            self._clock[0] -= 1
            if self._clock[0] == 0 and not self._after:
                raise KilledError
            found = await verb(*given, **named)
            if self._clock[0] == 0:
                raise KilledError
            return found

        return call


def mortal(ports: Ports, *, calls: int, after: bool) -> Ports:
    """The same ports in a process that ends at its so many-th call of any of them."""
    clock = [calls]
    names = [
        one.name for one in fields(ports) if one.name not in {"caches", "parts", "space", "embedders", "generators"}
    ]
    caches = replace(ports.caches, cache=Mortal(ports.caches.cache, clock, after=after))
    mortals: dict[str, Any] = {name: Mortal(getattr(ports, name), clock, after=after) for name in names}
    return replace(ports, caches=caches, **mortals)


async def upload(desk: Desk, content: bytes) -> File:
    """A file with its bytes."""

    async def pieces() -> AsyncIterator[bytes]:
        yield content

    sha256, _ = await desk.ports.blobs.put(pieces(), max_bytes=len(content))
    return await desk.file(sha256=sha256)


async def fill(desk: Desk) -> Filled:
    """Something of every kind that hangs on a tenant."""
    ports, scope = desk.ports, desk.scope()
    filled = Filled(store=await desk.store())
    await endpoint(desk, "response.completed", "vector_store.file.completed")
    await desk.add(filled.store, TEXT, external_id="one", attributes={"colour": "red"})
    await desk.put(filled.store, "waits", external_id="two")
    filled.files = [await upload(desk, SHARED), await upload(desk, desk.tenant.bytes)]
    drafts = [DocumentDraft(file_id=file.id) for file in filled.files]
    await ports.batches.create(drafts, scope=scope, store=filled.store)
    source = await add_source(desk, filled.store)
    item = SourceItem(key="a", validator={}, external_id="one", last_seen_run=1, last_error=None, retry_at=None)
    await ports.source_runs.save(source.id, [item])
    await end_response(desk)
    await keep(desk, 0, 1)
    await ports.idempotency_keys.begin(
        "k", bytes(32), scope=scope, owner=uuid4(), lease_seconds=LONG, keep_seconds=LONG
    )
    asked = AskedQuestion(tenant_id=desk.tenant, key=f"answer:{desk.tenant.hex}:1", request={"text": TEXT}, times=3)
    await ports.asked.note([asked])
    await _fill_keys(desk, filled)
    tenant = desk.tenant.hex
    await ports.caches.cache.put({f"answer:{tenant}:1": b"kept"}, seconds=LONG)
    await ports.caches.cache.append(f"questions:{tenant}:1", b"asked", seconds=LONG, keep=9)
    await ports.limiter.take([Take(name=f"tenant:{desk.tenant}:requests", limit=5)])
    return filled


async def _fill_keys(desk: Desk, filled: Filled) -> None:
    """A key that was used, one that was revoked, and what both did."""
    ports = desk.ports
    for revoked in (False, True):
        key, secret_hash = a_key(desk.tenant), uuid4().bytes * 2
        await ports.keys.create(key, secret_hash=secret_hash)
        actor = f"key_{key.id.hex}"
        await ports.audit.append([entry(desk.tenant, actor=actor)])
        await ports.key_uses.used(actor, "192.0.2.0/24", at=datetime.now(UTC), keep=3)
        if revoked:
            await ports.keys.revoke(key.id, scope=desk.scope())
        filled.keys.append(secret_hash)


@asynccontextmanager
async def following(ports: Ports) -> AsyncIterator[None]:
    """A worker that keeps the keyword index."""
    stop = asyncio.Event()
    task = asyncio.create_task(follow(ports, stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def go(desk: Desk, name: str, *, ports: Ports | None = None) -> Receipt:
    """The walk, beside a worker."""
    async with following(desk.ports):
        scope = Scope(tenant_id=desk.tenant, manages=True)
        return await offboard(name, scope=scope, ports=ports or desk.ports, private=PRIVATE, pauses=QUICK)


async def name_of(desk: Desk) -> str:
    """The tenant's, which is on record from now on."""
    return (await desk.ports.tenants.update(scope=desk.scope(), weight=2.0)).name


class DeparturesContract(PortsContract):
    """Subclass it for a backend that fills ports.Departures and ports.Receipts, and all ports of the catalog in the
    same database."""

    async def nothing_else(self, desk: Desk, filled: Filled) -> None:
        """Raises AssertionError where the store still holds anything of the tenant: looked for without the port."""

    async def test_nothing_is_left_of_a_tenant(self, desk: Desk, stranger: Desk) -> None:
        """Every kind of thing was there, none is; another tenant with the same texts and bytes has all of its own."""
        filled, theirs = await fill(desk), await fill(stranger)
        name = await name_of(desk)
        async with following(desk.ports):
            await self.caught_up(desk)
        before = await stranger_holds(stranger)
        receipt = shown(await go(desk, name))
        assert {kind for kind, count in receipt["held"].items() if not count} <= PASSING
        assert not any(receipt["left"].values()), receipt["left"]
        assert (receipt["complete"], receipt["tenant_name"], receipt["audit"]["events"]) == (True, name, 2)
        assert receipt["held"]["blobs"] == 1  # the other one is another tenant's too
        await self.nothing_else(desk, filled)
        for key in filled.keys:
            assert await desk.ports.keys.by_hash(key) is None
        with pytest.raises(NotFoundError):
            await desk.ports.tenants.get(scope=desk.scope())
        with pytest.raises(NotFoundError):
            await desk.ports.blobs.path(filled.files[1].sha256)
        for file in theirs.files:
            await desk.ports.blobs.path(file.sha256)
        assert await stranger_holds(stranger) == before
        await self.still_found(stranger, theirs)

    async def caught_up(self, desk: Desk) -> None:
        """Wait until the keyword index has applied all."""
        for _ in range(500):
            if await desk.ports.keywords.position() >= await desk.ports.outbox.last():
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the keyword index does not follow")

    async def still_found(self, desk: Desk, filled: Filled) -> None:
        """By its vectors, its texts and its cache."""
        vector = (await desk.ports.embedders[desk.ports.space.id].embed([TEXT.splitlines()[0]]))[0]
        (best, *_) = await desk.search(vector, filled.store)
        hits = await desk.ports.passages.hydrate([best.chunk_id], scope=desk.scope(filled.store), filter=None)
        assert [hit.text for hit in hits] == TEXT.splitlines()[:1]
        key = f"answer:{desk.tenant.hex}:1"
        assert await desk.ports.caches.cache.get([key]) == {key: b"kept"}
        assert await desk.ports.limiter.spent(f"tenant:{desk.tenant}:requests") == 1

    @pytest.mark.parametrize("after", [False, True])
    async def test_a_walk_that_was_killed_goes_on(self, ports: Ports, after: bool) -> None:
        """At whatever call of a port: the next call ends it, and its receipt tells what was there at first."""
        for calls in (*range(1, 10), *range(10, MANY, 9)):
            desk = Desk(ports=ports, tenant=await self.new_tenant(ports))
            filled = await fill(desk)
            name = await name_of(desk)
            try:
                await go(desk, name, ports=mortal(ports, calls=calls, after=after))
                return
            except KilledError:
                receipt = await self.ended(desk, name)
            assert (receipt["complete"], receipt["held"]["files"]) == (True, 2), calls
            await self.nothing_else(desk, filled)

    async def ended(self, desk: Desk, name: str) -> dict[str, Any]:
        """The receipt: of another call, unless the one that was killed had just kept it."""
        try:
            return shown(await go(desk, name))
        except NotFoundError:
            kept = await desk.ports.receipts.list(limit=MANY)
            return shown(next(one for one in kept if one.tenant_id == desk.tenant))

    async def test_the_receipt_stays(self, desk: Desk) -> None:
        """A second call finds no tenant; the receipt is there, newest first, with a signature that holds for exactly
        what it says."""
        name = await name_of(desk)
        receipt = await go(desk, name)
        with pytest.raises(NotFoundError):
            await go(desk, name)
        ports = desk.ports
        assert await ports.receipts.get(receipt.id) == receipt
        assert (await ports.receipts.list(limit=1))[0] == receipt
        assert receipt.id not in [one.id for one in await ports.receipts.list(limit=MANY, after=receipt.id)]
        with pytest.raises(NotFoundError):
            await ports.receipts.get(uuid4())
        told, public = shown(receipt), public_key(PRIVATE)
        assert told["public_key"] == public
        assert is_genuine(told, public=public)
        assert not is_genuine({**told, "tenant_name": "another"}, public=public)
        assert not is_genuine(told, public=public_key(new_key()))

    async def test_slips_are_refused(self, desk: Desk) -> None:
        """Another name, a tenant that nobody made: nothing is removed."""
        await fill(desk)
        await name_of(desk)
        with pytest.raises(InvalidRequestError):
            await go(desk, "another")
        assert await desk.ports.departures.begun(scope=desk.scope()) is None
        assert len(await desk.ports.files.list(scope=desk.scope(), limit=MANY)) == 2

    async def test_a_tenant_that_was_brought_more_stays(self, desk: Desk) -> None:
        """Until that is removed too: nothing goes by the way that the walk has not noted."""
        departures, scope = desk.ports.departures, desk.scope()
        await departures.begin(await name_of(desk), scope=scope)
        store = await desk.store()
        assert not await departures.remove(scope=scope)
        await desk.ports.stores.delete(store.id, scope=scope)
        file = await desk.file()
        assert not await departures.remove(scope=scope)
        await desk.ports.files.delete(file.id, scope=scope)
        assert await departures.remove(scope=scope)
        assert await departures.remove(scope=scope)

    async def test_an_export_reads_what_lists_keep_from_others(self, desk: Desk, stranger: Desk) -> None:
        """Texts of the newest version, and responses of all callers; nothing of another tenant."""
        store, exports = await desk.store(), desk.ports.exports
        document, _ = await desk.add(store, TEXT, external_id="one")
        await desk.put(store, "newer", external_id="one")
        assert await exports.text(document.id, scope=desk.scope()) == "newer"
        assert await exports.text(document.id, scope=stranger.scope()) is None
        kept = [await keep(desk, caller_id=caller) for caller in ("key_a", "key_b", "key_c")]
        await keep(stranger)
        first = await exports.responses(scope=desk.scope(), limit=2)
        rest = await exports.responses(scope=desk.scope(), limit=2, after=first[-1].id)
        assert {one.id for one in (*first, *rest)} == {one.id for one in kept}
        assert (len(first), len(rest)) == (2, 1)

    async def test_nothing_is_made_for_a_tenant_that_is_gone(self, desk: Desk) -> None:
        """By a request that was let in before: neither rows nor audit events."""
        store = await desk.store()
        await desk.ports.audit.append([entry(desk.tenant)])
        await go(desk, await name_of(desk))
        for late in self.late(desk, store):
            with pytest.raises((NotFoundError, ConflictError)):
                await late
        await desk.ports.audit.append([entry(desk.tenant, 1)])
        left = await desk.ports.departures.holdings(scope=desk.scope())
        assert not any(left.values()), left

    def late(self, desk: Desk, store: Store) -> Sequence[Any]:
        """What such a request may still try."""
        return [desk.put(store, "late")]

    async def test_the_signing_key_is_kept(self, ports: Ports) -> None:
        """The first one that anybody made."""
        first = await ports.receipts.signing_key(new_key())
        assert await ports.receipts.signing_key(new_key()) == first
        assert len(first) == len(new_key())


async def stranger_holds(desk: Desk) -> dict[str, int]:
    """What the other tenant has, by the same count."""
    counts = await desk.ports.departures.holdings(scope=desk.scope())
    return {kind: count for kind, count in counts.items() if kind not in {*PASSING, "keyword_changes"}}
