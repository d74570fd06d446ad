"""The cross-encoder keeps the contract and computes what its directory says.

No weights of a trained cross-encoder come with Bookwheel. So the contract is held by a small BERT whose weights are
set by hand to find the words of the query in the text, and the graph is compared with the same model in numpy, on
random weights.
"""

import asyncio
import json
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset15 as op
from safetensors.numpy import save_file
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing

from bookwheel.backends.openvino.cross_encoder import CrossEncoder, open_cross_encoder, probabilities
from bookwheel.backends.openvino.directory import read_directory
from bookwheel.errors import RerankerUnavailableError, SettingsError
from bookwheel.settings import Settings
from bookwheel.testing.reranker import QUERY, RIGHT, WRONG, RerankerContract

Array = NDArray[Any]
WINDOW = 48
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
CLOSE = 0.02  # absolute, of a score: bfloat16 against float64


def a_tokenizer() -> Tokenizer:
    """Whole words of the contract's texts, put together as BERT's pairs are."""
    words = pre_tokenizers.Whitespace().pre_tokenize_str(f"{QUERY} {RIGHT} {WRONG}".lower())
    vocabulary = dict.fromkeys((*SPECIAL, *(word for word, _ in words)))
    ids = {word: number for number, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, ids[name]) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def blank_weights(config: Mapping[str, Any], *, labels: int = 1) -> dict[str, Array]:
    """Zeros, with layer norms that change nothing but scale and mean."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    tables = {"word": config["vocab_size"], "position": config["max_position_embeddings"], "token_type": 2}
    shapes = {f"bert.embeddings.{name}_embeddings.weight": (rows, hidden) for name, rows in tables.items()}
    dense = {"bert.pooler.dense": (hidden, hidden), "classifier": (labels, hidden)}
    norms = ["bert.embeddings.LayerNorm"]
    for layer in range(config["num_hidden_layers"]):
        name = f"bert.encoder.layer.{layer}"
        dense |= {f"{name}.attention.self.{part}": (hidden, hidden) for part in ("query", "key", "value")}
        dense |= {f"{name}.attention.output.dense": (hidden, hidden)}
        dense |= {f"{name}.intermediate.dense": (inner, hidden), f"{name}.output.dense": (hidden, inner)}
        norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
    for name, shape in dense.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    weights: dict[str, Array] = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    for name in norms:
        weights |= {f"{name}.weight": np.ones(hidden, np.float32), f"{name}.bias": np.zeros(hidden, np.float32)}
    return weights


def a_config(*, hidden: int, layers: int, heads: int, inner: int, activation: str) -> dict[str, Any]:
    """config.json of a BERT over the tokenizer's words."""
    return {
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "hidden_act": activation,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": WINDOW,
        "vocab_size": a_tokenizer().get_vocab_size(),
    }


