"""The contracts of ports.Ingestion and ports.Jobs."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from uuid import UUID, uuid4

import numpy as np
import pytest

from bookwheel.ports import Ports
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import Desk, axis, chunks_of, with_text
from bookwheel.types import Chunk, Claim, DocumentDraft, FileStatus, JobState, Store

EXPIRED = 0.0  # a lease of no seconds
CLAIMS, WORKERS, WEIGHTS = 1_000, 4, (0.5, 1.0, 2.5)


class IngestionContract(PortsContract):
    """Subclass it for a backend that fills ports.Ingestion."""

    async def test_claim_says_what_to_do(self, desk: Desk) -> None:
        """A claim holds the wanted version, its text and how to cut and embed it."""
        store = await desk.store()
        document = await desk.put(store, "the text", external_id="a")
        claim = await desk.claim(document)
        assert (claim.document_id, claim.tenant_id, claim.store_id) == (document.id, desk.tenant, store.id)
        assert (claim.version, claim.text, claim.sha256) == (1, "the text", None)
        assert (claim.space, claim.chunking, claim.filename) == (store.space, store.chunking, document.filename)

    async def test_live_lease_excludes_others(self, desk: Desk) -> None:
        """A held document is left out; its own holder may claim it again."""
        store = await desk.store()
        held, free = await desk.put(store, "one"), await desk.put(store, "two")
        await desk.claim(held, owner="first")
        assert [claim.document_id for claim in await desk.claims(held, free, owner="second")] == [free.id]
        assert [claim.document_id for claim in await desk.claims(held, owner="first")] == [held.id]

    async def test_racing_claims_share_the_work(self, desk: Desk) -> None:
        """Of workers that claim at once each document goes to exactly one."""
        store = await desk.store()
        documents = [await desk.put(store, "text") for _ in range(8)]
        claims = await asyncio.gather(*(desk.claims(*documents) for _ in range(4)))
        taken = [claim.document_id for part in claims for claim in part]
        assert sorted(taken) == sorted(document.id for document in documents)

    async def test_expired_lease_is_taken_over(self, desk: Desk) -> None:
        """A worker that fell silent loses its documents."""
        document = await desk.put(await desk.store(), "one")
        await desk.claims(document, owner="silent", lease_seconds=EXPIRED)
        assert len(await desk.claims(document, owner="alive")) == 1
        assert await desk.claims(document, owner="silent") == []

    async def test_renewing_keeps_a_lease(self, desk: Desk) -> None:
        """Renewal is for every document of the named owners, and for nobody else's."""
        store = await desk.store()
        one, other = await desk.put(store, "one"), await desk.put(store, "two")
        owner = uuid4().hex
        await desk.claims(one, owner=owner, lease_seconds=EXPIRED)
        await desk.claims(other, lease_seconds=EXPIRED)
        await desk.ports.ingestion.renew([owner], lease_seconds=60.0)
        assert [claim.document_id for claim in await desk.claims(one, other)] == [other.id]

    async def test_released_claim_is_free(self, desk: Desk) -> None:
        """What is given back may be taken at once, and is still unfinished."""
        document = await desk.put(await desk.store(), "one")
        await desk.ports.ingestion.release([await desk.claim(document)])
        assert len(await desk.claims(document)) == 1

    async def test_finished_and_unknown_documents_are_not_claimed(self, desk: Desk) -> None:
        """There is nothing to do for what is completed, failed, deleted or unknown."""
        store = await desk.store()
        done, _ = await desk.add(store, "one")
        failed, deleted = await desk.put(store, "two"), await desk.put(store, "three")
        await desk.ports.ingestion.fail(await desk.claim(failed), code="no_text", message="It has no text.")
        await desk.ports.documents.delete([deleted.id], scope=desk.scope(store))
        assert await desk.claims(done, failed, deleted) == []
        assert await desk.ports.ingestion.claim([uuid4()], owner="a", lease_seconds=60.0) == []

    async def test_written_chunks_are_invisible(self, desk: Desk) -> None:
        """Nothing of a version is found, hydrated or listed before it is published."""
        store = await desk.store()
        document = await desk.put(store, "one\ntwo")
        claim = await desk.claim(document)
        chunks = await desk.write(claim)
        ids = [chunk.id for chunk in chunks]
        assert await desk.hydrate(chunks, store) == []
        assert await desk.search(axis(desk.ports.space, 1), store, also=ids) == []
        assert await desk.ports.passages.of_document(document.id, scope=desk.scope(store)) == []
        await desk.ports.ingestion.publish([claim])
        assert len(await desk.hydrate(chunks, store)) == 2

    async def test_writing_twice_stores_once(self, desk: Desk) -> None:
        """A worker that starts over leaves one copy of each chunk, also when its second batches are cut otherwise."""
        store = await desk.store()
        claim = await desk.claim(await desk.put(store, "one\ntwo\nthree"))
        chunks = chunks_of(claim)
        for batch in (chunks[:2], chunks, chunks):
            await desk.ports.ingestion.write([claim], batch)
        await desk.ports.ingestion.publish([claim])
        document = await desk.ports.documents.get(claim.document_id, scope=desk.scope(store))
        assert document.chunk_count == 3
        hits = await desk.ports.passages.of_document(document.id, scope=desk.scope(store))
        assert [hit.text for hit in hits] == ["one", "two", "three"]

    async def test_publish_flips_the_version(self, desk: Desk) -> None:
        """The new version is live, the old one's chunks and vectors are gone, the document is completed."""
        store = await desk.store()
        claim = await desk.claim(await desk.put(store, f"{uuid4()}\nold two", external_id="a"))
        old = await desk.write(claim)
        await desk.ports.ingestion.publish([claim])
        document, new = await desk.add(store, "new", external_id="a")
        assert (document.version, document.live_version, document.chunk_count) == (2, 2, 1)
        assert document.status is FileStatus.COMPLETED
        assert [hit.text for hit in await desk.hydrate([*old, *new], store)] == ["new"]
        found = await desk.search(axis(desk.ports.space, 1), store, also=[chunk.id for chunk in old])
        assert [candidate.chunk_id for candidate in found] == [new[0].id]
        assert await self._known(desk, claim, old[0]) == []

    async def test_publishing_twice_is_harmless(self, desk: Desk) -> None:
        """A worker that died before it heard the answer may publish again: nothing is lost, nothing told twice."""
        store = await desk.store()
        before = await desk.ports.outbox.last()
        claim = await desk.claim(await desk.put(store, "one"))
        chunks = await desk.write(claim)
        await desk.ports.ingestion.publish([claim])
        version = (await desk.ports.stores.get(store.id, scope=desk.scope())).version
        await desk.ports.ingestion.publish([claim])
        assert len(await desk.hydrate(chunks, store)) == 1
        assert len(await desk.search(axis(desk.ports.space, 1), store)) == 1
        assert len(await desk.changes(before)) == 1
        assert (await desk.ports.stores.get(store.id, scope=desk.scope())).version == version

    async def test_publishing_some_of_many(self, desk: Desk) -> None:
        """One overtaken claim does not hold up the others of its batch."""
        store = await desk.store()
        stays, goes = await desk.put(store, "one"), await desk.put(store, "two")
        claims = [await desk.claim(stays), await desk.claim(goes)]
        for claim in claims:
            await desk.write(claim)
        await desk.ports.documents.delete([goes.id], scope=desk.scope(store))
        assert await desk.ports.ingestion.publish(claims) == claims[:1]

    async def test_overtaken_version_leaves_nothing(self, desk: Desk) -> None:
        """A claim that a newer version overtook is not published; its chunks and vectors go; the newer is free."""
        store = await desk.store()
        claim = await desk.claim(await desk.put(store, uuid4().hex, external_id="a"))
        chunks = await desk.write(claim)
        newer = await desk.put(store, "second", external_id="a")
        assert await desk.ports.ingestion.publish([claim]) == []
        assert await desk.hydrate(chunks, store) == []
        assert await desk.search(axis(desk.ports.space, 1), store, also=[chunks[0].id]) == []
        assert await self._known(desk, claim, chunks[0]) == []
        live = await desk.publish(newer)
        assert [hit.text for hit in await desk.hydrate([*chunks, *live], store)] == ["second"]

    async def test_delete_during_ingest_is_never_published(self, desk: Desk) -> None:
        """A document deleted between claim and publish stays deleted, whatever the worker writes meanwhile."""
        store = await desk.store()
        document = await desk.put(store, uuid4().hex)
        claim = await desk.claim(document)
        await desk.ports.documents.delete([document.id], scope=desk.scope(store))
        chunks = await desk.write(claim)
        assert await desk.ports.ingestion.publish([claim]) == []
        assert await desk.hydrate(chunks, store) == []
        assert await desk.search(axis(desk.ports.space, 1), store, also=[chunks[0].id]) == []
        assert await self._known(desk, claim, chunks[0]) == []
        assert await desk.ports.documents.list(scope=desk.scope(store), limit=10) == []

    async def test_failure_keeps_the_older_version(self, desk: Desk) -> None:
        """A version that cannot be read is marked with the reason; queries go on with the one before."""
        store = await desk.store()
        _, old = await desk.add(store, "old", external_id="a")
        claim = await desk.claim(await desk.put(store, uuid4().hex, external_id="a"))
        written = await desk.write(claim)
        for _ in range(2):  # failing twice is harmless
            await desk.ports.ingestion.fail(claim, code="broken_file", message="It is broken.")
        document = await desk.ports.documents.get(claim.document_id, scope=desk.scope(store))
        assert (document.status, document.version, document.live_version) == (FileStatus.FAILED, 2, 1)
        assert (document.error_code, document.error_message) == ("broken_file", "It is broken.")
        assert [hit.text for hit in await desk.hydrate([*old, *written], store)] == ["old"]
        found = await desk.search(axis(desk.ports.space, 1), store, also=[chunk.id for chunk in written])
        assert [candidate.chunk_id for candidate in found] == [old[0].id]
        assert await self._known(desk, claim, written[0]) == []

    async def test_late_failure_does_not_hurt_a_newer_version(self, desk: Desk) -> None:
        """A worker that fails an overtaken version, or one that another published, changes nothing."""
        store = await desk.store()
        claim = await desk.claim(await desk.put(store, "old", external_id="a"))
        newer = await desk.put(store, "new", external_id="a")
        await desk.ports.ingestion.fail(claim, code="broken_file", message="It is broken.")
        chunks = await desk.publish(newer)
        await desk.ports.ingestion.fail(claim, code="broken_file", message="It is broken.")
        document = await desk.ports.documents.get(newer.id, scope=desk.scope(store))
        assert (document.status, document.error_code) == (FileStatus.COMPLETED, None)
        assert len(await desk.hydrate(chunks, store)) == 1

    async def test_claim_next_takes_what_waits(self, desk: Desk) -> None:
        """Single uploads before bulk loads, and without them, the older first; never what is held, finished or not
        due."""
        store = await desk.store()
        drafts = [DocumentDraft(external_id=uuid4().hex, text="text") for _ in range(3)]
        bulk = await desk.ports.documents.put(drafts, scope=desk.scope(store), store=store)
        held, single = await desk.put(store, "one"), await desk.put(store, "two")
        await desk.claim(held)
        await desk.add(store, "done")
        first = [claim.document_id for claim in await desk.next() if claim.tenant_id == desk.tenant]
        assert first == [single.id]
        then = {claim.document_id for claim in await desk.next() if claim.tenant_id == desk.tenant}
        assert then == {document.id for document in bulk}
        assert [claim for claim in await desk.next() if claim.tenant_id == desk.tenant] == []

    async def test_claim_next_is_bounded(self, desk: Desk) -> None:
        """By count and by bytes; a document that is larger than the bound comes alone."""
        await _drain(desk)
        store = await desk.store()
        documents = [await desk.put(store, "x" * 1000) for _ in range(5)]
        assert len(await desk.next(limit=2)) == 2
        assert len(await desk.next(max_bytes=2500)) == 2
        assert len(await desk.next(max_bytes=1)) == 1
        assert len(documents) == 5

    async def test_urgent_claims_leave_bulk_work(self, desk: Desk) -> None:
        """A worker that is kept for single uploads takes nothing else."""
        store = await desk.store()
        draft = DocumentDraft(external_id="a", text="text")
        await desk.ports.documents.put([draft], scope=desk.scope(store), store=store, bulk=True)
        assert [claim for claim in await desk.next(urgent=True) if claim.tenant_id == desk.tenant] == []
        single = await desk.put(store, "one")
        mine = [claim for claim in await desk.next(urgent=True) if claim.tenant_id == desk.tenant]
        assert [claim.document_id for claim in mine] == [single.id]

    async def test_a_paused_store_is_left_alone(self, desk: Desk) -> None:
        """Its documents are claimed again once it is resumed."""
        store = await desk.store()
        document = await desk.put(store, "one")
        await desk.ports.stores.update(store.id, scope=desk.scope(), paused=True)
        assert [claim for claim in await desk.next() if claim.tenant_id == desk.tenant] == []
        assert await desk.claims(document) == []
        await desk.ports.stores.update(store.id, scope=desk.scope(), paused=False)
        assert len(await desk.claims(document)) == 1

    async def test_a_failed_attempt_waits_for_its_time(self, desk: Desk) -> None:
        """The reason is kept, the attempt counted, and nobody takes the document before."""
        store = await desk.store()
        document = await desk.put(store, "one")
        await desk.ports.ingestion.release([await desk.claim(document)], retry_in=3600.0, reason="the model is away")
        assert await desk.claims(document) == []
        (job,) = await desk.ports.jobs.list(scope=desk.scope(store), limit=10)
        assert (job.state, job.attempts, job.error_message) == (JobState.RETRYING, 1, "the model is away")
        assert await desk.ports.jobs.retry([document.id], scope=desk.scope(store)) == 1
        assert (await desk.claim(document)).attempts == 0

    async def test_only_the_owner_gives_back(self, desk: Desk) -> None:
        """A worker that lost its lease cannot free the document for a third one."""
        document = await desk.put(await desk.store(), "one")
        (late,) = await desk.claims(document, owner="late", lease_seconds=EXPIRED)
        await desk.claim(document, owner="alive")
        await desk.ports.ingestion.release([late])
        assert await desk.claims(document, owner="third") == []

    async def test_deaths_are_counted(self, desk: Desk) -> None:
        """A lease that ran out is a death of its worker; one that was parked or given back is none."""
        document = await desk.put(await desk.store(), "one")
        await desk.claims(document, lease_seconds=EXPIRED)
        (second,) = await desk.claims(document, lease_seconds=EXPIRED)
        assert second.deaths == 1
        (third,) = await desk.claims(document)
        assert third.deaths == 2
        await desk.ports.ingestion.release([third], parked=True)
        fourth = await desk.claim(document)
        assert fourth.deaths == 2
        await desk.ports.ingestion.release([fourth])
        assert (await desk.claim(document)).deaths == 0

    async def test_dying_with_finished_work_in_hand_is_no_death(self, desk: Desk) -> None:
        """Two had the same document (the leases were lost with the database's memory, say): one published it, the
        other died. What is left of that is forgotten, and does not count against the next version."""
        store = await desk.store()
        document = await desk.put(store, "text", external_id="a")
        (first,) = await desk.claims(document, lease_seconds=EXPIRED)
        await desk.claims(document, lease_seconds=EXPIRED)
        await desk.ports.ingestion.publish([first])
        await desk.ports.jobs.wake()
        newer = await desk.put(store, "newer", external_id="a")
        assert (await desk.claim(newer)).deaths == 0

    async def test_orphans_are_counted_and_repaired(self, desk: Desk) -> None:
        """What the catalog serves or waits for is no orphan; a second look after a repair finds none."""
        store = await desk.store()
        await desk.add(store, "live")
        await desk.write(await desk.claim(await desk.put(store, "being written")))
        before = await desk.ports.ingestion.orphans(repair=False)
        await desk.ports.ingestion.orphans(repair=True)
        after = await desk.ports.ingestion.orphans(repair=False)
        assert set(after.values()) == {0}
        assert set(before) == set(after)
        assert await desk.search(axis(desk.ports.space, 1), store)

    async def test_embedding_cache(self, desk: Desk) -> None:
        """Vectors that are stored already come back by the hash of their text; unknown hashes are left out."""
        store, space = await desk.store(), desk.ports.space
        vector = axis(space, 3, 4)
        await desk.add(store, "another text " + uuid4().hex)
        document = await desk.put(store, "a text nobody else has " + uuid4().hex)
        claim = await desk.claim(document)
        (chunk,) = await desk.write(claim, vector[np.newaxis])
        known = await desk.ports.ingestion.known_vectors(space, [chunk.text_hash, uuid4().bytes], shard=claim.shard)
        assert list(known) == [chunk.text_hash]
        np.testing.assert_allclose(known[chunk.text_hash], vector, atol=2e-3)

    async def test_foreign_chunks_are_not_written(self, desk: Desk) -> None:
        """Chunks of documents that are not claimed here are left out."""
        store = await desk.store()
        mine, other = await desk.put(store, "mine"), await desk.put(store, "other")
        claim, foreign = await desk.claim(mine), await desk.claim(other)
        await desk.ports.ingestion.write([claim], chunks_of(claim) + chunks_of(foreign))
        await desk.ports.ingestion.publish([claim, foreign])
        document = await desk.ports.documents.get(other.id, scope=desk.scope(store))
        assert document.chunk_count == 0

    async def test_writing_again_replaces(self, desk: Desk) -> None:
        """A second try's chunk counts: the first may have been cut by an older parser."""
        store = await desk.store()
        claim = await desk.claim(await desk.put(store, "one"))
        (chunk,) = await desk.write(claim)
        await desk.ports.ingestion.write([claim], [with_text(chunk, "uno")])
        await desk.ports.ingestion.publish([claim])
        assert [hit.text for hit in await desk.hydrate([chunk], store)] == ["uno"]

    async def _known(self, desk: Desk, claim: Claim, chunk: Chunk) -> list[bytes]:
        hashes = [chunk.text_hash]
        return list(await desk.ports.ingestion.known_vectors(claim.space, hashes, shard=claim.shard))


