"""The answer walk: question in, cited answer out."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace

from bookwheel.caching import is_settled
from bookwheel.diversify import collapse, cut_tail
from bookwheel.followup import self_contained
from bookwheel.injection import signs
from bookwheel.kept_answers import answer_key, keep_answer, kept_answer
from bookwheel.ports import Generator, Ports
from bookwheel.prompt import NOT_FOUND
from bookwheel.query_log import QUERIES
from bookwheel.retrieve import retrieve
from bookwheel.telemetry import MARKED_PASSAGES, stage
from bookwheel.types import Answer, Ask, Found, Hit, Prompt, Question, Scope
from bookwheel.writing import Draft, write

TOGETHER_SECONDS = 10.0  # that somebody waits for the answer to the same question, before asking alone
TAIL_SHARE = 0.4  # of the best score: lost no relevant document in 1,200 questions (docs/decisions/0009)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPiece:
    """A part of a streamed answer: the first one carries what was found, the last one the whole."""

    text: str = ""
    found: Found | None = None
    answer: Answer | None = None


async def stream(ask: Ask, *, scope: Scope, ports: Ports) -> AsyncGenerator[AnswerPiece, None]:
    """An answer that is kept and still holds; else search for the question, made self-contained by the history, and
    write the answer piece by piece. Raises UnavailableError, OverloadedError, AnswerFormatError."""
    QUERIES.tell("answer", ask.question.text)
    generator = chosen(ask, ports)
    async with _alone(ask, generator, scope=scope, ports=ports) as let_others_go:
        earlier = await kept_answer(ask, model=generator.model, scope=scope, ports=ports)
        if earlier is not None:
            yield AnswerPiece(found=earlier.found)
            yield AnswerPiece(text=earlier.text, answer=earlier)
            return
        settled = ask.freshness is not None and await is_settled(ask.freshness, scope=scope, ports=ports)
        if not settled:  # nothing to wait for: it will not be kept
            let_others_go()
        async with aclosing(_anew(ask, generator, scope=scope, ports=ports)) as pieces:
            async for piece in pieces:
                if piece.answer is not None and settled:
                    await keep_answer(ask, piece.answer, model=generator.model, scope=scope, ports=ports)
                yield piece


@asynccontextmanager
async def _alone(
    ask: Ask, generator: Generator, *, scope: Scope, ports: Ports
) -> AsyncGenerator[Callable[[], None], None]:
    """Many who ask the same at once wait for the first of them, whose answer is then kept for all, or until it lets
    them go. The extractive generator is soon done: it is not worth a wait."""
    if ask.freshness is None or not (ask.freshness.read and ask.freshness.write) or generator is ports.extractive:
        yield lambda: None
        return
    key, pending = answer_key(ask, generator.model, scope=scope, ports=ports), ports.caches.pending
    if (first := pending.get(key)) is not None:
        await asyncio.wait({first}, timeout=TOGETHER_SECONDS)
        yield lambda: None
        return
    mine = pending[key] = asyncio.get_running_loop().create_future()

    def let_others_go() -> None:
        if not mine.done():
            del pending[key]
            mine.set_result(None)

    try:
        yield let_others_go
    finally:
        let_others_go()


def chosen(ask: Ask, ports: Ports) -> Generator:
    """The generator that the request names, else the default."""
    return ports.generators.get(ask.model or "", ports.generator)


async def _anew(ask: Ask, generator: Generator, *, scope: Scope, ports: Ports) -> AsyncGenerator[AnswerPiece, None]:
    asked = replace(ask.question, text=self_contained(ask.question.text, ask.history))
    found = _marked(await retrieve(asked, scope=scope, space=ask.space, ports=ports, freshness=ask.freshness))
    yield AnswerPiece(found=found)
    timings, draft = dict(found.timings), Draft(model=generator.model)
    with stage("generate", timings):
        passages = found.hits if generator is ports.extractive else smallest(found.hits)
        writing = write(_prompt(ask, passages), draft, ask=ask, generator=generator, ports=ports)
        async with aclosing(writing) as pieces:
            async for text in pieces:
                yield AnswerPiece(text=text)
    rest = "" if draft.text.strip() or draft.cut_short else NOT_FOUND
    text = (draft.text + rest).strip()
    yield AnswerPiece(text=rest, answer=_answer(text, draft, found, asked, timings))


def _marked(found: Found) -> Found:
    """The same, with a warning for each passage that speaks to a model."""
    warnings = list(found.warnings)
    for number, hit in enumerate(found.hits, start=1):
        if kinds := signs(hit.text):
            for kind in kinds:
                MARKED_PASSAGES.labels(kind).inc()
            warnings.append(
                f"Passage {number}, of {(hit.title or hit.filename)!r}, holds text that speaks to a model"
                f" ({', '.join(kinds)}). It was used as data. Look at its document, and remove it if it is hostile."
            )
    return found if len(warnings) == len(found.warnings) else replace(found, warnings=tuple(warnings))


def smallest(hits: Sequence[Hit]) -> Sequence[Hit]:
    """The passages that are worth a reader model's time: without copies, and without those far behind the best."""
    return [group.hit for group in collapse(cut_tail(hits, share=TAIL_SHARE))]


def _prompt(ask: Ask, passages: Sequence[Hit]) -> Prompt:
    return Prompt(
        question=ask.question.text,
        hits=passages,
        history=ask.history,
        instructions=ask.instructions,
        schema=ask.schema,
        max_tokens=ask.max_tokens,
    )


def _answer(text: str, draft: Draft, found: Found, asked: Question, timings: dict[str, float]) -> Answer:
    return Answer(
        text=text,
        citations=tuple(draft.citations),
        supported=text not in ("", NOT_FOUND),
        cut_short=draft.cut_short,
        found=found,
        model=draft.model,
        search_query=asked.text,
        timings=timings,
        degraded=draft.degraded,
        grounding=draft.grounding,
        sentences=tuple(draft.sentences),
    )


async def answer(ask: Ask, *, scope: Scope, ports: Ports) -> Answer:
    """The whole answer at once: where the generator fails midway, another one writes all of it."""
    whole: Answer | None = None
    async for piece in stream(replace(ask, in_pieces=False), scope=scope, ports=ports):
        whole = piece.answer
    assert whole is not None  # noqa: S101 - the last piece always has it
    return whole
