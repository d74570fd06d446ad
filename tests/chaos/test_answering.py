"""Vector search, embedder, language model, cache and database fail under traffic, in real processes: every request is
answered or refused cleanly within its deadline, what is missing is told, and all is whole again by itself."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis

from bookwheel.api.models import EMBEDDER
from bookwheel.backends.postgres.database import POOL_TIMEOUT_SECONDS
from bookwheel.backends.redis import PATIENCE_SECONDS
from bookwheel.client import Client
from tests.chaos.outages import (
    RECOVERY_SECONDS,
    Outage,
    database_kept_down,
    endure,
    silent,
    vectors_gone,
    vectors_locked,
)
from tests.chaos.proxy import Proxy, tcp_proxy
from tests.chaos.shore import half_an_answer, put_documents, whole_answer
from tests.chaos.traffic import Kind, Traffic
from tests.redis_server import REDIS, RedisServer, redis_server, require_redis
from tests.scripted_upstream import Answer, ScriptedUpstream, hang, malformed_chat, scripted_upstream, status
from tests.service.conftest import LiveServer, bookwheel_up

PART, UPSTREAM, STALL, WRITING = 1.0, 2.0, 1.0, 4.0  # seconds: the settings below
SLACK = 1.5
SETTINGS = {
    "BOOKWHEEL_SEARCH_PART_SECONDS": str(PART),
    "BOOKWHEEL_UPSTREAM_TIMEOUT_SECONDS": str(UPSTREAM),
    "BOOKWHEEL_GENERATOR_STALL_SECONDS": str(STALL),
    "BOOKWHEEL_GENERATOR_TIMEOUT_SECONDS": str(WRITING),
    "BOOKWHEEL_UNSUPPORTED_SENTENCES": "drop",
    "BOOKWHEEL_POPULAR_QUESTIONS": "0",
}
SEARCH = 2 * PART  # the question's vector beside the keywords, then the nearest vectors
OUTAGE = 3.0  # seconds of most outages
SLOW_OUTAGE = 6.0  # of those in which answers take long
LONG_OUTAGE = 11.0  # until pauses between two tries are the longest
GENERATING: tuple[Kind, ...] = ("chat", "stream")


def deadlines(*, writing: float, more: float = 0.0) -> dict[Kind, float]:
    """By what the settings allow: a search, an answer's search and writing, and `more` for each."""
    search = SEARCH + more + SLACK
    return {"search": search, "chat": search + writing, "stream": search + writing}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """A Bookwheel with documents, and what stands between it and a service that it needs."""

    server: LiveServer
    store_id: str
    proxy: Proxy
    upstream: ScriptedUpstream | None = None
    redis: RedisServer | None = None

    def traffic(self, limits: Mapping[Kind, float], *, cached: bool = False) -> Traffic:
        """Clients of it, who refuse what is kept unless it is said."""
        headers = {} if cached else {"cache-control": "no-cache"}
        return Traffic(self.server.url, self.store_id, deadlines=limits, headers=headers)


@contextmanager
def a_stand(**environment: str) -> Iterator[tuple[LiveServer, str]]:
    """`bookwheel up` with these settings, and a store with the documents."""
    with (
        TemporaryDirectory(prefix="bookwheel-chaos-", ignore_cleanup_errors=True) as directory,
        bookwheel_up(Path(directory), **SETTINGS, **environment) as server,
    ):
        with Client(server.url) as client:
            store_id = put_documents(client)
        yield server, store_id


@pytest.fixture(scope="module")
def local() -> Iterator[Stand]:
    """Its language model is a scripted server behind the proxy; the embedder is its own; nothing is kept."""
    with scripted_upstream() as upstream, tcp_proxy(upstream.url) as proxy:
        upstream.otherwise = whole_answer()
        url = f"openai:{proxy.url}/v1?model=scripted"
        with a_stand(BOOKWHEEL_GENERATOR_URL=url, BOOKWHEEL_CACHE_URL="off:") as (server, store_id):
            yield Stand(server=server, store_id=store_id, proxy=proxy, upstream=upstream)


