"""The retrieve walk over ports in memory: fusion, filters, liveness, and what happens when a part is down."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from bookwheel.errors import EmbedderUnavailableError, IndexUnavailableError, UnavailableError
from bookwheel.follow import catch_up
from bookwheel.given import PACKED
from bookwheel.parts import Part
from bookwheel.ports import Embedders, Ports
from bookwheel.retrieve import retrieve
from bookwheel.testing import memory_ports
from bookwheel.testing.desk import Desk, chunks_of
from bookwheel.testing.keywords import open_to
from bookwheel.types import Found, Question, Section, Store

LINES = {
    "whale": "the blue whale is the largest animal",
    "oak": "an oak drops acorns in autumn",
    "comet": "a comet has a tail of dust and ice",
}


class Down:
    """A port whose every verb fails."""

    def __init__(self, error: type[UnavailableError]) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        async def fail(*_: object, **__: object) -> None:
            raise self.error

        return fail

    def coverage(self, text: str) -> float:
        """Asked for the weight even when no vector can be made."""
        return 1.0


@pytest.fixture
async def shelf() -> tuple[Desk, Store]:
    """A store with three documents, in both indexes."""
    desk = Desk(ports=memory_ports(), tenant=uuid4())
    store = await desk.store()
    for number, (name, text) in enumerate(LINES.items()):
        await desk.add(store, text, external_id=name, attributes={"number": number})
    while await catch_up(desk.ports):
        continue
    return desk, store


async def ask(desk: Desk, store: Store, text: str, ports: Ports | None = None, **options: Any) -> Found:
    """Search the store."""
    question = Question(text=text, **options)
    return await retrieve(question, scope=desk.scope(store), space=store.space, ports=ports or desk.ports)


def names(found: Found) -> Sequence[str | None]:
    """The documents found, best first."""
    return [hit.external_id for hit in found.hits]


async def test_the_best_passage_comes_first_with_its_scores(shelf: tuple[Desk, Store]) -> None:
    """A hit carries the fused score and what it was made of; nothing is reported as left out."""
    found = await ask(*shelf, "largest whale")
    assert names(found)[0] == "whale"
    assert found.hits[0].dense is not None
    assert found.hits[0].keyword is not None
    assert found.degraded == ()
    assert {"embed", "search.dense", "search.keyword", "fuse", "hydrate"} <= found.timings.keys()


@pytest.mark.parametrize("fusion", ["convex", "rrf"])
async def test_limit_and_threshold_cut(shelf: tuple[Desk, Store], fusion: str) -> None:
    """No more hits than wanted, none below the threshold."""
    assert len((await ask(*shelf, "a comet tail", limit=1, fusion=fusion)).hits) == 1
    strict = await ask(*shelf, "a comet tail", score_threshold=0.9, fusion=fusion)
    assert names(strict) == ["comet"]


async def test_children_of_a_section_are_one_hit() -> None:
    """It has the section's text and the score of its best child, and leaves its place to hits further behind."""
    desk = Desk(ports=memory_ports(), tenant=uuid4())
    store = await desk.store()
    text = "\n".join(f"a comet has a tail of dust {number}" for number in range(30))
    claim = await desk.claim(await desk.put(store, text, external_id="long"))
    section = Section(ordinal=0, start=0, end=len(text), text=text)
    chunks = [replace(chunk, piece=replace(chunk.piece, section=section)) for chunk in chunks_of(claim)]
    vectors = await desk.ports.embedders[store.space.id].embed([chunk.piece.text for chunk in chunks])
    await desk.ports.ingestion.write([claim], chunks)
    await desk.ports.vectors.upsert(store.space, [claim], chunks, vectors)
    await desk.ports.ingestion.publish([claim])
    await desk.add(store, "dust in autumn", external_id="other")
    found = await ask(desk, store, "a comet has a tail of dust 7", limit=2)
    assert names(found) == ["long", "other"]
    assert (found.hits[0].text, found.hits[0].start, found.hits[0].end) == (text, 0, len(text))
    assert found.hits[0].dense == pytest.approx(1.0)


async def test_a_filter_holds_for_both_sides(shelf: tuple[Desk, Store]) -> None:
    """What the filter excludes is found neither by meaning nor by words."""
    found = await ask(*shelf, "largest whale oak comet", filter={"number": {"$gte": 1}})
    assert sorted(map(str, names(found))) == ["comet", "oak"]


async def test_a_filter_on_chunks_holds_for_both_sides() -> None:
    """Of a document that matches, the chunks that do not pass take no places, with either side down."""
    desk = Desk(ports=memory_ports(), tenant=uuid4())
    store = await desk.store()
    lines = [f"the whale swims {number} miles" for number in range(150)]
    await desk.add(store, "\n".join(lines))
    while await catch_up(desk.ports):
        continue
    last = {"chunk.ordinal": {"$gte": 148}}
    for down in ({}, {"vectors": Down(IndexUnavailableError)}, {"keywords": Down(IndexUnavailableError)}):
        found = await ask(desk, store, "whale swims", replace(desk.ports, **down), filter=last)
        assert sorted(hit.ordinal for hit in found.hits) == [148, 149]


