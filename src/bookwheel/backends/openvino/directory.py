"""What a model directory says: which weights, how to pool, how many tokens at once.

The layout is that of sentence-transformers and the Hugging Face hub. Everything that changes a vector goes into
`revision`, so a changed file opens a new embedding space instead of mixing vectors in an old one.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from bookwheel.errors import SettingsError

Pooling = Literal["mean", "cls"]

SAFETENSORS = "model.safetensors"
GRAPHS = ("openvino_model.xml", "openvino/openvino_model.xml", "model.onnx", "onnx/model.onnx")
BESIDE = (".bin", ".onnx_data", ".onnx.data")  # where graph files keep their weights
STEPS = ("Transformer", "Pooling", "Normalize")
WINDOWING = "even windows, pooled by tokens, 1"  # part of the revision: change it when pooling over windows changes
REVISION_LENGTH = 12
PADDED_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert"})  # which count them from behind that of padding


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDirectory:
    """An embedding model or a cross-encoder on disk, checked and ready to be built."""

    path: Path
    name: str
    config: Mapping[str, Any]  #: the transformer's config.json
    weights: Path  #: a .safetensors file, an OpenVINO .xml or an .onnx file
    pooling: Pooling
    window: int  #: tokens at once, special tokens included
    revision: str  #: 12 hexadecimal digits of a hash of all that changes vectors

    @property
    def tokenizer(self) -> Path:
        """The file of the `tokenizers` library."""
        return self.path / "tokenizer.json"


def read_directory(path: Path, *, name: str | None = None) -> ModelDirectory:
    """Look at the files of a model. Raises SettingsError, naming the directory, when one is missing or unsupported."""
    config = _read_json(path, "config.json")
    _check_steps(path)
    weights, pooling, window = _weights(path, config), _pooling(path), _window(path, config)
    if not (path / "tokenizer.json").is_file():
        raise _unusable(path, "has no tokenizer.json")
    return ModelDirectory(
        path=path,
        name=name or path.resolve().name,
        config=config,
        weights=weights,
        pooling=pooling,
        window=window,
        revision=_revision(path, weights, (pooling, str(window), WINDOWING)),
    )


def _unusable(path: Path, reason: str) -> SettingsError:
    return SettingsError(
        f"The model directory {str(path)!r} {reason}. Point the setting that names it, BOOKWHEEL_EMBEDDER_URL or"
        " BOOKWHEEL_RERANKER_URL, at another one."
    )


def _read_json(path: Path, name: str) -> dict[str, Any]:
    content = _read_json_if_there(path, name)
    if content is None:
        raise _unusable(path, f"has no {name}")
    return cast("dict[str, Any]", content)


def _read_json_if_there(path: Path, name: str) -> Any:
    try:
        return json.loads((path / name).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _unusable(path, f"has an unreadable {name}: {error}") from error


def _check_steps(path: Path) -> None:
    """Refuse models with a step that we would leave out, such as a dense layer behind the pooling."""
    for module in _read_json_if_there(path, "modules.json") or ():
        step = module["type"].rpartition(".")[2]
        if step not in STEPS:
            raise _unusable(path, f"needs the step {step!r}, which is not supported")


def _weights(path: Path, config: Mapping[str, Any]) -> Path:
    """The BERT weights if we can build the graph ourselves (a third faster than exports), else an exported graph."""
    bert = config.get("model_type") == "bert"
    for name in (SAFETENSORS, *GRAPHS) if bert else GRAPHS:
        if (path / name).is_file():
            return path / name
    wanted = ", ".join(GRAPHS)
    if bert:
        raise _unusable(path, f"has neither {SAFETENSORS} nor any of {wanted}")
    raise _unusable(path, f"holds a {config.get('model_type')!r} model without any of {wanted}; export it to ONNX")


def _pooling(path: Path) -> Pooling:
    pooling = _read_json_if_there(path, "1_Pooling/config.json") or {"pooling_mode_mean_tokens": True}
    modes = {key.removeprefix("pooling_mode_") for key, on in pooling.items() if on is True}
    modes &= {"mean_tokens", "cls_token", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"}
    if modes == {"mean_tokens"}:
        return "mean"
    if modes == {"cls_token"}:
        return "cls"
    raise _unusable(path, f"pools with {sorted(modes)}; supported are mean_tokens and cls_token")


def _window(path: Path, config: Mapping[str, Any]) -> int:
    tuned = (_read_json_if_there(path, "sentence_bert_config.json") or {}).get("max_seq_length")
    positions = config.get("max_position_embeddings")
    if positions and config.get("model_type") in PADDED_POSITIONS:
        positions -= int(config.get("pad_token_id", 1)) + 1
    known = [int(size) for size in (tuned, positions) if size]
    if not known:
        raise _unusable(path, "does not say its window: config.json has no max_position_embeddings")
    return min(known)


def _revision(path: Path, weights: Path, traits: tuple[str, ...]) -> str:
    """A hash of whole files: 0.1 s for 90 MB, and no change can hide from it."""
    digest = hashlib.sha256("\n".join(traits).encode())
    beside = [weights.with_suffix(suffix) for suffix in BESIDE] + [weights.with_name(weights.name + "_data")]
    for file in (weights, *beside, path / "config.json", path / "tokenizer.json"):
        if file.is_file():
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:REVISION_LENGTH]
