"""Answers kept for the same question, and for questions that ask the same in other words.

An entry holds the whole answer with the passages that it rests on. caching.py says when it dies.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import orjson

from bookwheel.caching import (
    DAMAGED,
    cache_key,
    count,
    embedded,
    keep,
    kept,
    packed_versions,
    read_json,
    search_parts,
    young_enough,
)
from bookwheel.errors import CacheUnavailableError, EmbedderUnavailableError
from bookwheel.likeness import same_question
from bookwheel.ports import Ports
from bookwheel.telemetry import DEGRADED, stage
from bookwheel.types import Answer, Ask, Cached, CheckedSentence, Citation, Found, Hit, Scope

LONGEST = 600  # characters of a question that is compared with others, as likeness.py has it
LOOKED_AT = 5  # of the nearest earlier questions
CONFIRM_SHARE = 0.25  # of fresh_seconds: so often an entry in use notes that nothing has changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A kept answer."""

    at: float  #: Unix time when it was made
    confirmed: float  #: Unix time when its stores were as they are in `versions`, last
    versions: Mapping[str, int]
    question: str
    answer: Answer
    packed: Mapping[str, Any]  #: all of it, as it is kept

    def told(self, kind: Literal["exact", "semantic"], similarity: float = 1.0) -> Answer:
        """The answer, and where it comes from."""
        age = max(0.0, time.time() - self.at)
        cached = Cached(kind=kind, age_seconds=age, question=self.question, similarity=similarity)
        return replace(self.answer, cached=cached)


async def kept_answer(ask: Ask, *, model: str, scope: Scope, ports: Ports) -> Answer | None:
    """An earlier answer that still holds, to the same question or to one that asks the same."""
    if ask.freshness is None or not ask.freshness.read:
        return None
    timings: dict[str, float] = {}
    with stage("cache", timings):
        answer = await _exact(ask, model, scope=scope, ports=ports)
        if answer is None and _may_be_similar(ask, ports):
            answer = await _similar(ask, model, scope=scope, ports=ports)
    return None if answer is None else replace(answer, timings=timings)


async def keep_answer(ask: Ask, answer: Answer, *, model: str, scope: Scope, ports: Ports) -> None:
    """Keep a whole answer; one with a part left out or cut short is not kept."""
    freshness = ask.freshness
    if freshness is None or not freshness.write or answer.degraded or answer.found.degraded or answer.cut_short:
        return
    key = answer_key(ask, model, scope=scope, ports=ports)
    entry = {
        "at": time.time(),
        "confirmed": freshness.as_of,
        "versions": packed_versions(freshness.versions),
        "question": ask.question.text,
        "answer": _packed(answer),
    }
    seconds = ports.caches.policy.answer_seconds
    await keep({key: orjson.dumps(entry, option=orjson.OPT_SERIALIZE_NUMPY)}, seconds=seconds, ports=ports)
    if _may_be_similar(ask, ports):
        await _remember(ask, key, model, scope=scope, ports=ports)


def _may_be_similar(ask: Ask, ports: Ports) -> bool:
    """Only questions that stand alone are compared with others."""
    alone = not ask.history and ask.question.vector is None and len(ask.question.text) <= LONGEST
    return alone and ports.caches.policy.similarity < 1.0


async def _exact(ask: Ask, model: str, *, scope: Scope, ports: Ports) -> Answer | None:
    key = answer_key(ask, model, scope=scope, ports=ports)
    entry, result = await _living(key, ask, scope=scope, ports=ports)
    count("answer", result)
    return None if entry is None else entry.told("exact")


async def _similar(ask: Ask, model: str, *, scope: Scope, ports: Ports) -> Answer | None:
    """The nearest earlier question that asks the same and whose answer still holds."""
    result = "miss"
    try:
        vector = await embedded(ask.question.text, space=ask.space, scope=scope, ports=ports)
        nearest = await ports.caches.questions.nearest(
            _group(ask, model, scope, ports), vector, at_least=ports.caches.policy.similarity, limit=LOOKED_AT
        )
    except EmbedderUnavailableError:  # the search will say so
        nearest = ()
    except CacheUnavailableError:
        DEGRADED.labels("cache").inc()
        nearest = ()
    for earlier in nearest:
        if not same_question(ask.question.text, earlier.question):
            result = "refused"
            continue
        entry, result = await _living(earlier.key, ask, scope=scope, ports=ports)
        if entry is not None:
            count("semantic", "hit")
            return entry.told("semantic", earlier.similarity)
    count("semantic", result)
    return None


async def _remember(ask: Ask, key: str, model: str, *, scope: Scope, ports: Ports) -> None:
    try:
        vector = await embedded(ask.question.text, space=ask.space, scope=scope, ports=ports)
        await ports.caches.questions.add(
            _group(ask, model, scope, ports),
            vector,
            key=key,
            question=ask.question.text,
            seconds=ports.caches.policy.answer_seconds,
        )
    except EmbedderUnavailableError:  # kept for the same question only
        return
    except CacheUnavailableError:
        DEGRADED.labels("cache").inc()


def answer_key(ask: Ask, model: str, *, scope: Scope, ports: Ports) -> str:
    """Under which the answer to exactly this is kept."""
    turns = [[turn["role"], turn["content"]] for turn in ask.history]
    return cache_key("answer", *_manner(ask, model, ports), ask.question.text, turns, scope=scope)


def _group(ask: Ask, model: str, scope: Scope, ports: Ports) -> str:
    return cache_key("questions", *_manner(ask, model, ports), scope=scope)


