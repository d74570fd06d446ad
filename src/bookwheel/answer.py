"""The answer walk: question in, cited answer out."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from bookwheel.citations import CitationStream
from bookwheel.ports import Ports
from bookwheel.retrieve import retrieve
from bookwheel.telemetry import stage
from bookwheel.types import Answer, Filter, Question, Scope, Space

NOT_FOUND = "Not found in these documents."


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPiece:
    """A part of a streamed answer; the last one carries the whole."""

    text: str
    answer: Answer | None = None


async def stream(
    question: str,
    *,
    scope: Scope,
    space: Space,
    ports: Ports,
    history: Sequence[dict[str, Any]] = (),
    limit: int = 8,
    filter: Filter | None = None,
) -> AsyncIterator[AnswerPiece]:
    """Search, then write the answer piece by piece; the last piece holds the citations."""
    found = await retrieve(Question(text=question, limit=limit, filter=filter), scope=scope, space=space, ports=ports)
    timings = dict(found.timings)
    citing = CitationStream(found.hits)
    with stage("generate", timings):
        async for draft in ports.generator.generate(question, found.hits, history=history):
            if text := citing.feed(draft):
                yield AnswerPiece(text=text)
        rest = citing.finish()
    supported = bool(citing.text.strip())
    if not supported:
        rest = NOT_FOUND
    answer = Answer(
        text=citing.text if supported else NOT_FOUND,
        citations=tuple(citing.citations),
        supported=supported,
        found=found,
        model=ports.generator.model,
        timings=timings,
    )
    yield AnswerPiece(text=rest, answer=answer)


async def answer(
    question: str,
    *,
    scope: Scope,
    space: Space,
    ports: Ports,
    history: Sequence[dict[str, Any]] = (),
    limit: int = 8,
    filter: Filter | None = None,
) -> Answer:
    """The whole answer at once."""
    whole: Answer | None = None
    async for piece in stream(
        question, scope=scope, space=space, ports=ports, history=history, limit=limit, filter=filter
    ):
        whole = piece.answer
    assert whole is not None  # noqa: S101 - the last piece always has it
    return whole
