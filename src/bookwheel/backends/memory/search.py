"""Passages, exact vector search and BM25 in memory: the reader's side."""

import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from bookwheel.backends.memory.database import MemoryDatabase, VectorRow
from bookwheel.errors import NotFoundError
from bookwheel.filters import chunk_values, document_values, matches, parse
from bookwheel.ports import Vectors
from bookwheel.rights import store_is_open, store_is_there
from bookwheel.types import Candidate, Change, Chunk, Claim, Document, Filter, Hit, KeywordEntry, Reach, Scope, Space

K1, B = 1.2, 0.75  # BM25's usual constants
UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff"  # scripts without spaces between words: each letter counts as one
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")


class MemoryPassages:
    """Fills ports.Passages."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def hydrate(self, chunk_ids: Sequence[int], *, scope: Scope, filter: Filter | None) -> Sequence[Hit]:
        """See ports.Passages."""
        wanted = set(chunk_ids)
        passing = passing_chunks(self.database, scope, filter)
        return [_of_section(chunk, _hit(chunk, document)) for chunk, document in passing if chunk.id in wanted]

    async def documents_matching(self, filter: Filter, *, scope: Scope, limit: int) -> Sequence[UUID]:
        """See ports.Passages."""
        passing = dict.fromkeys(document.id for _, document in passing_chunks(self.database, scope, filter))
        return list(passing)[:limit]

    async def live_versions(self, document_ids: Sequence[UUID], *, scope: Scope) -> dict[UUID, int]:
        """See ports.Passages."""
        may = [row.document for row in self.database.readable(scope)]
        live = {document.id: document.live_version for document in may if document.live_version is not None}
        return {document_id: live[document_id] for document_id in document_ids if document_id in live}

    async def unknown_attributes(self, names: Sequence[str], *, scope: Scope) -> Sequence[str]:
        """See ports.Passages."""
        known = {name for row in self.database.readable(scope) for name in row.document.attributes}
        return [name for name in names if name not in known]

    async def reach(self, *, scope: Scope) -> Reach:
        """See ports.Passages."""
        stores = [store for store in self.database.stores.values() if store.id in scope.store_ids]
        stores = [store for store in stores if store_is_there(store, replace(scope, manages=False))]
        opened = [store for store in stores if store_is_open(store, scope)]
        return Reach(open=frozenset(store.id for store in opened), listed=frozenset(store.id for store in stores))

    async def of_document(self, document_id: UUID, *, scope: Scope) -> Sequence[Hit]:
        """See ports.Passages."""
        row = next((row for row in self.database.readable(scope) if row.document.id == document_id), None)
        if row is None:
            raise NotFoundError(f"No document with id doc_{document_id.hex} in this store.")
        return [_hit(chunk, row.document) for chunk in self.database.live_chunks(row.document)]


class MemoryVectorIndex:
    """Fills ports.VectorIndex, exactly: every vector inside the scope is compared."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def prepare(self, space: Space) -> None:
        """See ports.VectorIndex: nothing to make here."""

    async def upsert(self, space: Space, claims: Sequence[Claim], chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """See ports.VectorIndex."""
        held = {(claim.document_id, claim.version) for claim in claims}
        for chunk, vector in zip(chunks, vectors, strict=True):
            if (chunk.document_id, chunk.version) in held:
                self.database.vectors[space.id, chunk.id] = VectorRow(
                    document_id=chunk.document_id,
                    version=chunk.version,
                    ordinal=chunk.ordinal,
                    text_hash=chunk.text_hash,
                    vector=np.array(vector, dtype=np.float32),
                )

    async def search(
        self,
        space: Space,
        vector: NDArray[np.float32],
        *,
        scope: Scope,
        filter: Filter | None,
        limit: int,
        also: Sequence[int] = (),
    ) -> Sequence[Candidate]:
        """See ports.VectorIndex."""
        passing = {chunk.id for chunk, _ in passing_chunks(self.database, scope, filter)}
        ranked = sorted(
            (
                Candidate(
                    chunk_id=chunk_id,
                    score=float(row.vector @ vector),
                    document_id=row.document_id,
                    ordinal=row.ordinal,
                )
                for (space_id, chunk_id), row in self.database.vectors.items()
                if space_id == space.id and chunk_id in passing
            ),
            key=lambda candidate: (-candidate.score, candidate.chunk_id),
        )
        wanted = set(also)
        return ranked[:limit] + [candidate for candidate in ranked[limit:] if candidate.chunk_id in wanted]

    async def orphans(self, space: Space, *, repair: bool) -> Mapping[str, int]:
        """See ports.VectorIndex."""
        orphans = [key for key in self.database.vectors if key[0] == space.id and key[1] not in self.database.chunks]
        if repair:
            for key in orphans:
                del self.database.vectors[key]
        return {"vectors": len(orphans)}

    async def tend(self, space: Space, *, idle: bool) -> Sequence[str]:  # noqa: ARG002 - there is nothing to build
        """See ports.VectorIndex."""
        return ()

    async def move(self, tenant_id: UUID, *, own_partition: bool) -> None:
        """See ports.VectorIndex: there are no partitions here."""

    async def ping(self) -> None:
        """See ports.VectorIndex: memory always answers."""


class MemoryKeywordIndex:
    """Fills ports.KeywordIndex: BM25 over title and text, with the statistics of the scope's own chunks."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def apply(self, changes: Sequence[Change], entries: AsyncIterator[KeywordEntry]) -> None:
        """See ports.KeywordIndex."""
        given = [entry async for entry in entries]
        for change in changes:
            if change.operation == "publish":
                self._forget(change.document_id, up_to=math.inf)
                fresh = [entry for entry in given if entry.document_id == change.document_id]
                self.database.entries |= {entry.chunk_id: entry for entry in fresh}
            else:
                self._forget(change.document_id, up_to=change.version)
            self.database.position = max(self.database.position, change.sequence)

    async def position(self) -> int:
        """See ports.KeywordIndex."""
        return self.database.position

    async def reset(self, position: int) -> None:
        """See ports.KeywordIndex."""
        self.database.entries.clear()
        self.database.position = position

    async def size(self) -> int:
        """See ports.KeywordIndex."""
        return len(self.database.entries)

    async def search(
        self, text: str, *, scope: Scope, reach: Reach, limit: int, documents: Sequence[UUID] | None = None
    ) -> Sequence[Candidate]:
        """See ports.KeywordIndex."""
        visible = [
            entry
            for entry in self.database.entries.values()
            if entry.tenant_id == scope.tenant_id
            and entry.store_id in scope.store_ids
            and _reached(entry, scope, reach)
            and (documents is None or entry.document_id in documents)
        ]
        scores = bm25(_words(text), {entry.chunk_id: _words(f"{entry.title} {entry.text}") for entry in visible})
        best = sorted(scores, key=lambda chunk_id: (-scores[chunk_id], chunk_id))
        return [Candidate(chunk_id=chunk_id, score=scores[chunk_id]) for chunk_id in best[:limit]]

    async def ping(self) -> None:
        """See ports.KeywordIndex: memory always answers."""

    def _forget(self, document_id: UUID, *, up_to: float) -> None:
        for chunk_id, entry in list(self.database.entries.items()):
            if entry.document_id == document_id and entry.version <= up_to:
                del self.database.entries[chunk_id]


def passing_chunks(database: MemoryDatabase, scope: Scope, filter: Filter | None) -> list[tuple[Chunk, Document]]:
    """Live chunks that the scope's caller may read and that pass the filter. Raises InvalidFilterError."""
    passes = _test(filter)
    documents = {row.document.id: row.document for row in database.readable(scope)}
    placed = [
        (chunk, documents[chunk.document_id]) for chunk in database.chunks.values() if chunk.document_id in documents
    ]
    return [
        (chunk, document)
        for chunk, document in placed
        if document.live_version == chunk.version and passes(chunk, document)
    ]


def _test(filter: Filter | None) -> Callable[[Chunk, Document], bool]:
    if filter is None:
        return lambda _chunk, _document: True
    expression = parse(filter)
    return lambda chunk, document: matches(expression, document_values(document) | chunk_values(chunk))


def _reached(entry: KeywordEntry, scope: Scope, reach: Reach) -> bool:
    """Whether lists let the caller read it."""
    if entry.access is None:
        named = entry.store_id in reach.open
    else:
        named = entry.store_id in reach.listed and not scope.principals.isdisjoint(entry.access)
    return named and scope.principals.isdisjoint(entry.denied)


def bm25(query: Sequence[str], texts: Mapping[int, Sequence[str]]) -> dict[int, float]:
    """The scores of those texts, given as words, that hold a word of the query."""
    mean = sum(map(len, texts.values())) / max(len(texts), 1)
    scores: dict[int, float] = {}
    counts = {chunk_id: Counter(words) for chunk_id, words in texts.items()}
    for word in dict.fromkeys(query):
        holding = [chunk_id for chunk_id in texts if counts[chunk_id][word]]
        rarity = math.log(1 + (len(texts) - len(holding) + 0.5) / (len(holding) + 0.5))
        for chunk_id in holding:
            often, length = counts[chunk_id][word], len(texts[chunk_id]) / mean
            weight = often * (K1 + 1) / (often + K1 * (1 - B + B * length))
            scores[chunk_id] = scores.get(chunk_id, 0.0) + rarity * weight
    return scores


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def _of_section(chunk: Chunk, hit: Hit) -> Hit:
    """The hit with the text of the chunk's section, if it has one."""
    section = chunk.piece.section
    return replace(hit, text=section.text, start=section.start, end=section.end) if section else hit


def _hit(chunk: Chunk, document: Document) -> Hit:
    piece = chunk.piece
    return Hit(
        chunk_id=chunk.id,
        score=0.0,
        dense=None,
        keyword=None,
        text=piece.text,
        start=piece.start,
        end=piece.end,
        page=piece.page,
        heading_path=piece.heading_path,
        language=piece.language,
        ordinal=chunk.ordinal,
        document_id=document.id,
        store_id=document.store_id,
        file_id=document.file_id,
        external_id=document.external_id,
        filename=document.filename,
        title=document.title,
        version=chunk.version,
        sha256=document.sha256,
        attributes=document.attributes,
        access=document.access,
        denied=document.denied,
        created_at=document.created_at,
        updated_at=document.updated_at,
        section=piece.section.ordinal if piece.section else None,
    )
