"""The keyword index follows the outbox and can always be made anew."""

import asyncio
from uuid import uuid4

import pytest

from bookwheel.follow import COMMIT_SECONDS, IDLE_SECONDS, SMALL_COMMIT, catch_up, follow, rebuild
from bookwheel.testing import memory_ports
from bookwheel.testing.desk import Desk
from bookwheel.testing.keywords import open_to
from bookwheel.types import Store


async def found(desk: Desk, store: Store, word: str) -> int:
    """How many chunks the keyword index alone finds."""
    scope = desk.scope(store)
    return len(await desk.ports.keywords.search(word, scope=scope, reach=open_to(scope), limit=100))


@pytest.fixture
def desk() -> Desk:
    """A tenant over empty ports."""
    return Desk(ports=memory_ports(), tenant=uuid4())


async def test_publish_replace_and_remove_reach_the_index(desk: Desk) -> None:
    """Every change arrives, in order, and a second look applies nothing."""
    store = await desk.store()
    document, _ = await desk.add(store, "alpha", external_id="one")
    assert await catch_up(desk.ports) == 1
    assert await found(desk, store, "alpha") == 1
    await desk.add(store, "beta", external_id="one")
    await catch_up(desk.ports)
    assert (await found(desk, store, "alpha"), await found(desk, store, "beta")) == (0, 1)
    await desk.ports.documents.delete([document.id], scope=desk.scope(store))
    await catch_up(desk.ports)
    assert await found(desk, store, "beta") == 0
    assert await catch_up(desk.ports) == 0


async def test_rebuild_gives_the_same_index(desk: Desk) -> None:
    """Everything live is in the new index, and it goes on from there."""
    store = await desk.store()
    for number in range(5):
        await desk.add(store, f"word{number} shared", external_id=str(number))
    while await catch_up(desk.ports):
        continue
    assert await rebuild(desk.ports) == 5
    assert await found(desk, store, "shared") == 5
    assert await catch_up(desk.ports) == 0
    await desk.add(store, "shared again")
    assert await catch_up(desk.ports) == 1
    assert await found(desk, store, "shared") == 6


async def test_an_empty_index_beside_a_trimmed_outbox_is_rebuilt(desk: Desk) -> None:
    """A lost index directory heals by itself, although the outbox has forgotten the beginning."""
    store = await desk.store()
    for number in range(3):
        await desk.add(store, "shared", external_id=str(number))
    while await catch_up(desk.ports):
        continue
    await desk.ports.outbox.trim(await desk.ports.keywords.position())
    await desk.ports.keywords.reset(0)
    await catch_up(desk.ports)
    assert await found(desk, store, "shared") == 3


async def test_an_index_older_than_the_outbox_is_rebuilt(desk: Desk) -> None:
    """An index restored from an old copy notices that lines are missing."""
    store = await desk.store()
    await desk.add(store, "shared", external_id="0")
    await catch_up(desk.ports)
    old = await desk.ports.keywords.position()
    for number in range(1, 4):
        await desk.add(store, "shared", external_id=str(number))
    while await catch_up(desk.ports):
        continue
    await desk.ports.outbox.trim(await desk.ports.keywords.position())
    await desk.ports.keywords.reset(old)
    await catch_up(desk.ports)
    assert await found(desk, store, "shared") == 4


async def test_an_empty_catalog_gives_an_empty_index(desk: Desk) -> None:
    """Rebuilding nothing is fine."""
    assert await rebuild(desk.ports) == 0
    assert await catch_up(desk.ports) == 0


async def test_a_large_load_is_followed_without_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """After many changes it looks for more at once, after a few it lets more gather, after none it rests."""
    applied, rests, stop = iter([512, SMALL_COMMIT, 1, 0]), list[float](), asyncio.Event()

    async def catching_up(_: object) -> int:
        return next(applied)

    async def rested(seconds: float, stop: asyncio.Event) -> bool:
        rests.append(seconds)
        if len(rests) == 2:
            stop.set()
        return not stop.is_set()

    monkeypatch.setattr("bookwheel.follow.catch_up", catching_up)
    monkeypatch.setattr("bookwheel.follow.waited", rested)
    await follow(memory_ports(), stop)
    assert rests == [COMMIT_SECONDS, IDLE_SECONDS]
