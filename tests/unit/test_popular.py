"""Questions asked again and again: what is counted, and when one is answered ahead of time."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pytest

from bookwheel import popular
from bookwheel.answer import answer
from bookwheel.errors import DatabaseUnavailableError
from bookwheel.follow import catch_up
from bookwheel.kept_answers import kept_answer
from bookwheel.popular import AT_LEAST, DAY_SECONDS, count_asked, note_asked, refresh, refresh_popular, warm
from bookwheel.ports import Ports
from bookwheel.testing import answered_by, memory_caches, memory_ports
from bookwheel.testing.desk import Desk
from bookwheel.types import Answer, AnswerPolicy, Ask, AskedQuestion, Freshness, Prompt, Question, Store

QUESTION = "Which animal is the largest?"
NEW = "The colossal squid is the largest animal."


class Counting:
    """Fills ports.Generator: the best passage; it counts what it is asked."""

    model = "counting"
    writes_json = False

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def ping(self) -> None:
        """See ports.Generator."""

    async def generate(self, prompt: Prompt) -> AsyncGenerator[str, None]:
        """See ports.Generator."""
        self.asked.append(prompt.question)
        if prompt.hits:
            yield f"{prompt.hits[0].text} [1]"


@dataclass
class Library:
    """A store, who writes, and who asks."""

    desk: Desk
    store: Store
    writer: Counting

    @property
    def ports(self) -> Ports:
        """The desk's."""
        return self.desk.ports

    async def add(self, text: str, *, external_id: str) -> None:
        """A document that every index knows."""
        await self.desk.add(self.store, text, external_id=external_id)
        while await catch_up(self.ports):
            pass

    async def ask(self) -> Answer:
        """As the API does."""
        return await answer(await an_ask(self), scope=self.desk.scope(self.store), ports=self.ports)


async def made(policy: AnswerPolicy) -> Library:
    """A library with one document, under these rules."""
    writer = Counting()
    ports = replace(answered_by(memory_ports(), writer), caches=memory_caches(policy))
    desk = Desk(ports=ports, tenant=uuid4())
    library = Library(desk, await desk.store(), writer)
    await library.add("The blue whale is the largest animal.", external_id="whale")
    return library


@pytest.fixture
async def library() -> Library:
    """Under the usual rules."""
    return await made(AnswerPolicy())


async def an_ask(library: Library, **options: Any) -> Ask:
    """As the door makes it."""
    as_of = time.time()
    store = await library.ports.stores.get(library.store.id, scope=library.desk.scope())
    freshness = Freshness(versions={store.id: store.version}, as_of=as_of)
    ask = Ask(question=Question(text=QUESTION), space=store.space, freshness=freshness)
    return replace(ask, **options)


async def counted(library: Library, times: int = 1, **options: Any) -> list[AskedQuestion]:
    """What is remembered after so many times."""
    ask = await an_ask(library, **options)
    for _ in range(times):
        count_asked(ask, scope=library.desk.scope(library.store), ports=library.ports)
    return list(library.ports.caches.asked.values())


async def noted(library: Library, times: int = AT_LEAST) -> AskedQuestion:
    """A question that was asked so often, as a worker sees it."""
    one = await library_counts(library, times)
    (found,) = await library.ports.asked.popular(limit=1, at_least=times, within_seconds=DAY_SECONDS)
    assert found.key == one.key
    return found


async def library_counts(library: Library, times: int) -> AskedQuestion:
    """Counted and written down."""
    (one,) = await counted(library, times)
    stop = asyncio.Event()
    stop.set()
    await note_asked(library.ports, stop)
    return one


async def test_what_is_asked_is_counted(library: Library) -> None:
    """Once for each way of asking, with all that is needed to ask it again."""
    await counted(library, 3)
    one, other = await counted(library, 1, max_tokens=50)
    assert (one.times, other.times, one.key == other.key) == (3, 1, False)
    assert one.request["question"]["text"] == QUESTION
    assert one.request["stores"] == [library.store.id.hex]


@pytest.mark.parametrize(
    "options",
    [
        {"freshness": None},
        {"history": [{"role": "user", "content": "Hello"}]},
        {"question": Question(text=QUESTION, vector=b"1234")},
    ],
    ids=["nothing kept", "history", "vector"],
)
async def test_what_cannot_be_kept_ready_is_not_counted(library: Library, options: dict[str, Any]) -> None:
    """What hangs on more than the question itself."""
    assert await counted(library, **options) == []


async def test_who_keeps_nothing_is_not_counted(library: Library) -> None:
    """Neither a caller with no-store nor a server without popular questions."""
    ask = await an_ask(library)
    assert ask.freshness is not None
    assert await counted(library, freshness=replace(ask.freshness, write=False)) == []
    assert await counted(await made(AnswerPolicy(popular=0))) == []


