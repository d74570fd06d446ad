"""A server of OpenAI's API keeps the contracts, over the wire."""

import time
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

from bookwheel.backends.openai.embedder import OpenAIEmbedder, open_embedder
from bookwheel.backends.openai.generator import OpenAIGenerator, open_generator
from bookwheel.errors import EmbedderUnavailableError, SettingsError
from bookwheel.settings import Settings
from bookwheel.testing import HashEmbedder
from bookwheel.testing.embedder import EmbedderContract
from bookwheel.testing.generator import GeneratorContract
from tests.scripted_upstream import ScriptedUpstream, embeddings, hang, reply, scripted_upstream, status

TEXTS = ["The whale swims.", "The wheel turns."]


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """A well-behaved server."""
    with scripted_upstream() as upstream:
        yield upstream


class TestOpenAIGenerator(GeneratorContract):
    """Chat completions."""

    @pytest.fixture
    async def generator(self, upstream: ScriptedUpstream) -> AsyncIterator[OpenAIGenerator]:
        """Over the server."""
        url = f"openai:{upstream.url}/v1?model=scripted"
        generator = open_generator(url, Settings(), count=HashEmbedder().token_counts)
        yield generator
        await generator.close()


class TestOpenAIEmbedder(EmbedderContract):
    """Embeddings."""

    @pytest.fixture
    async def embedder(self, upstream: ScriptedUpstream) -> AsyncIterator[OpenAIEmbedder]:
        """Over the server, whose vectors are those of shared words."""
        url = f"openai:{upstream.url}/v1?model=scripted&window=64"
        embedder = await open_embedder(url, Settings(), tokenizer=HashEmbedder().tokenizer)
        yield embedder
        await embedder.close()


async def an_embedder(upstream: ScriptedUpstream, options: str = "", **settings: float) -> OpenAIEmbedder:
    """An embedder over the server."""
    url = f"openai:{upstream.url}/v1?model=scripted{options}"
    return await open_embedder(url, Settings(**settings), tokenizer=HashEmbedder().tokenizer)  # type: ignore[arg-type]


async def test_vectors_of_any_length_become_unit_vectors_in_order(upstream: ScriptedUpstream) -> None:
    """The server's are twice as long, and come in another order."""
    embedder = await an_embedder(upstream)
    np.testing.assert_allclose(await embedder.embed(TEXTS), await HashEmbedder().embed(TEXTS), atol=1e-6)
    await embedder.close()


async def test_many_texts_go_in_batches(upstream: ScriptedUpstream) -> None:
    """No request grows without bound; long texts go as their windows."""
    embedder = await an_embedder(upstream, "&dimensions=64&window=12")
    await embedder.embed([*("whale " * 5 for _ in range(150)), "whale " * 25])
    assert [len(body["input"]) for body in upstream.bodies()] == [64, 64, 25]
    assert max(len(text.split()) for body in upstream.bodies() for text in body["input"]) <= 10
    await embedder.close()


async def test_known_dimensions_need_no_server(upstream: ScriptedUpstream) -> None:
    """A process can start while the server is away; without them it asks."""
    embedder = await an_embedder(upstream, "&dimensions=64")
    assert upstream.requests == []
    await embedder.close()
    embedder = await an_embedder(upstream)
    assert (embedder.dimensions, len(upstream.requests)) == (64, 1)
    await embedder.close()


@pytest.mark.parametrize(
    "answer",
    [
        status(400),
        status(429, retry_after="60"),
        hang(),
        reply({"data": [{"index": 0, "embedding": [1.0, 2.0]}]}),
        reply({"data": [{"index": 0, "embedding": [float("nan")] * 64}, {"index": 1, "embedding": [0.1] * 64}]}),
        reply({"data": None}),
        reply("<html>"),
    ],
)
async def test_whatever_goes_wrong_the_embedder_is_unavailable(upstream: ScriptedUpstream, answer: object) -> None:
    """So that a search goes on with keywords, and ingestion waits: a limit and vectors of another shape too."""
    embedder = await an_embedder(upstream, "&dimensions=64", upstream_timeout_seconds=0.7)
    upstream.otherwise = answer  # type: ignore[assignment]
    began = time.monotonic()
    with pytest.raises(EmbedderUnavailableError) as caught:
        await embedder.embed(TEXTS)
    assert time.monotonic() - began < 5
    assert (caught.value.retry_after == 60.0) == ("429" in caught.value.message)
    await embedder.close()


async def test_a_slow_answer_is_asked_for_a_second_time(upstream: ScriptedUpstream) -> None:
    """With hedge_seconds; the second answer is the one that comes."""
    embedder = await an_embedder(upstream, "&dimensions=64&hedge_seconds=0.05")
    await embedder.embed(TEXTS)
    before = len(upstream.requests)
    upstream.then(embeddings(after=30.0))
    np.testing.assert_allclose(await embedder.embed(TEXTS), await HashEmbedder().embed(TEXTS), atol=1e-6)
    assert len(upstream.requests) == before + 2
    await embedder.close()


@pytest.mark.parametrize("option", ["dimensions=many", "window=0", "hedge_seconds=-1", "dimensions=nan"])
async def test_options_that_are_no_numbers_are_refused(upstream: ScriptedUpstream, option: str) -> None:
    """With the setting's name."""
    with pytest.raises(SettingsError, match="BOOKWHEEL_EMBEDDER_URL"):
        await an_embedder(upstream, f"&{option}")
