"""Fusion is a pure function of two rankings."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookwheel.fuse import fuse
from bookwheel.types import Candidate


def ranking(**scores: float) -> list[Candidate]:
    """Candidates a, b, c … as ids 0, 1, 2 …, best first."""
    made = [Candidate(chunk_id=ord(name) - ord("a"), score=score) for name, score in scores.items()]
    return sorted(made, key=lambda candidate: -candidate.score)


def ids(dense: list[Candidate], keyword: list[Candidate], **options: object) -> list[int]:
    """The fused order."""
    return [fused.chunk_id for fused in fuse(dense, keyword, **options)]  # type: ignore[arg-type]


def test_convex_is_the_weighted_sum_of_normalised_scores() -> None:
    """BM25 is divided by its maximum, cosines are min-max scaled over the union."""
    fused = fuse(ranking(a=0.9, b=0.5, c=0.1), ranking(c=10.0, b=5.0), dense_weight=0.5)
    assert {one.chunk_id: one.score for one in fused} == pytest.approx({0: 0.5, 1: 0.5, 2: 0.5})


def test_an_exact_cosine_of_a_keyword_hit_counts() -> None:
    """A passage that only keywords found is ranked by its true cosine, not as the worst."""
    dense = ranking(a=0.9, b=0.85, c=0.1)
    assert ids(dense, ranking(b=10.0, c=10.0))[0] == 1


def test_one_side_alone_keeps_its_order() -> None:
    """Without the other side the order is that of the side that answers, with scores from 0 to 1."""
    assert ids(ranking(a=0.2, b=0.8), []) == [1, 0]
    assert ids([], ranking(a=3.0, b=1.0)) == [0, 1]
    assert fuse([], ranking(a=3.0))[0].score == 1.0


def test_a_candidate_alone_is_the_best() -> None:
    """Its score does not depend on there being another one; nor do those of passages that are all alike."""
    assert fuse(ranking(a=0.3), [])[0].score == pytest.approx(1.0)
    assert fuse(ranking(a=0.3), ranking(a=2.0), dense_weight=1.0)[0].score == pytest.approx(1.0)
    assert [one.score for one in fuse(ranking(a=0.3, b=0.3), [])] == pytest.approx([1.0, 1.0])
    assert [one.score for one in fuse(ranking(a=0.3), ranking(b=2.0), dense_weight=0.5)] == pytest.approx([0.5, 0.5])


def test_rrf_adds_reciprocal_ranks() -> None:
    """First in both lists is 1; a passage in both beats one in a single list."""
    fused = fuse(ranking(a=0.9, b=0.8), ranking(b=7.0, a=6.0, c=1.0), method="rrf")
    assert [one.chunk_id for one in fused] == [0, 1, 2]
    assert fuse(ranking(a=0.9), ranking(a=7.0), method="rrf")[0].score == pytest.approx(1.0)


def placed(chunk_id: int, score: float, *, document: int, ordinal: int) -> Candidate:
    """A candidate that says where it stands."""
    return Candidate(chunk_id=chunk_id, score=score, document_id=UUID(int=document), ordinal=ordinal)


def test_neighbouring_passages_share_what_they_found() -> None:
    """Meaning found in one passage and words in the next beat a document that has a little of both."""
    dense = [
        placed(1, 1.0, document=1, ordinal=0),
        placed(2, 0.0, document=1, ordinal=1),
        placed(3, 0.6, document=2, ordinal=0),
    ]
    keyword = [Candidate(chunk_id=2, score=10.0), Candidate(chunk_id=3, score=6.0)]
    assert [fused.chunk_id for fused in fuse(dense, keyword)][:2] == [1, 2]


def test_passages_far_apart_share_nothing() -> None:
    """A long document gains nothing from words on another page of it."""
    dense = [
        placed(1, 1.0, document=1, ordinal=0),
        placed(2, 0.0, document=1, ordinal=900),
        placed(3, 0.6, document=2, ordinal=0),
    ]
    keyword = [Candidate(chunk_id=2, score=10.0), Candidate(chunk_id=3, score=6.0)]
    assert next(fused.chunk_id for fused in fuse(dense, keyword)) == 3


@given(
    st.dictionaries(st.integers(0, 30), st.floats(-1, 1), max_size=20),
    st.dictionaries(st.integers(0, 30), st.floats(0, 50), max_size=20),
    st.sampled_from(["convex", "rrf"]),
    st.floats(0, 1),
)
def test_every_candidate_comes_out_once_with_a_score_in_range(
    dense: dict[int, float], keyword: dict[int, float], method: str, weight: float
) -> None:
    """Nothing is lost, nothing twice, best first, scores 0 to 1, raw scores kept."""
    fused = fuse(
        [Candidate(chunk_id=key, score=value) for key, value in dense.items()],
        [Candidate(chunk_id=key, score=value) for key, value in keyword.items()],
        method=method,  # type: ignore[arg-type]
        dense_weight=weight,
    )
    assert sorted(one.chunk_id for one in fused) == sorted(dense.keys() | keyword.keys())
    assert all(-1e-9 <= one.score <= 1 + 1e-9 for one in fused)
    assert [one.score for one in fused] == sorted((one.score for one in fused), reverse=True)
    assert all(one.dense == dense.get(one.chunk_id) and one.keyword == keyword.get(one.chunk_id) for one in fused)
