"""The ingest walk: claimed documents in, published versions out.

Every stage may be killed at any line and run again: chunks are keyed by (document, version, ordinal), writing twice
stores once, and only publishing makes a version visible.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol
from uuid import UUID

import numpy as np
import structlog
from tokenizers import Tokenizer

from bookwheel.chunk import batches, given_pieces, numbered
from bookwheel.errors import (
    BookwheelError,
    EmbedderUnavailableError,
    NoTextError,
    NotFoundError,
    UnprocessableFileError,
)
from bookwheel.given import PACKED
from bookwheel.media_types import too_many_chunks
from bookwheel.ports import Ports, Vectors
from bookwheel.semantic import Joiner
from bookwheel.telemetry import ERRORS, INGEST_DOCUMENTS, stage
from bookwheel.types import Chunk, Chunking, Claim, CutText

DOCUMENTS_PER_CLAIM = 1024
BYTES_PER_CLAIM = 4 << 20  # of sources: what one job holds in memory is bounded
BATCH_CHUNKS = 1280  # chunks embedded and written at once: sorted by length, 4 % faster than 640; 2,560 no faster
MAX_BUDGET_WAIT_SECONDS = 600.0  # until it is looked whether a larger limit was given
USED_UP = "The tenant's embedding tokens of the day are used up. It goes on by itself."
MAX_BACKOFF_SECONDS = 60.0
SUSPECT_DEATHS = 2  # of workers with the document in hand, from which on it is ingested alone
MAX_DEATHS = 6
SUSPECT_ATTEMPTS = 3  # ended by an embedder that is well, from which on the documents are tried one by one

log = structlog.get_logger()


class Parser(Protocol):
    """Reads and cuts documents, somewhere safe."""

    max_chunks: int  #: of one document

    def cut(
        self, source: Path | str, filename: str, *, chunking: Chunking, tokenizer: Tokenizer, title: str | None = None
    ) -> AsyncGenerator[CutText, None]:
        """The pieces of a file or a text in batches, each made when it is asked for: at least one batch, and for the
        strategy `semantic` groups of sentences. Raises UnprocessableFileError."""
        ...


@dataclass(slots=True)
class _Job:
    """What one run has done so far."""

    claims: list[Claim]  #: still to be published
    counted: frozenset[UUID] = frozenset()  #: tenants whose embedding is limited, so that its tokens are counted
    timings: dict[str, float] = field(default_factory=dict)
    writing: asyncio.Task[None] | None = None  #: of the batch before


async def ingest_waiting(
    *, owner: str, lease_seconds: float, urgent: bool, ports: Ports, parser: Parser, stop: asyncio.Event
) -> int:
    """Take what waits, with `urgent` only single uploads, until nothing is left or `stop` is set; returns how many
    went live.

    What cannot be read is marked failed, what may pass is tried again later. Raises retryable errors of the catalog.
    """
    live = 0
    while not stop.is_set():
        claims = await ports.ingestion.claim_next(
            owner=owner,
            lease_seconds=lease_seconds,
            limit=DOCUMENTS_PER_CLAIM,
            max_bytes=BYTES_PER_CLAIM,
            urgent=urgent,
        )
        if not claims:
            break
        if len(claims) > 1:
            await ports.jobs.wake()  # there may be more than one worker's fill
        live += await ingest(claims, lease_seconds=lease_seconds, ports=ports, parser=parser)
    return live


async def ingest(claims: Sequence[Claim], *, lease_seconds: float, ports: Ports, parser: Parser) -> int:
    """Bring claimed documents to their wanted version; returns how many went live.

    Documents that workers died with are ingested alone, and given up when that goes on."""
    claims = await _affordable(claims, ports)
    suspects = [claim for claim in claims if claim.deaths >= SUSPECT_DEATHS]
    sound = [claim for claim in claims if claim.deaths < SUSPECT_DEATHS]
    await ports.ingestion.release(suspects, parked=True)  # if we die with the others, it was not theirs to blame
    live = await _attempt(sound, ports, parser, lease_seconds)
    return live + await _one_by_one(suspects, ports, parser, lease_seconds)


async def _affordable(claims: Sequence[Claim], ports: Ports) -> Sequence[Claim]:
    """Those of tenants that may embed more today; the others are given back for the time when they may."""
    waits = {tenant: await ports.budget.wait(tenant) for tenant in {claim.tenant_id for claim in claims}}
    for tenant, wait in waits.items():
        if wait:
            theirs = [claim for claim in claims if claim.tenant_id == tenant]
            log.info("embedding tokens of the day are used up", tenant=tenant.hex, documents=len(theirs))
            await ports.ingestion.release(theirs, retry_in=min(wait, MAX_BUDGET_WAIT_SECONDS), reason=USED_UP)
    return [claim for claim in claims if not waits[claim.tenant_id]]


async def _attempt(claims: Sequence[Claim], ports: Ports, parser: Parser, lease_seconds: float) -> int:
    live = 0
    try:
        for group in _groups(claims):
            live += await _ingest_group(group, ports, parser)
    except BookwheelError as error:
        if not error.retryable or await _is_theirs(claims, error, ports):
            return live + await _isolate(claims, error, ports, parser, lease_seconds)
        await _postpone(claims, error, ports)
    except Exception as error:  # of a parser or a model: it must not stop the other documents
        log.exception("unforeseen error", documents=[claim.filename for claim in claims[:10]])
        return live + await _isolate(claims, error, ports, parser, lease_seconds)
    except BaseException:
        await asyncio.shield(ports.ingestion.release(claims))
        raise
    return live


async def _is_theirs(claims: Sequence[Claim], error: BookwheelError, ports: Ports) -> bool:
    """Whether one of these texts is to blame: the embedder failed again and again, and yet it answers."""
    few = len(claims) < 2 or max(claim.attempts for claim in claims) < SUSPECT_ATTEMPTS
    if few or not isinstance(error, EmbedderUnavailableError):
        return False
    try:
        await ports.embedders[claims[0].space.id].ping()
    except BookwheelError:
        return False
    return True


async def _postpone(claims: Sequence[Claim], error: BookwheelError, ports: Ports) -> None:
    """Give the documents back for a later try: at first after a second, in the end every minute."""
    attempts = min(10, max(claim.attempts for claim in claims))  # no float holds the power of a long outage
    wait = min(MAX_BACKOFF_SECONDS, 2.0**attempts) * random.uniform(0.5, 1.5)  # noqa: S311
    ERRORS.labels("ingest", type(error).__name__).inc()
    log.warning("will be tried again", documents=len(claims), seconds=round(wait, 1), reason=error.message)
    await ports.ingestion.release(claims, retry_in=wait, reason=error.message)


async def _isolate(
    claims: Sequence[Claim], error: Exception, ports: Ports, parser: Parser, lease_seconds: float
) -> int:
    """After an error that nobody foresaw: try the documents one by one, fail the one that is left."""
    ERRORS.labels("ingest", type(error).__name__).inc()
    if len(claims) > 1:
        await ports.ingestion.release(claims, parked=True)
        return await _one_by_one(claims, ports, parser, lease_seconds)
    remedy = "The worker's log has it; `bookwheel jobs retry` tries again."
    message = f"{claims[0].filename!r}: {type(error).__name__}. {remedy}"
    await _fail_one(claims[0], "internal_error", message, ports)
    return 0


async def _one_by_one(claims: Sequence[Claim], ports: Ports, parser: Parser, lease_seconds: float) -> int:
    live = 0
    for parked in claims:
        held = await ports.ingestion.claim([parked.document_id], owner=parked.owner, lease_seconds=lease_seconds)
        if held and held[0].deaths >= MAX_DEATHS:
            message = f"{parked.filename!r}: the worker died {held[0].deaths} times while it read this document."
            await _fail_one(held[0], "worker_died", message, ports)
        else:
            live += await _attempt(held, ports, parser, lease_seconds)
    return live


async def _fail_one(claim: Claim, code: str, message: str, ports: Ports) -> None:
    await ports.ingestion.fail(claim, code=code, message=message)
    INGEST_DOCUMENTS.labels("failed").inc()
    log.warning("document failed", document=claim.filename, code=code, reason=message)


def _groups(claims: Sequence[Claim]) -> list[list[Claim]]:
    """Claims that share an embedding space and a partition; those that need no embedder apart and first."""
    groups: dict[tuple[bool, int, int], list[Claim]] = {}
    for claim in claims:
        groups.setdefault((claim.given is None, claim.space.id, claim.shard), []).append(claim)
    return [groups[key] for key in sorted(groups)]


async def _ingest_group(claims: Sequence[Claim], ports: Ports, parser: Parser) -> int:
    tenants = {claim.tenant_id for claim in claims}
    job = _Job(claims=list(claims), counted=frozenset([one for one in tenants if await ports.budget.limited(one)]))
    await _write_all(job, ports, parser)
    with stage("ingest.publish", job.timings):
        published = await ports.ingestion.publish(job.claims)
    INGEST_DOCUMENTS.labels("completed").inc(len(published))
    if len(published) < len(job.claims):
        await ports.jobs.wake()  # a newer version came while we held the lease, and its own call found nothing to do
    log.debug("ingested", documents=len(published), **{name: round(took, 3) for name, took in job.timings.items()})
    return len(published)


async def _write_all(job: _Job, ports: Ports, parser: Parser) -> None:
    """Embed one batch while the one before it is being written."""
    try:
        async with aclosing(_batches(job, ports, parser)) as made:
            async for batch in made:
                vectors = await _embed(job, batch, ports)
                if job.writing is not None:
                    await job.writing
                job.writing = asyncio.create_task(_write(job, batch, vectors, ports))
    finally:
        if job.writing is not None:
            await job.writing


async def _batches(job: _Job, ports: Ports, parser: Parser) -> AsyncGenerator[list[Chunk], None]:
    """Chunks of all documents together, so that many small documents fill a batch."""
    waiting: list[Chunk] = []
    for claim in list(job.claims):
        try:
            async with aclosing(_parts(job, claim, ports, parser)) as parts:
                async for part in parts:
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
    if job.writing is not None:  # else what it writes of this document would stay
        await asyncio.wait({job.writing})
    await _fail_one(claim, error.code, error.message, ports)


async def _parts(job: _Job, claim: Claim, ports: Ports, parser: Parser) -> AsyncGenerator[list[Chunk], None]:
    ordinal = 0
    async with aclosing(_cuts(claim, ports, parser)) as cuts:
        while (cut := await _take(job, cuts, first=not ordinal)) is not None:
            if claim.title is None and cut.title is not None:
                job.claims[job.claims.index(claim)] = claim = replace(claim, title=cut.title)
            chunks = numbered(claim, cut.pieces, first=ordinal)
            ordinal += len(chunks)
            if ordinal > parser.max_chunks:
                raise too_many_chunks(claim.filename, parser.max_chunks)
            yield chunks
    if not ordinal:
        raise NoTextError(f"{claim.filename!r} has no text. Nothing was indexed.")


async def _take(job: _Job, cuts: AsyncIterator[CutText], *, first: bool) -> CutText | None:
    """The next batch. Reading, and cutting the first batch, count as parsing."""
    with stage("ingest.parse" if first else "ingest.chunk", job.timings):
        return await anext(cuts, None)


async def _cuts(claim: Claim, ports: Ports, parser: Parser) -> AsyncGenerator[CutText, None]:
    """The passages of one document in batches, closed with the process that reads it."""
    if claim.given is not None:
        parts = batches(given_pieces(claim.text or "", claim.given))
        while pieces := await asyncio.to_thread(next, parts, None):  # telling languages takes time
            yield CutText(media_type="text/plain", title=None, warnings=(), pieces=pieces)
        return
    embedder = ports.embedders[claim.space.id]
    source = claim.text or "" if claim.sha256 is None else await _path(claim.sha256, claim.filename, ports)
    read = parser.cut(source, claim.filename, chunking=claim.chunking, tokenizer=embedder.tokenizer, title=claim.title)
    async with aclosing(read):
        if claim.chunking.strategy == "semantic":
            read = Joiner(embedder, claim.chunking, claim.title).joined(read)
        async for cut in read:
            yield cut


async def _path(sha256: bytes, filename: str, ports: Ports) -> Path:
    try:
        return Path(await ports.blobs.path(sha256))
    except NotFoundError as error:
        raise UnprocessableFileError(f"{filename!r}: its bytes are gone. Upload it again.") from error


async def _embed(job: _Job, batch: Sequence[Chunk], ports: Ports) -> Vectors:
    """Vectors of a batch; texts embedded before, in whatever version or document, are not embedded again. Given
    vectors are neither looked up nor embedded."""
    space, shard = job.claims[0].space, job.claims[0].shard
    with stage("ingest.embed", job.timings):
        known = {one.text_hash: np.frombuffer(one.vector, PACKED) for one in batch if one.vector is not None}
        hashes = list(dict.fromkeys(chunk.text_hash for chunk in batch if chunk.vector is None))
        if hashes:
            known |= await ports.ingestion.known_vectors(space, hashes, shard=shard)
        await _book(job, [chunk for chunk in batch if chunk.vector is None], ports)
        texts = {chunk.text_hash: chunk.piece.embed_text for chunk in batch if chunk.text_hash not in known}
        if texts:
            made = await ports.embedders[space.id].embed(list(texts.values()))
            known |= dict(zip(texts, made, strict=True))
    return np.stack([known[chunk.text_hash] for chunk in batch])


async def _book(job: _Job, embedded: Sequence[Chunk], ports: Ports) -> None:
    """Count the tokens of tenants that have a limit, also of texts whose vectors were there already: what is not
    counted would tell a tenant which texts its neighbours have."""
    if not job.counted:
        return
    tenants = {claim.document_id: claim.tenant_id for claim in job.claims}
    theirs = [chunk for chunk in embedded if tenants.get(chunk.document_id) in job.counted]
    counts = ports.embedders[job.claims[0].space.id].token_counts([chunk.piece.embed_text for chunk in theirs])
    tokens: Counter[UUID] = Counter()
    for chunk, count in zip(theirs, counts, strict=True):
        tokens[tenants[chunk.document_id]] += count
    await ports.budget.book(tokens)


async def _write(job: _Job, batch: Sequence[Chunk], vectors: Vectors, ports: Ports) -> None:
    claims = list(job.claims)
    with stage("ingest.write", job.timings):
        await ports.ingestion.write(claims, batch)
        await ports.vectors.upsert(claims[0].space, claims, batch, vectors)