async def test_what_the_caller_may_not_read_is_not_found(shelf: tuple[Desk, Store]) -> None:
    """Neither side finds it, and its words weigh nothing in the scores of others."""
    desk, store = shelf
    before = await ask(desk, store, "acorns in autumn whale")
    oak = await desk.ports.documents.find(scope=desk.scope(store), external_id="oak")
    await desk.ports.documents.update(oak.id, scope=desk.scope(store), access=("squirrels",))
    for down in ({}, {"vectors": Down(IndexUnavailableError)}, {"keywords": Down(IndexUnavailableError)}):
        found = await ask(desk, store, "acorns in autumn whale", replace(desk.ports, **down))
        assert "oak" not in names(found)
        assert "whale" in names(found)
    by_words = (await ask(desk, store, "acorns in autumn whale", dense_weight=0.0)).hits[0]
    assert (by_words.external_id, by_words.score) == ("whale", 1.0)
    scope = replace(desk.scope(store), principals=frozenset({"squirrels"}))
    question = Question(text="acorns in autumn whale")
    again = await retrieve(question, scope=scope, space=store.space, ports=desk.ports)
    assert names(again) == names(before)


async def test_keywords_down_leaves_the_vectors(shelf: tuple[Desk, Store]) -> None:
    """The answer comes from the dense side, and says so."""
    ports = replace(shelf[0].ports, keywords=Down(IndexUnavailableError))
    found = await ask(*shelf, "largest whale", ports)
    assert names(found)[0] == "whale"
    assert found.degraded == ("search.keyword",)


async def test_vectors_down_leaves_the_keywords(shelf: tuple[Desk, Store]) -> None:
    """The answer comes from the keyword side, and says so."""
    ports = replace(shelf[0].ports, vectors=Down(IndexUnavailableError))
    found = await ask(*shelf, "largest whale", ports)
    assert names(found) == ["whale"]
    assert found.degraded == ("search.dense",)


class Waking(Part):
    """Rests when it is first asked, and not any more a moment later."""

    rested = False

    @property
    def rests(self) -> bool:
        """True once."""
        rested, self.rested = self.rested, True
        return not rested


async def test_vectors_left_alone_are_named_also_when_their_rest_ends_meanwhile(shelf: tuple[Desk, Store]) -> None:
    """No search goes without them in silence."""
    desk, store = shelf
    waking = Waking("search.dense", unavailable=IndexUnavailableError, seconds=1.0)
    ports = replace(desk.ports, parts=replace(desk.ports.parts, dense=waking))
    assert (await ask(desk, store, "whale", ports)).degraded == ("search.dense",)
    assert (await ask(desk, store, "whale", ports)).degraded == ()


async def test_embedder_down_leaves_the_keywords(shelf: tuple[Desk, Store]) -> None:
    """No vector for the question: keywords answer, and the filter still holds."""
    desk, store = shelf
    ports = replace(desk.ports, embedders={store.space.id: Down(EmbedderUnavailableError)})
    found = await ask(desk, store, "largest whale oak", ports, filter={"number": 0})
    assert names(found) == ["whale"]
    assert found.degraded == ("embed",)


async def test_both_down_is_an_error(shelf: tuple[Desk, Store]) -> None:
    """Nothing can be found: a retryable error, not an empty page."""
    ports = replace(shelf[0].ports, keywords=Down(IndexUnavailableError), vectors=Down(IndexUnavailableError))
    with pytest.raises(UnavailableError):
        await ask(*shelf, "whale", ports)


async def test_a_lagging_index_cannot_resurrect(shelf: tuple[Desk, Store]) -> None:
    """The keyword index has not heard of the delete yet; hydration has."""
    desk, store = shelf
    whale = await desk.ports.documents.find(scope=desk.scope(store), external_id="whale")
    await desk.ports.documents.delete([whale.id], scope=desk.scope(store))
    assert "whale" not in names(await ask(desk, store, "largest whale"))
    scope = desk.scope(store)
    assert await desk.ports.keywords.search("whale", scope=scope, reach=open_to(scope), limit=5)


async def test_another_tenant_finds_nothing(shelf: tuple[Desk, Store]) -> None:
    """The same store id under another tenant is empty."""
    desk, store = shelf
    stranger = Desk(ports=desk.ports, tenant=uuid4())
    assert (await ask(stranger, store, "largest whale")).hits == []


async def test_the_weight_decides_who_is_trusted(shelf: tuple[Desk, Store]) -> None:
    """All weight on words ranks by words alone."""
    found = await ask(*shelf, "acorns whale whale", dense_weight=0.0)
    best = max(found.hits, key=lambda hit: hit.keyword or 0.0)
    assert found.hits[0] == best


async def test_an_unknown_attribute_is_told_when_nothing_is_found(shelf: tuple[Desk, Store]) -> None:
    """A filter on a name that no document has matches nothing and says so; a known name or a hit gives no warning."""
    mistyped = await ask(*shelf, "whale", filter={"numbr": 1, "number": 0})
    assert (list(mistyped.hits), len(mistyped.warnings)) == ([], 1)
    assert "'numbr'" in mistyped.warnings[0]
    assert (await ask(*shelf, "whale", filter={"number": 99})).warnings == ()
    assert (await ask(*shelf, "whale", filter={"document.title": "none"})).warnings == ()
    negated = await ask(*shelf, "whale", filter={"numbr": {"$ne": 1}})
    assert (len(negated.hits) > 0, negated.warnings) == (True, ())


async def test_a_store_of_another_model_is_searched_by_keywords(shelf: tuple[Desk, Store]) -> None:
    """Its embedder is not configured; with a vector of its own a question needs none."""
    desk, store = shelf
    ports = replace(desk.ports, embedders=Embedders())
    found = await ask(desk, store, "largest whale", ports=ports)
    assert (names(found)[0], found.degraded) == ("whale", ("embed",))
    vector = (await desk.ports.embedders[store.space.id].embed(["acorns in autumn"]))[0].astype(PACKED).tobytes()
    found = await ask(desk, store, "largest whale", ports=ports, vector=vector, dense_weight=1.0)
    assert (names(found)[0], found.degraded) == ("oak", ())
