"""The order of hits: judged by a reranker beside the search's own score, without copies, and whole without it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from bookwheel.errors import RerankerUnavailableError
from bookwheel.follow import catch_up
from bookwheel.ranking import RERANK_WEIGHT, RERANKED, candidates
from bookwheel.retrieve import retrieve
from bookwheel.telemetry import DEGRADED
from bookwheel.testing import HashEmbedder, memory_ports
from bookwheel.testing.desk import Desk
from bookwheel.types import Found, Question, Store

QUERY = "the largest animal"
TEXTS = {
    "whale": "the blue whale is the largest animal of the sea and it eats krill all day long",
    "copy": "the blue whale is the largest animal of the sea and it eats krill all day long",
    "elephant": "on land the elephant is the largest animal and it drinks from the river",
    "oak": "an oak is the largest tree and drops acorns in autumn",
}


class Judge:
    """Fills ports.Reranker: what holds the favourite word is best."""

    model = "judge"
    reads_as_embedder = False

    def __init__(self, favourite: str, *, error: Exception | None = None) -> None:
        self.favourite, self.error = favourite, error
        self.judged: list[Sequence[str]] = []

    async def rerank(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """See ports.Reranker."""
        self.judged.append(texts)
        if self.error:
            raise self.error
        return [float(self.favourite in text) for text in texts]


@pytest.fixture
async def shelf() -> tuple[Desk, Store]:
    """A store with these texts, in both indexes."""
    desk = Desk(ports=memory_ports(), tenant=uuid4())
    store = await desk.store()
    for name, text in TEXTS.items():
        await desk.add(store, text, external_id=name)
    while await catch_up(desk.ports):
        continue
    return desk, store


async def found(shelf: tuple[Desk, Store], judge: Judge | None = None, **options: Any) -> Found:
    """A search of the store."""
    desk, store = shelf
    ports = desk.ports if judge is None else replace(desk.ports, reranker=judge)
    question = Question(text=QUERY, **options)
    return await retrieve(question, scope=desk.scope(store), space=store.space, ports=ports)


def names(found: Found) -> list[str | None]:
    """The caller's ids of the hits."""
    return [hit.external_id for hit in found.hits]


async def test_a_reranker_has_a_say(shelf: tuple[Desk, Store]) -> None:
    """Beside the fused score, in the share that its weight gives; the timing says that it was asked."""
    before = {hit.chunk_id: hit.score for hit in (await found(shelf)).hits}
    judged = await found(shelf, Judge("elephant"), rerank=True)
    assert names(judged)[0] == "elephant"
    assert "rerank" in judged.timings
    for hit in judged.hits:
        said = float(hit.external_id == "elephant")
        expected = (before[hit.chunk_id] + RERANK_WEIGHT * said) / (1 + RERANK_WEIGHT)
        assert hit.score == pytest.approx(expected)
    assert [hit.score for hit in judged.hits] == sorted((hit.score for hit in judged.hits), reverse=True)


async def test_it_is_asked_only_when_wanted(shelf: tuple[Desk, Store]) -> None:
    """A search costs nothing more."""
    judge = Judge("elephant")
    await found(shelf, judge)
    assert judge.judged == []


async def test_it_judges_more_than_are_shown(shelf: tuple[Desk, Store]) -> None:
    """What a limit would have hidden can come first."""
    judge = Judge("krill")
    assert names(await found(shelf, limit=1)) == ["elephant"]
    assert names(await found(shelf, judge, rerank=True, limit=1))[0] in ("whale", "copy")
    assert len(judge.judged[0]) == len(TEXTS)


async def test_a_reranker_that_is_away_is_left_out(shelf: tuple[Desk, Store]) -> None:
    """The fused order stands, and the answer and the metric say so."""
    before = DEGRADED.labels("rerank")._value.get()
    judged = await found(shelf, Judge("oak", error=RerankerUnavailableError()), rerank=True)
    plain = await found(shelf)
    assert names(judged) == names(plain)
    assert (judged.degraded, plain.degraded) == (("rerank",), ())
    assert DEGRADED.labels("rerank")._value.get() == before + 1


async def test_copies_are_left_out_for_diversity(shelf: tuple[Desk, Store]) -> None:
    """One of the two stays; without diversity both come."""
    plain, distinct = await found(shelf), await found(shelf, diversity=1.0)
    assert {"whale", "copy"} <= set(names(plain))
    assert len({"whale", "copy"} & set(names(distinct))) == 1
    assert {"elephant", "oak"} <= set(names(distinct))


async def test_a_copy_leaves_its_place_to_another(shelf: tuple[Desk, Store]) -> None:
    """As many as wanted come, as long as there are so many."""
    assert len((await found(shelf, diversity=1.0, limit=3)).hits) == 3


async def test_novelty_changes_the_order(shelf: tuple[Desk, Store]) -> None:
    """The best one stays first, whatever the balance."""
    for balance in (0.0, 0.5, 1.0):
        assert names(await found(shelf, diversity=balance))[0] in ("whale", "copy", "elephant")
    assert names(await found(shelf, diversity=0.0, limit=2))[1] == "oak"


async def test_both_together(shelf: tuple[Desk, Store]) -> None:
    """First judged, then made various."""
    both = await found(shelf, Judge("elephant"), rerank=True, diversity=1.0)
    assert names(both)[0] == "elephant"
    assert len(both.hits) == 3


async def test_nothing_found_is_not_judged(shelf: tuple[Desk, Store]) -> None:
    """There is nothing to ask."""
    judge = Judge("oak")
    empty = await found(shelf, judge, rerank=True, diversity=0.5, filter={"type": "eq", "key": "a", "value": 1})
    assert (list(empty.hits), judge.judged) == ([], [])


def test_how_many_are_looked_at() -> None:
    """Never fewer than wanted."""
    assert candidates(Question(text=QUERY, limit=3)) == 3
    assert candidates(Question(text=QUERY, limit=3, rerank=True)) == RERANKED
    assert candidates(Question(text=QUERY, limit=3, diversity=1.0)) == RERANKED
    assert candidates(Question(text=QUERY, limit=50, rerank=True)) == 50


@pytest.mark.parametrize("reads_as_embedder", [False, True])
async def test_a_language_that_the_embedder_does_not_know(shelf: tuple[Desk, Store], reads_as_embedder: bool) -> None:
    """Silences only a reranker that reads with the embedder's model; another one may know it well."""

    class Foreign(HashEmbedder):
        """Knows no word of any text."""

        def coverage(self, text: str) -> float:
            """None of it."""
            return 0.0

    desk, store = shelf
    judge = Judge("oak")
    judge.reads_as_embedder = reads_as_embedder
    ports = replace(desk.ports, reranker=judge, embedders={store.space.id: Foreign()})
    fused = await found((replace(desk, ports=ports), store))
    judged = await found((replace(desk, ports=ports), store), rerank=True)
    scores = ({hit.external_id: hit.score for hit in one.hits}["oak"] for one in (fused, judged))
    before, after = scores
    assert (after == pytest.approx(before)) == reads_as_embedder
