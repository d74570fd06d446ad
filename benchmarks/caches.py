"""What the caches save: language model calls on a workload of real questions, and time.

uv run python benchmarks/caches.py

Calls: 5,000 asks of some 300 real questions and their paraphrases, Zipf-distributed (faq_workload.py), against a server
over HTTP that counts what it is asked; a near match that answers another question is counted as false. Time: a kept
answer against an uncached search, over one store, in one run, in turns.
"""

import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from bookwheel.client import Client
from faq_workload import Ask, workload
from harness import Figure, ingest, load, report, running

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.scripted_upstream import scripted_upstream

SAVED_BAR, RATIO_BAR, FALSE_BAR = 0.60, 5.0, 0.01
DOCUMENTS = 1_000
ROUNDS, EACH = 7, 60


def calls_saved(asks: list[Ask], **environment: str) -> tuple[float, Counter[str], int]:
    """The share of asks that cost no call, how they were answered, and near matches of another topic."""
    topics = {ask.text: ask.topic for ask in asks}
    kinds: Counter[str] = Counter()
    false = 0
    with scripted_upstream() as model:
        url = f"openai:{model.url}/v1?model=counting"
        settings = {"BOOKWHEEL_GENERATOR_URL": url, "BOOKWHEEL_OPENAI_API_KEY": "any", **environment}
        with running(**settings) as server, Client(server.url) as client:
            store, _ = ingest(client, "squad_dev", load("squad_dev").corpus[:DOCUMENTS])
            for ask in asks:
                cached = _ask(client, store, ask.text)["bookwheel"]["cache"]
                kinds[cached["kind"] if cached else "anew"] += 1
                false += cached is not None and topics[cached["question"]] != ask.topic
        return 1 - len(model.requests) / len(asks), kinds, false


def _ask(client: Client, store: str, text: str) -> dict[str, Any]:
    body = {"model": f"bookwheel/{store}", "messages": [{"role": "user", "content": text}]}
    found: dict[str, Any] = client.call("POST", "/v1/chat/completions", json=body)
    return found


def ratio() -> tuple[float, float, float]:
    """Medians of an uncached search and of a kept answer in milliseconds, and the median of the rounds' ratios."""
    data = load("squad_dev", queries=ROUNDS * EACH + EACH)
    with running() as server, Client(server.url) as client, httpx.Client(base_url=server.url, timeout=60) as http:
        store, _ = ingest(client, "squad_dev", data.corpus)
        questions = [query["text"] for query in data.queries]
        kept = questions[:EACH]
        for question in kept:
            _answered(http, store, question)
        rounds = []
        for number in range(1, ROUNDS + 1):
            fresh = questions[number * EACH : (number + 1) * EACH]
            searched = [_took(lambda text=text: _searched(http, store, text)) for text in fresh]
            answered = [_took(lambda text=text: _answered(http, store, text)) for text in kept]
            rounds.append((statistics.median(searched), statistics.median(answered)))
    searches, answers = zip(*rounds, strict=True)
    return (
        statistics.median(searches) * 1000,
        statistics.median(answers) * 1000,
        statistics.median(search / answer for search, answer in rounds),
    )


def _took(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _searched(http: httpx.Client, store: str, text: str) -> None:
    found = http.post(f"/v1/vector_stores/{store}/search", json={"query": text})
    assert found.headers["cache-status"].endswith("fwd=miss"), found.headers


def _answered(http: httpx.Client, store: str, text: str) -> None:
    body = {"model": f"bookwheel/{store}", "messages": [{"role": "user", "content": text}]}
    http.post("/v1/chat/completions", json=body).raise_for_status()


def main() -> None:
    """Measure both."""
    search, answer, times = ratio()
    detail = f"search {search:.1f} ms, kept answer {answer:.1f} ms, {ROUNDS} rounds of {EACH}"
    report(
        "caches", [Figure(name="kept answer, times faster than a search", value=times, bar=RATIO_BAR, detail=detail)]
    )
    asks = workload()
    same_words, _, _ = calls_saved(asks, BOOKWHEEL_CACHE_SIMILARITY="1")
    saved, kinds, false = calls_saved(asks)
    detail = f"{dict(kinds)}, {len(asks)} asks; by the same words alone {same_words:.3f}"
    near = kinds["semantic"] or 1
    report(
        "caches",
        [
            Figure(name="language model calls saved, Zipf", value=saved, bar=SAVED_BAR, detail=detail),
            Figure(
                name="near matches that answer another question",
                value=false / near,
                bar=FALSE_BAR,
                at_most=True,
                detail=f"{false} of {kinds['semantic']}",
            ),
        ],
    )


if __name__ == "__main__":
    main()
