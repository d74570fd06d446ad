"""The contracts of ports.Sources and ports.SourceRuns."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from bookwheel.errors import NotFoundError
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import LEASE_SECONDS, MANY, Desk, walked
from bookwheel.types import (
    Source,
    SourceChange,
    SourceDraft,
    SourceItem,
    SourceKind,
    SourceOutcome,
    Store,
)

HOUR_SECONDS = 3600.0


async def add_source(
    desk: Desk, store: Store | None = None, *, kind: SourceKind = SourceKind.DIRECTORY, every_seconds: float = 60.0
) -> Source:
    """A source that is due."""
    draft = SourceDraft(kind=kind, config={"path": "/books", "include": ["*.md"]}, every_seconds=every_seconds)
    store = store or await desk.store()
    return await desk.ports.sources.create(draft, scope=desk.scope(), store=store)


async def take(desk: Desk, source: Source, *, owner: str | None = None, lease_seconds: float = LEASE_SECONDS) -> Source:
    """The claimed source; others that are due are given back."""
    owner = owner or uuid4().hex
    found = await claimed(desk, source, owner=owner, lease_seconds=lease_seconds)
    assert found is not None
    return found


async def claimed(desk: Desk, source: Source, *, owner: str, lease_seconds: float = LEASE_SECONDS) -> Source | None:
    """The source when it can be claimed. Other tests' sources may be claimed on the way: their tests do not mind."""
    found = await desk.ports.source_runs.claim(owner=owner, lease_seconds=lease_seconds, limit=MANY)
    return next((one for one in found if one.id == source.id), None)


def outcome(
    *, next_in_seconds: float = HOUR_SECONDS, error: str | None = None, state: Mapping[str, Any] | None = None
) -> SourceOutcome:
    """How a run ended."""
    return SourceOutcome(
        next_in_seconds=next_in_seconds,
        counts={"added": 2},
        state=state or {"device": 7},
        error=error,
        failed=error is not None,
    )


