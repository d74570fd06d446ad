"""What a search found, kept for the same search coming again: ids and scores, never texts.

Whatever is kept, its passages are hydrated anew, so that nothing is shown that is no longer live or may not be read.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import orjson

from bookwheel.caching import (
    DAMAGED,
    cache_key,
    count,
    keep,
    packed_versions,
    read_json,
    search_parts,
    young_enough,
)
from bookwheel.ports import Ports
from bookwheel.telemetry import stage
from bookwheel.types import Cached, Found, Freshness, Hit, Question, Scope, Space

Row = tuple[int, float, float | None, float | None]  # chunk id, score, cosine, BM25


def search_key(question: Question, *, scope: Scope, space: Space, ports: Ports) -> str:
    """Under which the result of exactly this search is kept."""
    return cache_key("search", *search_parts(question, space, manner=ports.caches.policy.manner), scope=scope)


async def kept_search(
    question: Question,
    looked_up: Mapping[str, bytes],
    *,
    scope: Scope,
    space: Space,
    freshness: Freshness,
    ports: Ports,
) -> Found | None:
    """The same hits again, if they are among what was looked up and no store has changed since."""
    value = looked_up.get(search_key(question, scope=scope, space=space, ports=ports))
    timings: dict[str, float] = {}
    try:
        entry = read_json(value) if value else None
        if entry is None or not young_enough(entry["at"], freshness):
            count("search", "miss")
            return None
        hits = None
        if entry["versions"] == packed_versions(freshness.versions):
            with stage("hydrate", timings):
                hits = await _hydrated(entry["rows"], question, scope=scope, ports=ports)
        age = max(0.0, time.time() - entry["at"])
    except DAMAGED:
        count("search", "miss")
        return None
    count("search", "stale" if hits is None else "hit")
    if hits is None:
        return None
    return Found(hits=hits, timings=timings, cached=Cached(kind="search", age_seconds=age, question=question.text))


async def keep_search(
    question: Question, found: Found, *, scope: Scope, space: Space, freshness: Freshness, ports: Ports
) -> None:
    """Keep a whole result; one with a part left out is not, nor is one with nothing to hydrate."""
    if not freshness.write or found.degraded or not found.hits:
        return
    rows: list[Row] = [(hit.chunk_id, hit.score, hit.dense, hit.keyword) for hit in found.hits]
    entry = {"at": time.time(), "versions": packed_versions(freshness.versions), "rows": rows}
    data = orjson.dumps(entry, option=orjson.OPT_SERIALIZE_NUMPY)
    key = search_key(question, scope=scope, space=space, ports=ports)
    await keep({key: data}, seconds=ports.caches.policy.search_seconds, ports=ports)


async def _hydrated(rows: Sequence[Row], question: Question, *, scope: Scope, ports: Ports) -> Sequence[Hit] | None:
    """The hits as they are now; None when one is gone."""
    found = await ports.passages.hydrate([row[0] for row in rows], scope=scope, filter=question.filter)
    by_id = {hit.chunk_id: hit for hit in found}
    if len(by_id) < len(rows):
        return None
    return [
        replace(by_id[chunk_id], score=score, dense=dense, keyword=keyword) for chunk_id, score, dense, keyword in rows
    ]
