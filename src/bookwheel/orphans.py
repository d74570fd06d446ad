"""What any backend holds that the catalog does not, and the other way round: counted, and repaired on request."""

from collections.abc import AsyncIterator

from bookwheel.errors import NotFoundError
from bookwheel.ports import Ports

KEEP_SECONDS = 60.0  # between the bytes of an upload and its row in the catalog, at most
BATCH = 500


async def remove_dead_blobs(ports: Ports) -> int:
    """Remove the bytes of files that were deleted a while ago; returns how many."""
    dead = await ports.files.dead_blobs(older_than_seconds=KEEP_SECONDS, limit=BATCH)
    gone = [sha256 for sha256 in dead if await ports.blobs.delete(sha256, older_than_seconds=KEEP_SECONDS)]
    if gone:
        await ports.files.forget_blobs(gone)
    return len(gone)


async def find_orphans(ports: Ports, *, repair: bool) -> dict[str, int]:
    """Counts by kind, all 0 when every backend agrees with the catalog.

    Documents in progress and uploads of the last minute are not orphans. With `repair`, what is held for nothing is
    removed, what is incomplete is ingested again, and a keyword index that differs is rebuilt by the worker; only a
    file whose bytes are gone must be uploaded again."""
    counts = dict(await ports.ingestion.orphans(repair=repair))
    counts |= await ports.vectors.orphans(ports.space, repair=repair)
    counts["blobs"] = await _blobs(ports, repair=repair)
    counts["files_without_bytes"] = await _files_without_bytes(ports)
    counts["keywords"] = await _keywords(ports, repair=repair)
    if repair:
        await ports.jobs.wake()
    return counts


async def _blobs(ports: Ports, *, repair: bool) -> int:
    count = 0
    async for batch in _batches(ports.blobs.list(older_than_seconds=KEEP_SECONDS)):
        orphans = set(batch) - await ports.files.having(batch)
        count += len(orphans)
        for sha256 in orphans if repair else ():
            await ports.blobs.delete(sha256, older_than_seconds=KEEP_SECONDS)
    return count


async def _files_without_bytes(ports: Ports) -> int:
    count = 0
    async for sha256 in ports.files.hashes():
        try:
            await ports.blobs.path(sha256)
        except NotFoundError:
            count += 1
    return count


async def _keywords(ports: Ports, *, repair: bool) -> int:
    """By how many chunks the keyword index differs, once it has caught up."""
    if await ports.keywords.position() < await ports.outbox.last():
        return 0
    difference = abs(await ports.keywords.size() - await ports.outbox.live_chunks())
    if difference and repair:
        await ports.outbox.restart()
    return difference


async def _batches(hashes: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    batch: list[bytes] = []
    async for sha256 in hashes:
        batch.append(sha256)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
