"""The answer walk: question in, cited answer out."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bookwheel.citations import CitationStream
from bookwheel.followup import self_contained
from bookwheel.ports import Embedder, Ports
from bookwheel.retrieve import retrieve
from bookwheel.telemetry import stage
from bookwheel.types import Answer, Citation, Found, Prompt, Question, Scope, Space

NOT_FOUND = "Not found in these documents."


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPiece:
    """A part of a streamed answer: the first one carries what was found, the last one the whole."""

    text: str = ""
    found: Found | None = None
    answer: Answer | None = None


async def stream(
    question: Question,
    *,
    scope: Scope,
    space: Space,
    ports: Ports,
    history: Sequence[Mapping[str, Any]] = (),
    max_tokens: int | None = None,
) -> AsyncGenerator[AnswerPiece, None]:
    """Search for the question, made self-contained by the history; then write the answer piece by piece."""
    asked = replace(question, text=self_contained(question.text, history))
    found = await retrieve(asked, scope=scope, space=space, ports=ports)
    yield AnswerPiece(found=found)
    timings = dict(found.timings)
    citing, written, citations = CitationStream(found.hits), list[str](), list[Citation]()
    budget = _Budget(ports.embedders[space.id], max_tokens)
    with stage("generate", timings):
        async for draft in ports.generator.generate(
            Prompt(question=question.text, hits=found.hits, history=history, max_tokens=max_tokens)
        ):
            parts = citing.feed(draft)
            if not budget.spend(_text(parts)):
                break
            if text := _take(parts, citations):
                written.append(text)
                yield AnswerPiece(text=text)
    rest = "" if budget.is_spent else _take(citing.finish(), citations).rstrip()
    whole = "".join([*written, rest]).strip()
    if not whole and not budget.is_spent:
        whole = rest = NOT_FOUND
    answer = Answer(
        text=whole,
        citations=tuple(citations),
        supported=whole not in ("", NOT_FOUND),
        cut_short=budget.is_spent,
        found=found,
        model=ports.generator.model,
        search_query=asked.text,
        timings=timings,
    )
    yield AnswerPiece(text=rest, answer=answer)


class _Budget:
    """Tokens that an answer may have, as the embedder counts them; without a limit it lasts for ever."""

    def __init__(self, embedder: Embedder, tokens: int | None) -> None:
        self.embedder = embedder
        self.left = tokens
        self.is_spent = False

    def spend(self, text: str) -> bool:
        """Whether there is enough left for this text."""
        if self.left is not None and text:
            self.left -= self.embedder.token_counts([text])[0]
            self.is_spent = self.left < 0
        return not self.is_spent


def _take(parts: Sequence[str | Citation], citations: list[Citation]) -> str:
    """The text among the parts; citations are put aside."""
    citations += [part for part in parts if isinstance(part, Citation)]
    return _text(parts)


def _text(parts: Sequence[str | Citation]) -> str:
    return "".join(part for part in parts if isinstance(part, str))


async def answer(
    question: Question,
    *,
    scope: Scope,
    space: Space,
    ports: Ports,
    history: Sequence[Mapping[str, Any]] = (),
    max_tokens: int | None = None,
) -> Answer:
    """The whole answer at once."""
    whole: Answer | None = None
    async for piece in stream(question, scope=scope, space=space, ports=ports, history=history, max_tokens=max_tokens):
        whole = piece.answer
    assert whole is not None  # noqa: S101 - the last piece always has it
    return whole
