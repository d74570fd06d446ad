"""The checks themselves: clean on a clean store, and each finds the fault that is planted for it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from bookwheel.client import Client
from bookwheel.data_directory import holder
from tests.chaos.checks import (
    differences,
    different_hits,
    duplicated,
    left_jobs,
    lost,
    miscounted,
    orphans,
    stale_hits,
)
from tests.chaos.plan import Item, make_plan
from tests.chaos.runs import in_peace
from tests.chaos.snapshot import BodyRow, ChunkRow, DocumentRow, Snapshot, VectorRow, read_snapshot
from tests.service.conftest import bookwheel_up

ITEM = Item(name="note001", revision=2, kind="text", text="Record note001 revision 2: the harbour feeds rivers.")
FINAL = {"note001": ITEM}
DOCUMENT = DocumentRow("d1", "note001", "completed", 2, 2, 1, True, len(ITEM.text), None)
CHUNK = ChunkRow(11, "d1", 2, 0, 0, len(ITEM.text), ITEM.text)
VECTOR = VectorRow(11, "d1", 2, 0, "h1")
CLEAN = Snapshot(
    documents=(DOCUMENT,),
    chunks=(CHUNK,),
    vectors=(VECTOR,),
    bodies=(BodyRow("d1", 2, ITEM.text),),
    leases=(),
    counters={"in_progress": 0, "completed": 1, "failed": 0, "cancelled": 0, "size": len(ITEM.text), "chunk_count": 1},
    jobs={},
    files=frozenset({"aa"}),
    blobs=frozenset({"aa"}),
    damaged=frozenset(),
    incoming=0,
    keywords=(11,),
)
OLD = ITEM.text.replace("revision 2", "revision 1")

Check = Callable[[Snapshot], list[str]]
CHECKS: dict[str, Check] = {
    "lost": lambda snapshot: lost(snapshot, FINAL),
    "duplicated": duplicated,
    "orphans": orphans,
    "miscounted": miscounted,
    "left jobs": left_jobs,
    "differences": lambda snapshot: differences(snapshot, CLEAN),
}

PLANTED: list[tuple[str, Snapshot]] = [
    ("lost", replace(CLEAN, documents=())),
    ("lost", replace(CLEAN, documents=(DOCUMENT, DOCUMENT._replace(id="d2", external_id="deleted")))),
    ("lost", replace(CLEAN, documents=(DOCUMENT._replace(status="in_progress"),))),
    ("lost", replace(CLEAN, documents=(DOCUMENT._replace(status="failed", error="no"),))),
    ("lost", replace(CLEAN, documents=(DOCUMENT._replace(live_version=1),))),
    ("lost", replace(CLEAN, bodies=(BodyRow("d1", 2, OLD),))),
    ("lost", replace(CLEAN, bodies=())),
    ("lost", replace(CLEAN, chunks=(CHUNK._replace(text=OLD),))),
    ("lost", replace(CLEAN, chunks=())),
    ("duplicated", replace(CLEAN, chunks=())),
    ("duplicated", replace(CLEAN, vectors=())),
    ("duplicated", replace(CLEAN, chunks=(CHUNK, CHUNK._replace(id=12)))),
    ("duplicated", replace(CLEAN, chunks=(CHUNK, CHUNK._replace(version=1)))),
    ("duplicated", replace(CLEAN, vectors=(VECTOR, VECTOR))),
    ("duplicated", replace(CLEAN, chunks=(CHUNK._replace(ordinal=1),))),
    ("orphans", replace(CLEAN, chunks=(CHUNK, CHUNK._replace(id=10, version=1)))),
    ("orphans", replace(CLEAN, vectors=(VECTOR, VECTOR._replace(chunk_id=10, document_id="gone")))),
    ("orphans", replace(CLEAN, bodies=(*CLEAN.bodies, BodyRow("d1", 1, OLD)))),
    ("orphans", replace(CLEAN, leases=("d1",))),
    ("orphans", replace(CLEAN, files=frozenset())),
    ("orphans", replace(CLEAN, blobs=frozenset())),
    ("orphans", replace(CLEAN, damaged=frozenset({"aa"}))),
    ("orphans", replace(CLEAN, incoming=1)),
    ("orphans", replace(CLEAN, keywords=())),
    ("orphans", replace(CLEAN, keywords=(11, 10))),
    ("orphans", replace(CLEAN, keywords=(11, 11))),
    ("miscounted", replace(CLEAN, counters={**CLEAN.counters, "completed": 2})),
    ("left jobs", replace(CLEAN, jobs={"doing": 1})),
    ("differences", replace(CLEAN, vectors=(VECTOR._replace(text_hash="h2"),))),
    ("differences", replace(CLEAN, chunks=(CHUNK._replace(end=3),))),
    ("differences", replace(CLEAN, documents=())),
]


@pytest.mark.parametrize("check", CHECKS)
def test_a_clean_store_has_no_fault(check: str) -> None:
    """No check cries wolf."""
    assert CHECKS[check](CLEAN) == []


@pytest.mark.parametrize(("check", "broken"), PLANTED)
def test_each_planted_fault_is_found(check: str, broken: Snapshot) -> None:
    """The check that is for it reports it."""
    assert CHECKS[check](broken) != []


def hit(name: str, text: str) -> dict[str, object]:
    """A search's hit, as far as it is looked at."""
    return {"document": {"external_id": name}, "content": [{"type": "text", "text": text}]}


