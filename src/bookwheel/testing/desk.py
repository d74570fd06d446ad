"""One tenant at work: what the contract tests need to bring documents into a store without a parser or a splitter."""

import hashlib
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray

from bookwheel.ports import Ports
from bookwheel.types import (
    Attributes,
    Candidate,
    Change,
    Chunk,
    Chunking,
    Claim,
    Document,
    DocumentDraft,
    File,
    Filter,
    Hit,
    Piece,
    Scope,
    Source,
    Space,
    Store,
)

LEASE_SECONDS = 60.0
MANY = 1_000_000  # a limit that nothing reaches
T = TypeVar("T", Store, File, Document, Source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A tenant with its ports."""

    ports: Ports
    tenant: UUID

    def scope(self, *stores: Store) -> Scope:
        """The tenant and these of its stores, as its owner."""
        return Scope(tenant_id=self.tenant, store_ids=tuple(store.id for store in stores), manages=True)

    async def store(self, name: str = "books") -> Store:
        """A new, empty store."""
        return await self.ports.stores.create(
            name, scope=self.scope(), space=self.ports.space, chunking=Chunking(), metadata={}
        )

    async def file(self, *, filename: str = "a.txt", sha256: bytes | None = None) -> File:
        """A recorded upload, by default of a content that no other file has."""
        return await self.ports.files.create(
            filename, scope=self.scope(), purpose="assistants", size=10, sha256=sha256 or os.urandom(32)
        )

    async def put(
        self, store: Store, text: str, *, external_id: str | None = None, attributes: Attributes | None = None
    ) -> Document:
        """A document that waits for a worker; its name is new unless given."""
        draft = DocumentDraft(external_id=external_id or uuid4().hex, text=text, attributes=attributes or {})
        (document,) = await self.ports.documents.put([draft], scope=self.scope(store), store=store)
        return document

    async def claim(self, document: Document, *, owner: str | None = None) -> Claim:
        """The claim of a document that is free."""
        (claim,) = await self.claims(document, owner=owner)
        return claim

    async def claims(
        self, *documents: Document, owner: str | None = None, lease_seconds: float = LEASE_SECONDS
    ) -> Sequence[Claim]:
        """What an owner, new unless given, can claim of these documents."""
        return await self.ports.ingestion.claim(
            [document.id for document in documents], owner=owner or uuid4().hex, lease_seconds=lease_seconds
        )

    async def next(self, *, limit: int = MANY, max_bytes: int = MANY, urgent: bool = False) -> Sequence[Claim]:
        """What a new owner is given to do."""
        return await self.ports.ingestion.claim_next(
            owner=uuid4().hex, lease_seconds=LEASE_SECONDS, limit=limit, max_bytes=max_bytes, urgent=urgent
        )

    async def write(self, claim: Claim, vectors: NDArray[np.float32] | None = None) -> list[Chunk]:
        """Chunks and vectors of a claimed version, not yet published; one chunk for each line of the text."""
        chunks = chunks_of(claim)
        if vectors is None:
            texts = [chunk.piece.embed_text for chunk in chunks]
            vectors = await self.ports.embedders[claim.space.id].embed(texts)
        await self.ports.ingestion.write([claim], chunks)
        await self.ports.vectors.upsert(claim.space, [claim], chunks, vectors)
        return chunks

    async def publish(self, document: Document, vectors: NDArray[np.float32] | None = None) -> list[Chunk]:
        """The whole walk of a document that waits; returns its live chunks."""
        claim = await self.claim(document)
        chunks = await self.write(claim, vectors)
        assert await self.ports.ingestion.publish([claim]) == [claim]
        return chunks

    async def add(
        self,
        store: Store,
        text: str,
        *,
        external_id: str | None = None,
        attributes: Attributes | None = None,
        vectors: NDArray[np.float32] | None = None,
    ) -> tuple[Document, list[Chunk]]:
        """A live document with its chunks."""
        document = await self.put(store, text, external_id=external_id, attributes=attributes)
        chunks = await self.publish(document, vectors)
        return await self.ports.documents.get(document.id, scope=self.scope(store)), chunks

    async def search(
        self,
        vector: NDArray[np.float32],
        *stores: Store,
        limit: int = 10,
        filter: Filter | None = None,
        also: Sequence[int] = (),
    ) -> Sequence[Candidate]:
        """Dense search in these stores."""
        return await self.ports.vectors.search(
            self.ports.space, vector, scope=self.scope(*stores), filter=filter, limit=limit, also=also
        )

    async def hydrate(self, chunks: Sequence[Chunk], *stores: Store, filter: Filter | None = None) -> Sequence[Hit]:
        """What a reader of these stores sees of the chunks, in the order of the text."""
        hits = await self.ports.passages.hydrate(
            [chunk.id for chunk in chunks], scope=self.scope(*stores), filter=filter
        )
        return sorted(hits, key=lambda hit: hit.ordinal)

    async def changes(self, after: int) -> list[Change]:
        """This tenant's lines of the outbox behind a sequence number."""
        changes = await self.ports.outbox.read(after, limit=MANY)
        return [change for change in changes if change.tenant_id == self.tenant]


def chunks_of(claim: Claim) -> list[Chunk]:
    """One chunk for each line of the claimed text."""
    chunks, start = [], 0
    for ordinal, line in enumerate((claim.text or claim.filename).splitlines()):
        chunks.append(
            Chunk(
                id=_chunk_id(claim, ordinal),
                document_id=claim.document_id,
                version=claim.version,
                ordinal=ordinal,
                piece=_piece(line, start),
                text_hash=hashlib.blake2b(line.encode(), digest_size=16).digest(),
            )
        )
        start += len(line) + 1
    return chunks


async def walked(fetch: Callable[..., Awaitable[Sequence[T]]], *, pages: int = 10) -> list[T]:
    """All items of a `list` verb, page by page; one that goes round in circles ends after `pages`."""
    items: list[T] = []
    for _ in range(pages):
        page = await fetch(after=items[-1].id if items else None)
        items += page
        if not page:
            break
    return items


def axis(space: Space, *weights: float) -> NDArray[np.float32]:
    """A unit vector whose first coordinates are in proportion to the weights: cosines that a test knows."""
    vector = np.zeros(space.dimensions, dtype=np.float32)
    vector[: len(weights)] = weights
    return vector / np.float32(np.linalg.norm(vector))


def rows(*vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors as the matrix that an index takes."""
    return np.stack(vectors)


def with_text(chunk: Chunk, text: str) -> Chunk:
    """The same chunk with another text."""
    return replace(chunk, piece=_piece(text, chunk.piece.start))


def _piece(line: str, start: int) -> Piece:
    return Piece(
        text=line,
        start=start,
        end=start + len(line),
        page=None,
        heading_path=("Part", "Section"),
        language="en",
        embed_text=line,
    )


def _chunk_id(claim: Claim, ordinal: int) -> int:
    key = f"{claim.document_id}/{claim.version}/{ordinal}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1
