"""Caches as HTTP knows them: what Cache-Control asks for, and what Age and Cache-Status tell."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header

from bookwheel.types import Cached, Freshness, Store

_DIRECTIVE = re.compile(r'([\w-]+)(?:="?(\d{1,9})"?)?')


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheControl:
    """What a caller asks of our caches, and when."""

    as_of: float  #: Unix time, before anything was read
    read: bool = True
    write: bool = True
    max_age_seconds: float | None = None

    def of_caller(self) -> dict[str, Any]:
        """What the caller said, for a later `CacheControl(as_of=..., **said)`."""
        return {"read": self.read, "write": self.write, "max_age_seconds": self.max_age_seconds}

    def freshness(self, stores: Sequence[Store]) -> Freshness:
        """The same over these stores, read since."""
        return Freshness(
            versions={store.id: store.version for store in stores},
            as_of=self.as_of,
            read=self.read,
            write=self.write,
            max_age_seconds=self.max_age_seconds,
        )


async def _cache_control(cache_control: Annotated[str, Header(max_length=1000)] = "") -> CacheControl:
    """`no-cache` reads nothing, `no-store` keeps nothing either, `max-age` reads what is no older. Others say nothing
    here, as RFC 9111 has it."""
    directives = {name.lower(): seconds for name, seconds in _DIRECTIVE.findall(cache_control)}
    max_age = directives.get("max-age")
    return CacheControl(
        as_of=time.time(),
        read=not directives.keys() & {"no-cache", "no-store"},
        write="no-store" not in directives,
        max_age_seconds=float(max_age) if max_age else None,
    )


TheCacheControl = Annotated[CacheControl, Depends(_cache_control)]


def cache_headers(cached: Cached | None, control: CacheControl) -> dict[str, str]:
    """Age (RFC 9111) and Cache-Status (RFC 9211) of a response."""
    return told_headers(cached_object(cached), control)


def told_headers(cached: Mapping[str, Any] | None, control: CacheControl) -> dict[str, str]:
    """The same of what a body tells."""
    if cached is None:
        return {"cache-status": f"bookwheel; fwd={'miss' if control.read else 'request'}"}
    return {"age": str(int(cached["age_seconds"])), "cache-status": f"bookwheel; hit; detail={cached['kind']}"}


def cached_object(cached: Cached | None) -> Mapping[str, Any] | None:
    """The same in a body; null for what was found or written anew."""
    if cached is None:
        return None
    return {
        "kind": cached.kind,
        "age_seconds": round(cached.age_seconds, 3),
        "question": cached.question,
        "similarity": round(cached.similarity, 4),
    }
