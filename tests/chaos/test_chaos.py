"""kill -9 of worker, API and database while documents come, change and go: nothing is lost, doubled or served stale."""

from pathlib import Path
from random import Random

import pytest

from tests.chaos.checks import differences, different_hits, duplicated, left_jobs, lost, miscounted, orphans
from tests.chaos.plan import Plan, make_file_plan, make_plan
from tests.chaos.runs import Outcome, in_peace, questions, under_fire

DOCS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "debian_docs" / "files"
SHOWN = 20  # faults of one kind


def test_what_was_acknowledged_survives_every_kill(
    data_dir: Path, tmp_path: Path, kills: int, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """500 documents under `kills` kills end exactly as they do when nothing dies."""
    _end_alike(make_plan(seed), data_dir, tmp_path, kills=kills, seed=seed, capsys=capsys)


def test_files_survive_every_kill(
    data_dir: Path, tmp_path: Path, kills: int, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """30 HTML files, which take longer to read and embed, under a fifth of the kills."""
    _end_alike(make_file_plan(seed, DOCS), data_dir, tmp_path, kills=kills // 5, seed=seed, capsys=capsys)


def _end_alike(
    plan: Plan, data_dir: Path, folder: Path, *, kills: int, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    queries = questions(plan.final, Random(seed))
    fired = under_fire(plan, data_dir=data_dir / "fire", folder=folder, kills=kills, seed=seed, queries=queries)
    with capsys.disabled():
        print(fired.table)
    calm = in_peace(plan.final, data_dir=data_dir / "peace", folder=folder, queries=queries)
    faults = {
        "stale hits": fired.findings,
        "lost": lost(fired.snapshot, plan.final),
        "duplicated": duplicated(fired.snapshot),
        "orphans": orphans(fired.snapshot),
        "miscounted": miscounted(fired.snapshot),
        "jobs left": left_jobs(fired.snapshot),
        "differences": differences(fired.snapshot, calm.snapshot),
        "hits": _unlike(fired, calm),
        "of the undisturbed run": lost(calm.snapshot, plan.final) + orphans(calm.snapshot),
    }
    told = [f"{len(some)} {kind}\n    " + "\n    ".join(some[:SHOWN]) for kind, some in faults.items() if some]
    assert not told, "\n".join(told)


def _unlike(one: Outcome, other: Outcome) -> list[str]:
    return [
        fault for query in one.rankings for fault in different_hits(query, one.rankings[query], other.rankings[query])
    ]
