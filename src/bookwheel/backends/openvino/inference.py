# openvino's stubs re-export nothing
# mypy: disable-error-code="name-defined"
"""A compiled graph with one thread of its own, for rerankers: the event loop stays free, and calls take turns."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from bookwheel.backends.openvino.graph import compile_model
from bookwheel.errors import RerankerUnavailableError

P = ParamSpec("P")
T = TypeVar("T")


class Inference:
    """Several calls at once each get a turn of one batch, so that a short one waits for no long one."""

    def __init__(self, graph: ov.Model, *, threads: int) -> None:
        """`threads` share each batch; 0 means all cores."""
        self._request = compile_model(graph, threads=threads).create_infer_request()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reranker")

    async def turn(self, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """One turn of the thread. Raises RerankerUnavailableError, also after close()."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(*args, **options))
        except RuntimeError as error:  # OpenVINO's and the closed executor's
            raise RerankerUnavailableError(f"The local reranker failed: {error}") from error

    def infer(self, *inputs: NDArray[np.int32]) -> NDArray[np.float32]:
        """The graph's output, to be called in a turn only. It is overwritten by the next call."""
        made: NDArray[Any] = self._request.infer(list(inputs), share_inputs=True)[0]
        return made.astype(np.float32, copy=False)

    def close(self) -> None:
        """End the thread once its present batch is done. Idempotent."""
        self._thread.shutdown(wait=True)
