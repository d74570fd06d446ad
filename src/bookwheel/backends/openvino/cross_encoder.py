"""A cross-encoder on this machine's CPU with OpenVINO: query and text are read together, no PyTorch, no network.

A model directory holds a BERT classifier as safetensors, whose graph we build, or any classifier as an exported graph
(`openvino/`, `onnx/`). A model of one label is read through the sigmoid, one of two through the softmax, whose second
label means relevant. Only the text is cut to the model's window, so that the question stays whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bookwheel.backends.openvino.directory import ModelDirectory, read_directory
from bookwheel.backends.openvino.embedder import BATCH_TOKENS, Ids, open_tokenizer, padded, token_batches
from bookwheel.backends.openvino.graph import build_pair_graph
from bookwheel.backends.openvino.inference import Inference
from bookwheel.errors import SettingsError
from bookwheel.settings import Settings

TOKENISE_TEXTS = 64  # texts tokenised in one turn of the thread
QUERY_SHARE = 2  # a query takes at most half of the window

Scores = NDArray[np.float32]


def open_cross_encoder(url: str, settings: Settings) -> "CrossEncoder":
    """For `cross-encoder:DIRECTORY`. Raises SettingsError."""
    directory = url.removeprefix("cross-encoder:")
    if not directory:
        raise SettingsError(
            "BOOKWHEEL_RERANKER_URL is cross-encoder: without a model directory: use cross-encoder:/path/to/a/model."
        )
    return CrossEncoder(read_directory(Path(directory)), threads=settings.embed_threads)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """A query and a text as the model reads them."""

    ids: Ids
    second: int  #: where the text begins, or the whole length where the model does not tell the two apart


class CrossEncoder:
    """Fills the Reranker port from a model directory."""

    reads_as_embedder = False

    def __init__(self, model: ModelDirectory, *, threads: int) -> None:
        """Raises SettingsError, also when the model is no classifier of one or two labels."""
        self.model = model.name
        self._window = model.window
        self._tokenizer = open_tokenizer(model)
        self._room = model.window - self._tokenizer.num_special_tokens_to_add(is_pair=True)
        self._inference = Inference(build_pair_graph(model), threads=threads)
        self._check(model)

    async def rerank(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """See ports.Reranker."""
        pairs: list[_Pair] = []
        for start in range(0, len(texts), TOKENISE_TEXTS):
            pairs += await self._inference.turn(self._pairs, query, texts[start : start + TOKENISE_TEXTS])
        scores = np.zeros(len(pairs), np.float32)
        for batch in token_batches([len(pair.ids) for pair in pairs], budget=BATCH_TOKENS):
            chosen = [pairs[position] for position in batch]
            scores[batch] = probabilities(await self._inference.turn(self._infer, chosen))
        return [float(score) for score in scores]

    def close(self) -> None:
        """End the thread. Idempotent."""
        self._inference.close()

    def _check(self, model: ModelDirectory) -> None:
        """One pair says how many labels there are, which an exported graph need not tell."""
        labels = self._infer(self._pairs("a", ["b"])).shape[1]
        if labels not in (1, 2):
            self.close()
            raise SettingsError(
                f"The model directory {str(model.path)!r} holds a classifier of {labels} labels; a reranker has one or"
                " two. Point BOOKWHEEL_RERANKER_URL at another one."
            )

    def _pairs(self, query: str, texts: Sequence[str]) -> list[_Pair]:
        asked = self._tokenizer.encode(query, add_special_tokens=False)
        asked.truncate(self._room // QUERY_SHARE)
        codes = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        made = []
        for code in codes:
            code.truncate(self._room - len(asked.ids))
            pair = self._tokenizer.post_process(asked, code)
            made.append(_Pair(ids=np.array(pair.ids, np.int32), second=_second(pair.type_ids)))
        return made

    def _infer(self, pairs: Sequence[_Pair]) -> Scores:
        """Logits (pairs, labels)."""
        ids, lengths = padded([pair.ids for pair in pairs], window=self._window)
        seconds = np.zeros_like(lengths)
        seconds[: len(pairs)] = [pair.second for pair in pairs]
        return self._inference.infer(ids, lengths, seconds)[: len(pairs)].copy()


def probabilities(logits: Scores) -> Scores:
    """That each row's text is relevant, 0 to 1."""
    raw = logits.astype(np.float64)
    margin = raw[:, 0] if raw.shape[1] == 1 else raw[:, 1] - raw[:, 0]  # the softmax of two is the sigmoid of these
    sigmoid: Scores = (0.5 * (1.0 + np.tanh(0.5 * margin))).astype(np.float32)  # overflows for no logit
    return sigmoid


def _second(types: Sequence[int]) -> int:
    """The first token of type 1, else the length."""
    return types.index(1) if 1 in types else len(types)