class SourcesContract(PortsContract):
    """Subclass it for a backend that fills ports.Sources. Its ports also need SourceRuns of the same database."""

    async def test_source_comes_back_as_it_was_made(self, desk: Desk) -> None:
        """A source keeps kind, config, store and schedule, is due at once and has nothing yet."""
        store = await desk.store()
        made = await add_source(desk, store)
        assert (made.kind, made.config) == (SourceKind.DIRECTORY, {"path": "/books", "include": ["*.md"]})
        assert (made.store_id, made.tenant_id, made.every_seconds) == (store.id, desk.tenant, 60.0)
        assert (made.paused, made.runs, made.items, made.failed, made.last_run_at) == (False, 0, 0, 0, None)
        assert made.next_run_at is not None
        assert await desk.ports.sources.get(made.id, scope=desk.scope()) == made

    async def test_another_tenants_source_is_not_there(self, desk: Desk, stranger: Desk) -> None:
        """No verb finds, lists, changes or removes another tenant's source, and none can be made for its store."""
        store = await desk.store()
        source = await add_source(desk, store)
        sources, scope = stranger.ports.sources, stranger.scope(store)
        with pytest.raises(NotFoundError):
            await sources.get(source.id, scope=scope)
        with pytest.raises(NotFoundError):
            await sources.update(source.id, SourceChange(paused=True), scope=scope)
        with pytest.raises(NotFoundError):
            await sources.failures(source.id, scope=scope, limit=10)
        with pytest.raises(NotFoundError):
            await sources.delete(source.id, scope=scope)
        with pytest.raises(NotFoundError):
            await add_source(stranger, store)
        assert list(await sources.list(scope=scope, limit=10)) == []
        assert await desk.ports.sources.get(source.id, scope=desk.scope()) == source

    async def test_list_walks_in_pages(self, desk: Desk) -> None:
        """Pages follow creation, in either order, with no source twice or left out."""
        made = [(await add_source(desk)).id for _ in range(5)]
        for newest, order in ((False, made), (True, made[::-1])):
            page = partial(desk.ports.sources.list, scope=desk.scope(), limit=2, newest=newest)
            assert len(await page(after=None)) == 2
            assert [one.id for one in await walked(page)] == order

    async def test_source_goes_with_its_store(self, desk: Desk) -> None:
        """A deleted store takes its sources along, also those that a worker has in hand, and no others."""
        store, kept = await desk.store(), await add_source(desk)
        source = await add_source(desk, store)
        await take(desk, source)
        await desk.ports.stores.delete(store.id, scope=desk.scope())
        with pytest.raises(NotFoundError):
            await desk.ports.sources.get(source.id, scope=desk.scope())
        with pytest.raises(NotFoundError):
            await desk.ports.source_runs.save(source.id, [SourceItem(key="a.md")])
        assert [one.id for one in await desk.ports.sources.list(scope=desk.scope(), limit=10)] == [kept.id]
        with pytest.raises(NotFoundError):
            await add_source(desk, store)

    async def test_update_changes_what_is_given(self, desk: Desk) -> None:
        """None leaves a thing as it is."""
        source = await add_source(desk)
        update = partial(desk.ports.sources.update, source.id, scope=desk.scope())
        changed = await update(change=SourceChange(every_seconds=5.0))
        assert (changed.every_seconds, changed.config, changed.paused) == (5.0, source.config, False)
        changed = await update(change=SourceChange(config={"path": "/other"}))
        assert (changed.every_seconds, changed.config) == (5.0, {"path": "/other"})

    async def test_paused_source_is_not_due(self, desk: Desk) -> None:
        """A pause ends with a run at once; a run that is asked for happens in a pause too, once."""
        source = await add_source(desk)
        update = partial(desk.ports.sources.update, source.id, scope=desk.scope())
        paused = await update(change=SourceChange(paused=True))
        assert (paused.paused, paused.next_run_at) == (True, None)
        assert await claimed(desk, source, owner="anyone") is None
        await desk.ports.source_runs.wake([source.id])
        assert await claimed(desk, source, owner="anyone") is None
        await update(change=SourceChange(due=True))
        once = await take(desk, source, owner="first")
        await desk.ports.source_runs.finish(once, outcome(next_in_seconds=0), owner="first")
        assert await claimed(desk, source, owner="anyone") is None
        await update(change=SourceChange(paused=False))
        assert await claimed(desk, source, owner="anyone") is not None

    async def test_numbers_follow_the_items(self, desk: Desk) -> None:
        """Items count when they have a document; failed are those with an error and those whose document failed."""
        store = await desk.store()
        source = await add_source(desk, store)
        broken = await desk.put(store, "it is broken", external_id="src/b")
        await desk.ports.ingestion.fail(await desk.claim(broken), code="broken_file", message="It is broken.")
        items = [
            SourceItem(key="a", external_id="src/a"),
            SourceItem(key="b", external_id="src/b"),
            SourceItem(key="c", last_error="cannot be read"),
        ]
        await desk.ports.source_runs.save(source.id, items)
        for shown in (
            await desk.ports.sources.get(source.id, scope=desk.scope()),
            (await desk.ports.sources.list(scope=desk.scope(), limit=1))[0],
        ):
            assert (shown.items, shown.failed) == (2, 2)
        failures = await desk.ports.sources.failures(source.id, scope=desk.scope(), limit=10)
        assert [(item.key, item.last_error) for item in failures] == [("c", "cannot be read")]

    async def test_removed_source_leaves_its_documents(self, desk: Desk) -> None:
        """A source is removed once, with its items; its documents are the caller's business."""
        store = await desk.store()
        source = await add_source(desk, store)
        document, _ = await desk.add(store, "one", external_id="src/a")
        await desk.ports.source_runs.save(source.id, [SourceItem(key="a", external_id="src/a")])
        assert await desk.ports.sources.delete(source.id, scope=desk.scope(), if_empty=True) is False
        assert await desk.ports.sources.delete(source.id, scope=desk.scope()) is True
        with pytest.raises(NotFoundError):
            await desk.ports.sources.delete(source.id, scope=desk.scope())
        assert list(await desk.ports.source_runs.items(source.id, limit=10)) == []
        assert await desk.ports.documents.get(document.id, scope=desk.scope(store)) == document

    async def test_empty_source_is_removed(self, desk: Desk) -> None:
        """Who removes documents first can tell that none came meanwhile."""
        source = await add_source(desk)
        await desk.ports.source_runs.save(source.id, [SourceItem(key="a")])
        await desk.ports.source_runs.save(source.id, [], gone=["a"])
        assert await desk.ports.sources.delete(source.id, scope=desk.scope(), if_empty=True) is True


