"""What is kept of earlier requests, and when it may be served again.

A kept result dies with what it rests on. It holds the versions of its stores: while they are the same, nothing changed.
When they differ, some document of those stores changed: what was found is searched for again; an answer may go on for
the policy's `fresh_seconds`, as long as every passage that it rests on is still live, readable and inside the filter.
With `fresh_seconds` 0 it may not.
"""

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any
from uuid import UUID

import numpy as np
import orjson
from numpy.typing import NDArray

from bookwheel.errors import CacheUnavailableError
from bookwheel.ports import Ports
from bookwheel.telemetry import CACHE_REQUESTS, DEGRADED
from bookwheel.types import Freshness, Question, Scope, Space

Versions = Mapping[UUID, int]
FORMAT = f"1 {version('bookwheel')}"  # of what is kept: another release may ask, check and write in another way
#: What reading an entry of another shape raises: a shared cache may hold anything.
DAMAGED = (KeyError, TypeError, ValueError, AttributeError, IndexError)


def cache_key(kind: str, *parts: object, scope: Scope) -> str:
    """A key that names the tenant and stands for the caller's view and all parts."""
    bounds = [None if scope.granted is None else sorted(store.hex for store in scope.granted), scope.rule]
    view = [sorted(store.hex for store in scope.store_ids), sorted(scope.principals), *bounds]
    data = orjson.dumps([FORMAT, view, parts], option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return f"{kind}:{scope.tenant_id.hex}:{hashlib.blake2b(data, digest_size=20).hexdigest()}"


def search_parts(question: Question, space: Space, *, manner: str, with_text: bool = True) -> list[object]:
    """All that a search depends on beside the caller's view; `manner` stands for the settings."""
    return [
        manner,
        space.id,
        question.text if with_text else None,
        question.limit,
        question.filter,
        question.score_threshold,
        question.fusion,
        question.dense_weight,
        None if question.vector is None else base64.b64encode(question.vector).decode(),
        question.rerank,
        question.diversity,
    ]


def packed_versions(versions: Versions) -> dict[str, int]:
    """The versions as they are kept."""
    return {store.hex: number for store, number in versions.items()}


def young_enough(kept_at: float, freshness: Freshness) -> bool:
    """Whether a result of this Unix time may be read by this request."""
    return freshness.max_age_seconds is None or time.time() - kept_at <= freshness.max_age_seconds


async def kept(keys: Sequence[str], *, ports: Ports, newest: bool = False) -> Mapping[str, bytes]:
    """What is there; nothing when the cache is away, which is counted. See ports.Cache for `newest`."""
    try:
        return await ports.caches.cache.get(keys, newest=newest)
    except CacheUnavailableError:
        DEGRADED.labels("cache").inc()
        return {}


async def keep(values: Mapping[str, bytes], *, seconds: float, ports: Ports) -> None:
    """Keep them, unless the cache is away, which is counted."""
    try:
        await ports.caches.cache.put(values, seconds=seconds)
    except CacheUnavailableError:
        DEGRADED.labels("cache").inc()


def count(cache: str, result: str) -> None:
    """A lookup: hit, miss, or stale when what was there had died."""
    CACHE_REQUESTS.labels(cache, result).inc()


def embedding_key(text: str, *, space: Space, scope: Scope) -> str:
    """Under which the vector of a question is kept, for all of the tenant."""
    model = (space.model, space.revision, space.dimensions)  # not its number: databases that share a cache differ there
    return cache_key("embedding", *model, text, scope=Scope(tenant_id=scope.tenant_id))


async def embedded(
    text: str, *, space: Space, scope: Scope, ports: Ports, looked_up: Mapping[str, bytes] | None = None
) -> NDArray[np.float32]:
    """The vector of a question, kept for the same text coming again; `looked_up` is what was found when its key was
    among others. Raises EmbedderUnavailableError."""
    key = embedding_key(text, space=space, scope=scope)
    value = (await kept([key], ports=ports) if looked_up is None else looked_up).get(key)
    if value is not None and len(value) == space.dimensions * np.dtype(np.float32).itemsize:
        count("embedding", "hit")
        return np.frombuffer(value, np.float32)
    count("embedding", "miss")
    embedder = ports.embedders[space.id]
    vectors = await ports.parts.embed.call(lambda: embedder.embed([text]))
    vector: NDArray[np.float32] = vectors[0]
    await keep({key: vector.tobytes()}, seconds=ports.caches.policy.embedding_seconds, ports=ports)
    return vector


async def is_settled(freshness: Freshness, *, scope: Scope, ports: Ports) -> bool:
    """Whether what is searched from now on holds all that the stores held when the request came: the keyword index
    comes a moment later than the catalog, and what it does not know yet must not be kept."""
    settled, position = ports.caches.settled, await ports.keywords.position()
    known = (settled.get(store, (-1, 0)) for store in freshness.versions)
    wanted = freshness.versions.values()
    if all(
        seen == now and position >= least for (seen, least), now in zip(known, wanted, strict=True)
    ):  # an index that is being rebuilt has fallen back behind that position
        return True
    if not await ports.outbox.reached(position, scope=scope):
        return False
    settled.update({store: (now, position) for store, now in freshness.versions.items()})
    return True


def read_json(value: bytes) -> Any:
    """A kept value, None when it is damaged."""
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
