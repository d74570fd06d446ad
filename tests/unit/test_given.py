"""Documents with given vectors through the ingest and retrieve walks, over ports in memory."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from tokenizers import Tokenizer

from bookwheel.chunk import given_hash, text_hash
from bookwheel.errors import EmbedderUnavailableError
from bookwheel.follow import catch_up
from bookwheel.given import PACKED, GivenPassage, GivenPassages
from bookwheel.ingest import ingest, ingest_waiting
from bookwheel.ports import Vectors
from bookwheel.retrieve import retrieve
from bookwheel.sandbox import cut_here
from bookwheel.testing import HashEmbedder, memory_ports
from bookwheel.testing.desk import Desk, axis
from bookwheel.types import Chunking, CutText, Document, DocumentDraft, Found, ParsedText, Question, Store


class CountingEmbedder(HashEmbedder):
    """Remembers the texts that it is given; fails while told to."""

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
    """A parser that reads texts; it remembers them."""

    max_chunks = 1000

    def __init__(self) -> None:
        self.read: list[str] = []

    async def cut(
        self, source: Path | str, filename: str, *, chunking: Chunking, tokenizer: Tokenizer, title: str | None = None
    ) -> AsyncGenerator[CutText, None]:
        """The text."""
        self.read.append(str(source))
        parsed = ParsedText(text=str(source), media_type="text/plain", format="plain")
        async for cut in cut_here(parsed, chunking=chunking, tokenizer=tokenizer, title=title):
            yield cut


@pytest.fixture
def embedder() -> CountingEmbedder:
    """The embedder of the ports."""
    return CountingEmbedder()


@pytest.fixture
def parser() -> Reader:
    """The parser of the worker."""
    return Reader()


@pytest.fixture
def desk(embedder: CountingEmbedder) -> Desk:
    """A tenant over empty ports."""
    ports = memory_ports()
    return Desk(ports=replace(ports, embedders={ports.space.id: embedder}), tenant=uuid4())


def packed(desk: Desk, *weights: float) -> bytes:
    """A given vector."""
    return axis(desk.ports.space, *weights).astype(PACKED).tobytes()


def draft(desk: Desk, name: str, **passages: tuple[float, ...]) -> DocumentDraft:
    """A document whose passages have these texts and vectors."""
    places, start = list[GivenPassage](), 0
    for number, text in enumerate(passages, start=1):
        places.append(GivenPassage(start=start, end=start + len(text), page=number, heading_path=("Part", text)))
        start += len(text) + 2
    vectors = b"".join(packed(desk, *weights) for weights in passages.values())
    given = GivenPassages(passages=tuple(places), vectors=vectors)
    return DocumentDraft(external_id=name, text="\n\n".join(passages), given=given)


async def run(desk: Desk, store: Store, *drafts: DocumentDraft, parser: Reader) -> list[Document]:
    """Put documents, and have a worker take them."""
    scope = desk.scope(store)
    documents = await desk.ports.documents.put(drafts, scope=scope, store=store)
    await ingest_waiting(
        owner=uuid4().hex, lease_seconds=60.0, urgent=False, ports=desk.ports, parser=parser, stop=asyncio.Event()
    )
    while await catch_up(desk.ports):
        continue
    return [await desk.ports.documents.get(document.id, scope=scope) for document in documents]


async def ask(desk: Desk, store: Store, text: str, **options: Any) -> Found:
    """Search the store."""
    question = Question(text=text, **options)
    return await retrieve(question, scope=desk.scope(store), space=store.space, ports=desk.ports)


async def test_passages_and_vectors_are_taken_as_they_are(
    desk: Desk, embedder: CountingEmbedder, parser: Reader
) -> None:
    """Nothing is read, cut or embedded; places, pages and headings are the owner's."""
    store = await desk.store()
    (document,) = await run(desk, store, draft(desk, "a", whale=(1,), oak=(0, 1)), parser=parser)
    assert (parser.read, embedder.texts) == ([], [])
    assert (document.status, document.chunk_count) == ("completed", 2)
    hits = await desk.ports.passages.of_document(document.id, scope=desk.scope(store))
    assert [(hit.text, hit.start, hit.end, hit.page) for hit in hits] == [("whale", 0, 5, 1), ("oak", 7, 10, 2)]
    assert [hit.heading_path for hit in hits] == [("Part", "whale"), ("Part", "oak")]
    found = await desk.search(axis(store.space, 0, 1), store)
    assert [(one.ordinal, one.score) for one in found] == [(1, pytest.approx(1)), (0, pytest.approx(0))]


