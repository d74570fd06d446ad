"""The questions that were answered before: a small index in each process, over the lists of the shared cache."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson
from cachetools import LRUCache
from numpy.typing import NDArray

from bookwheel.ports import Cache, EarlierQuestion

GROUPS = 256  #: in memory at once; one takes at most some 2 MiB at 384 dimensions, and the questions
QUESTIONS = 2_000  #: of a group, the newest
LOOK_SECONDS = 1.0  #: between looks at what other processes added
REREAD_SECONDS = 60.0  #: between whole reads: a list that was lost begins anew


@dataclass(slots=True)
class _Group:
    """One list as this process knows it."""

    vectors: NDArray[np.float16]
    entries: list[tuple[str, str]] = field(default_factory=list)  # key, question
    last: int = 0  # the newest number that was read
    looked_at: float = float("-inf")
    read_at: float = float("-inf")


class SharedEarlierQuestions:
    """Fills ports.EarlierQuestions. Vectors are compared one by one: a group is small."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._groups: LRUCache[str, _Group] = LRUCache(GROUPS)

    async def nearest(
        self, group: str, vector: NDArray[np.float32], *, at_least: float, limit: int
    ) -> Sequence[EarlierQuestion]:
        """See ports.EarlierQuestions."""
        known = await self._current(group, len(vector))
        if not known.entries:
            return ()
        cosines = known.vectors.astype(np.float32) @ vector
        best = np.argsort(-cosines, kind="stable")[:limit]
        return [
            EarlierQuestion(key=known.entries[at][0], question=known.entries[at][1], similarity=float(cosines[at]))
            for at in best
            if cosines[at] >= at_least
        ]

    async def add(self, group: str, vector: NDArray[np.float32], *, key: str, question: str, seconds: float) -> None:
        """See ports.EarlierQuestions."""
        member = orjson.dumps([key, question, vector.astype(np.float16).tobytes().hex()])
        await self._cache.append(group, member, seconds=seconds, keep=QUESTIONS)
        if group in self._groups:
            self._groups[group].looked_at = float("-inf")  # what this process adds it knows at once

    async def _current(self, group: str, dimensions: int) -> _Group:
        now = time.monotonic()
        known = self._groups.get(group)
        if known is None or now - known.read_at > REREAD_SECONDS:
            if known is not None:
                known.read_at = now  # others go on with what there is
            known = _Group(np.zeros((0, dimensions), np.float16), read_at=now, looked_at=now)
            _take(known, await self._cache.members(group))
            self._groups[group] = known
        elif now - known.looked_at > LOOK_SECONDS:
            known.looked_at = now
            _take(known, await self._cache.members(group, after=known.last))
        return known


def _take(known: _Group, members: Sequence[tuple[int, bytes]]) -> None:
    """Add what is new and whole; a question that came again stands where it was added last."""
    rows = [row for _, member in members if (row := _read(member, known.vectors.shape[1])) is not None]
    if members:
        known.last = members[-1][0]
    if not rows:
        return
    entries = [*known.entries, *((key, question) for key, question, _ in rows)]
    newest = {entry: at for at, entry in enumerate(entries)}
    kept = sorted(newest.values())[-QUESTIONS:]
    known.vectors = np.concatenate([known.vectors, np.stack([vector for *_, vector in rows])])[kept]
    known.entries = [entries[at] for at in kept]


def _read(member: bytes, dimensions: int) -> tuple[str, str, NDArray[np.float16]] | None:
    """None for a member of another shape."""
    try:
        key, question, packed = orjson.loads(member)
        vector = np.frombuffer(bytes.fromhex(packed), np.float16)
    except (ValueError, TypeError):
        return None
    return (str(key), str(question), vector) if len(vector) == dimensions else None
