"""Background responses as a worker writes them: told once, taken over, failed with the reason, cancelled."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest

from bookwheel.api import create_app, response_events
from bookwheel.api.ids import public
from bookwheel.api.response_events import creation, new_body
from bookwheel.api.response_requests import ResponseCreate
from bookwheel.errors import DatabaseUnavailableError
from bookwheel.ports import Ports
from bookwheel.respond import MAX_ATTEMPTS, run_responses, write_response
from bookwheel.settings import Settings
from bookwheel.testing import answered_by, memory_caches, memory_ports
from bookwheel.testing.desk import MANY, Desk
from bookwheel.testing.responses import a_response
from bookwheel.types import DEFAULT_TENANT, AnswerPolicy, ModelResponse, Prompt, Store


class Scripted:
    """A generator that writes what it is told to, and may wait within or break behind it."""

    model = "scripted"
    writes_json = False

    def __init__(self, *pieces: str, error: Exception | None = None, gate: asyncio.Event | None = None) -> None:
        self.pieces = pieces
        self.error = error
        self.gate = gate  #: opens behind the first piece
        self.began = asyncio.Event()

    async def generate(self, prompt: Prompt) -> AsyncGenerator[str, None]:
        """See ports.Generator."""
        for piece in self.pieces:
            yield piece
            self.began.set()
            if self.gate:
                await self.gate.wait()
        if self.error:
            raise self.error


@pytest.fixture
def ports() -> Ports:
    """Ports in memory."""
    return memory_ports()


@pytest.fixture
def desk(ports: Ports) -> Desk:
    """A tenant."""
    return Desk(ports=ports, tenant=UUID(int=7))


@pytest.fixture
async def store(desk: Desk) -> Store:
    """A store with one document."""
    made = await desk.store()
    await desk.add(made, "The bookwheel was described by Ramelli.")
    return made


async def queued(desk: Desk, store: Store) -> ModelResponse:
    """A background response that waits."""
    model = f"bookwheel/{public('store', store.id)}"
    body = ResponseCreate(input="Who described the bookwheel?", model=model, background=True)
    kept = a_response(desk, request=body.model_dump(mode="json"), principals=())
    kept = replace(kept, body=new_body(public("response", kept.id), 1_700_000_000, body))
    await desk.ports.responses.create(kept, scope=desk.scope(), events=creation(kept))
    return kept


async def take(desk: Desk, owner: str, *, lease_seconds: float = 60.0) -> ModelResponse:
    """The one that waits, claimed."""
    (kept,) = await desk.ports.response_runs.claim(owner=owner, lease_seconds=lease_seconds, limit=1)
    return kept


async def told(desk: Desk, kept: ModelResponse) -> list[dict[str, Any]]:
    """Its events."""
    return [dict(one) for one in await desk.ports.responses.events(kept.id, scope=desk.scope(), limit=MANY)]


async def now(desk: Desk, kept: ModelResponse) -> dict[str, Any]:
    """Its body as it is now."""
    return dict((await desk.ports.responses.get(kept.id, scope=desk.scope())).body)


def is_gapless(events: Sequence[dict[str, Any]]) -> bool:
    """Numbers ascend by one from 0."""
    return [event["sequence_number"] for event in events] == list(range(len(events)))


def written_by(ports: Ports, generator: Scripted) -> Ports:
    """What it writes is told as it is, supported or not."""
    return replace(answered_by(ports, generator), caches=memory_caches(AnswerPolicy(unsupported="keep")))


async def test_it_is_written_to_its_end(desk: Desk, store: Store) -> None:
    """Events and object are in the catalog, the object as the last event has it."""
    kept = await queued(desk, store)
    claimed = await take(desk, "one")
    assert await write_response(claimed, owner="one", ports=desk.ports, narrator=response_events)
    events, body = await told(desk, kept), await now(desk, kept)
    assert is_gapless(events)
    assert [event["type"] for event in events][:3] == ["response.created", "response.queued", "response.in_progress"]
    assert (events[-1]["type"], events[-1]["response"]) == ("response.completed", body)
    assert body["status"] == "completed"


@pytest.mark.parametrize("pieces", [1, 2])
async def test_taken_over_it_goes_on_behind_what_was_told(desk: Desk, store: Store, pieces: int) -> None:
    """The second worker's answer is the same, so no event comes twice and none is left out."""
    answer = ("It is [1]. And so it goes on for some time, ", "for quite a while, [1]. And more")
    kept = await queued(desk, store)
    dying = written_by(desk.ports, Scripted(*answer[:pieces], error=DatabaseUnavailableError()))
    claimed = await take(desk, "one", lease_seconds=-1.0)
    with pytest.raises(DatabaseUnavailableError):
        await write_response(claimed, owner="one", ports=dying, narrator=response_events)
    before = await told(desk, kept)
    assert before[-1]["type"] == "response.output_text.delta"
    living = written_by(desk.ports, Scripted(*answer))
    assert await write_response(await take(desk, "two"), owner="two", ports=living, narrator=response_events)
    events = await told(desk, kept)
    assert events[: len(before)] == before
    assert is_gapless(events)
    deltas = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    body = await now(desk, kept)
    assert deltas.strip() == body["output"][-1]["content"][0]["text"]
    assert deltas.endswith("for quite a while, [1]. And more")
    assert body["status"] == "completed"


