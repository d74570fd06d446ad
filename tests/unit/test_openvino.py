"""Rules of the local embedder, on the bundled model."""

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from bookwheel.backends.openvino.embedder import (
    BATCH_TOKENS,
    OpenVinoEmbedder,
    _join_windows,
    _Window,
    open_embedder,
    padded,
    token_batches,
)
from bookwheel.errors import EmbedderUnavailableError
from bookwheel.ports import Embedder, Vectors

REFERENCE = json.loads((Path(__file__).parent / "data" / "minilm_reference.json").read_bytes())["rows"]
LONG = " ".join(f"Sentence number {number} is about rivers and mountains." for number in range(90))


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    """The bundled model."""
    return open_embedder(None, threads=1)


@pytest.fixture(scope="module")
def local(embedder: Embedder) -> OpenVinoEmbedder:
    """The same, for looking inside."""
    assert isinstance(embedder, OpenVinoEmbedder)
    return embedder


def cosines(left: Vectors, right: Vectors) -> Vectors:
    """Cosine of each row with its counterpart."""
    return (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


async def test_vectors_equal_those_of_sentence_transformers(embedder: Embedder) -> None:
    """Our graph computes the model: cosine to the stored reference is above 0.9999 for every kind of text."""
    ours = await embedder.embed([row["text"] for row in REFERENCE])
    theirs = np.array([row["vector"] for row in REFERENCE], np.float32)
    assert cosines(ours, theirs).min() > 0.9999


async def test_vectors_are_unit_float32_rows(embedder: Embedder) -> None:
    """Each text gets one row of length one, the empty text too; no texts give no rows."""
    vectors = await embedder.embed(["", "one", LONG])
    assert (vectors.shape, vectors.dtype) == ((3, embedder.dimensions), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (await embedder.embed([])).shape == (0, embedder.dimensions)


async def test_order_and_company_do_not_change_a_vector(embedder: Embedder) -> None:
    """A text's vector is the same alone and anywhere in a batch of other lengths."""
    texts = ["a long question about " + "very " * count + "old books" for count in (40, 0, 90, 3)]
    together = await embedder.embed(texts)
    alone = np.concatenate([await embedder.embed([text]) for text in texts])
    assert cosines(together, alone).min() > 0.9999


async def test_the_tail_of_a_long_text_counts(embedder: Embedder) -> None:
    """Nothing is cut off: changing only the last sentence of a long text changes its vector."""
    first, second = await embedder.embed([LONG + " The end is apples.", LONG + " Quantum chromodynamics forever!"])
    assert min(embedder.token_counts([LONG])) > 2 * embedder.window
    assert float(first @ second) < 0.9995


async def test_a_long_text_is_the_weighted_mean_of_its_windows(local: OpenVinoEmbedder) -> None:
    """The vector of a text longer than the window is the token-weighted mean of its windows', made unit again."""
    ids = np.array(local.tokenizer.encode(LONG, add_special_tokens=False).ids, np.int32)
    windows = list(local._cut(0, ids))
    assert np.concatenate([window.ids[1:-1] for window in windows]).tolist() == ids.tolist()
    assert max(len(window.ids) for window in windows) <= local.window
    pooled = sum(window.weight * local._infer([window.ids])[0] for window in windows)
    assert cosines(await local.embed([LONG]), np.array([pooled])).min() > 0.9999


def test_a_text_that_just_fits_is_one_window(local: OpenVinoEmbedder) -> None:
    """Special tokens count: window - 2 tokens fit, one more makes two windows of even size."""
    fits, over = np.arange(local.window - 2, dtype=np.int32), np.arange(local.window - 1, dtype=np.int32)
    assert [len(window.ids) for window in local._cut(0, fits)] == [local.window]
    sizes = [window.weight for window in local._cut(0, over)]
    assert len(sizes) == 2
    assert max(sizes) - min(sizes) <= 1


async def test_a_question_overtakes_a_bulk_call(local: OpenVinoEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bulk call hands over one batch at a time, so a question waits for one batch and not for all of them."""
    running = threading.Event()
    infer = local._infer

    def noting(rows: Sequence[Any]) -> Vectors:
        running.set()
        return infer(rows)

    monkeypatch.setattr(local, "_infer", noting)
    bulk = asyncio.create_task(local.embed([LONG] * 12))
    await asyncio.to_thread(running.wait)
    await local.embed(["a question"])
    assert not bulk.done()
    await bulk


def test_windows_count_by_their_tokens() -> None:
    """A window of three tokens weighs three times a window of one; other texts stay apart."""
    rows = np.array([[1, 0], [0, 1], [0, 1]], np.float32)
    windows = [_Window(text=text, ids=np.array([]), weight=weight) for text, weight in ((0, 3), (0, 1), (1, 5))]
    np.testing.assert_allclose(_join_windows(rows, windows, 2), [[3 / 10**0.5, 1 / 10**0.5], [0, 1]], atol=1e-6)


async def test_questions_asked_together_share_batches(local: OpenVinoEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Concurrent single texts run as few batches, and each caller gets its own vector."""
    sizes: list[int] = []
    infer = local._infer

    def counting(rows: Sequence[Any]) -> Vectors:
        sizes.append(len(rows))
        return infer(rows)

    monkeypatch.setattr(local, "_infer", counting)
    texts = [f"question {number}" for number in range(20)]
    answers = np.concatenate(await asyncio.gather(*(local.embed([text]) for text in texts)))
    assert len(sizes) <= 2
    assert cosines(answers, await local.embed(texts)).min() > 0.9999


async def test_the_event_loop_stays_free(local: OpenVinoEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model never runs in the event loop's thread."""
    threads: set[int] = set()
    infer = local._infer

    def noting(rows: Sequence[Any]) -> Vectors:
        threads.add(threading.get_ident())
        return infer(rows)

    monkeypatch.setattr(local, "_infer", noting)
    await local.embed(["one", "two"])
    assert threads.isdisjoint({threading.get_ident()})


async def test_failures_are_reported_as_an_unavailable_embedder() -> None:
    """What goes wrong in OpenVINO, or after close, is our own retryable error."""
    closed = open_embedder(None, threads=1)
    await closed.ping()
    closed.close()
    with pytest.raises(EmbedderUnavailableError, match="local embedder failed"):
        await closed.ping()


def test_token_counts_leave_out_special_tokens(embedder: Embedder) -> None:
    """Counts are of the text alone, without truncation at any window."""
    assert embedder.token_counts(["", "apple", "hello, world"]) == [0, 1, 3]
    assert embedder.token_counts(["word " * 3000]) == [3000]


@pytest.mark.parametrize(
    "text",
    [
        "What causes the aurora borealis?",
        "Is a B cell a T cell?",
        "Überschwemmung in Zürich",
        "Quelle est la capitale ?",
        "x86_64 SIGSEGV 0x80070005",
    ],
)
def test_coverage_is_full_for_scripts_with_words_in_the_vocabulary(embedder: Embedder, text: str) -> None:
    """English, other Latin-script languages and identifiers are covered."""
    assert embedder.coverage(text) == 1


@pytest.mark.parametrize(
    "text",
    [
        "日本の首都はどこですか",
        "コンピュータ",
        "中国的首都",
        "대한민국의 수도",
        "Какая столица",
        "ما هي عاصمة مصر",
        "שלום",
        "भारत",
        "ประเทศไทย",
        "😀",
        "",
    ],
)
def test_coverage_is_nothing_for_scripts_that_are_only_spelled(embedder: Embedder, text: str) -> None:
    """A script that the vocabulary holds only as single letters counts as unknown, though no token is [UNK]."""
    assert embedder.coverage(text) < 0.1


def test_coverage_of_mixed_text_is_the_share_of_letters(embedder: Embedder) -> None:
    """Six Latin letters beside two kanji are three quarters."""
    assert embedder.coverage("London 東京") == pytest.approx(0.75)


def test_coverage_leaves_out_words_that_the_vocabulary_cannot_spell(embedder: Embedder) -> None:
    """A word that becomes [UNK] is unknown with all its letters."""
    assert embedder.coverage("good " + "z" * 101) == pytest.approx(4 / 105)


def test_batches_hold_like_lengths_within_the_budget() -> None:
    """Every text is in one batch, padded length times count stays in the budget, and a giant goes alone."""
    lengths = [5, 150, 7, 6, 90, 100, 5000]
    batches = list(token_batches(lengths, budget=208))
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    assert [[lengths[position] for position in batch] for batch in batches] == [[5000], [150], [100, 90], [7, 6, 5]]


@pytest.mark.parametrize("window", [100, 256, 8192])
def test_batches_come_in_few_shapes(window: int) -> None:
    """OpenVINO keeps code for each: 4,000 calls of 1 to 40 texts of any length in the window make at most 250."""
    random, shapes = Random(7), set()
    for _ in range(4000):
        rows = [np.arange(1, random.randint(1, window) + 1, dtype=np.int32) for _ in range(random.randint(1, 40))]
        for batch in token_batches([len(row) for row in rows], budget=BATCH_TOKENS):
            ids, lengths = padded([rows[position] for position in batch], window=window)
            assert ids.shape[1] <= window
            assert [int(length) for length in lengths[: len(batch)]] == [len(rows[position]) for position in batch]
            assert all((row[: len(rows[at])] == rows[at]).all() for row, at in zip(ids, batch, strict=False))
            assert int((ids != 0).sum()) == sum(len(rows[position]) for position in batch)
            shapes.add(ids.shape)
    assert len(shapes) <= 250


def test_a_text_without_tokens_has_a_row() -> None:
    """Some tokenizers put no special tokens around it."""
    assert list(token_batches([0, 0], budget=BATCH_TOKENS)) == [[0, 1]]
    ids, lengths = padded([np.empty(0, np.int32)], window=256)
    assert (ids.shape, lengths.tolist()) == ((1, 8), [1])
