"""What backends hold beside the catalog: bytes nobody has, files without bytes, an index that differs."""

import os
import time
from collections.abc import AsyncIterator

import pytest

from bookwheel.orphans import KEEP_SECONDS, find_orphans, remove_dead_blobs
from bookwheel.ports import Ports
from bookwheel.testing import memory_ports
from bookwheel.testing.desk import Desk
from bookwheel.testing.keywords import streamed
from bookwheel.types import DEFAULT_TENANT


@pytest.fixture
def ports() -> Ports:
    """Empty ports in memory."""
    return memory_ports()


@pytest.fixture
def desk(ports: Ports) -> Desk:
    """A tenant."""
    return Desk(ports=ports, tenant=DEFAULT_TENANT)


async def stored(ports: Ports, content: bytes, *, age: float = 2 * KEEP_SECONDS) -> bytes:
    """A blob that was put a while ago."""

    async def data() -> AsyncIterator[bytes]:
        yield content

    sha256, _ = await ports.blobs.put(data(), max_bytes=1000)
    ports.blobs.put_at[sha256] = time.time() - age  # type: ignore[attr-defined]
    return sha256


async def test_bytes_without_a_file_are_removed(ports: Ports, desk: Desk) -> None:
    """An upload that died before its row is an orphan after a minute; what a file has stays."""
    lost, kept, fresh = await stored(ports, b"lost"), await stored(ports, b"kept"), await stored(ports, b"new", age=1)
    await desk.file(sha256=kept)
    assert (await find_orphans(ports, repair=False))["blobs"] == 1
    await find_orphans(ports, repair=True)
    left = {sha256 async for sha256 in ports.blobs.list(older_than_seconds=0)}
    assert left == {kept, fresh}
    assert lost not in left


async def test_files_without_bytes_are_told(ports: Ports, desk: Desk) -> None:
    """Nothing here can bring them back."""
    await desk.file(sha256=os.urandom(32))
    assert (await find_orphans(ports, repair=True))["files_without_bytes"] == 1


async def test_a_keyword_index_that_differs_is_rebuilt(ports: Ports, desk: Desk) -> None:
    """After a repair the index is behind a gap that it can only cross by a rebuild."""
    store = await desk.store()
    await desk.add(store, "one\ntwo")
    changes = await ports.outbox.read(0, limit=10)
    await ports.keywords.apply(changes, streamed([]))  # as if the entries had been lost
    assert (await find_orphans(ports, repair=False))["keywords"] == 2
    await find_orphans(ports, repair=True)
    position = await ports.keywords.position()
    left = await ports.outbox.read(position - 1, limit=10)
    assert [change.sequence for change in left] != [position]


async def test_dead_blobs_go_once(ports: Ports, desk: Desk) -> None:
    """The bytes of a deleted file go; those that were uploaded again meanwhile stay."""
    database = desk.ports.files.database  # type: ignore[attr-defined]
    gone, again = await stored(ports, b"gone"), await stored(ports, b"again")
    for sha256 in (gone, again):
        file = await desk.file(sha256=sha256)
        await ports.files.delete(file.id, scope=desk.scope())
        database.tombstones[sha256] -= 2 * KEEP_SECONDS
    await stored(ports, b"again", age=1)  # its row is about to be made
    assert await remove_dead_blobs(ports) == 1
    assert {sha256 async for sha256 in ports.blobs.list(older_than_seconds=0)} == {again}
    assert list(database.tombstones) == [again]
