"""What is kept to save work: bytes by key, short lists of recent things by group, and the questions asked before."""

from asyncio import Future
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from bookwheel.types import AnswerPolicy, AskedQuestion


class Cache(Protocol):
    """Bytes that may be gone at any time. Keys and groups are ASCII of at most 200 characters, `KIND:TENANT:...`;
    values are at most some 100 kB. Bounded: the oldest go when it is full. Every verb raises CacheUnavailableError
    and nothing else, and soon: a cache that is slow is away."""

    name: str  #: of the backend, for metrics

    async def get(self, keys: Sequence[str], *, newest: bool = False) -> Mapping[str, bytes]:
        """The values of those keys that are there and have not expired; with `newest` as all processes share them,
        whatever this one has of its own."""

    async def put(self, values: Mapping[str, bytes], *, seconds: float) -> None:
        """Keep each value under its key for so long; what was there is replaced."""

    async def remove(self, keys: Sequence[str]) -> None:
        """Forget these keys, those that are there."""

    async def append(self, group: str, member: bytes, *, seconds: float, keep: int) -> None:
        """Add to the end of a group's list, which keeps its `keep` newest members for so long after the last one."""

    async def members(self, group: str, *, after: int = 0) -> Sequence[tuple[int, bytes]]:
        """The list's members numbered above `after`, with their numbers, in the order in which they were added.
        Numbers grow and are never used again, unless the list was lost: then they begin anew at 1 or later."""

    async def forget(self, tenant: str) -> int:
        """Forget all values and lists of a tenant: those whose key or group has this as its second part between colons.
        Returns how many values and lists. What another process has of its own ends by itself."""

    async def sweep(self) -> int:
        """Forget what has expired; returns how many keys and members. Nothing to do where the backend does it."""

    async def ping(self) -> None:
        """Raises CacheUnavailableError when it cannot answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierQuestion:
    """A question that was answered before, near to the one at hand."""

    key: str  #: of its kept answer
    question: str
    similarity: float  #: cosine


class EarlierQuestions(Protocol):
    """A small index of the questions answered before, by group: one group for each tenant, scope and way of asking."""

    async def nearest(
        self, group: str, vector: NDArray[np.float32], *, at_least: float, limit: int
    ) -> Sequence[EarlierQuestion]:
        """The nearest of the group from this cosine on, best first. Raises CacheUnavailableError."""

    async def add(self, group: str, vector: NDArray[np.float32], *, key: str, question: str, seconds: float) -> None:
        """Remember a question for at least so long, as long as the group's newest are not too many. Raises
        CacheUnavailableError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caches:
    """What the walks keep, and by which rules."""

    cache: Cache
    questions: EarlierQuestions
    policy: AnswerPolicy
    #: Of stores: a version, and the position from which on this process's keyword index holds its changes.
    settled: MutableMapping[UUID, tuple[int, int]]
    asked: MutableMapping[str, AskedQuestion]  #: since they were noted last, by key
    pending: MutableMapping[str, Future[None]]  #: answers being written, by key; each ends with its answer
