"""The contract of documents that bring their passages and vectors: ports.Documents, ports.Ingestion, ports.Jobs."""

from dataclasses import replace
from uuid import UUID

import numpy as np

from bookwheel.given import PACKED, GivenPassage, GivenPassages, passages_json, source_of
from bookwheel.ports import Ports
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import Desk, axis
from bookwheel.types import Claim, Document, DocumentDraft, FileStatus, Space, Store

TEXT = "one\n\ntwo"


class GivenVectorsContract(PortsContract):
    """Subclass it for a backend that fills ports.Documents, ports.Ingestion and ports.Jobs; override `lose_chunks`."""

    async def lose_chunks(self, ports: Ports, document_id: UUID) -> None:
        """Take the chunks of a live document away, as a broken disk might."""
        raise NotImplementedError

    async def test_claim_hands_them_over(self, desk: Desk) -> None:
        """To the bit, with pages and headings; a document without them beside it has none."""
        store = await desk.store()
        given = passages(store.space)
        document, plain = await put(desk, store, given=given), await desk.put(store, TEXT)
        claim = await desk.claim(document)
        assert (claim.text, claim.sha256, claim.given) == (TEXT, None, given)
        assert [given.vector(ordinal) for ordinal in (0, 1)] == [vector(store.space, 1), vector(store.space, 2)]
        assert (await desk.claim(plain)).given is None

    async def test_size_and_hash_are_of_the_vectors_too(self, desk: Desk) -> None:
        """For a worker holds both at once, and other vectors are other content."""
        store = await desk.store()
        given = passages(store.space)
        document, plain = await put(desk, store, given=given), await desk.put(store, TEXT)
        size = len(TEXT) + len(given.vectors) + len(passages_json(given.passages))
        assert (document.size, plain.size) == (size, len(TEXT))
        assert document.sha256 == source_of(TEXT, None, given)[1] != plain.sha256

    async def test_the_same_again_is_unchanged(self, desk: Desk) -> None:
        """Other vectors, another page or none given at all are new versions, and each claim has its own."""
        store = await desk.store()
        first = passages(store.space)
        others = (passages(store.space, second=3), passages(store.space, second=3, page=9), None, first)
        await live(desk, await put(desk, store, given=first))
        again = await put(desk, store, given=first)
        assert (again.version, again.status) == (1, FileStatus.COMPLETED)
        for version, given in enumerate(others, start=2):
            document = await put(desk, store, given=given)
            assert (document.version, document.status) == (version, FileStatus.IN_PROGRESS)
            assert (await live(desk, document)).given == given

    async def test_a_file_takes_their_place(self, desk: Desk) -> None:
        """A document that is made of a file now has nothing given, and the other way round."""
        store, file = await desk.store(), await desk.file()
        given = passages(store.space)
        await put(desk, store, given=given)
        draft = DocumentDraft(external_id="a", file_id=file.id)
        (document,) = await desk.ports.documents.put([draft], scope=desk.scope(store), store=store)
        claim = await desk.claim(document)
        assert (claim.sha256, claim.given) == (file.sha256, None)
        assert (await desk.claim(await put(desk, store, given=given), owner=claim.owner)).given == given

    async def test_a_retry_has_them_still(self, desk: Desk) -> None:
        """After an attempt that ended, a failure and a cancel, whoever is next gets the same."""
        store = await desk.store()
        given = passages(store.space)
        document = await put(desk, store, given=given)
        jobs, ingestion, scope = desk.ports.jobs, desk.ports.ingestion, desk.scope(store)
        await ingestion.release([await desk.claim(document)], retry_in=0.0, reason="passes")
        claim = await desk.claim(document)
        assert claim.given == given
        await ingestion.fail(claim, code="broken_file", message="It is broken.")
        assert await jobs.retry([document.id], scope=scope) == 1
        claim = await desk.claim(document)
        assert claim.given == given
        await ingestion.release([claim])
        assert await jobs.cancel([document.id], scope=scope) == 1
        assert await jobs.retry([document.id], scope=scope) == 1
        assert (await desk.claim(document)).given == given

    async def test_a_repair_has_them_still(self, desk: Desk) -> None:
        """A live document that lost its chunks is made again of what was given."""
        store = await desk.store()
        given = passages(store.space)
        document = await put(desk, store, given=given)
        await live(desk, document)
        await self.lose_chunks(desk.ports, document.id)
        await desk.ports.ingestion.orphans(repair=True)
        claim = await desk.claim(document)
        assert (claim.version, claim.text, claim.given) == (2, TEXT, given)


def vector(space: Space, weight: float) -> bytes:
    """A packed unit vector."""
    return axis(space, 1.0, weight).astype(PACKED).tobytes()


def passages(space: Space, *, second: float = 2, page: int = 7) -> GivenPassages:
    """The two of TEXT."""
    places = (
        GivenPassage(start=0, end=3),
        GivenPassage(start=5, end=8, page=page, heading_path=("Part “Ü”", "Section")),
    )
    return GivenPassages(passages=places, vectors=vector(space, 1) + vector(space, second))


async def put(desk: Desk, store: Store, *, given: GivenPassages | None) -> Document:
    """The document `a` with what is given."""
    draft = DocumentDraft(external_id="a", text=TEXT, given=given)
    (document,) = await desk.ports.documents.put([draft], scope=desk.scope(store), store=store)
    return document


async def live(desk: Desk, document: Document) -> Claim:
    """The claim by which a document that waits went live."""
    claim = await desk.claim(document)
    await desk.write(replace(claim, given=None), np.stack([axis(claim.space, 1, n) for n in range(3)]))
    assert await desk.ports.ingestion.publish([claim]) == [claim]
    return claim
