"""The index of the questions answered before: nearest first, shared over the cache, bounded."""

from collections.abc import Sequence
from uuid import uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from bookwheel import earlier_questions
from bookwheel.backends.memory.cache import MemoryCache
from bookwheel.earlier_questions import SharedEarlierQuestions
from bookwheel.errors import CacheUnavailableError

SECONDS = 60.0


def at(degrees: float) -> NDArray[np.float32]:
    """A unit vector of two dimensions."""
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], np.float32)


@pytest.fixture
def cache() -> MemoryCache:
    """That the processes share."""
    return MemoryCache(1 << 20)


@pytest.fixture
def questions(cache: MemoryCache) -> SharedEarlierQuestions:
    """One process's view."""
    return SharedEarlierQuestions(cache)


@pytest.fixture
def group() -> str:
    """A group of this test's own."""
    return f"questions:{uuid4().hex}"


async def add(questions: SharedEarlierQuestions, group: str, *degrees: int) -> None:
    """Questions in these directions."""
    for one in degrees:
        await questions.add(group, at(one), key=f"k{one}", question=f"q{one}", seconds=SECONDS)


async def keys(
    questions: SharedEarlierQuestions, group: str, degrees: float, *, at_least: float = 0.9, limit: int = 5
) -> Sequence[str]:
    """Of the nearest."""
    found = await questions.nearest(group, at(degrees), at_least=at_least, limit=limit)
    return [one.key for one in found]


async def test_the_nearest_come_first(questions: SharedEarlierQuestions, group: str) -> None:
    """Those above the threshold, not more than wanted, each with its cosine."""
    await add(questions, group, 0, 10, 20, 90)
    assert await keys(questions, group, 9) == ["k10", "k0", "k20"]
    assert await keys(questions, group, 9, limit=1) == ["k10"]
    assert await keys(questions, group, 60, at_least=0.99) == []
    (one,) = await questions.nearest(group, at(90), at_least=0.9, limit=5)
    assert (one.key, one.question) == ("k90", "q90")
    assert one.similarity == pytest.approx(1.0, abs=1e-3)


async def test_groups_know_nothing_of_each_other(questions: SharedEarlierQuestions, group: str) -> None:
    """So no tenant sees another's."""
    await add(questions, group, 0)
    assert await keys(questions, f"{group}x", 0) == []


async def test_what_this_process_adds_it_knows_at_once(questions: SharedEarlierQuestions, group: str) -> None:
    """However lately it looked."""
    for degrees in (0, 1, 2):
        await add(questions, group, degrees)
        assert len(await keys(questions, group, 0)) == degrees + 1


async def test_another_process_learns_it_soon(
    cache: MemoryCache, questions: SharedEarlierQuestions, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its next look, which is not at every question."""
    other = SharedEarlierQuestions(cache)
    assert await keys(other, group, 0) == []
    await add(questions, group, 0)
    assert await keys(other, group, 0) == []
    monkeypatch.setattr(earlier_questions, "LOOK_SECONDS", -1.0)
    assert await keys(other, group, 0) == ["k0"]


async def test_the_same_question_again_stands_once(questions: SharedEarlierQuestions, group: str) -> None:
    """Where it was added last."""
    await add(questions, group, 0, 1, 0)
    assert sorted(await keys(questions, group, 0)) == ["k0", "k1"]


@pytest.mark.parametrize("looks", [False, True], ids=["at once", "one by one"])
async def test_only_the_newest_stay(
    questions: SharedEarlierQuestions, group: str, monkeypatch: pytest.MonkeyPatch, looks: bool
) -> None:
    """The group is bounded in memory as well as in the cache."""
    monkeypatch.setattr(earlier_questions, "QUESTIONS", 3)
    for degrees in range(5):
        await add(questions, group, degrees)
        if looks:
            await keys(questions, group, 0)
    assert await keys(questions, group, 0) == ["k2", "k3", "k4"]
    known = questions._groups[group]
    assert len(known.entries) == len(known.vectors) == 3


async def test_a_list_that_was_lost_begins_anew(group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some time the whole is read again, from its first number."""
    cache = MemoryCache(1 << 20)
    questions = SharedEarlierQuestions(cache)
    await add(questions, group, 0, 1)
    assert len(await keys(questions, group, 0)) == 2
    questions._cache = MemoryCache(1 << 20)
    await add(questions, group, 2)
    monkeypatch.setattr(earlier_questions, "REREAD_SECONDS", -1.0)
    assert await keys(questions, group, 0) == ["k2"]


async def test_a_cache_that_is_away_is_told(
    questions: SharedEarlierQuestions, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And when it is back nothing is missing."""
    await add(questions, group, 0)
    members = questions._cache.members

    async def away(*_: object, **__: object) -> None:
        raise CacheUnavailableError

    monkeypatch.setattr(questions._cache, "members", away)
    with pytest.raises(CacheUnavailableError):
        await keys(questions, group, 0)
    monkeypatch.setattr(questions._cache, "members", members)
    monkeypatch.setattr(earlier_questions, "LOOK_SECONDS", -1.0)
    assert await keys(questions, group, 0) == ["k0"]
