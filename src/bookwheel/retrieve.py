"""The retrieve walk: question in, live and visible hits out."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import structlog
from numpy.typing import NDArray

from bookwheel.caching import embedded, embedding_key, is_settled, kept
from bookwheel.errors import EmbedderUnavailableError, IndexUnavailableError, UnavailableError
from bookwheel.filters import attribute_keys, parse, uses_chunks
from bookwheel.fuse import DENSE_WEIGHT, Fused, fuse
from bookwheel.given import PACKED
from bookwheel.kept_searches import keep_search, kept_search, search_key
from bookwheel.ports import Ports
from bookwheel.query_log import QUERIES
from bookwheel.ranking import candidates, ranked
from bookwheel.telemetry import DEGRADED, stage
from bookwheel.types import Candidate, Found, Freshness, Hit, Question, Scope, Space

CANDIDATES = 100  # passages from each side: some 50 documents; 50 passages cost .002 nDCG@10 on SciFact
SPARE_HITS = 10  # fused beyond the wanted number, because hydration may drop some
FILTER_DOCUMENTS = 2_000  # up to so many matching documents are handed to the keyword index
FILTER_WIDENING = 10  # with more, or a filter on chunks, so many times the candidates are fetched and then filtered

log = structlog.get_logger()


@dataclass(slots=True)
class _Progress:
    """What one search has noted so far."""

    timings: dict[str, float] = field(default_factory=dict)
    degraded: list[str] = field(default_factory=list)

    def degrade(self, part: str) -> None:
        """Report a part that was left out: in the response, in the metric, and in the log with the caller's trace."""
        self.degraded.append(part)
        DEGRADED.labels(part).inc()
        log.info("left out", part=part)


async def retrieve(
    question: Question, *, scope: Scope, space: Space, ports: Ports, freshness: Freshness | None = None
) -> Found:
    """Search the scope's stores, all of the space; with `freshness` what is kept may be found. Raises UnavailableError
    when neither index answers."""
    QUERIES.tell("search", question.text)
    if freshness is None:
        return await _search(question, scope=scope, space=space, ports=ports)
    looked_up: Mapping[str, bytes] = {}
    if freshness.read:
        keys = [
            search_key(question, scope=scope, space=space, ports=ports),
            embedding_key(question.text, space=space, scope=scope),
        ]
        looked_up = await kept(keys, ports=ports)
        found = await kept_search(question, looked_up, scope=scope, space=space, freshness=freshness, ports=ports)
        if found is not None:
            return found
    settled = await is_settled(freshness, scope=scope, ports=ports)
    found = await _search(question, scope=scope, space=space, ports=ports, looked_up=looked_up)
    if settled:
        await keep_search(question, found, scope=scope, space=space, freshness=freshness, ports=ports)
    return found


async def _search(
    question: Question, *, scope: Scope, space: Space, ports: Ports, looked_up: Mapping[str, bytes] | None = None
) -> Found:
    progress = _Progress()
    vector, keyword = await asyncio.gather(
        _vector(question, scope, space, ports, progress, looked_up),
        _keyword(question, scope=scope, ports=ports, progress=progress),
    )
    dense = await _dense(question, vector, keyword, scope=scope, space=space, ports=ports, progress=progress)
    if dense is None and keyword is None:
        raise UnavailableError("Neither the vector index nor the keyword index answers. Retry in a moment.")
    if dense is not None:  # which was asked for them too: what it left out is not live, not readable or filtered out
        allowed = {candidate.chunk_id for candidate in dense}
        keyword = [candidate for candidate in keyword or () if candidate.chunk_id in allowed]
    with stage("fuse", progress.timings):
        weight = DENSE_WEIGHT if dense is None else _dense_weight(question, space, ports)
        fused = fuse(dense or (), keyword or (), method=question.fusion, dense_weight=weight)
    best = await _hydrate(fused, question, scope=scope, ports=ports, progress=progress)
    hits, failed = await ranked(best, question, space=space, ports=ports, timings=progress.timings)
    warnings = () if hits else await _warnings(question, scope=scope, ports=ports)
    return Found(hits=hits, degraded=(*progress.degraded, *failed), warnings=warnings, timings=progress.timings)


