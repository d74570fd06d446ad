"""Caches as HTTP knows them: what is asked of ours, and what is told of them."""

import time
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from bookwheel.api.cache_control import CacheControl, _cache_control, cache_headers, cached_object
from bookwheel.caching import young_enough
from bookwheel.testing import memory_ports
from bookwheel.testing.desk import Desk
from bookwheel.types import Cached


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("", (True, True, None)),
        ("no-cache", (False, True, None)),
        ("No-Cache", (False, True, None)),
        ("no-store", (False, False, None)),
        ("max-age=0", (True, True, 0.0)),
        ("max-age=60", (True, True, 60.0)),
        ('max-age="60", no-transform', (True, True, 60.0)),
        ("max-age", (True, True, None)),
        ("max-age=-1", (True, True, None)),
        ("max-age=x", (True, True, None)),
        ("only-if-cached, private, \u00e4", (True, True, None)),
        ("no-cache, no-store, max-age=0", (False, False, 0.0)),
    ],
)
async def test_directives(header: str, wanted: tuple[Any, ...]) -> None:
    """Ours are read, whatever stands beside them; those of others say nothing."""
    before = time.time()
    control = await _cache_control(header)
    assert (control.read, control.write, control.max_age_seconds) == wanted
    assert before <= control.as_of <= time.time()


async def test_what_was_kept_is_older_than_max_age_0() -> None:
    """So nothing kept is taken, and what is young enough is."""
    freshness = (await _cache_control("max-age=0")).freshness([])
    assert not young_enough(time.time() - 0.001, freshness)
    freshness = (await _cache_control("max-age=60")).freshness([])
    assert young_enough(time.time() - 59, freshness)
    assert not young_enough(time.time() - 61, freshness)


async def test_stores_bring_their_versions() -> None:
    """As they were read after the moment that the control knows."""
    desk = Desk(ports=memory_ports(), tenant=uuid4())
    store = replace(await desk.store(), version=7)
    control = CacheControl(as_of=5.0, write=False)
    freshness = control.freshness([store])
    assert (freshness.versions, freshness.as_of, freshness.write) == ({store.id: 7}, 5.0, False)


def test_headers_and_body_say_the_same() -> None:
    """A hit has its age in whole seconds; a miss tells whether the caller wanted one."""
    control = CacheControl(as_of=0.0)
    kept = Cached(kind="semantic", age_seconds=61.9, question="Why?", similarity=0.98765)
    assert cache_headers(kept, control) == {"age": "61", "cache-status": "bookwheel; hit; detail=semantic"}
    assert cached_object(kept) == {"kind": "semantic", "age_seconds": 61.9, "question": "Why?", "similarity": 0.9877}
    assert cache_headers(None, control) == {"cache-status": "bookwheel; fwd=miss"}
    assert cache_headers(None, replace(control, read=False)) == {"cache-status": "bookwheel; fwd=request"}
    assert cached_object(None) is None