def save(path: Path, config: Mapping[str, Any], weights: Mapping[str, Array]) -> Path:
    """A model directory."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    a_tokenizer().save(str(path / "tokenizer.json"))
    save_file(dict(weights), path / "model.safetensors")
    return path


WORD, FIRST, SECOND, FOUND, LOOKED = 100, 100, 101, 102, 103  # dimensions of the model below
SIZE = 104


def word_finder(path: Path) -> Path:
    """A BERT that scores the share of the query's tokens that the text has.

    A word is random signs in the first dimensions. In layer 0 each token looks at tokens of its word, rather at one in
    the other text, and notes whether it looked at the text; a query token that did is found. In layer 1 [CLS] looks at
    all tokens of the query and takes the mean of found.
    """
    config = a_config(hidden=SIZE, layers=2, heads=1, inner=8, activation="relu")
    weights = blank_weights(config)
    signs = np.random.default_rng(3).choice([-1.0, 1.0], (config["vocab_size"], WORD))
    weights["bert.embeddings.word_embeddings.weight"][:, :WORD] = signs
    types = weights["bert.embeddings.token_type_embeddings.weight"]
    types[0, FIRST] = types[1, SECOND] = 3.0
    look = "bert.encoder.layer.0.attention.self"
    for part in ("query", "key"):
        weights[f"{look}.{part}.weight"][range(WORD), range(WORD)] = 1.25
    weights[f"{look}.query.weight"][[FIRST, SECOND], [FIRST, SECOND]] = 5.0
    weights[f"{look}.key.weight"][[FIRST, SECOND], [SECOND, FIRST]] = 1.0  # the other text
    weights[f"{look}.value.weight"][LOOKED, SECOND] = 1.0
    weights["bert.encoder.layer.0.attention.output.dense.weight"][LOOKED, LOOKED] = 1.0
    weights["bert.encoder.layer.0.intermediate.dense.weight"][0, [FIRST, LOOKED]] = 1.0
    weights["bert.encoder.layer.0.intermediate.dense.bias"][0] = -4.0
    weights["bert.encoder.layer.0.output.dense.weight"][FOUND, 0] = 2.0
    weights["bert.encoder.layer.1.attention.self.query.bias"][FIRST] = 20.0
    weights["bert.encoder.layer.1.attention.self.key.weight"][FIRST, FIRST] = 2.0
    weights["bert.encoder.layer.1.attention.self.value.weight"][FOUND, FOUND] = 1.0
    weights["bert.encoder.layer.1.attention.output.dense.weight"][FOUND, FOUND] = 1.0
    weights["bert.pooler.dense.weight"][0, FOUND] = 0.2
    weights["classifier.weight"][0, 0] = 8.0
    weights["classifier.bias"][0] = -2.0
    return save(path, config, weights)


def random_model(path: Path, *, labels: int = 1) -> tuple[Path, dict[str, Array], dict[str, Any]]:
    """A directory of random weights, with the weights and the config."""
    config = a_config(hidden=24, layers=2, heads=3, inner=40, activation="gelu")
    random = np.random.default_rng(11)
    weights = {
        name: (value + random.normal(scale=0.3, size=value.shape)).astype(np.float32)
        for name, value in blank_weights(config, labels=labels).items()
    }
    weights["bert.embeddings.token_type_embeddings.weight"] *= 6  # so that they matter
    return save(path, config, weights), weights, config


class Reference:
    """BERT's sequence classification in float64, one pair at a time, as its paper and config say."""

    def __init__(self, weights: Mapping[str, Array], config: Mapping[str, Any]) -> None:
        self._weights = {name.removeprefix("bert."): value.astype(np.float64) for name, value in weights.items()}
        self._layers, self._heads = config["num_hidden_layers"], config["num_attention_heads"]

    def logits(self, ids: Sequence[int], types: Sequence[int]) -> Array:
        """Of one pair."""
        tables = [f"embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type")]
        word, position, kind = (self._weights[name] for name in tables)
        states = self._norm(word[list(ids)] + position[: len(ids)] + kind[list(types)], "embeddings.LayerNorm")
        for layer in range(self._layers):
            states = self._layer(states, f"encoder.layer.{layer}")
        return self._dense(np.tanh(self._dense(states[0], "pooler.dense")), "classifier")

    def _layer(self, states: Array, name: str) -> Array:
        parts = [self._dense(states, f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
        heads = [self._head(*split) for split in zip(*(np.split(part, self._heads, 1) for part in parts), strict=True)]
        mixed = self._dense(np.concatenate(heads, 1), f"{name}.attention.output.dense")
        states = self._norm(states + mixed, f"{name}.attention.output.LayerNorm")
        inner = self._dense(states, f"{name}.intermediate.dense")
        gelu = 0.5 * inner * (1 + np.vectorize(math.erf)(inner / np.sqrt(2)))
        return self._norm(states + self._dense(gelu, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _head(self, query: Array, key: Array, value: Array) -> Array:
        weights = np.exp(query @ key.T / np.sqrt(query.shape[1]))
        attended: Array = weights / weights.sum(1, keepdims=True) @ value
        return attended

    def _dense(self, states: Array, name: str) -> Array:
        made: Array = states @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return made

    def _norm(self, states: Array, name: str) -> Array:
        centred = states - states.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        made: Array = scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return made


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrossEncoder]:
    """The word finder, compiled once."""
    made = opened(word_finder(tmp_path_factory.mktemp("models") / "finder"))
    yield made
    made.close()


def opened(path: Path) -> CrossEncoder:
    """As the setting opens it."""
    return open_cross_encoder(f"cross-encoder:{path}", Settings(embed_threads=1))


class TestCrossEncoder(RerankerContract):
    """BERT on the CPU."""

    @pytest.fixture
    def reranker(self, finder: CrossEncoder) -> CrossEncoder:
        """The shared one: it has no state."""
        return finder


TEXTS = [RIGHT, WRONG, "", "whale", "krill " * 30, "sea wind " * 100]


@pytest.mark.parametrize("labels", [1, 2])
async def test_scores_are_those_of_the_model(tmp_path: Path, labels: int) -> None:
    """Pairs of all lengths, in one call, score as an independent implementation says; the second of two labels
    means relevant."""
    path, weights, config = random_model(tmp_path / "tiny", labels=labels)
    reference, tokenizer = Reference(weights, config), a_tokenizer()
    tokenizer.enable_truncation(WINDOW, strategy="only_second")
    scores = await opened(path).rerank(QUERY, TEXTS)
    expected = []
    for code in tokenizer.encode_batch([(QUERY, text) for text in TEXTS]):
        logits = reference.logits(code.ids, code.type_ids)
        share = np.exp(logits) / np.exp(logits).sum()
        expected.append(1 / (1 + np.exp(-logits[0])) if labels == 1 else share[1])
    assert np.ptp(expected) > 0.1  # else a constant would do
    np.testing.assert_allclose(scores, expected, atol=CLOSE)


async def test_the_second_text_has_its_own_type(tmp_path: Path) -> None:
    """Without token types the same weights say something else."""
    path, weights, config = random_model(tmp_path / "tiny")
    tokenizer, text = a_tokenizer(), "sea wind " * 100
    tokenizer.enable_truncation(WINDOW, strategy="only_second")
    code = tokenizer.encode(QUERY, text)
    untyped = probabilities(Reference(weights, config).logits(code.ids, [0] * len(code.ids))[np.newaxis])
    (score,) = await opened(path).rerank(QUERY, [text])
    assert abs(score - float(untyped[0])) > 3 * CLOSE


async def test_only_the_text_is_cut(finder: CrossEncoder) -> None:
    """What stands behind the window is not read; the query is whole whatever the text."""
    head = "wind " * 10
    short, long = await finder.rerank(QUERY, [f"{head} {RIGHT}", f"{head * 10} {RIGHT}"])
    assert short > long + 0.2
    alone, crowded = await finder.rerank("largest sea animal", [RIGHT, f"{RIGHT} {WRONG * 20}"])
    assert alone == pytest.approx(crowded, abs=CLOSE)


async def test_a_query_longer_than_the_window_is_cut_to_half_of_it(finder: CrossEncoder) -> None:
    """The text keeps the other half."""
    right, wrong = await finder.rerank("largest animal sea whale " * 50, [RIGHT, WRONG])
    assert right > wrong


async def test_many_texts_are_read_in_batches_off_the_event_loop(
    finder: CrossEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches stay in the token budget, in a thread of their own, and scores keep their places."""
    infer, sizes, threads = finder._infer, list[int](), set[int]()

    def noting(pairs: Sequence[Any]) -> Array:
        sizes.append(sum(len(pair.ids) for pair in pairs))
        threads.add(threading.get_ident())
        return infer(pairs)

    monkeypatch.setattr(finder, "_infer", noting)
    scores = await finder.rerank(QUERY, [RIGHT, WRONG, WRONG * 20] * 40)
    assert len(sizes) > 1
    assert max(sizes) <= 2048
    assert threads.isdisjoint({threading.get_ident()})
    np.testing.assert_allclose(scores[3:], scores[:3] * 39, atol=1e-2)


async def test_calls_at_the_same_time_do_not_mix(finder: CrossEncoder) -> None:
    """Each caller gets the scores of its own texts."""
    expected = await finder.rerank(QUERY, TEXTS)
    answers = await asyncio.gather(*(finder.rerank(QUERY, [text]) for text in TEXTS * 3))
    np.testing.assert_allclose([score for (score,) in answers], expected * 3, atol=CLOSE)


async def test_failures_are_an_unavailable_reranker(tmp_path: Path) -> None:
    """Also after it was closed."""
    closed = opened(random_model(tmp_path / "tiny")[0])
    closed.close()
    with pytest.raises(RerankerUnavailableError, match="local reranker failed"):
        await closed.rerank("a", ["a"])


def test_a_model_that_is_no_reranker_is_refused(tmp_path: Path) -> None:
    """Three labels, no classifier, no directory: each is told with the way out."""
    with pytest.raises(SettingsError, match="3 labels"):
        opened(random_model(tmp_path / "three", labels=3)[0])
    path, weights, _ = random_model(tmp_path / "encoder")
    save_file({name: value for name, value in weights.items() if "classifier" not in name}, path / "model.safetensors")
    with pytest.raises(SettingsError, match="no cross-encoder"):
        opened(path)
    with pytest.raises(SettingsError, match="BOOKWHEEL_RERANKER_URL"):
        opened(tmp_path / "nothing")
    with pytest.raises(SettingsError, match="without a model directory"):
        open_cross_encoder("cross-encoder:", Settings())


@pytest.mark.parametrize("typed", [True, False])
async def test_an_exported_graph_is_a_cross_encoder_too(tmp_path: Path, *, typed: bool) -> None:
    """Its inputs are found by name; one without token types needs none. This one counts: tokens of the second text
    where it knows them, else all tokens."""
    path, _, config = random_model(tmp_path / "exported")
    (path / "model.safetensors").unlink()
    (path / "config.json").write_text(json.dumps({**config, "model_type": "roberta", "pad_token_id": 0}))
    (path / "openvino").mkdir()
    names = ("input_ids", "attention_mask", "token_type_ids")[: 3 if typed else 2]
    inputs = [op.parameter([-1, -1], np.int64, name) for name in names]
    for name, node in zip(names, inputs, strict=True):
        node.output(0).set_names({name})
    counted = op.multiply(inputs[1], inputs[-1]) if typed else inputs[1]
    axis, keep = op.constant(np.array([1])), True
    logits = op.subtract(op.convert(op.reduce_sum(counted, axis, keep), "f32"), op.constant(np.float32(12)))
    ov.save_model(ov.Model([logits], inputs, "counter"), path / "openvino" / "openvino_model.xml", False)
    made = opened(path)
    assert read_directory(path).window == WINDOW - 1
    query_tokens = 0 if typed else 4  # [CLS] a b [SEP]
    expected = probabilities(np.array([[1 + query_tokens - 12], [11 + query_tokens - 12]], np.float32))
    np.testing.assert_allclose(await made.rerank("a b", ["", "whale " * 10]), expected, atol=CLOSE)


def test_no_logit_overflows() -> None:
    """However sure the model is."""
    np.testing.assert_allclose(probabilities(np.array([[1e4], [-1e4], [0]], np.float32)), [1, 0, 0.5])
    np.testing.assert_allclose(probabilities(np.array([[-1e4, 1e4], [3, 3]], np.float32)), [1, 0.5])