@pytest.fixture(scope="module")
def remote(local: Stand) -> Iterator[Stand]:
    """Its embedder is the other Bookwheel behind the proxy, its cache a Redis where there is one; it writes answers
    without a model."""
    with Client(local.server.url) as client:
        assert EMBEDDER in [model["id"] for model in client.call("GET", "/v1/models")["data"]]
    with ExitStack() as opened:
        proxy = opened.enter_context(tcp_proxy(local.server.url))
        cache = opened.enter_context(redis_server()) if REDIS else None
        embedder = f"openai:{proxy.url}/v1?model={EMBEDDER}"
        cache_url = "memory:" if cache is None else cache.url
        settings = {"BOOKWHEEL_EMBEDDER_URL": embedder, "BOOKWHEEL_CACHE_URL": cache_url}
        server, store_id = opened.enter_context(a_stand(**settings))
        yield Stand(server=server, store_id=store_id, proxy=proxy, redis=cache)


@pytest.fixture
def tell(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Callable[[Outage], None]:
    """Print what was measured."""

    def tell(outage: Outage) -> None:
        with capsys.disabled():
            print(f"\n{request.node.name}: {outage}")

    return tell


# ---- vector search


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [(vectors_locked, LONG_OUTAGE), (vectors_gone, OUTAGE)],
    ids=["hangs", "is gone"],
)
def test_without_vector_search_keywords_answer(
    local: Stand,
    fault: Callable[[Path], AbstractContextManager[None]],
    seconds: float,
    tell: Callable[[Outage], None],
) -> None:
    """Its tables are locked by another session, or not there."""
    with local.traffic(deadlines(writing=WRITING)) as traffic:
        outage = endure(traffic, fault(local.server.data_dir), part="search.dense", seconds=seconds)
    tell(outage)
    assert traffic.faults() + silent(outage.during, "search.dense") == []
    assert all(one.status == 200 for one in outage.during)
    assert outage.counted > 0
    assert outage.recovery <= RECOVERY_SECONDS


# ---- the embedder


EMBEDDER_FAULTS: dict[str, tuple[Callable[[Proxy], None], float]] = {
    "slow": (lambda proxy: proxy.delay(UPSTREAM + 1), SLOW_OUTAGE),
    "resets": (lambda proxy: proxy.reset(), OUTAGE),
    "stalls": (lambda proxy: proxy.stall(after=300), SLOW_OUTAGE),
    "gone": (lambda proxy: proxy.refuse(), LONG_OUTAGE),
}


@pytest.mark.parametrize("fault", EMBEDDER_FAULTS)
def test_without_the_embedder_keywords_answer(remote: Stand, fault: str, tell: Callable[[Outage], None]) -> None:
    """It is another server, and what is between makes it slow or takes it away."""
    writing = 2 * UPSTREAM  # the extractive generator's batch, and the check of what it wrote
    breaking, seconds = EMBEDDER_FAULTS[fault]
    with remote.traffic(deadlines(writing=writing)) as traffic:
        outage = endure(traffic, through(remote.proxy, breaking), part="embed", seconds=seconds)
    tell(outage)
    assert traffic.faults() + silent(outage.during, "embed") == []
    assert all(one.status == 200 for one in outage.during)
    assert outage.counted > 0
    assert outage.recovery <= RECOVERY_SECONDS


@contextmanager
def through(proxy: Proxy, breaking: Callable[[Proxy], None]) -> Iterator[None]:
    """The proxy does this until the block ends."""
    breaking(proxy)
    try:
        yield
    finally:
        proxy.heal()


# ---- the language model


