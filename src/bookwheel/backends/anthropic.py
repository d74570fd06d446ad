"""Answers written by Anthropic's models, or by any server of their messages API, over the official client."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any, cast

from bookwheel.errors import GeneratorUnavailableError, SettingsError
from bookwheel.lenient import NoLimiter
from bookwheel.model_url import ModelUrl, parse_model_url
from bookwheel.ports import LengthReachedError, Limiter
from bookwheel.prompt import Count, Messages, token_count, unless_not_found, write_messages
from bookwheel.resilience import Failure, Upstream, http_failure
from bookwheel.settings import Settings
from bookwheel.throttle import THROTTLE_OPTIONS, Throttle, open_throttle
from bookwheel.tls import upstream_context
from bookwheel.types import Prompt

try:
    import anthropic
    import httpx2  # what the client is made of: in the midst of a stream it lets errors of it through
    from anthropic.types import RawMessageStreamEvent
except ImportError as error:
    raise SettingsError(
        "`anthropic:` URLs need the client library of that name. Install it: pip install 'bookwheel[anthropic]'."
    ) from error

SETTING = "BOOKWHEEL_GENERATOR_URL"
OWN_ADDRESS = "https://api.anthropic.com"
NO_KEY = "none"  # the client wants some key; servers on one's own machines mostly want none
CONNECT_SECONDS = 5.0
PING_SECONDS = 5.0
MAX_TOKENS = 2_048  # of an answer whose caller does not say: the API wants a number
DRAIN_SECONDS = 0.1  # for what a server sends after the last word
OK = 200
SAID_CHARACTERS = 300  # of the server's own words
# Errors that come in the midst of a stream, when the status was 200 already, by their type.
_STATUS: Mapping[str, int] = {
    "overloaded_error": 529,
    "api_error": 500,
    "timeout_error": 504,
    "rate_limit_error": 429,
    "invalid_request_error": 400,
}
_ADVICE: Mapping[int, str] = {
    401: "Check BOOKWHEEL_ANTHROPIC_API_KEY",
    403: "Check BOOKWHEEL_ANTHROPIC_API_KEY and what it may use",
    404: "Check the address and the model's name in BOOKWHEEL_GENERATOR_URL",
}

Events = anthropic.AsyncStream[RawMessageStreamEvent]


class _BrokenAnswerError(Exception):
    """The server's answer is not what the API promises; the message says how."""


class _RefusedAnswerError(Exception):
    """The model will not answer this request."""


def open_generator(
    url: str, settings: Settings, *, count: Count, limiter: Limiter | None = None
) -> "AnthropicGenerator":
    """The generator of `anthropic:?model=NAME` or `anthropic:https://HOST?model=NAME`; `count` counts the tokens of
    passages. `&requests_per_minute=` and `&tokens_per_minute=` are the pace that all processes keep together, by
    `limiter`. Raises SettingsError."""
    model = parse_model_url(url, setting=SETTING, options=THROTTLE_OPTIONS)
    throttle = open_throttle(model, limiter or NoLimiter(), name=f"anthropic:{model.model}", setting=SETTING)
    client = _client(model, settings)
    return AnthropicGenerator(client, model=model.model, settings=settings, count=count, throttle=throttle)


def _client(url: ModelUrl, settings: Settings) -> anthropic.AsyncAnthropic:
    """A client that tries once. Raises SettingsError when there is no key for Anthropic's own service."""
    key, seconds = settings.anthropic_api_key.get_secret_value(), settings.generator_timeout_seconds
    trust = upstream_context(settings)
    if not key and not url.address:
        raise SettingsError("BOOKWHEEL_ANTHROPIC_API_KEY is not set. Set it, or name a server of your own in the URL.")
    return anthropic.AsyncAnthropic(
        api_key=key or NO_KEY,
        base_url=url.address or OWN_ADDRESS,
        max_retries=0,
        timeout=anthropic.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS)),
        http_client=anthropic.DefaultAsyncHttpxClient(verify=trust) if trust else None,
    )