class SourceRunsContract(PortsContract):
    """Subclass it for a backend that fills ports.SourceRuns. Its ports also need Sources of the same database."""

    async def test_one_worker_at_a_time(self, desk: Desk) -> None:
        """A due source has one owner; it is not given twice, not even to the same owner."""
        source = await add_source(desk)
        await take(desk, source, owner="first")
        assert await claimed(desk, source, owner="second") is None
        assert await claimed(desk, source, owner="first") is None

    async def test_dead_owner_loses_the_source(self, desk: Desk) -> None:
        """A lease that ended gives the source to another, and the late owner cannot finish it."""
        source = await add_source(desk)
        late = await take(desk, source, owner="dead", lease_seconds=0.0)
        await take(desk, source, owner="second")
        await desk.ports.source_runs.finish(late, outcome(), owner="dead")
        assert (await desk.ports.sources.get(source.id, scope=desk.scope())).runs == 0

    async def test_renewed_lease_holds(self, desk: Desk) -> None:
        """An owner that says that it is alive keeps what it has."""
        source = await add_source(desk)
        owner = uuid4().hex
        await take(desk, source, owner=owner, lease_seconds=0.0)
        await desk.ports.source_runs.renew(owner, lease_seconds=LEASE_SECONDS)
        assert await claimed(desk, source, owner="second") is None

    async def test_released_source_is_free(self, desk: Desk) -> None:
        """What an owner gives back is another's at once."""
        source = await add_source(desk)
        owner = uuid4().hex
        await take(desk, source, owner=owner)
        await desk.ports.source_runs.release(owner)
        assert await claimed(desk, source, owner="second") is not None

    async def test_finish_notes_how_it_went(self, desk: Desk) -> None:
        """Counts, state, error and time are kept, failures are counted until a run does not fail, and it rests."""
        source = await add_source(desk)
        runs, scope = desk.ports.source_runs, desk.scope()
        for failures in (1, 2):
            held = await take(desk, source, owner="one")
            await runs.finish(held, outcome(error="gone", next_in_seconds=0), owner="one")
            ended = await desk.ports.sources.get(source.id, scope=scope)
            assert (ended.failures, ended.runs, ended.last_error) == (failures, failures, "gone")
        held = await take(desk, source, owner="one")
        assert (held.runs, held.failures, held.state) == (2, 2, {"device": 7})
        await runs.finish(held, outcome(), owner="one")
        ended = await desk.ports.sources.get(source.id, scope=scope)
        assert (ended.failures, ended.last_error, ended.counts) == (0, None, {"added": 2})
        assert ended.last_run_at is not None
        assert ended.next_run_at is not None
        assert ended.next_run_at - ended.last_run_at >= timedelta(seconds=HOUR_SECONDS - 1)
        assert await claimed(desk, source, owner="two") is None

    async def test_what_was_asked_for_during_a_run_happens_after_it(self, desk: Desk) -> None:
        """A change or a wake during a run is not forgotten when the run ends."""
        source = await add_source(desk)
        runs = desk.ports.source_runs
        for ask in (
            partial(runs.wake, [source.id]),
            partial(desk.ports.sources.update, source.id, SourceChange(due=True), scope=desk.scope()),
        ):
            held = await take(desk, source, owner="one")
            await ask()
            await runs.finish(held, outcome(), owner="one")
        assert await claimed(desk, source, owner="two") is not None

    async def test_items_come_back_by_key(self, desk: Desk) -> None:
        """Items are upserted by key and read in pages, in an order of bytes."""
        source, other = await add_source(desk), await add_source(desk)
        runs = desk.ports.source_runs
        first = SourceItem(
            key="ä/Z.md",
            validator={"size": 2**40, "etag": '"x"'},
            external_id="src/ä",
            last_seen_run=3,
            last_error="why",
            retry_at=datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1),
        )
        others = [SourceItem(key=key) for key in ("b", "Z", "a/b")]
        await runs.save(source.id, [first, *others])
        await runs.save(other.id, [SourceItem(key="another source's")])
        keys, after = list[str](), ""
        while page := await runs.items(source.id, limit=3, after=after):
            keys += [item.key for item in page]
            after = keys[-1]
        assert keys == ["Z", "a/b", "b", "ä/Z.md"]
        assert (await runs.items(source.id, limit=1, after="b"))[0] == first
        changed = replace(first, validator={}, last_error=None)
        await runs.save(source.id, [changed], gone=["Z", "unknown"])
        assert [item.key for item in await runs.items(source.id, limit=10)] == ["a/b", "b", "ä/Z.md"]
        assert (await runs.items(source.id, limit=10))[-1] == changed

    async def test_a_run_that_is_asked_for_waits_for_nothing(self, desk: Desk) -> None:
        """Items that wait after an error are tried again when the owner says so, not when a schedule does."""
        source = await add_source(desk)
        runs, later = desk.ports.source_runs, datetime.now(UTC) + timedelta(hours=1)
        await runs.save(source.id, [SourceItem(key="a", last_error="why", retry_at=later)])
        await runs.wake([source.id])
        assert (await runs.items(source.id, limit=1))[0].retry_at is not None
        await desk.ports.sources.update(source.id, SourceChange(due=True), scope=desk.scope())
        (item,) = await runs.items(source.id, limit=1)
        assert (item.retry_at, item.last_error) == (None, "why")

    async def test_watched_are_directories_that_are_not_paused(self, desk: Desk) -> None:
        """A watcher asks for the directories of all tenants."""
        directory, paused = await add_source(desk), await add_source(desk)
        await add_source(desk, kind=SourceKind.URLS)
        await desk.ports.sources.update(paused.id, SourceChange(paused=True), scope=desk.scope())
        watched = [one for one in await desk.ports.source_runs.watched() if one.tenant_id == desk.tenant]
        assert [one.id for one in watched] == [directory.id]
