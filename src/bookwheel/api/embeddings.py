"""/v1/embeddings: texts in, vectors out, by the model that the stores use."""

import asyncio
import base64
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from fastapi import Depends
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from bookwheel.access import caller
from bookwheel.api.bodies import EmbeddingsCreate
from bookwheel.api.limiting import spend
from bookwheel.api.models import embedder_named
from bookwheel.api.wiring import JSON, ThePorts, router
from bookwheel.errors import InvalidRequestError
from bookwheel.ports import Embedder

MAX_TEXT_TOKENS = 8192  #: of one text; longer than the model's window it is pooled over windows
MAX_TOKENS = 300_000  #: of one request
COUNTED_AT_ONCE = 64  #: texts tokenised before the sum is looked at
TURN_TOKENS = 2048  #: after which a request lets others in: about one batch of the local embedder

routes = router("embeddings")


async def _turn(request: Request) -> asyncio.Lock:
    turn: asyncio.Lock = request.app.state.embedding_turn
    return turn


#: Who holds it may have a list of texts embedded. Requests take turns, so questions wait for one batch at most.
TheTurn = Annotated[asyncio.Lock, Depends(_turn)]


@routes.post("/v1/embeddings")
async def embed(body: EmbeddingsCreate, request: Request, ports: ThePorts, turn: TheTurn) -> Response:
    """One unit vector for each text."""
    texts, model = body.texts(), embedder_named(body.model, ports)
    if body.dimensions not in (None, model.dimensions):
        raise InvalidRequestError(
            f"dimensions is {body.dimensions}, but {model.model} makes {model.dimensions}. Leave it out.",
            param="dimensions",
        )
    counts = await counted(texts, model, param="input")
    await _book(request, sum(counts))
    data: list[dict[str, Any]] = []
    for part in turns(counts):
        if await request.is_disconnected():
            raise ClientDisconnect
        async with turn:
            rows = await model.embed([texts[index] for index in part])
        data += [_embedding(index, row, body.encoding_format) for index, row in zip(part, rows, strict=True)]
    used = sum(counts)
    spend(used)
    usage = {"prompt_tokens": used, "total_tokens": used}
    return JSON({"object": "list", "data": data, "model": body.model, "usage": usage})


async def _book(request: Request, tokens: int) -> None:
    """Against the day's limit. Raises RateLimitError, QuotaError."""
    present, guard = caller(), request.app.state.guard
    if present is not None:
        await guard.embed(present, tokens=tokens)


async def counted(texts: Sequence[str], model: Embedder, *, param: str) -> list[int]:
    """Tokens of each text. Raises InvalidRequestError that names the first text that is too long."""
    counts, total = list[int](), 0
    for start in range(0, len(texts), COUNTED_AT_ONCE):
        part = await asyncio.to_thread(model.token_counts, texts[start : start + COUNTED_AT_ONCE])
        counts, total = counts + part, total + sum(part)
        _check_counts(part, total, first=start, param=param)
    return counts


def _check_counts(part: Sequence[int], total: int, *, first: int, param: str) -> None:
    for index, count in enumerate(part, first):
        if count > MAX_TEXT_TOKENS:
            here = f"{param}[{index}]"
            raise InvalidRequestError(
                f"{here} has {count} tokens; at most {MAX_TEXT_TOKENS} are allowed. Split it.", param=here
            )
    if total > MAX_TOKENS:
        raise InvalidRequestError(f"{param} has more than {MAX_TOKENS} tokens. Split the request.", param=param)


def turns(counts: Sequence[int]) -> Iterator[range]:
    """Positions of texts that are embedded in one turn, in order: about TURN_TOKENS, or one longer text."""
    start = held = 0
    for index, count in enumerate(counts):
        if index > start and held + count > TURN_TOKENS:
            yield range(start, index)
            start, held = index, 0
        held += count
    yield range(start, len(counts))


def _embedding(index: int, row: NDArray[Any], encoding: str) -> dict[str, Any]:
    shown = row if encoding == "float" else base64.b64encode(row.astype("<f4").tobytes()).decode()
    return {"object": "embedding", "index": index, "embedding": shown}
