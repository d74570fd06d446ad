"""Answers written by a language model behind OpenAI's chat completions."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, cast

import openai
from openai.types.chat import ChatCompletionChunk

from bookwheel.backends.openai.service import BrokenAnswerError, RefusedAnswerError, judge, open_client, said_by
from bookwheel.errors import GeneratorUnavailableError
from bookwheel.lenient import NoLimiter
from bookwheel.model_url import parse_model_url
from bookwheel.ports import LengthReachedError, Limiter
from bookwheel.prompt import Count, Messages, token_count, unless_not_found, write_messages
from bookwheel.resilience import Upstream
from bookwheel.settings import Settings
from bookwheel.throttle import THROTTLE_OPTIONS, Throttle, open_throttle
from bookwheel.types import Prompt

SETTING = "BOOKWHEEL_GENERATOR_URL"
PING_SECONDS = 5.0
DRAIN_SECONDS = 0.1  # for what a server sends after the last word
# What some servers refuse. Each has another way, or does without.
OPTIONAL = ("max_completion_tokens", "temperature", "response_format")

Chunks = openai.AsyncStream[ChatCompletionChunk]


def open_generator(url: str, settings: Settings, *, count: Count, limiter: Limiter | None = None) -> "OpenAIGenerator":
    """The generator of `openai:https://HOST/v1?model=NAME`; `count` counts the tokens of passages.
    `&requests_per_minute=` and `&tokens_per_minute=` are the pace that all processes keep together, by `limiter`.
    Raises SettingsError."""
    model = parse_model_url(url, setting=SETTING, options=THROTTLE_OPTIONS)
    throttle = open_throttle(model, limiter or NoLimiter(), name=f"openai:{model.model}", setting=SETTING)
    client = open_client(model, settings, seconds=settings.generator_timeout_seconds)
    return OpenAIGenerator(client, model=model.model, settings=settings, count=count, throttle=throttle)


class OpenAIGenerator:
    """Fills the Generator port."""

    writes_json = True

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        *,
        model: str,
        settings: Settings,
        count: Count,
        throttle: Throttle | None = None,
    ) -> None:
        self.model = model
        self._client = client
        self._count = count
        self._context_tokens = settings.generator_context_tokens
        self._refused: frozenset[str] = frozenset()  # parameters that the server did not take
        self._name = f"openai:{model}"
        self._upstream = Upstream(
            self._name,
            judge=partial(judge, name=self._name, unavailable=GeneratorUnavailableError),
            unavailable=GeneratorUnavailableError,
            deadline_seconds=settings.generator_timeout_seconds,
            stall_seconds=settings.generator_stall_seconds,
            concurrency=settings.generator_concurrency,
            throttle=throttle,
        )

    async def generate(self, prompt: Prompt) -> AsyncGenerator[str, None]:
        """See ports.Generator. Costs nothing without hits, but for JSON."""
        if not prompt.hits and prompt.schema is None:
            return
        messages = write_messages(prompt, count=self._count, context_tokens=self._context_tokens)
        ends = list[str]()
        told = self._upstream.stream(
            lambda: self._pieces(prompt, messages, ends),
            tokens=lambda: token_count(messages, prompt, count=self._count),
        )
        async with aclosing(unless_not_found(told)) as pieces:
            async for text in pieces:
                yield text
        if "length" in ends:
            raise LengthReachedError

    async def ping(self) -> None:
        """See ports.Generator: the list of models is asked for; a server without one is there as well."""
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self._client.models.list()
        except TimeoutError as error:
            raise GeneratorUnavailableError(f"{self._name} did not answer within {PING_SECONDS:g} s.") from error
        except Exception as error:
            failure = judge(error, name=self._name, unavailable=GeneratorUnavailableError)
            if failure is None:
                raise
            if not isinstance(error, openai.NotFoundError):
                raise GeneratorUnavailableError(failure.error.message) from error

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self._client.close()

    async def _pieces(self, prompt: Prompt, messages: Messages, ends: list[str]) -> AsyncGenerator[str, None]:
        """The text of one answer; "" for a chunk without text. Why it ended is added to `ends`. Raises what `judge`
        knows."""
        wrote, finish = False, None
        async with await self._open(prompt, messages) as chunks:
            async for chunk in chunks:
                text, finish = _read(chunk)
                wrote = wrote or bool(text.strip())
                yield text
                if finish is not None:
                    break
            if finish is not None:
                await _drain(chunks)
        if finish is None:
            raise BrokenAnswerError("the answer broke off")
        if finish == "content_filter":
            raise RefusedAnswerError("withheld the answer: its content filter does not like it")
        if not wrote and finish != "length":  # a model that thinks may come to its limit before the first word
            raise BrokenAnswerError(f"the answer is empty, ended by {finish!r}")
        ends.append(finish)

    async def _open(self, prompt: Prompt, messages: Messages) -> Chunks:
        """Ask; without a parameter that the server refuses, as often as there are such parameters."""
        refused = self._refused
        while True:
            request = self._request(prompt, messages, refused)
            try:
                chunks = cast("Chunks", await self._client.chat.completions.create(**request))
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if (name := _disliked(error, request)) is None:
                    raise
                refused |= {name}
            else:
                self._refused = refused - {"response_format"}  # that may have been this one schema
                return chunks

    def _request(self, prompt: Prompt, messages: Messages, refused: frozenset[str]) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "system", "content": messages.system}, *messages.turns],
            "stream": True,
            "temperature": 0.0,
            "max_completion_tokens": prompt.max_tokens,
            "response_format": prompt.schema and _format(prompt.schema),
        }
        if "max_completion_tokens" in refused:
            request["max_tokens"] = prompt.max_tokens
        return {name: value for name, value in request.items() if value is not None and name not in refused}


def _format(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _disliked(error: openai.APIStatusError, request: Mapping[str, Any]) -> str | None:
    """The parameter that a server refuses: the one that it names, else the one that most servers lack."""
    said = f"{error.param} {said_by(error)}"
    for name in OPTIONAL:
        if name in request and name in said:
            return name
    return "response_format" if "response_format" in request else None


def _read(chunk: ChatCompletionChunk) -> tuple[str, str | None]:
    """The text of a chunk, and why the answer ends with it. Raises BrokenAnswerError."""
    try:
        if not chunk.choices:  # such as the one that tells the usage
            return "", None
        choice = chunk.choices[0]
        return choice.delta.content or "", choice.finish_reason
    except (AttributeError, TypeError, IndexError) as error:  # the client checks nothing
        raise BrokenAnswerError("a part of the answer has another shape than the API's") from error


async def _drain(chunks: Chunks) -> None:
    """Read on, so that the connection can be used again. The answer is whole: whatever happens now harms nobody."""
    with suppress(openai.APIError, ValueError, TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in chunks:
                pass
