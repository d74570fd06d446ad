"""A plan carried out under fire, and the same final documents put where nothing dies."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeVar

from bookwheel.client import Client
from bookwheel.errors import BookwheelError
from tests.chaos.checks import Ranking, left_jobs, orphans
from tests.chaos.driver import Driver
from tests.chaos.keeper import Keeper
from tests.chaos.killer import Killer
from tests.chaos.plan import Item, Plan, Round
from tests.chaos.snapshot import Snapshot, read_snapshot
from tests.service.conftest import bookwheel_up

READY_SECONDS = 120.0
SETTLE_SECONDS = 120.0  # after the last kill, until nothing is in progress
CLEAN_SECONDS = 60.0  # until what dead workers left is cleared: procrastinate gives them 30 s
SLACK_ROUNDS, SLACK_KILLS = 4, 3  # that the driver and the killer may be ahead of each other
HITS = 5
QUERIES = 50
KEYWORDS_ONLY = {"hybrid_search": {"embedding_weight": 0.0, "text_weight": 1.0}}

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to."""

    snapshot: Snapshot
    rankings: Mapping[str, Ranking]  #: by kind of search and query
    findings: Sequence[str] = ()  #: stale hits
    counts: Mapping[str, int] = field(default_factory=dict)
    table: str = ""  #: of the kills, for people


def under_fire(plan: Plan, *, data_dir: Path, folder: Path, kills: int, seed: int, queries: Sequence[str]) -> Outcome:
    """Carry out the plan while processes are killed, evenly over its rounds; then wait until all is at rest."""
    with Keeper(data_dir) as keeper, Client(keeper.url) as client:
        store_id = eventually(lambda: client.store("chaos"), READY_SECONDS)
        driver = Driver(client=client, store_id=store_id, folder=folder, random=Random(seed))
        done = [0]
        share = kills / len(plan.rounds)
        killer = Killer(keeper, kills=kills, random=Random(seed + 1), may=lambda: int((done[0] + SLACK_ROUNDS) * share))
        killer.start()
        for number, round_ in enumerate(plan.rounds):
            while killer.done < min(kills, int(number * share) - SLACK_KILLS):
                driver.search()
            driver.carry_out(round_)
            done[0] = number + 1
        done[0] = len(plan.rounds) + SLACK_ROUNDS
        killer.join()
        if killer.error is not None:
            raise killer.error
        snapshot = at_rest(client, store_id, data_dir)
        counts = Counter({**driver.counts, "up ended by itself or was killed": len(keeper.ended)})
        table = f"{killer.table()}\nup ended: {[(round(at, 1), status) for at, status in keeper.ended]}"
        table += f"\nslowest operation {driver.slowest:.1f} s; {dict(sorted(counts.items()))}"
    rankings = after_reindex(data_dir, "chaos", queries)
    return Outcome(snapshot=snapshot, rankings=rankings, findings=tuple(driver.findings), counts=counts, table=table)


def after_reindex(data_dir: Path, store: str, queries: Sequence[str]) -> dict[str, Ranking]:
    """Rankings once the keyword index is made anew: until its merges, BM25 counts what was deleted."""
    command = [sys.executable, "-m", "bookwheel.cli", "reindex", "--data-dir", str(data_dir)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=READY_SECONDS)
    with bookwheel_up(data_dir) as server, Client(server.url) as client:
        return ask(client, client.store(store, create=False), queries)


def in_peace(final: Mapping[str, Item], *, data_dir: Path, folder: Path, queries: Sequence[str]) -> Outcome:
    """The same final documents, put once where nothing dies."""
    items = tuple(final.values())
    whole = Round(
        texts=tuple(item for item in items if item.kind == "text"),
        files=tuple(item for item in items if item.kind != "text"),
        deletions=(),
    )
    with bookwheel_up(data_dir) as server, Client(server.url) as client:
        store_id = client.store("peace")
        driver = Driver(client=client, store_id=store_id, folder=folder, random=Random(0))
        driver.carry_out(whole)
        snapshot = at_rest(client, store_id, data_dir)
    return Outcome(snapshot=snapshot, rankings=after_reindex(data_dir, "peace", queries) if queries else {})


def at_rest(client: Client, store_id: str, data_dir: Path) -> Snapshot:
    """Wait until nothing is in progress and the leftovers are cleared, each within bounds; then read everything."""
    eventually(lambda: _idle(client, store_id) or None, SETTLE_SECONDS)
    deadline = time.monotonic() + CLEAN_SECONDS
    while _leftovers(snapshot := read_snapshot(data_dir)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return snapshot


def _leftovers(snapshot: Snapshot) -> list[str]:
    return orphans(snapshot) + left_jobs(snapshot)


def _idle(client: Client, store_id: str) -> bool:
    counts = client.call("GET", f"/v1/vector_stores/{store_id}")["file_counts"]
    status = client.call("GET", "/v1/status")
    return counts["in_progress"] == 0 and status["keywords_behind"] == 0 and not any(status["queues"].values())


def ask(client: Client, store_id: str, queries: Sequence[str]) -> dict[str, Ranking]:
    """The first hits of each query, by both indexes and by keywords alone."""
    rankings: dict[str, Ranking] = {}
    for query in queries:
        for kind, options in (("hybrid", {}), ("keywords", {"ranking_options": KEYWORDS_ONLY})):
            page = client.search(store_id, query, limit=HITS, **options)
            rankings[f"{kind}: {query}"] = [
                (f"{hit['document']['external_id']}@{hit['document']['start']}", hit["score"]) for hit in page["data"]
            ]
    return rankings


def questions(final: Mapping[str, Item], random: Random) -> list[str]:
    """Queries: sentences of documents that must be there."""
    names = random.sample(sorted(final), min(QUERIES, len(final)))
    return [random.choice(final[name].text.splitlines()).rpartition(": ")[2] for name in names]


def eventually(ask_for: Callable[[], T | None], seconds: float) -> T:
    """The first answer that is not None, whatever errors come before it. Raises AssertionError when it takes long."""
    deadline = time.monotonic() + seconds
    last: BaseException | None = None
    while time.monotonic() < deadline:
        try:
            if (answer := ask_for()) is not None:
                return answer
        except BookwheelError as error:
            last = error
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds:.0f} s") from last