@contextmanager
def answering(stand: Stand, answer: Answer) -> Iterator[None]:
    """The scripted server answers so until the block ends."""
    assert stand.upstream is not None
    stand.upstream.otherwise = answer
    try:
        yield
    finally:
        stand.upstream.otherwise = whole_answer()


MODEL_FAULTS: dict[str, Callable[[Stand], AbstractContextManager[None]]] = {
    "has a limit": lambda stand: answering(stand, status(429, retry_after="1")),
    "fails": lambda stand: answering(stand, status(500)),
    "hangs before headers": lambda stand: answering(stand, hang()),
    "is silent midway": lambda stand: answering(stand, half_an_answer()),
    "is malformed": lambda stand: answering(stand, malformed_chat("Every lighthouse")),
    "is cut midway": lambda stand: through(stand.proxy, lambda proxy: proxy.cut(after=2_500)),
    "stalls on the way": lambda stand: through(stand.proxy, lambda proxy: proxy.stall(after=2_500)),
    "resets": lambda stand: through(stand.proxy, lambda proxy: proxy.reset()),
}


@pytest.mark.parametrize("fault", MODEL_FAULTS)
def test_without_the_language_model_sentences_of_the_documents_answer(
    local: Stand, fault: str, tell: Callable[[Outage], None]
) -> None:
    """Searches go on as if nothing were. What a model had said before it failed stands as far as it was checked."""
    with local.traffic(deadlines(writing=WRITING)) as traffic:
        seconds = SLOW_OUTAGE if fault == "has a limit" else OUTAGE
        outage = endure(traffic, MODEL_FAULTS[fault](local), part="generate", seconds=seconds)
    tell(outage)
    assert traffic.faults() + silent(outage.during, "generate", affected=GENERATING) == []
    assert outage.counted > 0
    assert outage.recovery <= RECOVERY_SECONDS


# ---- the shared cache


@contextmanager
def killed(cache: RedisServer) -> Iterator[None]:
    """It is away, and comes back with nothing."""
    cache.kill()
    try:
        yield
    finally:
        cache.start()


@contextmanager
def frozen(cache: RedisServer) -> Iterator[None]:
    """It listens and says nothing."""
    cache.freeze()
    try:
        yield
    finally:
        cache.thaw()


@pytest.mark.parametrize("fault", [killed, frozen])
def test_without_redis_answers_are_whole(
    remote: Stand, fault: Callable[[RedisServer], AbstractContextManager[None]], tell: Callable[[Outage], None]
) -> None:
    """Only the metric tells. Afterwards it is filled again."""
    require_redis()
    assert remote.redis is not None
    limits = deadlines(writing=2 * UPSTREAM, more=2 * PATIENCE_SECONDS)
    with (
        remote.traffic(limits, cached=True) as traffic,
        closing(redis.Redis.from_url(remote.redis.url)) as held,
    ):
        sizes: list[int] = []

        def is_filled() -> bool:
            sizes.append(int(held.dbsize()))
            return sizes[-1] > sizes[0]

        outage = endure(traffic, fault(remote.redis), part="cache", seconds=OUTAGE, is_back=is_filled)
    tell(outage)
    assert traffic.faults() == []
    assert all(one.whole for one in outage.during)
    assert outage.counted > 0
    assert outage.recovery <= RECOVERY_SECONDS


# ---- the database


@pytest.mark.parametrize("seconds", [0.1, 4.0], ids=["at once", "after a while"])
def test_while_the_database_is_away_requests_wait_or_are_refused(
    local: Stand, seconds: float, tell: Callable[[Outage], None]
) -> None:
    """Its first process is killed under traffic, once or for some time; each time `up` starts another."""
    with local.traffic(deadlines(writing=WRITING, more=POOL_TIMEOUT_SECONDS)) as traffic:
        outage = endure(traffic, database_kept_down(local.server), part="search.dense", seconds=seconds)
    tell(outage)
    assert traffic.faults() == []
    assert outage.recovery <= RECOVERY_SECONDS
