"""The ingest walk over ports in memory: what is published, what fails, what is given back, what is not paid twice."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest
from tokenizers import Tokenizer

from bookwheel.budget import DailyBudget
from bookwheel.errors import BrokenFileError, EmbedderUnavailableError
from bookwheel.ingest import MAX_DEATHS, ingest, ingest_waiting
from bookwheel.limits import Guard
from bookwheel.ports import Ports, Vectors
from bookwheel.sandbox import cut_here
from bookwheel.settings import Settings
from bookwheel.testing import HashEmbedder, memory_ports
from bookwheel.testing.desk import Desk
from bookwheel.types import (
    Chunk,
    Chunking,
    Claim,
    CutText,
    Document,
    DocumentDraft,
    FileStatus,
    JobState,
    Limits,
    Page,
    ParsedText,
    Store,
    Strategy,
)

LEASE_SECONDS = 60.0


class CountingEmbedder(HashEmbedder):
    """Counts the texts that it is given; fails while told to."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.down = False
        self.refused: str | None = None  #: a text that it fails on

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed and remember."""
        if self.down or self.refused in texts:
            raise EmbedderUnavailableError
        self.texts += texts
        return await super().embed(texts)


class Reader:
    """A parser that reads two pages, or breaks on request."""

    def __init__(self, *, broken: Sequence[str] = ()) -> None:
        self.broken = broken

    max_chunks = 100

    async def cut(
        self, source: Path | str, filename: str, *, chunking: Chunking, tokenizer: Tokenizer, title: str | None = None
    ) -> AsyncGenerator[CutText, None]:
        """The given text, or the two pages."""
        if filename in self.broken:
            raise BrokenFileError(f"{filename!r} is damaged. Save it again.")
        parsed = self.two_pages() if isinstance(source, Path) else self.plain(source)
        async for cut in cut_here(parsed, chunking=chunking, tokenizer=tokenizer, title=title):
            yield cut

    def plain(self, text: str) -> ParsedText:
        """An inline text."""
        return ParsedText(text=text, media_type="text/plain", format="plain")

    def two_pages(self) -> ParsedText:
        """What every file holds."""
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
    claims = await ports.ingestion.claim(ids, owner=uuid4().hex, lease_seconds=LEASE_SECONDS)
    return await ingest(claims, lease_seconds=LEASE_SECONDS, ports=ports, parser=parser or Reader())


async def run_all(ports: Ports, *, parser: Reader | None = None) -> int:
    """A worker that takes what waits until nothing is left."""
    return await ingest_waiting(
        owner=uuid4().hex,
        lease_seconds=LEASE_SECONDS,
        urgent=False,
        ports=ports,
        parser=parser or Reader(),
        stop=asyncio.Event(),
    )


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


async def test_too_many_passages_fail_clearly(desk: Desk) -> None:
    """A document past the limit is not indexed in part."""
    store = await desk.store()
    document = await desk.put(store, "A line about whales and the sea.\n" * 5000)
    await run(desk.ports, document)
    failed = await state(desk, store, document)
    assert (failed.status, failed.error_code) == (FileStatus.FAILED, "too_many_chunks")
    assert "makes more than 100 passages. Split it, or raise BOOKWHEEL_MAX_CHUNKS" in (failed.error_message or "")
    assert not any((await desk.ports.ingestion.orphans(repair=False)).values())


@pytest.mark.parametrize("strategy", ["fixed", "sentence", "parent_child", "semantic"])
async def test_every_strategy_is_found(desk: Desk, strategy: Strategy) -> None:
    """A document of any strategy goes live, and the whole of its text is in its chunks."""
    chunking = Chunking(strategy=strategy, max_tokens=64, overlap_tokens=0, parent_tokens=256)
    store = await desk.store()
    text = " ".join(f"Sentence {number} tells of whales." for number in range(100))
    draft = DocumentDraft(external_id="a", text=text, chunking=chunking)
    (document,) = await desk.ports.documents.put([draft], scope=desk.scope(store), store=store)
    assert await run(desk.ports, document) == 1
    chunks = await desk.ports.passages.of_document(document.id, scope=desk.scope(store))
    assert " ".join(chunk.text for chunk in chunks) == text
    hits = await desk.ports.passages.hydrate([chunks[0].chunk_id], scope=desk.scope(store), filter=None)
    assert (len(hits[0].text) > 2 * len(chunks[0].text)) == (strategy == "parent_child")


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


async def test_a_failing_embedder_postpones_the_documents(desk: Desk, embedder: CountingEmbedder) -> None:
    """The attempt counts, the reason is kept, and the next attempt finishes."""
    store = await desk.store()
    document = await desk.put(store, "some text")
    embedder.down = True
    assert await run_all(desk.ports) == 0
    (job,) = await desk.ports.jobs.list(scope=desk.scope(store), limit=10)
    assert (job.state, job.attempts) == (JobState.RETRYING, 1)
    assert "embedder" in (job.error_message or "")
    embedder.down = False
    await desk.ports.jobs.retry([document.id], scope=desk.scope(store))
    assert await run_all(desk.ports) == 1


async def test_an_outage_of_any_length_is_waited_out(desk: Desk, embedder: CountingEmbedder) -> None:
    """Once a minute in the end, however many attempts there were."""
    store = await desk.store()
    document = await desk.put(store, "some text")
    claim = replace(await desk.claim(document), attempts=5000)
    embedder.down = True
    assert await ingest([claim], lease_seconds=LEASE_SECONDS, ports=desk.ports, parser=Reader()) == 0
    (job,) = await desk.ports.jobs.list(scope=desk.scope(store), limit=10)
    assert job.state is JobState.RETRYING


async def test_a_text_that_the_embedder_cannot_take_waits_alone(desk: Desk, embedder: CountingEmbedder) -> None:
    """The embedder is well, so after some attempts the documents beside it go live without it."""
    store = await desk.store()
    poison, good = await desk.put(store, "poison"), await desk.put(store, "good")
    embedder.refused = "poison"
    claims = await desk.ports.ingestion.claim([poison.id, good.id], owner="a", lease_seconds=LEASE_SECONDS)
    tired = [replace(claim, attempts=3) for claim in claims]
    assert await ingest(tired, lease_seconds=LEASE_SECONDS, ports=desk.ports, parser=Reader()) == 1
    assert (await state(desk, store, good)).status is FileStatus.COMPLETED
    (job,) = await desk.ports.jobs.list(scope=desk.scope(store), limit=10)
    assert (job.document_id, job.state) == (poison.id, JobState.RETRYING)


async def test_everything_that_waits_is_ingested(desk: Desk) -> None:
    """One call of a worker is enough, however many documents wait, and the single one goes first."""
    store = await desk.store()
    drafts = [DocumentDraft(external_id=str(number), text=f"text {number}") for number in range(600)]
    await desk.ports.documents.put(drafts, scope=desk.scope(store), store=store)
    single = await desk.put(store, "single")
    claims = await desk.next(limit=1)
    assert [claim.document_id for claim in claims] == [single.id]
    await desk.ports.ingestion.release(claims)
    assert await run_all(desk.ports) == 601
    assert set((await desk.ports.jobs.depth()).values()) == {0}


async def test_known_texts_are_not_embedded_again(desk: Desk, embedder: CountingEmbedder) -> None:
    """The same passage in another document costs nothing."""
    store = await desk.store()
    await run(desk.ports, await desk.put(store, "a passage that many share"))
    before = list(embedder.texts)
    await run(desk.ports, await desk.put(store, "a passage that many share"))
    assert before
    assert embedder.texts == before


async def test_a_small_change_costs_little(desk: Desk, embedder: CountingEmbedder) -> None:
    """One changed section of two hundred costs the passages it stands in, not the document."""
    store = await desk.store()
    sections = [f"# Part {n}\n\n" + f"Layer {n} of the cliff is stone number {n}. " * 12 for n in range(200)]
    await desk.put(store, "\n\n".join(sections), external_id="cliff")
    await run_all(desk.ports)
    before = len(embedder.texts)
    assert before >= 90
    sections[100] = "# Part 100\n\n" + "Layer 100 of the cliff is chalk. " * 12
    await desk.put(store, "\n\n".join(sections), external_id="cliff")
    await run_all(desk.ports)
    assert 0 < len(embedder.texts) - before <= 3


async def test_a_rename_or_new_metadata_embeds_nothing(desk: Desk, embedder: CountingEmbedder) -> None:
    """The same text under another id, or with other attributes, has its vectors already."""
    store = await desk.store()
    await run(desk.ports, await desk.put(store, "peat forms slowly", external_id="old"))
    before = list(embedder.texts)
    await desk.put(store, "peat forms slowly", external_id="old", attributes={"lang": "en"})
    await desk.put(store, "peat forms slowly", external_id="new")
    assert await run_all(desk.ports) == 1
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


class Bomb(Reader):
    """Breaks in a way that nobody foresaw."""

    async def cut(
        self, source: Path | str, filename: str, *, chunking: Chunking, tokenizer: Tokenizer, title: str | None = None
    ) -> AsyncGenerator[CutText, None]:
        """All texts but one."""
        if source == "boom":
            raise ZeroDivisionError
        async for cut in super().cut(source, filename, chunking=chunking, tokenizer=tokenizer, title=title):
            yield cut


async def test_an_unforeseen_error_fails_its_document_alone(desk: Desk) -> None:
    """The others of the batch are ingested; the dead letter says where to look."""
    store = await desk.store()
    good = [await desk.put(store, f"text {number}") for number in range(3)]
    bad = await desk.put(store, "boom")
    assert await run(desk.ports, *good, bad, parser=Bomb()) == 3
    assert (await state(desk, store, bad)).error_code == "internal_error"
    assert {(await state(desk, store, one)).status for one in good} == {FileStatus.COMPLETED}


async def test_a_document_that_kills_workers_is_given_up(desk: Desk) -> None:
    """After some deaths it is tried alone, in the end not at all; its neighbours are not blamed."""
    store = await desk.store()
    killer, neighbour = await desk.put(store, "boom"), await desk.put(store, "text")
    for _ in range(2):  # two workers die with both in hand
        await desk.claims(killer, neighbour, lease_seconds=0.0)
    for _ in range(MAX_DEATHS - 2):  # and more with it alone
        await desk.claims(killer, lease_seconds=0.0)
    assert await run_all(desk.ports) == 1
    assert (await state(desk, store, killer)).error_code == "worker_died"
    assert (await state(desk, store, neighbour)).status is FileStatus.COMPLETED


async def test_a_cancelled_job_gives_its_documents_back(desk: Desk, embedder: CountingEmbedder) -> None:
    """A worker that is asked to stop frees what it holds at once, without counting an attempt."""
    store = await desk.store()
    document = await desk.put(store, "some text")

    started = asyncio.Event()

    async def never(texts: Sequence[str]) -> Vectors:
        started.set()
        await asyncio.sleep(3600)
        raise AssertionError("unreachable")

    embedder.embed = never  # type: ignore[method-assign]
    task = asyncio.create_task(run_all(desk.ports))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    claim = await desk.claim(document)
    assert (claim.attempts, claim.deaths) == (0, 0)


async def test_vectors_are_of_the_embedded_text(desk: Desk) -> None:
    """A search by the text's own vector finds it with cosine 1."""
    store = await desk.store()
    await run(desk.ports, await desk.put(store, "tides follow the moon"))
    vector = (await desk.ports.embedders[store.space.id].embed(["tides follow the moon"]))[0]
    found = await desk.search(np.asarray(vector), store)
    assert found[0].score == pytest.approx(1.0, abs=1e-3)