def _manner(ask: Ask, model: str, ports: Ports) -> list[object]:
    """All that an answer depends on beside the words that ask for it."""
    parts = search_parts(ask.question, ask.space, manner=ports.caches.policy.manner, with_text=False)
    return [*parts, model, ask.instructions, ask.schema, ask.max_tokens, ports.caches.policy.unsupported]


async def _living(key: str, ask: Ask, *, scope: Scope, ports: Ports) -> tuple[Entry | None, str]:
    """The entry if it may be served now; and how the lookup went: hit, miss or stale."""
    entry = await _entry(key, ports)
    living = await _if_living(key, entry, ask, scope=scope, ports=ports)
    if living[1] == "stale":  # another process may have made it anew
        newest = await _entry(key, ports, newest=True)
        if newest is not None and newest != entry:
            return await _if_living(key, newest, ask, scope=scope, ports=ports)
    return living


async def _entry(key: str, ports: Ports, *, newest: bool = False) -> Entry | None:
    """The entry; None where there is none, or one of another shape."""
    value = (await kept([key], ports=ports, newest=newest)).get(key)
    packed = read_json(value) if value else None
    try:
        return None if packed is None else _unpacked(packed)
    except DAMAGED:
        return None


async def _if_living(
    key: str, entry: Entry | None, ask: Ask, *, scope: Scope, ports: Ports
) -> tuple[Entry | None, str]:
    assert ask.freshness is not None  # noqa: S101 - its caller asked for it
    if entry is None or not young_enough(entry.at, ask.freshness):
        return None, "miss"
    if entry.versions == packed_versions(ask.freshness.versions):
        await _confirm(key, entry, ask.freshness.as_of, ports=ports)
        return entry, "hit"
    if await _still_stands(entry, ask, scope=scope, ports=ports):
        return entry, "hit"
    return None, "stale"


async def dies_in(key: str, ask: Ask, *, scope: Scope, ports: Ports) -> float:
    """Seconds that the kept answer has to live if nothing changes further; 0 when there is none, or it is dead."""
    assert ask.freshness is not None  # noqa: S101 - its caller asked for it
    entry = await _entry(key, ports, newest=True)
    if entry is None:
        return 0.0
    policy, now = ports.caches.policy, time.time()
    left = entry.at + policy.answer_seconds - now
    if entry.versions != packed_versions(ask.freshness.versions):
        if not await _still_stands(entry, ask, scope=scope, ports=ports):
            return 0.0
        left = min(left, entry.confirmed + policy.fresh_seconds - now)
    return max(0.0, float(left))


async def _confirm(key: str, entry: Entry, as_of: float, *, ports: Ports) -> None:
    """Note, now and then, that nothing has changed until then: only from then on can a new document be missed."""
    policy = ports.caches.policy
    left = entry.at + policy.answer_seconds - time.time()
    if policy.fresh_seconds and as_of - entry.confirmed > policy.fresh_seconds * CONFIRM_SHARE and left > 0:
        await keep({key: orjson.dumps({**entry.packed, "confirmed": as_of})}, seconds=left, ports=ports)


async def _still_stands(entry: Entry, ask: Ask, *, scope: Scope, ports: Ports) -> bool:
    """Something has changed since, but not long ago, and nothing that the answer rests on."""
    if time.time() - entry.confirmed > ports.caches.policy.fresh_seconds:
        return False
    rests_on = {hit.chunk_id: hit.updated_at for hit in entry.answer.found.hits}
    found = await ports.passages.hydrate(list(rests_on), scope=scope, filter=ask.question.filter)
    return {hit.chunk_id: hit.updated_at for hit in found} == rests_on


def _packed(answer: Answer) -> dict[str, Any]:
    """The answer as JSON values; a citation names its hit by place."""
    places = {hit.chunk_id: place for place, hit in enumerate(answer.found.hits)}
    return {
        "text": answer.text,
        "citations": [{**_fields(one), "hit": places[one.hit.chunk_id]} for one in answer.citations],
        "supported": answer.supported,
        "found": {
            "hits": [{**_fields(hit), "sha256": hit.sha256.hex()} for hit in answer.found.hits],
            "warnings": list(answer.found.warnings),
        },
        "model": answer.model,
        "search_query": answer.search_query,
        "grounding": answer.grounding,
        "sentences": [_fields(sentence) for sentence in answer.sentences],
    }


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def _unpacked(packed: Mapping[str, Any]) -> Entry:
    """Raises one of DAMAGED for an entry of another shape."""
    written = dict(packed["answer"])
    found = written.pop("found")
    hits = [_hit(hit) for hit in found["hits"]]
    answer = Answer(
        **{
            **written,
            "citations": tuple(Citation(**{**one, "hit": hits[one["hit"]]}) for one in written["citations"]),
            "sentences": tuple(
                CheckedSentence(**{**one, "citations": tuple(one["citations"])}) for one in written["sentences"]
            ),
            "found": Found(hits=hits, warnings=tuple(found["warnings"])),
        }
    )
    return Entry(
        at=packed["at"],
        confirmed=packed["confirmed"],
        versions=packed["versions"],
        question=packed["question"],
        answer=answer,
        packed=packed,
    )


def _hit(packed: Mapping[str, Any]) -> Hit:
    return Hit(
        **{
            **packed,
            "document_id": UUID(packed["document_id"]),
            "store_id": UUID(packed["store_id"]),
            "file_id": packed["file_id"] and UUID(packed["file_id"]),
            "heading_path": tuple(packed["heading_path"]),
            "sha256": bytes.fromhex(packed["sha256"]),
            "access": None if packed["access"] is None else tuple(packed["access"]),
            "denied": tuple(packed["denied"]),
            "created_at": datetime.fromisoformat(packed["created_at"]),
            "updated_at": datetime.fromisoformat(packed["updated_at"]),
        }
    )
