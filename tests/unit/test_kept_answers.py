"""What is kept of answers and searches: who gets it, how it dies, and that going without it is no fault."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import pytest

from bookwheel.answer import answer
from bookwheel.backends.memory.cache import MemoryCache
from bookwheel.errors import CacheUnavailableError, GeneratorUnavailableError
from bookwheel.follow import catch_up
from bookwheel.ports import Ports
from bookwheel.retrieve import retrieve
from bookwheel.telemetry import CACHE_REQUESTS, DEGRADED
from bookwheel.testing import answered_by, memory_caches, memory_ports
from bookwheel.testing.desk import Desk
from bookwheel.tiers import TieredCache
from bookwheel.types import Answer, AnswerPolicy, Ask, Freshness, Prompt, Question, Scope, Store

QUESTION = "Which animal is the largest?"
SAME = "Please tell me which animal is the largest"
TEXT = "The blue whale is the largest animal."


@dataclass
class Counting:
    """A generator that counts what it is asked."""

    model: str = "counting"
    writes_json: bool = False
    asked: list[str] = field(default_factory=list)
    error: Exception | None = None
    pause: float = 0.0

    async def ping(self) -> None:
        """See ports.Generator."""

    async def generate(self, prompt: Prompt) -> AsyncGenerator[str, None]:
        """The best passage, or the error."""
        self.asked.append(prompt.question)
        await asyncio.sleep(self.pause)
        if self.error:
            raise self.error
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

    async def add(self, text: str, **options: Any) -> None:
        """A document that every index knows."""
        await self.desk.add(self.store, text, **options)
        await self.follow()

    async def follow(self) -> None:
        """Bring the keyword index up to date."""
        while await catch_up(self.ports):
            pass

    async def ask(
        self, text: str = QUESTION, *, scope: Scope | None = None, age: float = 0.0, **options: Any
    ) -> Answer:
        """Ask as the API does; `age` is how long ago the versions of the stores were read."""
        ask = Ask(question=Question(text=text), space=self.store.space, freshness=await self.freshness(age=age))
        return await answer(replace(ask, **options), scope=scope or self.desk.scope(self.store), ports=self.ports)

    async def freshness(self, *, age: float = 0.0, **options: Any) -> Freshness:
        """The store as it is now."""
        store = await self.ports.stores.get(self.store.id, scope=self.desk.scope())
        return Freshness(versions={store.id: store.version}, as_of=time.time() - age, **options)


@pytest.fixture
async def library() -> Library:
    """One document about a whale, one about an oak."""
    return await made(AnswerPolicy())


async def made(policy: AnswerPolicy) -> Library:
    """A library under these rules."""
    writer = Counting()
    ports = replace(answered_by(memory_ports(), writer), caches=memory_caches(policy))
    desk = Desk(ports=ports, tenant=uuid4())
    library = Library(desk, await desk.store(), writer)
    await library.add(TEXT, external_id="whale")
    await library.add("An oak drops acorns in autumn.", external_id="oak")
    return library


async def test_the_same_question_is_answered_once(library: Library) -> None:
    """The second answer is the first one, hits and citations included, and says so and how old it is."""
    first, second = await library.ask(), await library.ask()
    assert (first.cached, len(library.writer.asked)) == (None, 1)
    assert second.cached is not None
    assert (second.cached.kind, second.cached.question) == ("exact", QUESTION)
    assert 0 <= second.cached.age_seconds < 60
    assert (second.text, second.citations, second.sentences) == (first.text, first.citations, first.sentences)
    assert list(second.found.hits) == list(first.found.hits)
    assert (second.grounding, second.supported) == (first.grounding, first.supported)


async def test_a_question_in_other_words_is_answered_once() -> None:
    """Where it asks the same; a question near to it that asks another thing is answered anew."""
    library = await made(AnswerPolicy(similarity=0.5))  # the double's vectors know words, not meanings
    await library.ask()
    second = await library.ask(SAME)
    assert second.cached is not None
    assert (second.cached.kind, second.cached.question) == ("semantic", QUESTION)
    assert 0.5 <= second.cached.similarity < 1
    refused = CACHE_REQUESTS.labels("semantic", "refused")
    before = refused._value.get()
    assert (await library.ask("Which animal is not the largest?")).cached is None
    assert refused._value.get() == before + 1


async def test_a_threshold_of_one_compares_nothing() -> None:
    """Then only the same words are the same question."""
    library = await made(AnswerPolicy(similarity=1.0))
    await library.ask()
    assert (await library.ask(SAME)).cached is None
    assert (await library.ask()).cached is not None


async def test_each_view_and_manner_has_its_own(library: Library) -> None:
    """Another tenant, other principals, another model, other instructions, a filter, a conversation: another answer."""
    await library.ask()
    scope = library.desk.scope(library.store)
    assert (await library.ask(scope=replace(scope, principals=frozenset({"anna"})))).cached is None
    assert (await library.ask(instructions="Be brief.")).cached is None
    assert (await library.ask(max_tokens=100)).cached is None
    assert (await library.ask(question=Question(text=QUESTION, limit=3))).cached is None
    assert (await library.ask(question=Question(text=QUESTION, filter={"a": 1}))).cached is None
    assert (await library.ask(history=[{"role": "user", "content": "Hello"}])).cached is None
    assert (await library.ask()).cached is not None


async def test_an_answer_shows_its_document_as_it_is(library: Library) -> None:
    """New attributes of a document that it rests on show at once, though every passage is still there."""
    first = await library.ask()
    await library.ports.documents.update(
        first.found.hits[0].document_id, scope=library.desk.scope(library.store), attributes={"kind": "mammal"}
    )
    second = await library.ask()
    assert (second.cached, second.found.hits[0].attributes) == (None, {"kind": "mammal"})


@pytest.mark.parametrize("change", ["update", "delete", "close", "attributes"])
async def test_an_answer_dies_with_what_it_rests_on(library: Library, change: str) -> None:
    """At once, whatever the policy allows for new documents."""
    kind = Question(text=QUESTION, filter={"kind": "sea"})
    await library.add("The blue whale is the largest animal of the sea.", external_id="sea", attributes={"kind": "sea"})
    first = await library.ask(question=kind)
    documents, scope = library.ports.documents, library.desk.scope(library.store)
    (hit,) = first.found.hits
    if change == "update":
        await library.add("The largest animal is another one.", external_id="sea", attributes={"kind": "sea"})
    elif change == "delete":
        await documents.delete([hit.document_id], scope=scope)
    elif change == "close":
        await documents.update(hit.document_id, scope=scope, access=("others",))
    else:
        await documents.update(hit.document_id, scope=scope, attributes={"kind": "land"})
    second = await library.ask(question=kind)
    assert second.cached is None
    assert second.text != first.text


async def test_a_new_document_is_seen_within_the_bound(library: Library) -> None:
    """Until then the answer goes on; after it, it is made anew."""
    await library.ask(age=30.0)
    await library.add("An elephant is large too.")
    assert (await library.ask()).cached is not None
    late = await made(AnswerPolicy(fresh_seconds=60.0))
    await late.ask(age=61.0)
    await late.add("An elephant is large too.")
    assert (await late.ask()).cached is None


async def test_strictly_a_new_document_is_seen_at_once() -> None:
    """Any change of the store ends its answers."""
    library = await made(AnswerPolicy(fresh_seconds=0.0))
    await library.ask()
    assert (await library.ask()).cached is not None
    await library.add("An elephant is large too.")
    assert (await library.ask()).cached is None


async def test_the_bound_counts_from_the_last_time_that_nothing_had_changed(library: Library) -> None:
    """An answer in use that is confirmed again and again does not die with the first change."""
    await library.ask(age=50.0)
    assert (await library.ask(age=20.0)).cached is not None  # which confirms it as of 20 s ago
    library.ports.caches.asked.clear()
    await library.add("An elephant is large too.")
    entry_of_50s_ago_would_be_too_old = replace(library.ports.caches.policy, fresh_seconds=40.0)
    caches = replace(library.ports.caches, policy=entry_of_50s_ago_would_be_too_old)
    library.desk = replace(library.desk, ports=replace(library.ports, caches=caches))
    assert (await library.ask()).cached is not None


async def test_callers_may_refuse_what_is_kept(library: Library) -> None:
    """Not to read, not to write, or nothing older than they say."""
    unkept = await library.freshness(write=False)
    await library.ask(freshness=unkept)
    assert (await library.ask()).cached is None
    assert (await library.ask(freshness=await library.freshness(read=False))).cached is None
    assert (await library.ask(freshness=await library.freshness(max_age_seconds=-1.0))).cached is None
    assert (await library.ask(freshness=await library.freshness(max_age_seconds=60.0))).cached is not None


async def test_what_an_index_does_not_know_yet_is_not_kept(library: Library) -> None:
    """The keyword index comes a moment later than the catalog; an answer made meanwhile would miss the new document
    for as long as answers are kept."""
    await library.desk.add(library.store, "The largest animal is the blue whale, says another.")
    await library.ask()
    assert (await library.ask()).cached is None
    await library.follow()
    await library.ask()
    assert (await library.ask()).cached is not None


async def test_an_answer_with_a_part_left_out_is_not_kept(library: Library) -> None:
    """The next one may have it whole."""
    library.writer.error = GeneratorUnavailableError()
    broken = await library.ask()
    assert (broken.degraded, broken.model) == (("generate",), "bookwheel-extractive")
    library.writer.error = None
    whole = await library.ask()
    assert (whole.cached, whole.degraded) == (None, ())


async def test_without_a_cache_everything_goes_on(library: Library) -> None:
    """It is counted, and nothing else happens."""

    class Away:
        """A cache that is away."""

        name = "away"

        def __getattr__(self, verb: str) -> Any:
            async def fail(*_: object, **__: object) -> None:
                raise CacheUnavailableError

            return fail

    caches = replace(library.ports.caches, cache=Away())  # type: ignore[arg-type]
    library.desk = replace(library.desk, ports=replace(library.ports, caches=caches))
    before = DEGRADED.labels("cache")._value.get()
    assert (await library.ask()).text == (await library.ask()).text
    assert len(library.writer.asked) == 2
    assert DEGRADED.labels("cache")._value.get() > before


async def test_a_search_is_kept_until_its_store_changes(library: Library) -> None:
    """The same hits with the same scores; any change of the store ends it, so that what is new is found at once."""

    async def search() -> Any:
        scope, freshness = library.desk.scope(library.store), await library.freshness()
        question = Question(text="largest animal")
        return await retrieve(
            question, scope=scope, space=library.store.space, ports=library.ports, freshness=freshness
        )

    first, second = await search(), await search()
    assert (first.cached, second.cached.kind) == (None, "search")
    assert list(second.hits) == list(first.hits)
    await library.add("The largest animal of all is new.")
    third = await search()
    assert third.cached is None
    assert len(third.hits) == len(first.hits) + 1


@pytest.mark.parametrize("entry", [b"{not json", b"[]", b"{}", b'{"at": "x"}', b'{"at": 1, "answer": {"found": 7}}'])
async def test_a_damaged_entry_is_none(library: Library, entry: bytes) -> None:
    """Whatever a shared cache gives back: damaged, or of another release."""
    await library.ask()
    cache = library.ports.caches.cache
    held = [key for _, key in cache._held if key.startswith("answer:")]  # type: ignore[attr-defined]
    await cache.put(dict.fromkeys(held, entry), seconds=60)
    assert (await library.ask()).cached is None


async def test_many_who_ask_the_same_at_once_cost_one_answer(library: Library) -> None:
    """The others wait for the first; when it fails, each asks for itself."""
    library.writer.pause = 0.05
    answers = await asyncio.gather(*(library.ask() for _ in range(10)))
    assert len(library.writer.asked) == 1
    assert {one.text for one in answers} == {f"{TEXT} [1]"}
    assert not library.ports.caches.pending
    library.writer.asked.clear()
    library.writer.error = GeneratorUnavailableError()
    answers = await asyncio.gather(*(library.ask("What is an oak?") for _ in range(3)))
    assert len(library.writer.asked) == 3
    assert {one.degraded for one in answers} == {("generate",)}


async def test_what_another_process_made_anew_is_found(library: Library) -> None:
    """A dead answer that this process still holds does not hide a newer one that all share."""
    shared = MemoryCache(1 << 24)
    policy = replace(library.ports.caches.policy, fresh_seconds=0.0)

    def process() -> Library:
        caches = replace(memory_caches(policy), cache=TieredCache(MemoryCache(1 << 24), shared))
        return Library(replace(library.desk, ports=replace(library.ports, caches=caches)), library.store, Counting())

    one, other = process(), process()
    await one.ask()
    assert (await other.ask()).cached is not None
    await library.add("An elephant is large too.")
    assert (await one.ask()).cached is None
    anew = await other.ask()
    assert anew.cached is not None
    assert "An elephant is large too." in {hit.text for hit in anew.found.hits}


async def test_other_settings_have_other_answers(library: Library) -> None:
    """Such as another server behind the same model name, or another reranker."""
    await library.ask()
    caches = library.ports.caches
    other = replace(caches, policy=replace(caches.policy, manner="other"))
    library.desk = replace(library.desk, ports=replace(library.ports, caches=other))
    assert (await library.ask()).cached is None


async def test_nothing_is_kept_while_the_keyword_index_is_rebuilt(library: Library) -> None:
    """Though this process has seen it hold the same version of the store before."""
    await library.ask()
    await library.ports.keywords.reset(0)
    await library.ask("What does an oak drop?")
    assert (await library.ask("What does an oak drop?")).cached is None
