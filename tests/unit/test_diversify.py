"""The smallest set of passages that answers: pure functions over hits."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bookwheel.diversify import collapse, cut_tail, mmr
from bookwheel.testing.doubles import a_hit
from bookwheel.types import Hit

WHALE = "The blue whale is the largest animal that has ever lived, and it eats four tonnes of krill every day."
MILL = "A windmill turns the power of the wind into the turning of a heavy millstone that grinds the corn."
REPORT = "In the year that ended in December {year} the company's revenue from services grew and its costs fell a lot."


def at(text: str, *, document: int, start: int = 0, score: float = 1.0) -> Hit:
    """A hit with an id of its own."""
    return replace(a_hit(text, document=document, start=start, score=score), chunk_id=1000 * document + start)


def left_out(hits: list[Hit], vectors: dict[int, NDArray[np.float32]] | None = None) -> list[tuple[int, ...]]:
    """For each passage that stays its place, then the places that it stands for."""
    places = {hit.chunk_id: place for place, hit in enumerate(hits)}
    groups = collapse(hits, vectors=vectors)
    return [tuple(places[hit.chunk_id] for hit in (group.hit, *group.copies)) for group in groups]


def unit(*numbers: float) -> NDArray[np.float32]:
    """A vector of length one."""
    return np.array(numbers, np.float32) / np.linalg.norm(numbers).astype(np.float32)


def test_copies_over_documents_collapse() -> None:
    """The best stays and remembers the others, also where case, punctuation or a few words differ."""
    edited = WHALE.upper().replace(",", " -").replace("EVERY DAY", "A DAY")
    hits = [at(WHALE, document=1), at(MILL, document=2), at(WHALE, document=3), at(edited, document=4)]
    assert left_out(hits) == [(0, 2, 3), (1,)]


def test_a_part_of_a_passage_collapses_into_it_but_not_the_other_way_round() -> None:
    """The longer one may hold the answer."""
    whole, part = at(f"{MILL} {WHALE}", document=1), at(WHALE, document=2)
    assert left_out([whole, part]) == [(0, 1)]
    assert left_out([part, whole]) == [(0,), (1,)]


def test_numbers_tell_passages_apart() -> None:
    """Reports of two years stay, whatever their words and vectors."""
    hits = [at(REPORT.format(year=year), document=place) for place, year in enumerate((2023, 2024, 2023))]
    assert left_out(hits, {hit.chunk_id: unit(1, 0) for hit in hits}) == [(0, 2), (1,)]


def test_neighbours_that_overlap_little_stay() -> None:
    """An eighth in common, as chunks have, is no reason."""
    text = f"{WHALE} {MILL} {REPORT}"
    hits = [at(text[:200], document=1), at(text[175:], document=1, start=175)]
    assert left_out(hits) == [(0,), (1,)]


def test_a_passage_that_its_neighbours_cover_collapses() -> None:
    """With an overlap of half, the first and the last have all that the one between them says."""
    text = f"{WHALE} {MILL} {REPORT}"
    half = len(text) // 2
    spans = [(0, half), (half, len(text)), (half - 90, half + 80)]
    hits = [at(text[start:end], document=1, start=start) for start, end in spans]
    assert left_out(hits) == [(0, 2), (1,)]
    apart = [replace(hit, version=place) for place, hit in enumerate(hits)]
    assert left_out(apart) == [(0,), (1,), (2,)]


def test_vectors_tell_of_copies_that_words_do_not() -> None:
    """From a cosine of .98, where both have a vector."""
    hits = [at("It is large.", document=1), at("The thing is big.", document=2), at("A dog barks.", document=3)]
    vectors = {hits[0].chunk_id: unit(1, 0), hits[1].chunk_id: unit(1, 0.1), hits[2].chunk_id: unit(1, 0.5)}
    assert left_out(hits, vectors) == [(0, 1), (2,)]
    assert left_out(hits, {hits[0].chunk_id: unit(1, 0)}) == [(0,), (1,), (2,)]


def test_characters_are_words_where_there_are_no_spaces() -> None:
    """Japanese copies collapse; passages with a few characters in common do not."""
    hits = [
        at("シロナガスクジラは最大の動物です。", document=1),
        at("シロナガスクジラは最大の動物です", document=2),
        at("風車は風の力を臼の回転に変える。", document=3),
    ]
    assert left_out(hits) == [(0, 1), (2,)]


TEXTS = st.lists(
    st.lists(st.sampled_from(["whale", "mill", "wind", "corn", "1", "2"]), max_size=12).map(" ".join), max_size=8
)


@given(TEXTS)
def test_every_hit_is_in_one_group_and_the_order_is_kept(texts: list[str]) -> None:
    """Nothing is lost, nothing twice; a passage stands only for ones behind it; collapsing again changes nothing."""
    hits = [at(text, document=number) for number, text in enumerate(texts)]
    groups = left_out(hits)
    assert sorted(place for group in groups for place in group) == list(range(len(hits)))
    assert [group[0] for group in groups] == sorted(group[0] for group in groups)
    assert all(list(group) == sorted(group) for group in groups)
    kept = [group.hit for group in collapse(hits)]
    assert [group.hit for group in collapse(kept)] == kept


@given(TEXTS)
def test_no_number_is_lost(texts: list[str]) -> None:
    """Whatever collapses, each number of the hits still stands in a passage that stays."""
    hits = [at(text, document=number) for number, text in enumerate(texts)]
    kept = " ".join(group.hit.text for group in collapse(hits)).split()
    assert {word for text in texts for word in text.split() if word.isdigit()} <= set(kept)


def ranked(*scores: float) -> list[Hit]:
    """Hits with these scores and different texts."""
    return [at(f"text {number} " * 5, document=number, score=score) for number, score in enumerate(scores)]


def test_mmr_prefers_what_is_new() -> None:
    """The copy of the first comes behind a lesser passage that says something else."""
    hits = [at(WHALE, document=1, score=1.0), at(WHALE, document=2, score=0.9), at(MILL, document=3, score=0.6)]
    assert [hit.document_id.int for hit in mmr(hits, balance=0.5, limit=3)] == [1, 3, 2]
    assert [hit.document_id.int for hit in mmr(hits, balance=0.5, limit=2)] == [1, 3]
    vectors = {hits[0].chunk_id: unit(1, 0), hits[1].chunk_id: unit(0, 1), hits[2].chunk_id: unit(1, 0)}
    assert [hit.document_id.int for hit in mmr(hits, balance=0.5, limit=3, vectors=vectors)] == [1, 2, 3]


def test_mmr_is_the_formula() -> None:
    """balance x score - (1 - balance) x highest cosine to the chosen."""
    hits = ranked(0.9, 0.8, 0.7)
    rows = [unit(1, 0), unit(1, 1), unit(0, 1)]
    vectors = {hit.chunk_id: row for hit, row in zip(hits, rows, strict=True)}
    # second: .7 x .8 - .3 x .707 = .348 against .7 x .7 - 0 = .49
    assert [hit.score for hit in mmr(hits, balance=0.7, limit=3, vectors=vectors)] == [0.9, 0.7, 0.8]
    # .95 x .8 - .05 x .707 = .725 against .95 x .7 = .665
    assert [hit.score for hit in mmr(hits, balance=0.95, limit=3, vectors=vectors)] == [0.9, 0.8, 0.7]


@given(st.lists(st.floats(0, 1), max_size=8), st.integers(0, 10))
def test_mmr_with_a_balance_of_1_keeps_the_order(scores: list[float], limit: int) -> None:
    """Nothing is weighed against the scores."""
    hits = ranked(*sorted(scores, reverse=True))
    assert mmr(hits, balance=1.0, limit=limit) == hits[:limit]


@given(TEXTS, st.floats(0, 1))
def test_mmr_loses_nothing(texts: list[str], balance: float) -> None:
    """With room for all, all are there, the best first."""
    hits = [at(text, document=number, score=1 - number / 10) for number, text in enumerate(texts)]
    chosen = mmr(hits, balance=balance, limit=len(hits))
    assert sorted(chosen, key=lambda hit: hit.chunk_id) == hits
    assert chosen[:1] == hits[:1] or balance == 0


@pytest.mark.parametrize(("share", "kept"), [(0.0, 6), (0.4, 5), (0.5, 4), (0.9, 3), (1.0, 3)])
def test_the_tail_is_cut_by_the_share_of_the_best(share: float, kept: int) -> None:
    """Never below three."""
    hits = ranked(0.8, 0.6, 0.5, 0.4, 0.35, 0.1)
    assert cut_tail(hits, share=share) == hits[:kept]


def test_nothing_has_no_tail() -> None:
    """Empty in, empty out."""
    assert cut_tail([], share=0.5) == []
    assert collapse([]) == []
    assert mmr([], balance=0.5, limit=3) == []
