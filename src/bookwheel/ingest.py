"""The ingest walk: claimed documents in, published versions out.

Every stage may be killed at any line and run again: chunks are keyed by (document, version, ordinal), writing twice
stores once, and only publishing makes a version visible.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol
from uuid import UUID

import numpy as np
import structlog

from bookwheel.chunk import chunks as cut
from bookwheel.errors import BookwheelError, NoTextError, NotFoundError, UnprocessableFileError
from bookwheel.ports import Ports, Vectors
from bookwheel.telemetry import INGEST_DOCUMENTS, stage
from bookwheel.types import Chunk, Claim, ParsedText

BATCH_CHUNKS = 256  # chunks embedded and written at once
THREAD_TEXT = 20_000  # characters from which cutting leaves the event loop

log = structlog.get_logger()


class Parser(Protocol):
    """Reads a file as text, somewhere safe."""

    async def parse(self, path: Path, filename: str) -> ParsedText:
        """Raises UnprocessableFileError."""


@dataclass(slots=True)
class _Job:
    """What one run has done so far."""

    claims: list[Claim]  #: still to be published
    timings: dict[str, float] = field(default_factory=dict)


async def ingest(
    document_ids: Sequence[UUID], *, owner: str, lease_seconds: float, ports: Ports, parser: Parser
) -> int:
    """Bring those of the documents that are unfinished and free to their wanted version; returns how many went live.

    What cannot be read is marked failed. Raises retryable errors with the claims given back.
    """
    claims = await ports.ingestion.claim(document_ids, owner=owner, lease_seconds=lease_seconds)
    live = 0
    try:
        for group in _groups(claims):
            live += await _ingest_group(group, ports, parser)
    except BaseException:
        await asyncio.shield(ports.ingestion.release(claims))
        raise
    return live


async def give_up(document_ids: Sequence[UUID], error: Exception, *, owner: str, ports: Ports) -> None:
    """After an error that nobody foresaw: try documents of a batch one by one, fail the one that is left."""
    if len(document_ids) > 1:
        for document_id in document_ids:
            await ports.jobs.enqueue([document_id])
        return
    for claim in await ports.ingestion.claim(document_ids, owner=owner, lease_seconds=1.0):
        await ports.ingestion.fail(
            claim,
            code="internal_error",
            message=f"{claim.filename!r}: {type(error).__name__}. The worker's log has it.",
        )
        INGEST_DOCUMENTS.labels("failed").inc()


def _groups(claims: Sequence[Claim]) -> list[list[Claim]]:
    """Claims that share an embedding space and a partition."""
    groups: dict[tuple[int, int], list[Claim]] = {}
    for claim in claims:
        groups.setdefault((claim.space.id, claim.shard), []).append(claim)
    return list(groups.values())


async def _ingest_group(claims: Sequence[Claim], ports: Ports, parser: Parser) -> int:
    job = _Job(claims=list(claims))
    await _write_all(job, ports, parser)
    with stage("ingest.publish", job.timings):
        published = await ports.ingestion.publish(job.claims)
    INGEST_DOCUMENTS.labels("completed").inc(len(published))
    live = {claim.document_id for claim in published}
    overtaken = [claim.document_id for claim in job.claims if claim.document_id not in live]
    if overtaken:  # a newer version came while we held the lease, and its own job found us holding it
        await ports.jobs.enqueue(overtaken)
    log.debug("ingested", documents=len(published), **{name: round(took, 3) for name, took in job.timings.items()})
    return len(published)


async def _write_all(job: _Job, ports: Ports, parser: Parser) -> None:
    """Embed one batch while the one before it is being written."""
    writing: asyncio.Task[None] | None = None
    try:
        async for batch in _batches(job, ports, parser):
            vectors = await _embed(job, batch, ports)
            if writing is not None:
                await writing
            writing = asyncio.create_task(_write(job, batch, vectors, ports))
    finally:
        if writing is not None:
            await writing


async def _batches(job: _Job, ports: Ports, parser: Parser) -> AsyncIterator[list[Chunk]]:
    """Chunks of all documents together, so that many small documents fill a batch."""
    waiting: list[Chunk] = []
    for claim in list(job.claims):
        try:
            async for part in _parts(job, claim, ports, parser):
                waiting += part
                while len(waiting) >= BATCH_CHUNKS:
                    yield waiting[:BATCH_CHUNKS]
                    waiting = waiting[BATCH_CHUNKS:]
        except UnprocessableFileError as error:
            waiting = [chunk for chunk in waiting if chunk.document_id != claim.document_id]
            await _fail(job, claim, error, ports)
    if waiting:
        yield waiting


async def _fail(job: _Job, claim: Claim, error: BookwheelError, ports: Ports) -> None:
    job.claims = [other for other in job.claims if other.document_id != claim.document_id]
    await ports.ingestion.fail(claim, code=error.code, message=error.message)
    INGEST_DOCUMENTS.labels("failed").inc()
    log.warning("document failed", document=claim.filename, code=error.code, reason=error.message)


async def _parts(job: _Job, claim: Claim, ports: Ports, parser: Parser) -> AsyncIterator[list[Chunk]]:
    parsed = await _parse(job, claim, ports, parser)
    if claim.title is None and parsed.title is not None:
        job.claims[job.claims.index(claim)] = claim = replace(claim, title=parsed.title)
    tokenizer = ports.embedders[claim.space.id].tokenizer
    pieces = cut(claim, parsed, tokenizer=tokenizer)
    empty = True
    while True:
        with stage("ingest.chunk", job.timings):
            part = await _take(pieces, in_thread=len(parsed.text) > THREAD_TEXT)
        if not part:
            break
        empty = False
        yield part
    if empty:
        raise NoTextError(f"{claim.filename!r} has no text. Nothing was indexed.")


async def _take(pieces: Iterator[Chunk], *, in_thread: bool) -> list[Chunk]:
    if in_thread:
        return await asyncio.to_thread(lambda: list(itertools.islice(pieces, BATCH_CHUNKS)))
    return list(itertools.islice(pieces, BATCH_CHUNKS))


async def _parse(job: _Job, claim: Claim, ports: Ports, parser: Parser) -> ParsedText:
    if claim.sha256 is None:
        return ParsedText(text=claim.text or "", media_type="text/plain", format="plain", title=claim.title)
    with stage("ingest.parse", job.timings):
        try:
            path = await ports.blobs.path(claim.sha256)
        except NotFoundError as error:
            raise UnprocessableFileError(f"{claim.filename!r}: its bytes are gone. Upload it again.") from error
        return await parser.parse(Path(path), claim.filename)


async def _embed(job: _Job, batch: Sequence[Chunk], ports: Ports) -> Vectors:
    """Vectors of a batch; texts embedded before, in whatever version or document, are not embedded again."""
    space, shard = job.claims[0].space, job.claims[0].shard
    with stage("ingest.embed", job.timings):
        hashes = list(dict.fromkeys(chunk.text_hash for chunk in batch))
        known = await ports.ingestion.known_vectors(space, hashes, shard=shard)
        texts = {chunk.text_hash: chunk.piece.embed_text for chunk in batch if chunk.text_hash not in known}
        if texts:
            made = await ports.embedders[space.id].embed(list(texts.values()))
            known |= dict(zip(texts, made, strict=True))
    return np.stack([known[chunk.text_hash] for chunk in batch])


async def _write(job: _Job, batch: Sequence[Chunk], vectors: Vectors, ports: Ports) -> None:
    claims = list(job.claims)
    with stage("ingest.write", job.timings):
        await ports.ingestion.write(claims, batch)
        await ports.vectors.upsert(claims[0].space, claims, batch, vectors)