class AnthropicGenerator:
    """Fills the Generator port."""

    writes_json = True  # asked for in the prompt

    def __init__(
        self,
        client: anthropic.AsyncAnthropic,
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
        self._name = f"anthropic:{model}"
        self._upstream = Upstream(
            self._name,
            judge=self._judge,
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
        request = self._request(prompt, messages)
        ends = list[str]()
        told = self._upstream.stream(
            lambda: self._pieces(request, ends), tokens=lambda: token_count(messages, prompt, count=self._count)
        )
        async with aclosing(unless_not_found(told)) as pieces:
            async for text in pieces:
                yield text
        if "max_tokens" in ends:
            raise LengthReachedError

    async def ping(self) -> None:
        """See ports.Generator: the list of models is asked for; a server without one is there as well."""
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self._client.models.list(limit=1)
        except TimeoutError as error:
            raise GeneratorUnavailableError(f"{self._name} did not answer within {PING_SECONDS:g} s.") from error
        except Exception as error:
            failure = self._judge(error)
            if failure is None:
                raise
            if not isinstance(error, anthropic.NotFoundError):
                raise GeneratorUnavailableError(failure.error.message) from error

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self._client.close()

    async def _pieces(self, request: Mapping[str, Any], ends: list[str]) -> AsyncGenerator[str, None]:
        """The text of one answer; "" for an event without text. Why it ended is added to `ends`. Raises what `_judge`
        knows."""
        wrote, stop = False, None
        async with cast("Events", await self._client.messages.create(**request)) as events:
            async for event in events:
                text, reason = _read(event)
                wrote, stop = wrote or bool(text.strip()), reason or stop
                yield text
                if event.type == "message_stop":
                    await _drain(events)
                    break
            else:
                raise _BrokenAnswerError("the answer broke off")
        if stop == "refusal":
            raise _RefusedAnswerError
        if not wrote and stop != "max_tokens":  # a model that thinks may come to its limit before the first word
            raise _BrokenAnswerError(f"the answer is empty, ended by {stop!r}")
        ends.append(stop or "")

    def _request(self, prompt: Prompt, messages: Messages) -> dict[str, Any]:
        return {
            "model": self.model,
            "system": messages.system,
            "messages": list(messages.turns),
            "max_tokens": prompt.max_tokens or MAX_TOKENS,
            "stream": True,
        }

    def _judge(self, failure: Exception) -> Failure | None:
        """What an error of the client means; None for what is none of its errors."""
        name, unavailable = self._name, GeneratorUnavailableError
        match failure:
            case anthropic.APIStatusError():
                return self._judge_status(failure)
            case _RefusedAnswerError():
                error = unavailable(f"{name} refused to answer this request.")
                return Failure(error=error, retryable=False, broken=False)
            case anthropic.APITimeoutError() | httpx2.TimeoutException():
                return Failure(error=unavailable(f"{name} was silent for too long."), retryable=False, broken=True)
            case (
                anthropic.APIError() | httpx2.HTTPError() | _BrokenAnswerError() | ValueError()
            ):  # a ValueError is JSON that is none
                error = unavailable(f"{name} failed: {_one_line(failure)}.")
                return Failure(error=error, retryable=True, broken=True)
        return None

    def _judge_status(self, failure: anthropic.APIStatusError) -> Failure:
        body: Any = failure.body
        told = body.get("error") if isinstance(body, dict) else None
        told = told if isinstance(told, dict) else {}
        status = failure.status_code
        if status == OK:  # the error came in the midst of a stream
            status = _STATUS.get(str(told.get("type")), 500)
        said = " ".join(str(told.get("message") or failure.message).split()).rstrip(".")[:SAID_CHARACTERS]
        if advice := _ADVICE.get(status):
            said = f"{said}. {advice}"
        headers = failure.response.headers
        return http_failure(status, said, name=self._name, headers=headers, unavailable=GeneratorUnavailableError)


def _read(event: RawMessageStreamEvent) -> tuple[str, str | None]:
    """The text of an event, and why the answer ends with it. Raises _BrokenAnswerError."""
    try:
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            return str(event.delta.text), None
        if event.type == "message_delta":
            return "", event.delta.stop_reason
    except AttributeError as error:  # the client checks nothing
        raise _BrokenAnswerError("a part of the answer has another shape than the API's") from error
    return "", None


async def _drain(events: Events) -> None:
    """Read on, so that the connection can be used again. The answer is whole: whatever happens now harms nobody."""
    with suppress(anthropic.APIError, httpx2.HTTPError, ValueError, TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in events:
                pass


def _one_line(failure: Exception) -> str:
    return " ".join(str(failure).split()).rstrip(".")[:SAID_CHARACTERS]