async def _vector(
    question: Question,
    scope: Scope,
    space: Space,
    ports: Ports,
    progress: _Progress,
    looked_up: Mapping[str, bytes] | None,
) -> NDArray[np.float32] | None:
    if ports.parts.dense.rests:  # which only it would serve; asked once: it may be tried again a moment later
        progress.degrade("search.dense")
        return None
    if question.vector is not None:
        return np.frombuffer(question.vector, PACKED)
    try:
        with stage("embed", progress.timings):
            return await embedded(question.text, space=space, scope=scope, ports=ports, looked_up=looked_up)
    except EmbedderUnavailableError:
        progress.degrade("embed")
        return None


async def _keyword(
    question: Question, *, scope: Scope, ports: Ports, progress: _Progress
) -> Sequence[Candidate] | None:
    documents, limit = None, CANDIDATES
    reach = await ports.passages.reach(scope=scope)
    if question.filter is not None or scope.rule is not None:  # which documents_matching goes by
        wanted = question.filter or {}
        documents = await ports.passages.documents_matching(wanted, scope=scope, limit=FILTER_DOCUMENTS + 1)
        if uses_chunks(parse(wanted)):  # of these documents' chunks only some pass
            limit = CANDIDATES * FILTER_WIDENING
        if len(documents) > FILTER_DOCUMENTS:
            documents, limit = None, CANDIDATES * FILTER_WIDENING
    try:
        with stage("search.keyword", progress.timings):
            return await ports.parts.keyword.call(
                lambda: ports.keywords.search(question.text, scope=scope, reach=reach, limit=limit, documents=documents)
            )
    except IndexUnavailableError:
        progress.degrade("search.keyword")
        return None


async def _dense(
    question: Question,
    vector: NDArray[np.float32] | None,
    keyword: Sequence[Candidate] | None,
    *,
    scope: Scope,
    space: Space,
    ports: Ports,
    progress: _Progress,
) -> Sequence[Candidate] | None:
    if vector is None:
        return None
    also = [candidate.chunk_id for candidate in keyword or ()]
    try:
        with stage("search.dense", progress.timings):
            return await ports.parts.dense.call(
                lambda: ports.vectors.search(
                    space, vector, scope=scope, filter=question.filter, limit=CANDIDATES, also=also
                )
            )
    except UnavailableError:  # of the database too: whether it is all gone shows when the hits are read
        progress.degrade("search.dense")
        return None


def _dense_weight(question: Question, space: Space, ports: Ports) -> float:
    """Trust the vectors as far as the model knows the question's script; a given vector as far as any."""
    if question.dense_weight is not None:
        return question.dense_weight
    if question.vector is not None:
        return DENSE_WEIGHT
    return DENSE_WEIGHT * ports.embedders[space.id].coverage(question.text)


async def _hydrate(
    fused: Sequence[Fused], question: Question, *, scope: Scope, ports: Ports, progress: _Progress
) -> list[Hit]:
    """Fill in texts; what is no longer live or not visible falls out here, whatever an index said.

    Chunks of one section are one hit, the best of them; so what comes behind is looked at until there are enough hits.
    """
    best, wanted = [one for one in fused if one.score >= question.score_threshold], candidates(question)
    hits: dict[object, Hit] = {}
    with stage("hydrate", progress.timings):
        while best and len(hits) < wanted:
            part, best = best[: wanted + SPARE_HITS], best[wanted + SPARE_HITS :]
            ids = [one.chunk_id for one in part]
            hydrated = await ports.passages.hydrate(ids, scope=scope, filter=question.filter)
            by_id = {hit.chunk_id: hit for hit in hydrated}
            for one in part:
                if hit := by_id.get(one.chunk_id):
                    scored = replace(hit, score=one.score, dense=one.dense, keyword=one.keyword)
                    hits.setdefault(_shown(hit), scored)
    return list(hits.values())[:wanted]


async def _warnings(question: Question, *, scope: Scope, ports: Ports) -> tuple[str, ...]:
    """What in the filter may be a typing error, when nothing was found."""
    if question.filter is None or not (names := sorted(attribute_keys(parse(question.filter)))):
        return ()
    unknown = await ports.passages.unknown_attributes(names, scope=scope)
    return tuple(f"The filter asks for the attribute {name!r}, which no document here has." for name in unknown)


def _shown(hit: Hit) -> object:
    """What is shown once: the section, else the chunk."""
    return hit.chunk_id if hit.section is None else (hit.document_id, hit.section)
