"""The ingest walk over ports in memory: what is published, what fails, what is given back, what is not paid twice."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest

from bookwheel.errors import BrokenFileError, EmbedderUnavailableError
from bookwheel.ingest import give_up, ingest
from bookwheel.ports import Ports, Vectors
from bookwheel.testing import HashEmbedder, memory_ports
from bookwheel.testing.desk import Desk
from bookwheel.types import Document, DocumentDraft, FileStatus, Page, ParsedText, Store

LEASE_SECONDS = 60.0


class CountingEmbedder(HashEmbedder):
    """Counts the texts that it is given; fails while told to."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.down = False

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed and remember."""
        if self.down:
            raise EmbedderUnavailableError
        self.texts += texts
        return await super().embed(texts)


class Reader:
    """A parser that reads two pages, or breaks on request."""

    def __init__(self, *, broken: Sequence[str] = ()) -> None:
        self.broken = broken

    async def parse(self, path: Path, filename: str) -> ParsedText:
        """The two pages."""
        if filename in self.broken:
            raise BrokenFileError(f"{filename!r} is damaged. Save it again.")
        text = "First page about whales.\n\nSecond page about oaks."
        pages = (Page(number=1, start=0, end=24), Page(number=2, start=26, end=len(text)))
        return ParsedText(text=text, media_type="application/pdf", format="plain", title="Two pages", pages=pages)


@pytest.fixture
def embedder() -> CountingEmbedder:
    """The embedder of the ports."""
    return CountingEmbedder()


@pytest.fixture
def desk(embedder: CountingEmbedder) -> Desk:
    """A tenant over empty ports."""
    ports = memory_ports()
    return Desk(ports=replace(ports, embedders={ports.space.id: embedder}), tenant=uuid4())


async def run(ports: Ports, *documents: Document | UUID, parser: Reader | None = None) -> int:
    """One job over these documents."""
    ids = [one if isinstance(one, UUID) else one.id for one in documents]
    owner = uuid4().hex
    return await ingest(ids, owner=owner, lease_seconds=LEASE_SECONDS, ports=ports, parser=parser or Reader())


async def stored_file(desk: Desk, store: Store, filename: str) -> Document:
    """A document made of an uploaded file."""

    async def data() -> AsyncIterator[bytes]:
        yield filename.encode()

    sha256, size = await desk.ports.blobs.put(data(), max_bytes=1000)
    file = await desk.ports.files.create(filename, scope=desk.scope(), purpose="assistants", size=size, sha256=sha256)
    draft = DocumentDraft(file_id=file.id)
    return (await desk.ports.documents.put([draft], scope=desk.scope(store), store=store))[0]


async def state(desk: Desk, store: Store, document: Document) -> Document:
    """The document as its owner sees it now."""
    return await desk.ports.documents.get(document.id, scope=desk.scope(store))


async def test_documents_go_live(desk: Desk) -> None:
    """All documents of a job are published, and a second run finds nothing to do."""
    store = await desk.store()
    documents = [await desk.put(store, f"text number {number}") for number in range(5)]
    assert await run(desk.ports, *documents) == 5
    assert {(await state(desk, store, one)).status for one in documents} == {FileStatus.COMPLETED}
    assert await run(desk.ports, *documents) == 0


async def test_pages_are_kept(desk: Desk) -> None:
    """Chunks of a paged file lie on one page each, with offsets into the whole text."""
    store = await desk.store()
    document = await stored_file(desk, store, "two.pdf")
    await run(desk.ports, document)
    chunks = await desk.ports.passages.of_document(document.id, scope=desk.scope(store))
    assert [(chunk.page, chunk.start, chunk.text) for chunk in chunks] == [
        (1, 0, "First page about whales."),
        (2, 26, "Second page about oaks."),
    ]
    assert {chunk.title for chunk in chunks} == {"Two pages"}


async def test_one_broken_file_does_not_stop_the_others(desk: Desk) -> None:
    """It is marked failed with code and reason; the rest of the job is published."""
    store = await desk.store()
    bad = await stored_file(desk, store, "bad.pdf")
    good = await stored_file(desk, store, "good.pdf")
    assert await run(desk.ports, bad, good, parser=Reader(broken=["bad.pdf"])) == 1
    failed = await state(desk, store, bad)
    assert (failed.status, failed.error_code) == (FileStatus.FAILED, "broken_file")
    assert "bad.pdf" in (failed.error_message or "")
    assert (await state(desk, store, good)).status == FileStatus.COMPLETED


async def test_a_text_without_words_fails_clearly(desk: Desk) -> None:
    """Nothing but marks: no chunks, a reason."""
    store = await desk.store()
    document = await desk.put(store, " …\n--\n")
    await run(desk.ports, document)
    assert (await state(desk, store, document)).error_code == "no_text"


async def test_a_failing_embedder_gives_the_documents_back(desk: Desk, embedder: CountingEmbedder) -> None:
    """The error is retryable, the lease is free at once, and the next run finishes."""
    store = await desk.store()
    document = await desk.put(store, "some text")
    embedder.down = True
    with pytest.raises(EmbedderUnavailableError):
        await run(desk.ports, document)
    assert (await state(desk, store, document)).status == FileStatus.IN_PROGRESS
    embedder.down = False
    assert await run(desk.ports, document) == 1


async def test_known_texts_are_not_embedded_again(desk: Desk, embedder: CountingEmbedder) -> None:
    """The same passage in another document costs nothing."""
    store = await desk.store()
    await run(desk.ports, await desk.put(store, "a passage that many share"))
    before = list(embedder.texts)
    await run(desk.ports, await desk.put(store, "a passage that many share"))
    assert before
    assert embedder.texts == before


async def test_a_newer_version_wins(desk: Desk) -> None:
    """A version overtaken while it was worked on is not published, and the newer one is queued again."""
    store = await desk.store()
    document = await desk.put(store, "old words", external_id="note")
    claim = await desk.claim(document)
    await desk.write(claim)
    await desk.put(store, "new words", external_id="note")
    assert await desk.ports.ingestion.publish([claim]) == []
    assert await run(desk.ports, document) == 1
    chunks = await desk.ports.passages.of_document(document.id, scope=desk.scope(store))
    assert [chunk.text for chunk in chunks] == ["new words"]


async def test_a_deleted_document_is_skipped(desk: Desk) -> None:
    """A job for a document that is gone does nothing."""
    store = await desk.store()
    document = await desk.put(store, "text")
    await desk.ports.documents.delete([document.id], scope=desk.scope(store))
    assert await run(desk.ports, document.id) == 0


async def test_give_up_isolates_then_fails(desk: Desk) -> None:
    """After an unforeseen error a batch is tried one by one; a document alone is marked failed."""
    queued: list[list[UUID]] = []

    class Recorder:
        """Notes what is queued again."""

        async def enqueue(self, document_ids: Sequence[UUID]) -> None:
            queued.append(list(document_ids))

    store = await desk.store()
    one, other = await desk.put(store, "one"), await desk.put(store, "other")
    ports = replace(desk.ports, jobs=Recorder())  # type: ignore[arg-type]
    await give_up([one.id, other.id], ZeroDivisionError(), owner="me", ports=ports)
    assert queued == [[one.id], [other.id]]
    await give_up([one.id], ZeroDivisionError(), owner="me", ports=ports)
    assert (await state(desk, store, one)).error_code == "internal_error"


async def test_vectors_are_of_the_embedded_text(desk: Desk) -> None:
    """A search by the text's own vector finds it with cosine 1."""
    store = await desk.store()
    await run(desk.ports, await desk.put(store, "tides follow the moon"))
    vector = (await desk.ports.embedders[store.space.id].embed(["tides follow the moon"]))[0]
    found = await desk.search(np.asarray(vector), store)
    assert found[0].score == pytest.approx(1.0, abs=1e-3)