async def test_counts_are_bounded(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are known already go on."""
    monkeypatch.setattr(popular, "MOST_NOTED", 1)
    await counted(library)
    await counted(library, max_tokens=50)
    assert [one.times for one in await counted(library)] == [2]


async def test_counts_are_written_down_at_the_end_too(library: Library) -> None:
    """And begin anew; a database that is away costs the counts and nothing else."""
    one = await noted(library)
    assert (one.times, dict(library.ports.caches.asked)) == (AT_LEAST, {})


async def test_a_dead_answer_is_made_anew(library: Library) -> None:
    """Once for each time that somebody asked; the next caller gets it at once."""
    await library.ask()
    one = await noted(library)
    assert not await refresh(one, library.ports)
    await library.add(NEW, external_id="whale")
    assert await refresh(one, library.ports)
    assert len(library.writer.asked) == 2
    told = await library.ask()
    assert told.cached is not None
    assert (told.cached.kind, told.text) == ("exact", f"{NEW} [1]")
    await library.add("The lion's mane is the largest animal.", external_id="whale")
    assert not await refresh(one, library.ports)
    await library_counts(library, 1)
    assert await refresh(one, library.ports)
    assert len(library.writer.asked) == 3


async def test_an_answer_about_to_die_is_made_anew(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its time is over."""
    await library.ask()
    one = await noted(library)
    assert not await refresh(one, library.ports)
    now = time.time() + AnswerPolicy().answer_seconds - popular.AHEAD_SECONDS / 2
    monkeypatch.setattr(time, "time", lambda: now)
    assert await refresh(one, library.ports)


async def test_what_cannot_be_answered_any_more_is_left_alone(library: Library) -> None:
    """Its store is gone."""
    one = await noted(library)
    await library.ports.stores.delete(library.store.id, scope=library.desk.scope())
    assert not await refresh(one, library.ports)
    assert library.writer.asked == []


async def test_a_database_that_is_away_is_waited_for(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker goes on looking; it ends when it is told to."""
    one, looks, stop = await noted(library), list[int](), asyncio.Event()

    async def found(**_: object) -> list[AskedQuestion]:
        looks.append(1)
        if len(looks) == 1:
            raise DatabaseUnavailableError
        return [one]

    monkeypatch.setattr(library.ports.asked, "popular", found)
    monkeypatch.setattr(popular, "LOOK_SECONDS", 0.01)
    task = asyncio.create_task(refresh_popular(library.ports, stop))
    async with asyncio.timeout(10):
        while not library.writer.asked:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        stop.set()
        await task
    assert len(looks) >= 2
    assert len(library.writer.asked) == 1


async def test_nothing_is_refreshed_where_nothing_is_popular(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was counted before; what is old is forgotten all the same."""
    await noted(library)
    caches = replace(library.ports.caches, policy=AnswerPolicy(popular=0))
    ports, looks, stop = replace(library.ports, caches=caches), list[object](), asyncio.Event()

    async def forget(**options: object) -> int:
        looks.append(options)
        stop.set()
        return 0

    monkeypatch.setattr(ports.asked, "forget", forget)
    monkeypatch.setattr(popular, "LOOK_SECONDS", 0.01)
    async with asyncio.timeout(10):
        await refresh_popular(ports, stop)
    assert (len(looks), library.writer.asked) == (1, [])


async def test_a_process_warms_up(library: Library) -> None:
    """With the answers that are kept for what is popular."""
    assert await warm(library.ports) == 0
    await library.ask()
    await noted(library)
    assert await warm(library.ports) == 1
    ask = await an_ask(library)
    scope = library.desk.scope(library.store)
    assert await kept_answer(ask, model=library.writer.model, scope=scope, ports=library.ports)


async def test_one_question_that_cannot_be_asked_again_ends_nothing(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that another release wrote down in another shape: the next one is answered all the same."""
    await noted(library)
    (whole,) = await library.ports.asked.popular(limit=9, at_least=1, within_seconds=DAY_SECONDS)
    strange = replace(whole, key="strange", request={**whole.request, "question": {"unknown": 1}})
    stop = asyncio.Event()

    async def both(**_: object) -> list[AskedQuestion]:
        return [strange, whole]

    monkeypatch.setattr(library.ports.asked, "popular", both)
    monkeypatch.setattr(popular, "LOOK_SECONDS", 0.01)
    task = asyncio.create_task(refresh_popular(library.ports, stop))
    async with asyncio.timeout(10):
        while not library.writer.asked:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        stop.set()
        await task
