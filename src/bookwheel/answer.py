"""The answer walk: question in, cited answer out."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from bookwheel.citations import CitationStream
from bookwheel.ports import Ports
from bookwheel.retrieve import retrieve
from bookwheel.telemetry import stage
from bookwheel.types import Answer, Citation, Filter, Question, Scope, Space

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
    citing, written, citations = CitationStream(found.hits), list[str](), list[Citation]()
    with stage("generate", timings):
        async for draft in ports.generator.generate(question, found.hits, history=history):
            if text := _take(citing.feed(draft), citations):
                written.append(text)
                yield AnswerPiece(text=text)
    written.append(rest := _take(citing.finish(), citations))
    whole = "".join(written).strip()
    if not whole:
        rest = NOT_FOUND
    answer = Answer(
        text=whole or NOT_FOUND,
        citations=tuple(citations),
        supported=bool(whole),
        found=found,
        model=ports.generator.model,
        timings=timings,
    )
    yield AnswerPiece(text=rest, answer=answer)


def _take(parts: Sequence[str | Citation], citations: list[Citation]) -> str:
    """The text among the parts; citations are put aside."""
    citations += [part for part in parts if isinstance(part, Citation)]
    return "".join(part for part in parts if isinstance(part, str))


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
