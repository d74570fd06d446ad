# openvino's stubs re-export nothing
# mypy: disable-error-code="attr-defined, name-defined"
"""A model directory as an OpenVINO graph: token ids in, unit vectors or logits out.

Whatever the weights come from (BERT safetensors, OpenVINO IR, ONNX), a graph has the same inputs and one output:

* `input_ids`: (batch, tokens) int32, padded with anything
* `lengths`: (batch,) int32, the tokens of each text that count
* result of `build_graph`: (batch, dimensions) float32, rows of length one
* result of `build_token_graph`: (batch, tokens, dimensions) float32, rows of length one
* result of `build_pair_graph`: (batch, labels) float32 logits; its third input, `seconds` (batch,) int32, says at which
  token the second text begins

Pooling and normalising sit inside the graph, so that only the small result leaves it.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset15 as op

from bookwheel.backends.openvino.directory import ModelDirectory, Pooling
from bookwheel.errors import SettingsError

Weights = Mapping[str, NDArray[Any]]
Node = Any  # openvino's own stubs mix Node and Output

DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}
ACTIVATIONS: Mapping[str, Callable[[Node], Node]] = {
    "gelu": lambda node: op.gelu(node, "erf"),
    "gelu_new": lambda node: op.gelu(node, "tanh"),
    "gelu_pytorch_tanh": lambda node: op.gelu(node, "tanh"),
    "relu": op.relu,
}
SAFETENSORS_SUFFIX = ".safetensors"
SMALLEST_NORM = 1e-12  # keeps an all-zero vector from dividing by zero


def build_graph(model: ModelDirectory) -> ov.Model:
    """The whole encoder. Raises SettingsError when the weights are not those of a model we can build."""
    with _naming(model):
        ids, lengths, mask = _inputs()
        pooled = _pool(_hidden(model, ids, mask), mask, lengths, model.pooling)
        return ov.Model([_unit(pooled, axis=1)], [ids, lengths], "encoder")


def build_token_graph(model: ModelDirectory) -> ov.Model:
    """The encoder without pooling: a vector for each token. Raises SettingsError as build_graph does."""
    with _naming(model):
        ids, lengths, mask = _inputs()
        return ov.Model([_unit(_hidden(model, ids, mask), axis=2)], [ids, lengths], "tokens")


def build_pair_graph(model: ModelDirectory) -> ov.Model:
    """A classifier of pairs of texts. Raises SettingsError as build_graph does."""
    with _naming(model):
        ids, lengths, mask = _inputs()
        seconds = op.parameter([-1], np.int32, "seconds")
        begun = op.less_equal(op.unsqueeze(seconds, _integers(1)), op.unsqueeze(_positions(ids), _integers(0)))
        return ov.Model([_logits(model, ids, mask, op.convert(begun, "i32"))], [ids, lengths, seconds], "pairs")


def compile_model(graph: ov.Model, *, threads: int, streams: int = 1) -> ov.CompiledModel:
    """The graph, ready for the CPU: in bfloat16 where it has that (cosine to float32 0.9999, twice as fast).

    `streams` requests run beside each other and share the threads; 0 threads means all cores."""
    core = ov.Core()
    bfloat = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    options: dict[str, Any] = {
        "NUM_STREAMS": streams,
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat else "f32",
        "ENABLE_CPU_PINNING": False,  # pinned, several processes would all sit on the same first cores
    }
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    return core.compile_model(graph, "CPU", options)


def read_weights(path: Path) -> Weights:
    """The tensors of a safetensors file by name, as views on the mapped file: nothing is read or copied yet."""
    raw = np.memmap(path, mode="c", dtype=np.uint8)
    start = 8 + int(raw[:8].view("<u8")[0])
    header = json.loads(raw[8:start].tobytes())
    header.pop("__metadata__", None)
    return {name.removeprefix("bert."): _tensor(raw[start:], entry) for name, entry in header.items()}


def _tensor(data: NDArray[np.uint8], entry: Mapping[str, Any]) -> NDArray[Any]:
    begin, end = entry["data_offsets"]
    values = data[begin:end].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    if entry["dtype"] == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32) if entry["dtype"] == "F16" else values


@contextmanager
def _naming(model: ModelDirectory) -> Iterator[None]:
    try:
        yield
    except (KeyError, ValueError, RuntimeError) as error:
        raise SettingsError(f"The model file {str(model.weights)!r} cannot be used: {error}") from error


def _hidden(model: ModelDirectory, ids: Node, mask: Node) -> Node:
    """The last hidden states: (batch, tokens, hidden)."""
    if model.weights.suffix == SAFETENSORS_SUFFIX:
        return _Bert(model.config, read_weights(model.weights)).hidden(ids, mask)
    zeros = op.multiply(ids, _integers(0, dtype=np.int32))
    return _exported(model, ids, mask, zeros, shape=("batch", "tokens", "dimensions"))


def _logits(model: ModelDirectory, ids: Node, mask: Node, types: Node) -> Node:
    """What the classifier says of each pair: (batch, labels)."""
    if model.weights.suffix == SAFETENSORS_SUFFIX:
        return _Bert(model.config, read_weights(model.weights)).logits(ids, mask, types)
    return _exported(model, ids, mask, types, shape=("batch", "labels"))


def _exported(model: ModelDirectory, ids: Node, mask: Node, types: Node, *, shape: Sequence[str]) -> Node:
    """The first output with so many axes of an exported graph over our inputs."""
    export = ov.Core().read_model(model.weights)
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    for parameter in export.get_parameters():
        names = parameter.output(0).get_names()
        filling = next((node for name, node in given.items() if name in names), None)
        if filling is None:
            raise ValueError(f"it has an unknown input {sorted(names)}")
        parameter.output(0).replace(op.convert(filling, parameter.get_element_type().to_string()).output(0))
    result = next((out for out in export.outputs if len(out.get_partial_shape()) == len(shape)), None)
    if result is None:
        raise ValueError(f"it has no output of shape ({', '.join(shape)})")
    return result.get_node().input_value(0)


def _inputs() -> tuple[Node, Node, Node]:
    """Token ids, lengths, and the mask (batch, tokens) that follows from them."""
    ids = op.parameter([-1, -1], np.int32, "input_ids")
    lengths = op.parameter([-1], np.int32, "lengths")
    mask = op.less(op.unsqueeze(_positions(ids), _integers(0)), op.unsqueeze(lengths, _integers(1)))
    return ids, lengths, mask


def _positions(ids: Node) -> Node:
    """0, 1, 2 ... tokens - 1."""
    tokens = op.squeeze(op.gather(op.shape_of(ids, "i32"), _integers(1), _integers(0)), _integers(0))
    zero, one = (op.constant(np.int32(number)) for number in (0, 1))
    return op.range(zero, tokens, one, "i32")


def _integers(*numbers: int, dtype: type[np.signedinteger[Any]] = np.int64) -> Node:
    return op.constant(np.array(numbers, dtype))


def _pool(hidden: Node, mask: Node, lengths: Node, pooling: Pooling) -> Node:
    if pooling == "cls":
        return op.gather(hidden, op.constant(np.int64(0)), _integers(1))
    counted = op.multiply(hidden, op.unsqueeze(op.convert(mask, "f32"), _integers(2)))
    return op.divide(op.reduce_sum(counted, _integers(1)), op.unsqueeze(op.convert(lengths, "f32"), _integers(1)))


def _unit(vectors: Node, *, axis: int) -> Node:
    return op.normalize_l2(vectors, _integers(axis), SMALLEST_NORM, "max")


class _Bert:
    """The encoder of BERT: shapes are (batch, tokens, hidden) between all parts."""

    def __init__(self, config: Mapping[str, Any], weights: Weights) -> None:
        self._weights = weights
        self._layers = int(config["num_hidden_layers"])
        self._heads = int(config["num_attention_heads"])
        self._hidden = int(config["hidden_size"])
        self._epsilon = float(config["layer_norm_eps"])
        self._activation = ACTIVATIONS[config["hidden_act"]]
        if config.get("position_embedding_type", "absolute") != "absolute":
            raise ValueError(f"position_embedding_type is {config['position_embedding_type']!r}, not 'absolute'")

    def hidden(self, ids: Node, mask: Node, types: Node | None = None) -> Node:
        """The last hidden states. Without `types`, (batch, tokens), every token belongs to a first text."""
        states = self._embeddings(ids, types)
        attended = op.unsqueeze(mask, _integers(1, 2))
        for layer in range(self._layers):
            states = self._layer(states, attended, f"encoder.layer.{layer}")
        return states

    def logits(self, ids: Node, mask: Node, types: Node) -> Node:
        """What the classifier behind the pooler makes of the first token: (batch, labels)."""
        if "classifier.weight" not in self._weights or "pooler.dense.weight" not in self._weights:
            raise ValueError("it has no pooler with a classifier, so it is no cross-encoder")
        first = op.gather(self.hidden(ids, mask, types), op.constant(np.int64(0)), _integers(1))
        return self._linear(op.tanh(self._linear(first, "pooler.dense")), "classifier")

    def _embeddings(self, ids: Node, types: Node | None) -> Node:
        words = op.gather(self._constant("embeddings.word_embeddings.weight"), ids, _integers(0))
        # type 0, which every token of a single text has, is folded into the positions
        of_types = self._weights["embeddings.token_type_embeddings.weight"]
        table = self._weights["embeddings.position_embeddings.weight"] + of_types[0]
        positions = op.unsqueeze(op.gather(op.constant(table), _positions(ids), _integers(0)), _integers(0))
        summed = op.add(words, positions)
        if types is not None:
            summed = op.add(summed, op.gather(op.constant(of_types - of_types[0]), types, _integers(0)))
        return self._norm(summed, "embeddings.LayerNorm")

    def _layer(self, states: Node, mask: Node, name: str) -> Node:
        attention = self._linear(
            self._attention(states, mask, f"{name}.attention.self"), f"{name}.attention.output.dense"
        )
        states = self._norm(op.add(states, attention), f"{name}.attention.output.LayerNorm")
        inner = self._activation(self._linear(states, f"{name}.intermediate.dense"))
        return self._norm(op.add(states, self._linear(inner, f"{name}.output.dense")), f"{name}.output.LayerNorm")

    def _attention(self, states: Node, mask: Node, name: str) -> Node:
        query, key, value = (
            self._split_heads(self._linear(states, f"{name}.{part}")) for part in ("query", "key", "value")
        )
        mixed = op.scaled_dot_product_attention(query, key, value, mask, causal=False)
        return op.reshape(op.transpose(mixed, _integers(0, 2, 1, 3)), _integers(0, 0, self._hidden), special_zero=True)

    def _split_heads(self, states: Node) -> Node:
        shape = _integers(0, 0, self._heads, self._hidden // self._heads)
        return op.transpose(op.reshape(states, shape, special_zero=True), _integers(0, 2, 1, 3))

    def _linear(self, states: Node, name: str) -> Node:
        product = op.matmul(states, self._constant(f"{name}.weight"), transpose_a=False, transpose_b=True)
        return op.add(product, self._constant(f"{name}.bias"))

    def _norm(self, states: Node, name: str) -> Node:
        centred = op.mvn(states, _integers(-1), normalize_variance=True, eps=self._epsilon, eps_mode="inside_sqrt")
        return op.add(op.multiply(centred, self._constant(f"{name}.weight")), self._constant(f"{name}.bias"))

    def _constant(self, name: str) -> Node:
        return op.constant(self._weights[name], shared_memory=True)