async def test_another_answer_is_not_told_behind_the_first(desk: Desk, store: Store) -> None:
    """When the second worker would contradict what was told, the response fails with that reason."""
    kept = await queued(desk, store)
    dying = written_by(
        desk.ports, Scripted("It is [1]. And so it goes on, for a while", error=DatabaseUnavailableError())
    )
    claimed = await take(desk, "one", lease_seconds=-1.0)
    with pytest.raises(DatabaseUnavailableError):
        await write_response(claimed, owner="one", ports=dying, narrator=response_events)
    other = written_by(desk.ports, Scripted("It is not [1]. "))
    await write_response(await take(desk, "two"), owner="two", ports=other, narrator=response_events)
    events, body = await told(desk, kept), await now(desk, kept)
    assert is_gapless(events)
    assert (events[-1]["type"], body["status"], body["error"]["reason"]) == ("response.failed", "failed", "broken_off")


async def test_attempts_are_bounded(desk: Desk, store: Store) -> None:
    """A part that stays away, or workers that die again and again, end it as failed."""
    kept = await queued(desk, store)
    broken = written_by(desk.ports, Scripted(error=DatabaseUnavailableError()))
    for _ in range(MAX_ATTEMPTS - 1):
        claimed = await take(desk, "one", lease_seconds=-1.0)
        with pytest.raises(DatabaseUnavailableError):
            await write_response(claimed, owner="one", ports=broken, narrator=response_events)
    await write_response(await take(desk, "two"), owner="two", ports=broken, narrator=response_events)
    body = await now(desk, kept)
    assert (body["status"], body["error"]["reason"]) == ("failed", "database_unavailable")
    dead = await queued(desk, store)
    for _ in range(MAX_ATTEMPTS):
        await take(desk, "dead", lease_seconds=-1.0)
    await write_response(await take(desk, "two"), owner="two", ports=desk.ports, narrator=response_events)
    assert (await now(desk, dead))["error"]["reason"] == "broken_off"


async def test_a_store_that_is_gone_fails_it(desk: Desk, store: Store) -> None:
    """What cannot succeed later is failed at once, with the reason."""
    kept = await queued(desk, store)
    await desk.ports.stores.delete(store.id, scope=desk.scope())
    await write_response(await take(desk, "one"), owner="one", ports=desk.ports, narrator=response_events)
    body = await now(desk, kept)
    assert (body["status"], body["error"]["reason"]) == ("failed", "not_found")
    assert is_gapless(await told(desk, kept))