def test_a_stale_hit_is_found() -> None:
    """Deleted, replaced, or of another document; what is new is none."""
    newest = {"note001": 2}
    assert stale_hits([hit("note001", ITEM.text)], least={"note001": 2}, newest=newest) == []
    assert stale_hits([hit("note001", OLD)], least={}, newest=newest) == []
    assert stale_hits([hit("note001", OLD)], least={"note001": 2}, newest=newest)
    assert stale_hits([hit("note001", ITEM.text)], least={"note001": 3}, newest=newest)
    assert stale_hits([hit("note002", ITEM.text)], least={}, newest={"note002": 2})
    assert stale_hits([hit("note001", ITEM.text)], least={}, newest={"note001": 1})


def test_rankings_may_differ_only_among_equals() -> None:
    """Hits of equal score change places; a hit or a score of its own is a fault."""
    one = [("a", 0.9), ("b", 0.5), ("c", 0.5)]
    assert different_hits("q", one, [("a", 0.9), ("c", 0.5), ("b", 0.5004)]) == []
    assert different_hits("q", one, [("a", 0.9), ("c", 0.5), ("d", 0.5)]) == []
    assert different_hits("q", one, [("a", 0.9), ("b", 0.5)])
    assert different_hits("q", one, [("z", 0.9), ("b", 0.5), ("c", 0.5)])
    assert different_hits("q", one, [("a", 0.8), ("b", 0.5), ("c", 0.5)])
    assert different_hits("q", [("a", 0.9), ("b", 0.8)], [("b", 0.9), ("a", 0.8)])


def test_a_plan_follows_from_its_seed() -> None:
    """The same seed, the same plan; no document comes twice in a round; some are deleted, some come back."""
    plan = make_plan(1)
    assert plan == make_plan(1)
    assert plan != make_plan(2)
    for round_ in plan.rounds:
        names = [item.name for item in (*round_.texts, *round_.files)] + list(round_.deletions)
        assert len(names) == len(set(names))
    deleted = {name for round_ in plan.rounds for name in round_.deletions}
    assert deleted - plan.final.keys()
    assert deleted & plan.final.keys()


SABOTAGE = {
    "DELETE FROM chunks WHERE id = (SELECT min(id) FROM chunks)": duplicated,
    "DELETE FROM vectors_1 WHERE chunk_id = (SELECT min(chunk_id) FROM vectors_1)": duplicated,
    "UPDATE bodies SET version = 99": orphans,
    "INSERT INTO leases (document_id, owner, expires_at) VALUES (gen_random_uuid(), 'x', now())": orphans,
    "UPDATE stores SET completed = completed + 1": miscounted,
    "DELETE FROM files": orphans,
}


def test_faults_planted_in_a_real_store_are_found(data_dir: Path, tmp_path: Path) -> None:
    """What is broken by hand in the tables and on the disk is read and reported; the store was clean before."""
    plan = make_plan(3, documents=24, rounds=8)
    outcome = in_peace(plan.final, data_dir=data_dir, folder=tmp_path, queries=[])
    assert lost(outcome.snapshot, plan.final) + duplicated(outcome.snapshot) + orphans(outcome.snapshot) == []
    assert miscounted(outcome.snapshot) == []
    with bookwheel_up(data_dir) as server, Client(server.url) as client:
        assert client.call("GET", "/v1/status")["documents"]["completed"] == len(plan.final)
        blob = next((data_dir / "blobs").glob("[0-9a-f][0-9a-f]/*"))
        blob.write_bytes(b"damaged")
        assert any("damaged" in fault for fault in orphans(read_snapshot(data_dir)))
        for statement, check in SABOTAGE.items():
            _sabotage(data_dir, statement)
            assert check(read_snapshot(data_dir)), statement


def _sabotage(data_dir: Path, statement: str) -> None:
    with psycopg.connect(holder(data_dir)["database_url"]) as connection:
        connection.execute(statement.encode())
