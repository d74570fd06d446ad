"""The smallest set of passages that answers: copies collapsed, variety by MMR, the tail cut. Pure and deterministic.

Each takes hits best first, and vectors by chunk id where the caller has them. What may be left out is decided so that
no answer goes with it: a passage goes only when others say what it says, its numbers included.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from bookwheel.sentences import words
from bookwheel.types import Hit

Vectors = Mapping[int, NDArray[np.float32]]  # unit vectors by chunk id; some may be missing

SHINGLE = 4  # words in a row
CONTAINED = 0.8  # share of a passage's shingles, or characters, that another has from which it says nothing new
SAME = 0.98  # cosine from which two passages say the same
LEAST = 3  # passages that the tail's cut leaves

_Shingles = frozenset[tuple[str, ...]]
_Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A passage and what it stands for."""

    hit: Hit
    copies: tuple[Hit, ...] = ()  #: left out for it, best first


@dataclass(slots=True)
class _Kept:
    """What the passages kept so far say."""

    groups: list[tuple[Hit, list[Hit]]] = field(default_factory=list)
    numbers: list[frozenset[str]] = field(default_factory=list)
    having: dict[tuple[str, ...], list[int]] = field(default_factory=lambda: defaultdict(list))  #: groups by shingle
    spans: dict[tuple[UUID, int], list[tuple[_Span, int]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, hit: Hit, said: Sequence[str]) -> None:
        """One more passage of these words."""
        number = len(self.groups)
        for shingle in _shingles(said):
            self.having[shingle].append(number)
        self.spans[hit.document_id, hit.version].append(((hit.start, hit.end), number))
        self.numbers.append(_numbers(said))
        self.groups.append((hit, []))


def collapse(hits: Sequence[Hit], *, vectors: Vectors | None = None) -> list[Group]:
    """Leave out passages that say nothing new, in order: of each kind the best stays and remembers the others.

    One says nothing new when most of its shingles are in one passage before it, whatever the document; when passages
    before it cover most of its characters in the same document; or when its vector is that of a passage before it. The
    first and the last need all its numbers in that passage: reports of two years differ in nothing else.
    """
    kept = _Kept()
    for hit in hits:
        said = [word for word, _, _ in words(hit.text)]
        known = _known(hit, said, kept, vectors or {})
        if known is None:
            kept.add(hit, said)
        else:
            kept.groups[known][1].append(hit)
    return [Group(hit=hit, copies=tuple(copies)) for hit, copies in kept.groups]


def mmr(hits: Sequence[Hit], *, balance: float, limit: int, vectors: Vectors | None = None) -> list[Hit]:
    """Maximal marginal relevance: `limit` hits, each the best by balance x score - (1 - balance) x likeness to those
    chosen before. A `balance` of 1 keeps the order. Likeness is the cosine where both have a vector, else the share of
    common shingles."""
    likeness = _likeness(hits, vectors or {})
    closest = np.zeros(len(hits))
    scores = np.array([hit.score for hit in hits])
    left = np.ones(len(hits), np.bool_)
    chosen: list[Hit] = []
    while left.any() and len(chosen) < limit:
        worth = np.where(left, balance * scores - (1.0 - balance) * closest, -np.inf)
        best = int(worth.argmax())  # the first of equals
        left[best] = False
        chosen.append(hits[best])
        closest = np.maximum(closest, likeness[best])
    return chosen


def cut_tail(hits: Sequence[Hit], *, share: float, least: int = LEAST) -> list[Hit]:
    """The hits that score at least `share` of the best, and the first `least` anyway. A share of 0 keeps all."""
    floor = share * max((hit.score for hit in hits), default=0.0)
    return [hit for place, hit in enumerate(hits) if place < least or hit.score >= floor]


def _known(hit: Hit, said: Sequence[str], kept: _Kept, vectors: Vectors) -> int | None:
    """The group that says what this passage says."""
    covering = _covering(hit, kept)
    if covering is not None:
        return covering
    numbers = _numbers(said)
    likely = (*_containing(_shingles(said), kept), *_same(hit, kept, vectors))
    return next((group for group in likely if numbers <= kept.numbers[group]), None)


def _containing(shingles: _Shingles, kept: _Kept) -> list[int]:
    """Groups whose passage has most of these shingles, those with the most first."""
    counts = Counter(group for shingle in shingles for group in kept.having.get(shingle, ()))
    enough = [group for group, count in counts.items() if count >= CONTAINED * len(shingles)]
    return sorted(enough, key=lambda group: (-counts[group], group))


def _covering(hit: Hit, kept: _Kept) -> int | None:
    """The group with the longest common stretch, when most of the passage's stretch of its document is kept."""
    common = {
        group: (max(start, hit.start), min(end, hit.end))
        for (start, end), group in kept.spans.get((hit.document_id, hit.version), ())
        if start < hit.end and hit.start < end
    }
    if not common or _length(common.values()) < CONTAINED * (hit.end - hit.start):
        return None
    return max(common, key=lambda group: (common[group][1] - common[group][0], -group))


def _length(spans: Iterable[_Span]) -> int:
    """Characters in any of the spans."""
    total = reached = 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _same(hit: Hit, kept: _Kept, vectors: Vectors) -> list[int]:
    """Groups whose passage has the same vector."""
    own = vectors.get(hit.chunk_id)
    if own is None:
        return []
    others = ((group, vectors.get(one.chunk_id)) for group, (one, _) in enumerate(kept.groups))
    return [group for group, other in others if other is not None and float(own @ other) >= SAME]


def _likeness(hits: Sequence[Hit], vectors: Vectors) -> NDArray[np.float64]:
    """(hits, hits), 0 to 1."""
    places = [place for place, hit in enumerate(hits) if hit.chunk_id in vectors]
    made = np.zeros((len(hits), len(hits))) if len(places) == len(hits) else _common_shares(hits)
    if places:
        rows = np.stack([vectors[hits[place].chunk_id] for place in places])
        made[np.ix_(places, places)] = np.clip(rows @ rows.T, 0.0, 1.0)
    return made


def _common_shares(hits: Sequence[Hit]) -> NDArray[np.float64]:
    shingles = [_shingles([word for word, _, _ in words(hit.text)]) for hit in hits]
    return np.array([[_jaccard(one, other) for other in shingles] for one in shingles])


def _jaccard(one: _Shingles, other: _Shingles) -> float:
    common = len(one & other)
    return common / (len(one) + len(other) - common) if common else 0.0


def _shingles(said: Sequence[str]) -> _Shingles:
    """Runs of SHINGLE words; a shorter text is one run."""
    return frozenset(tuple(said[start : start + SHINGLE]) for start in range(max(1, len(said) - SHINGLE + 1)))


def _numbers(said: Sequence[str]) -> frozenset[str]:
    return frozenset(word for word in said if any(map(str.isdigit, word)))