class FairnessContract(PortsContract):
    """Subclass it for a backend that fills ports.Ingestion: how tenants share the workers."""

    @pytest.fixture(autouse=True)
    async def _nothing_else_waits(self, ports: Ports) -> AsyncIterator[None]:
        await _drain(Desk(ports=ports, tenant=uuid4()))
        self.loaded: list[tuple[Desk, Store]] = []
        yield
        for desk, store in self.loaded:  # or their leases would run out in the middle of other tests
            await desk.ports.stores.delete(store.id, scope=desk.scope())

    async def test_shares_follow_the_weights(self, ports: Ports) -> None:
        """Over a thousand claims of workers that race, each tenant has its share within 5 %."""
        desks = [Desk(ports=ports, tenant=await self.new_tenant(ports)) for _ in WEIGHTS]
        for desk, weight in zip(desks, WEIGHTS, strict=True):
            await desk.ports.tenants.update(scope=desk.scope(), weight=weight)
            await self._load(desk, int(CLAIMS * weight / sum(WEIGHTS)) + 20)
        taken: Counter[UUID] = Counter()
        for _ in range(CLAIMS // WORKERS):
            taken += _by_tenant(await asyncio.gather(*(desks[0].next(limit=1) for _ in range(WORKERS))))
        assert taken.total() == CLAIMS
        for desk, weight in zip(desks, WEIGHTS, strict=True):
            assert taken[desk.tenant] == pytest.approx(CLAIMS * weight / sum(WEIGHTS), rel=0.05)

    async def test_large_claims_are_shared_too(self, desk: Desk, stranger: Desk) -> None:
        """Also where a claim holds many documents, and one tenant's are larger: it is bytes that are shared."""
        await self._load(desk, 40, text="x" * 18_000)
        await self._load(stranger, 400)
        taken: Counter[UUID] = Counter()
        for _ in range(4):
            taken += _by_tenant([await desk.next(limit=50)])
        assert taken[stranger.tenant] == pytest.approx(10 * taken[desk.tenant], rel=0.25)
        assert taken.total() > 100

    async def test_a_tenant_alone_gets_everything(self, desk: Desk) -> None:
        """Nothing is kept back for those who have nothing to do."""
        await self._load(desk, 30)
        assert len(await desk.next(limit=20)) == 20
        assert len(await desk.next(limit=20)) == 10

    async def test_a_claim_is_filled_by_several(self, desk: Desk, stranger: Desk) -> None:
        """Tenants with little each do not cost a claim each."""
        await self._load(desk, 3)
        await self._load(stranger, 3)
        assert len(await desk.next(limit=20)) == 6

    async def test_nobody_waits_behind_a_bulk_load(self, desk: Desk, stranger: Desk) -> None:
        """Who comes while another one's load is being ingested is in the next claim."""
        await self._load(desk, 60)
        for _ in range(5):
            await desk.next(limit=5)
        await self._load(stranger, 2)
        assert _by_tenant([await desk.next(limit=5)])[stranger.tenant] == 2

    async def test_idle_time_is_not_saved(self, desk: Desk, stranger: Desk) -> None:
        """Who comes after a long time alone of another one shares from then on, and does not catch up."""
        await self._load(desk, 60)
        for _ in range(30):
            await desk.next(limit=1)
        await self._load(stranger, 30)
        taken = _by_tenant([await desk.next(limit=1) for _ in range(20)])
        assert taken[desk.tenant] == pytest.approx(10, abs=1)

    async def test_single_uploads_go_first_within_their_tenant_only(self, desk: Desk, stranger: Desk) -> None:
        """They pass their own tenant's bulk load; however many they are, another tenant has its turns."""
        await self._load(desk, 20)
        await self._load(stranger, 20)
        store = await self._store(desk)
        singles = {(await desk.put(store, "text")).id for _ in range(20)}
        claims = [claim for _ in range(20) for claim in await desk.next(limit=1)]
        mine = {claim.document_id for claim in claims if claim.tenant_id == desk.tenant}
        assert mine <= singles
        assert len(mine) == pytest.approx(10, abs=1)

    async def test_single_uploads_on_their_own_worker_cost_too(self, desk: Desk, stranger: Desk) -> None:
        """What a worker kept for single uploads does counts in its tenant's share."""
        await self._load(desk, 20)
        await self._load(stranger, 20)
        store = await self._store(desk)
        for _ in range(5):
            await desk.put(store, "text")
            assert len(await desk.next(limit=1, urgent=True)) == 1
        taken = _by_tenant([await desk.next(limit=1) for _ in range(9)])
        assert taken[stranger.tenant] == pytest.approx(7, abs=1)

    async def test_suspended_tenants_are_not_claimed(self, desk: Desk, stranger: Desk) -> None:
        """By no verb, nor are workers called for them; when they are let in again, their documents still wait."""
        document = await desk.put(await self._store(desk), "text")
        await desk.ports.tenants.update(scope=desk.scope(), suspended=True)
        before = await desk.ports.jobs.depth()
        assert await desk.claims(document) == []
        assert await desk.next() == []
        assert await desk.next(urgent=True) == []
        assert await desk.ports.jobs.wake() is False
        (job,) = await desk.ports.jobs.list(scope=desk.scope(), limit=10)
        assert job.state is JobState.PAUSED
        await desk.ports.tenants.update(scope=desk.scope(), suspended=False)
        after = await desk.ports.jobs.depth()
        assert (after["waiting"] - before["waiting"], after["paused"] - before["paused"]) == (1, -1)
        assert await desk.ports.jobs.wake() is True
        assert [claim.document_id for claim in await stranger.next()] == [document.id]

    async def _store(self, desk: Desk) -> Store:
        store = await desk.store()
        self.loaded.append((desk, store))
        return store

    async def _load(self, desk: Desk, count: int, *, text: str = "text") -> None:
        """A bulk load."""
        store = await self._store(desk)
        drafts = [DocumentDraft(external_id=uuid4().hex, text=text) for _ in range(count)]
        await desk.ports.documents.put(drafts, scope=desk.scope(store), store=store, bulk=True)


async def _drain(desk: Desk) -> None:
    """Take what other tests left, of whatever tenant."""
    while await desk.next():
        pass


def _by_tenant(claims: Sequence[Sequence[Claim]]) -> Counter[UUID]:
    return Counter(claim.tenant_id for part in claims for claim in part)


class JobsContract(PortsContract):
    """Subclass it for a backend that fills ports.Jobs. No worker may run beside it."""

    async def test_depth_counts_by_state(self, desk: Desk) -> None:
        """What waits, runs and is paused; what has ended is not counted."""
        before = await desk.ports.jobs.depth()
        store, other = await desk.store(), await desk.store()
        await desk.put(store, "waits")
        await desk.claim(await desk.put(store, "runs"))
        await desk.put(other, "is paused")
        await desk.ports.stores.update(other.id, scope=desk.scope(), paused=True)
        await desk.add(store, "done")
        after = await desk.ports.jobs.depth()
        grown = {state: count - before[state] for state, count in after.items()}
        assert grown == {"waiting": 1, "running": 1, "retrying": 0, "paused": 1}

    async def test_list_walks_the_unfinished_and_the_dead(self, desk: Desk, stranger: Desk) -> None:
        """In pages, of the scope alone, by state when asked."""
        store = await desk.store()
        waiting, dead = await desk.put(store, "waits"), await desk.put(store, "fails")
        await desk.add(store, "done")
        await stranger.put(await stranger.store(), "not mine")
        await desk.ports.ingestion.fail(await desk.claim(dead), code="no_text", message="It has no text.")
        jobs = desk.ports.jobs
        first = await jobs.list(scope=desk.scope(), limit=1)
        rest = await jobs.list(scope=desk.scope(), limit=10, after=first[-1].document_id)
        assert [job.document_id for job in (*first, *rest)] == [waiting.id, dead.id]
        (failed,) = await jobs.list(scope=desk.scope(store), state=JobState.FAILED, limit=10)
        assert (failed.document_id, failed.error_code) == (dead.id, "no_text")
        assert await jobs.list(scope=stranger.scope(store), limit=10) == []

    async def test_retrying_a_dead_job(self, desk: Desk, stranger: Desk) -> None:
        """It waits again, without its error; strangers and finished documents are not touched."""
        store = await desk.store()
        dead = await desk.put(store, "fails")
        done, _ = await desk.add(store, "done")
        await desk.ports.ingestion.fail(await desk.claim(dead), code="no_text", message="It has no text.")
        assert await desk.ports.jobs.retry([dead.id], scope=stranger.scope()) == 0
        assert await desk.ports.jobs.retry([dead.id, done.id], scope=desk.scope()) == 1
        document = await desk.ports.documents.get(dead.id, scope=desk.scope(store))
        assert (document.status, document.error_code) == (FileStatus.IN_PROGRESS, None)
        assert len(await desk.publish(dead)) == 1

    async def test_cancelling_ends_the_work(self, desk: Desk) -> None:
        """The worker that holds it publishes nothing; what was live stays; putting it again works."""
        store = await desk.store()
        _, old = await desk.add(store, "old", external_id="a")
        newer = await desk.put(store, "new", external_id="a")
        claim = await desk.claim(newer)
        await desk.write(claim)
        assert await desk.ports.jobs.cancel([newer.id], scope=desk.scope(store)) == 1
        assert await desk.ports.ingestion.publish([claim]) == []
        document = await desk.ports.documents.get(newer.id, scope=desk.scope(store))
        assert (document.status, document.live_version) == (FileStatus.CANCELLED, 1)
        assert [hit.text for hit in await desk.hydrate(old, store)] == ["old"]
        assert await desk.ports.jobs.cancel([newer.id], scope=desk.scope(store)) == 0
        await desk.add(store, "new", external_id="a")
        assert await desk.hydrate(old, store) == []

    async def test_dropping_a_dead_job(self, desk: Desk) -> None:
        """A document that never was live goes; one with a live version goes back to it, and takes changes again."""
        store = await desk.store()
        never = await desk.put(store, "never")
        await desk.add(store, "old", external_id="a")
        newer = await desk.put(store, "new", external_id="a")
        for document in (never, newer):
            await desk.ports.ingestion.fail(await desk.claim(document), code="no_text", message="It has no text.")
        assert await desk.ports.jobs.drop([never.id, newer.id], scope=desk.scope(store)) == 2
        (left,) = await desk.ports.documents.list(scope=desk.scope(store), limit=10)
        assert (left.id, left.status, left.live_version) == (newer.id, FileStatus.COMPLETED, 1)
        again = await desk.put(store, "new", external_id="a")
        assert again.status is FileStatus.IN_PROGRESS

    async def test_waking_is_harmless(self, desk: Desk) -> None:
        """With work and without."""
        await desk.ports.jobs.wake()
        await desk.put(await desk.store(), "one")
        assert await desk.ports.jobs.wake()
        assert (await desk.ports.jobs.depth())["waiting"] >= 1