async def test_a_bug_fails_it_without_showing_the_inside(desk: Desk, store: Store) -> None:
    """Not even an unexpected error leaves it stuck."""
    kept = await queued(desk, store)
    broken = written_by(desk.ports, Scripted(error=RuntimeError("a secret")))
    await write_response(await take(desk, "one"), owner="one", ports=broken, narrator=response_events)
    error = (await now(desk, kept))["error"]
    assert error["reason"] == "internal_error"
    assert "secret" not in error["message"]


async def test_cancelled_it_is_written_no_more(desk: Desk, store: Store) -> None:
    """The next event finds it ended."""
    kept = await queued(desk, store)
    claimed = await take(desk, "one")
    await desk.ports.responses.cancel(kept.id, scope=desk.scope())
    assert not await write_response(claimed, owner="one", ports=desk.ports, narrator=response_events)
    assert (await now(desk, kept))["status"] == "cancelled"


@asynccontextmanager
async def working(ports: Ports) -> AsyncIterator[asyncio.Event]:
    """A worker's part for responses, until the block ends or the event is set."""
    stop = asyncio.Event()
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        settings = Settings(lease_seconds=0.4)
        tasks.create_task(run_responses(ports, settings, stop, "worker", narrator=lambda: response_events))
        yield stop
        stop.set()


async def until(desk: Desk, kept: ModelResponse, status: str) -> None:
    """Wait for a status."""
    while (await now(desk, kept))["status"] != status:  # noqa: ASYNC110 - a catalog has no events
        await asyncio.sleep(0.02)


async def test_a_worker_finds_what_waits(desk: Desk, store: Store) -> None:
    """Several are written side by side."""
    waiting = [await queued(desk, store) for _ in range(6)]
    async with working(desk.ports):
        for kept in waiting:
            await until(desk, kept, "completed")


async def test_followers_see_every_event_while_it_is_written(ports: Ports) -> None:
    """Whoever follows from wherever, before, amid or after the writing, has each event once and in order."""
    desk = Desk(ports=ports, tenant=DEFAULT_TENANT)
    store = await desk.store()
    await desk.add(store, "The bookwheel was described by Ramelli.")
    gate, kept = asyncio.Event(), await queued(desk, store)
    transport = httpx.ASGITransport(app=create_app(ports, Settings()))
    url = f"/v1/responses/{kept.body['id']}?stream=true&include=file_search_call.results&starting_after="
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        early = [asyncio.create_task(client.get(f"{url}{after}")) for after in (-1, 4)]
        generator = Scripted("It is [1]. ", "So it is [1]. ", gate=gate)
        async with working(written_by(ports, generator)):
            await generator.began.wait()
            amid = [asyncio.create_task(client.get(f"{url}{after}")) for after in (-1, 8)]
            await asyncio.sleep(0.2)
            gate.set()
            await until(desk, kept, "completed")
        late = [asyncio.create_task(client.get(f"{url}{after}")) for after in (-1, 11)]
        texts = [(await task).text for task in (*early, *amid, *late)]
    events = await told(desk, kept)
    for text, after in zip(texts, (-1, 4, -1, 8, -1, 11), strict=True):
        data = [orjson.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
        assert data == events[after + 1 :]


async def test_a_worker_notices_a_cancel_while_it_waits(desk: Desk, store: Store) -> None:
    """Also while the generator says nothing, the run ends within a beat, and its place is free again."""
    stuck = Scripted("It is [1]. ", gate=asyncio.Event())
    kept = await queued(desk, store)
    async with working(written_by(desk.ports, stuck)):
        await stuck.began.wait()
        await desk.ports.responses.cancel(kept.id, scope=desk.scope())
        await asyncio.sleep(0.3)
        current = [task for task in asyncio.all_tasks() if "_Runner._run" in repr(task.get_coro())]
        assert [task for task in current if "run_due" not in repr(task.get_coro())] == []


async def test_a_stopping_worker_gives_it_back(desk: Desk, store: Store) -> None:
    """Another worker can take it at once, and the broken attempt does not count."""
    stuck = Scripted("It is [1]. ", gate=asyncio.Event())
    await queued(desk, store)
    async with working(written_by(desk.ports, stuck)):
        await stuck.began.wait()
    assert (await take(desk, "next")).attempts == 1