async def test_equal_texts_keep_their_own_vectors(desk: Desk, embedder: CountingEmbedder, parser: Reader) -> None:
    """The cache hands no given vector to a text that is embedded here, nor another one to a text with its own: whoever
    comes first, and also inside one batch."""
    store = await desk.store()
    names = ("before", "mine", "theirs", "after")
    drafts = (
        DocumentDraft(external_id="before", text="whale"),
        draft(desk, "mine", whale=(1,)),
        draft(desk, "theirs", whale=(0, 1)),
        DocumentDraft(external_id="after", text="whale"),
    )
    (own,) = await HashEmbedder().embed(["whale"])
    wanted = (own, axis(store.space, 1), axis(store.space, 0, 1), own)
    for one in drafts:
        await run(desk, store, one, parser=parser)
    together = await desk.store()
    await run(desk, together, *drafts, parser=parser)
    assert embedder.texts == ["whale"]
    for place in (store, together):
        for name, vector in zip(names, wanted, strict=True):
            document = await desk.ports.documents.find(scope=desk.scope(place), external_id=name)
            (score,) = [one.score for one in await desk.search(vector, place) if one.document_id == document.id]
            assert score == pytest.approx(1, abs=1e-3), name


async def test_a_dead_embedder_stops_no_given_vectors(desk: Desk, embedder: CountingEmbedder, parser: Reader) -> None:
    """Neither in nor out: and nothing counts as left out of a search that brings its own."""
    store, embedder.down = await desk.store(), True
    (document,) = await run(desk, store, draft(desk, "a", whale=(1,), oak=(0, 1)), parser=parser)
    assert document.status == "completed"
    found = await ask(desk, store, "nothing of the kind", vector=packed(desk, 0, 1))
    assert (found.hits[0].text, found.degraded) == ("oak", ())
    assert (await ask(desk, store, "whale")).degraded == ("embed",)


async def test_a_dead_embedder_holds_up_only_who_needs_it(
    desk: Desk, embedder: CountingEmbedder, parser: Reader
) -> None:
    """Of a claim of both kinds the given ones go live."""
    store, embedder.down = await desk.store(), True
    plain = await desk.put(store, "to be embedded")
    drafts = [draft(desk, "a", whale=(1,))]
    (given,) = await desk.ports.documents.put(drafts, scope=desk.scope(store), store=store)
    claims = await desk.ports.ingestion.claim([plain.id, given.id], owner="a", lease_seconds=60.0)
    assert len(claims) == 2
    assert await ingest(claims, lease_seconds=60.0, ports=desk.ports, parser=parser) == 1
    assert (await desk.ports.documents.get(given.id, scope=desk.scope(store))).status == "completed"


async def test_a_long_document_comes_in_batches(desk: Desk, parser: Reader) -> None:
    """Ordinals go on from batch to batch, and each passage has its own vector; too many passages fail clearly."""
    store = await desk.store()
    random = np.random.default_rng(7)
    weights = {f"passage {number}": tuple(random.normal(size=16)) for number in range(700)}
    (document,) = await run(desk, store, draft(desk, "long", **weights), parser=parser)
    assert document.chunk_count == 700
    hits = await desk.ports.passages.of_document(document.id, scope=desk.scope(store))
    assert [hit.text for hit in hits] == list(weights)
    for number in (0, 300, 699):
        best = (await desk.search(axis(store.space, *weights[f"passage {number}"]), store, limit=1))[0]
        assert (best.ordinal, best.score) == (number, pytest.approx(1, abs=1e-3))
    parser.max_chunks = 699
    (document,) = await run(desk, store, draft(desk, "longer", **weights), parser=parser)
    assert (document.status, document.error_code) == ("failed", "too_many_chunks")


async def test_a_given_vector_weighs_as_much_as_any(desk: Desk, parser: Reader) -> None:
    """The embedder's vocabulary says nothing about a vector that it did not make."""
    store = await desk.store()
    await run(desk, store, draft(desk, "a", whale=(1,)), draft(desk, "b", oak=(0, 1)), parser=parser)

    class Foreign(HashEmbedder):
        def coverage(self, text: str) -> float:
            return 0.0

    ports = replace(desk.ports, embedders={desk.ports.space.id: Foreign()})
    found = await ask(replace(desk, ports=ports), store, "whale", vector=packed(desk, 0, 1))
    assert {hit.text: hit.score for hit in found.hits} == {"whale": pytest.approx(0.5), "oak": pytest.approx(0.5)}


def test_hash_of_a_given_text() -> None:
    """Of text and vector, and never that of any text that is embedded here."""
    vector, other = bytes(4), np.ones(1, PACKED).tobytes()
    assert given_hash("a", vector) == given_hash("a", vector)
    assert len({given_hash("a", vector), given_hash("b", vector), given_hash("a", other), text_hash("a")}) == 4
    assert given_hash("a", vector) != text_hash(vector.decode() + "a")
    assert len(given_hash("a", vector)) == 16
