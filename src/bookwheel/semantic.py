"""The strategy `semantic`: passages end where the meaning turns.

Groups of sentences are embedded, and neighbours that are farther apart than most neighbours of the document are
separated. So every text is embedded about twice, once in groups and once in passages: ingestion takes twice as long.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bookwheel.chunk import with_context
from bookwheel.ports import Embedder, Vectors
from bookwheel.types import Chunking, CutText, Piece

FAR = 80  # percentile of the document's distances so far from which on two neighbours are separated
WINDOW = 2048  # groups looked at together: a document of up to some 100 pages is measured as a whole
MIN_SHARE = 0.25  # of a passage's size below which no turn ends it


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """A group of sentences that is part of a passage to be."""

    piece: Piece
    tokens: int
    distance: float  #: to the group before it: 0 to 2, and infinite where the two must not be joined


class Joiner:
    """Joins the groups of one document, bounded memory whatever its length."""

    def __init__(self, embedder: Embedder, chunking: Chunking, title: str | None) -> None:
        self._embedder = embedder
        self._size = chunking.max_tokens
        self._title = title
        self._held: list[_Group] = []
        self._last: tuple[Piece, NDArray[np.float32]] | None = None
        self._distances: list[float] = []

    async def joined(self, stream: AsyncIterator[CutText]) -> AsyncGenerator[CutText, None]:
        """The passages made of the groups in the stream."""
        async for cut in stream:
            await self._take(cut.pieces)
            title = self._title or cut.title
            done = self._passages(title, last=False) if len(self._held) >= WINDOW else []
            yield replace(cut, pieces=done)
        if self._held:
            yield replace(cut, pieces=self._passages(title, last=True))

    async def _take(self, pieces: Sequence[Piece]) -> None:
        if not pieces:
            return
        vectors = await self._embedder.embed([piece.text for piece in pieces])
        counts = self._embedder.token_counts([piece.text for piece in pieces])
        for piece, tokens, distance in zip(pieces, counts, self._measured(pieces, vectors), strict=True):
            self._held.append(_Group(piece=piece, tokens=tokens, distance=distance))

    def _measured(self, pieces: Sequence[Piece], vectors: Vectors) -> list[float]:
        """The distance of each group to the one before it."""
        found = []
        for piece, vector in zip(pieces, vectors, strict=True):
            distance = float("inf")
            if self._last is not None and _joinable(self._last[0], piece):
                distance = 1.0 - float(self._last[1] @ vector)
                self._distances.append(distance)
            found.append(distance)
            self._last = piece, vector
        return found

    def _passages(self, title: str | None, *, last: bool) -> list[Piece]:
        far = float(np.percentile(self._distances, FAR)) if self._distances else 2.0
        made, self._held = groups_to_passages(self._held, far=far, size=self._size, last=last)
        return [_passage(groups, title) for groups in made]


def groups_to_passages(
    groups: Sequence[_Group], *, far: float, size: int, last: bool
) -> tuple[list[list[_Group]], list[_Group]]:
    """Runs of groups, each of at most `size` tokens unless one group alone has more, and those still open."""
    done: list[list[_Group]] = []
    run: list[_Group] = []
    for group in groups:
        tokens = sum(one.tokens for one in run)
        turn = group.distance >= far and tokens >= MIN_SHARE * size
        if run and (turn or group.distance == float("inf")):
            done.append(run)
            run = []
        elif run and tokens + group.tokens > size:
            first, run = _at_widest(run)
            done.append(first)
            if sum(one.tokens for one in run) + group.tokens > size:
                done.append(run)
                run = []
        run.append(group)
    if last and run:
        done.append(run)
        run = []
    return done, run


def _at_widest(run: list[_Group]) -> tuple[list[_Group], list[_Group]]:
    """The run cut at the largest distance in its second half, or not at all when there is none."""
    half = max(1, len(run) // 2)
    if half >= len(run):
        return run, []
    place = max(range(half, len(run)), key=lambda index: run[index].distance)
    return run[:place], run[place:]


def _joinable(one: Piece, other: Piece) -> bool:
    """Whether two groups stand next to each other, on one page and under one heading."""
    return (one.end, one.page, one.heading_path) == (other.start, other.page, other.heading_path)


def _passage(groups: Sequence[_Group], title: str | None) -> Piece:
    first = groups[0].piece
    text = "".join(group.piece.text for group in groups).rstrip()
    return replace(
        first, text=text, end=first.start + len(text), embed_text=with_context(title, first.heading_path, text)
    )