class BreaksLate(Reader):
    """A parser whose second batch is broken."""

    async def cut(
        self, source: Path | str, filename: str, *, chunking: Chunking, tokenizer: Tokenizer, title: str | None = None
    ) -> AsyncGenerator[CutText, None]:
        """One batch, then the error, once the batch is on its way to the catalog."""
        async for cut in super().cut(source, filename, chunking=chunking, tokenizer=tokenizer, title=title):
            yield cut
        await asyncio.sleep(0.02)
        raise BrokenFileError(f"{filename} is broken.")


async def test_a_document_fails_after_what_it_wrote(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that ended behind the failure would leave passages that nobody removes."""
    store, order, ingestion = await desk.store(), list[str](), desk.ports.ingestion
    write, fail = ingestion.write, ingestion.fail

    async def slow_write(claims: Sequence[Claim], chunks: Sequence[Chunk]) -> None:
        await asyncio.sleep(0.2)
        await write(claims, chunks)
        order.append("written")

    async def noted_fail(claim: Claim, *, code: str, message: str) -> None:
        order.append("failed")
        await fail(claim, code=code, message=message)

    monkeypatch.setattr(ingestion, "write", slow_write)
    monkeypatch.setattr(ingestion, "fail", noted_fail)
    monkeypatch.setattr("bookwheel.ingest.BATCH_CHUNKS", 1)
    await run(desk.ports, await stored_file(desk, store, "late.pdf"), parser=BreaksLate())
    assert order[-1] == "failed"
    assert "written" in order


async def test_a_tenant_that_has_used_its_day_up_waits_and_holds_nobody_up(desk: Desk) -> None:
    """The first document goes over and is finished; the next waits, and says why; another tenant goes on."""
    small = await desk.ports.tenants.create("small", limits=Limits(embedding_tokens_per_day=3))
    ports = replace(desk.ports, budget=DailyBudget(Guard(desk.ports.limiter, Settings()), desk.ports.tenants))
    poor = Desk(ports=ports, tenant=small.id)
    their_store, our_store = await poor.store(), await desk.store()
    first = await poor.put(their_store, "one two three four five six")
    assert await run_all(ports) == 1
    second, ours = await poor.put(their_store, "seven"), await desk.put(our_store, "eight")
    assert await run_all(ports) == 1
    found = [
        await one.ports.documents.get(doc.id, scope=one.scope(store))
        for one, doc, store in ((poor, first, their_store), (poor, second, their_store), (desk, ours, our_store))
    ]
    assert [one.live_version for one in found] == [1, None, 1]
    jobs = await ports.jobs.list(scope=poor.scope(), limit=10)
    assert "used up" in (jobs[0].error_message or "")
