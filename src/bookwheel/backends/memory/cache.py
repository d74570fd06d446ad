"""A cache in this process's memory: each process's own, before the one that all share."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cachetools import TLRUCache

ITEM_BYTES = 1_100  # what Python keeps beside a value, measured: its key of 200 characters, and a replaced forerunner's
GROUP_BYTES = 2_000
MEMBER_BYTES = 150
GROUP_SHARE = 4  # a list takes at most this part of all, or one would push out every value


@dataclass(slots=True, kw_only=True)
class Item:
    """A value, and until when by the cache's clock."""

    value: bytes
    expires_at: float

    @property
    def size(self) -> int:
        """Bytes."""
        return ITEM_BYTES + len(self.value)


@dataclass(slots=True, kw_only=True)
class Group:
    """A list, and until when by the cache's clock."""

    expires_at: float = 0.0
    members: deque[tuple[int, bytes]] = field(default_factory=deque)
    size: int = GROUP_BYTES  #: bytes

    def add(self, member: bytes) -> None:
        """Numbered by the clock: a list that is lost then goes on above the numbers that its readers know."""
        last = self.members[-1][0] if self.members else 0
        self.members.append((max(last + 1, time.time_ns()), member))
        self.size += MEMBER_BYTES + len(member)

    def trim(self, *, keep: int, limit: int) -> None:
        """Drop the oldest until there are `keep`, of `limit` bytes together."""
        while self.members and (len(self.members) > keep or self.size > limit):
            _, gone = self.members.popleft()
            self.size -= MEMBER_BYTES + len(gone)


class MemoryCache:
    """Fills ports.Cache; never away. Over its bound it drops what was used least recently, and a value that is larger
    than all of it is not kept."""

    name = "memory"

    def __init__(self, limit: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """At most `limit` bytes, what Python adds included."""
        self.limit = limit
        self._clock = clock
        self._held: TLRUCache[tuple[str, str], Any] = TLRUCache(
            limit, ttu=lambda _key, held, _now: held.expires_at, timer=clock, getsizeof=lambda held: held.size
        )

    async def get(self, keys: Sequence[str], *, newest: bool = False) -> Mapping[str, bytes]:  # noqa: ARG002 - all is shared
        """See ports.Cache."""
        found = ((key, self._held.get(("value", key))) for key in keys)
        return {key: item.value for key, item in found if item is not None}

    async def put(self, values: Mapping[str, bytes], *, seconds: float) -> None:
        """See ports.Cache."""
        expires_at = self._clock() + seconds
        for key, value in values.items():
            self._keep(("value", key), Item(value=value, expires_at=expires_at))

    async def remove(self, keys: Sequence[str]) -> None:
        """See ports.Cache."""
        for key in keys:
            self._held.pop(("value", key), None)

    async def append(self, group: str, member: bytes, *, seconds: float, keep: int) -> None:
        """See ports.Cache."""
        held = self._held.get(("group", group)) or Group()
        held.add(member)
        held.trim(keep=keep, limit=self.limit // GROUP_SHARE)
        held.expires_at = self._clock() + seconds
        self._keep(("group", group), held)

    async def members(self, group: str, *, after: int = 0) -> Sequence[tuple[int, bytes]]:
        """See ports.Cache."""
        held = self._held.get(("group", group))
        return [one for one in held.members if one[0] > after] if held else []

    async def forget(self, tenant: str) -> int:
        """See ports.Cache."""
        doomed = [place for place in self._held if place[1].split(":")[1:2] == [tenant]]
        return sum(self._held.pop(place, None) is not None for place in doomed)

    async def sweep(self) -> int:
        """See ports.Cache."""
        return sum(len(held.members) if isinstance(held, Group) else 1 for _, held in self._held.expire())

    async def ping(self) -> None:
        """See ports.Cache."""

    def _keep(self, key: tuple[str, str], held: Item | Group) -> None:
        self._held.pop(key, None)  # also where the new one is too large to be kept
        if held.size <= self.limit:
            self._held[key] = held
