"""Writing an answer from passages, sentence by sentence, each checked before it is given out; and what happens when the
generator fails: the extractive one answers instead, as long as nothing has been given out."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog

from bookwheel.errors import GeneratorUnavailableError
from bookwheel.grounding import GroundedStream
from bookwheel.inert import addresses_in, inert
from bookwheel.ports import Embedder, Generator, LengthReachedError, Ports
from bookwheel.structured import structured
from bookwheel.telemetry import DEGRADED
from bookwheel.types import Ask, CheckedSentence, Citation, Prompt

log = structlog.get_logger()


@dataclass(slots=True)
class Draft:
    """An answer as far as it is written."""

    model: str
    text: str = ""
    citations: list[Citation] = field(default_factory=list)
    sentences: Sequence[CheckedSentence] = ()
    grounding: float | None = None
    degraded: tuple[str, ...] = ()
    cut_short: bool = False


async def write(
    prompt: Prompt, draft: Draft, *, ask: Ask, generator: Generator, ports: Ports
) -> AsyncGenerator[str, None]:
    """The answer's text in pieces; `draft` grows with them. Raises OverloadedError before anything is given out,
    AnswerFormatError, and GeneratorUnavailableError where no other generator can answer."""
    if prompt.schema is not None:
        draft.text = await structured(prompt, generator)
        yield draft.text
        return
    try:
        async with aclosing(_checked(prompt, draft, ask=ask, generator=generator, ports=ports)) as pieces:
            async for piece in pieces:
                yield piece
        return
    except GeneratorUnavailableError as error:
        log.warning("generator failed", model=draft.model, reason=error.message, characters_written=len(draft.text))
    DEGRADED.labels("generate").inc()
    if draft.text and ask.in_pieces:  # what was given out cannot be taken back: it stands as far as it goes
        draft.degraded, draft.cut_short = ("generate",), True
        return
    anew = Draft(model=ports.extractive.model, degraded=("generate",))
    for name in Draft.__slots__:
        setattr(draft, name, getattr(anew, name))
    async with aclosing(_checked(prompt, draft, ask=ask, generator=ports.extractive, ports=ports)) as pieces:
        async for piece in pieces:
            yield piece


async def _checked(
    prompt: Prompt, draft: Draft, *, ask: Ask, generator: Generator, ports: Ports
) -> AsyncGenerator[str, None]:
    """What the generator writes, each sentence as soon as it is whole and checked."""
    embedder = ports.embedders[ask.space.id]
    # What the extractive one writes stands in the passages word for word.
    policy = "keep" if generator is ports.extractive else ports.caches.policy.unsupported
    checking = GroundedStream(prompt.hits, embedder=embedder, policy=policy)
    known = addresses_in(hit.text for hit in prompt.hits)
    budget = _Budget(embedder, ask.max_tokens)
    try:
        draft_pieces = inert(generator.generate(prompt), known=known, policy=ports.caches.policy.links)
        async with aclosing(_released(draft_pieces, checking, draft)) as released:
            async for parts in released:
                text = "".join(part for part in parts if isinstance(part, str))
                if not budget.spend(text):
                    draft.cut_short = True
                    break
                draft.citations += [part for part in parts if isinstance(part, Citation)]
                if text:
                    draft.text += text
                    yield text
    finally:  # also of what was written before a failure
        draft.sentences = checking.sentences
        draft.grounding = checking.grounding if any(sentence.claims for sentence in checking.sentences) else None


async def _released(
    drafts: AsyncGenerator[str, None], checking: GroundedStream, draft: Draft
) -> AsyncGenerator[Sequence[str | Citation], None]:
    async with aclosing(drafts):
        try:
            async for piece in drafts:
                yield await checking.feed(piece)
        except LengthReachedError:
            draft.cut_short = True
    yield await checking.finish()


class _Budget:
    """Tokens that an answer may have, as the embedder counts them; without a limit it lasts for ever."""

    def __init__(self, embedder: Embedder, tokens: int | None) -> None:
        self.embedder = embedder
        self.left = tokens

    def spend(self, text: str) -> bool:
        """Whether there is enough left for this text."""
        if self.left is None or not text:
            return True
        self.left -= self.embedder.token_counts([text])[0]
        return self.left >= 0
