"""Rules of the generators over HTTP, against a server that does what it is told."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import pytest

from bookwheel.backends import anthropic
from bookwheel.backends.openai import generator as openai_generator
from bookwheel.errors import GeneratorUnavailableError, SettingsError
from bookwheel.model_url import ModelUrl, parse_model_url
from bookwheel.ports import Generator, LengthReachedError
from bookwheel.prompt import NOT_FOUND
from bookwheel.settings import Settings
from bookwheel.testing import HashEmbedder
from bookwheel.testing.doubles import a_hit
from bookwheel.types import Prompt
from tests.scripted_upstream import (
    Answer,
    ScriptedUpstream,
    broken_message,
    chat,
    events,
    hang,
    malformed_chat,
    message,
    reset,
    scripted_upstream,
    status,
    well_behaved,
)

SETTINGS = Settings(generator_timeout_seconds=9.0, generator_stall_seconds=5.0, generator_concurrency=2)
TEXT = "The wheel turns [1]."
ASKED = Prompt(question="What turns?", hits=[a_hit("The wheel turns.")])
SCHEMA = {"type": "object", "properties": {"what": {"type": "string"}}}


@dataclass(frozen=True, slots=True)
class Service:
    """A generator over a scripted server, and how that server says things in its API."""

    kind: str
    generator: Any
    upstream: ScriptedUpstream
    says: Callable[..., Answer]  #: an answer in pieces

    @property
    def last(self) -> Any:
        """What was posted last."""
        return self.upstream.requests[-1].body


def a_generator(kind: str, url: str, settings: Settings = SETTINGS) -> Any:
    """A generator of either kind."""
    count = HashEmbedder().token_counts
    if kind == "openai":
        return openai_generator.open_generator(f"openai:{url}/v1?model=scripted", settings, count=count)
    return anthropic.open_generator(f"anthropic:{url}?model=scripted", settings, count=count)


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """The server."""
    with scripted_upstream() as upstream:
        yield upstream


@pytest.fixture(params=["openai", "anthropic"])
async def service(request: pytest.FixtureRequest, upstream: ScriptedUpstream) -> AsyncIterator[Service]:
    """Each of both."""
    generator = a_generator(request.param, upstream.url)
    yield Service(request.param, generator, upstream, chat if request.param == "openai" else message)
    await generator.close()


@pytest.fixture
async def gpt(upstream: ScriptedUpstream) -> AsyncIterator[Generator]:
    """The one of OpenAI's API."""
    generator = a_generator("openai", upstream.url)
    yield generator
    await generator.close()


async def text_of(generator: Generator, prompt: Prompt = ASKED) -> str:
    """The whole answer."""
    return "".join([piece async for piece in generator.generate(prompt)])


async def failure_of(generator: Generator, prompt: Prompt = ASKED) -> GeneratorUnavailableError:
    """The error of an answer that must fail."""
    with pytest.raises(GeneratorUnavailableError) as caught:
        await text_of(generator, prompt)
    return caught.value


async def test_the_answer_comes_in_the_servers_pieces(service: Service) -> None:
    """The model reads rules, passages, history and question; its pieces are handed on one by one."""
    service.upstream.then(service.says("The wheel", " turns", " [1]."))
    history = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Ask."}]
    prompt = Prompt(question="What turns?", hits=ASKED.hits, history=history, max_tokens=77)
    assert [piece async for piece in service.generator.generate(prompt)] == ["The wheel", " turns", " [1]."]
    messages = service.last["messages"]
    system = service.last.get("system") or messages[0]["content"]
    assert NOT_FOUND in system
    assert [turn["role"] for turn in messages[-3:]] == ["user", "assistant", "user"]
    assert "The wheel turns." in messages[-1]["content"]
    assert 77 in (service.last.get("max_tokens"), service.last.get("max_completion_tokens"))


async def test_not_found_is_an_empty_stream(service: Service) -> None:
    """The model's sentence is not an answer."""
    service.upstream.then(service.says("Not found in", " these documents."))
    assert await text_of(service.generator) == ""


async def test_without_hits_nobody_is_asked(service: Service) -> None:
    """There is nothing to answer from."""
    assert await text_of(service.generator, Prompt(question="Why?", hits=[])) == ""
    assert service.upstream.requests == []


async def test_a_schema_is_in_the_prompt(service: Service) -> None:
    """So that servers which cannot enforce it follow it too."""
    service.upstream.then(service.says('{"what": "wheel"}'))
    assert await text_of(service.generator, Prompt(question="?", hits=ASKED.hits, schema=SCHEMA)) == '{"what": "wheel"}'
    assert '"properties"' in str(service.last["messages"]) + str(service.last.get("system"))


async def test_what_passes_is_not_noticed(service: Service) -> None:
    """500, a reset and a 429 of half a second: the caller gets his answer."""
    service.upstream.then(status(500), reset(), service.says(TEXT))
    assert await text_of(service.generator) == TEXT
    service.upstream.then(status(429, retry_after="0.3"), service.says(TEXT))
    began = time.monotonic()
    assert await text_of(service.generator) == TEXT
    assert time.monotonic() - began >= 0.3


async def test_a_limit_beyond_the_deadline_is_told_at_once(service: Service) -> None:
    """With the server's own seconds."""
    service.upstream.then(status(429, retry_after="30"))
    with pytest.raises(GeneratorUnavailableError) as caught:
        await text_of(service.generator)
    assert caught.value.retry_after == 30.0
    assert len(service.upstream.requests) == 1


async def test_a_limit_of_length_is_told_behind_the_text(service: Service) -> None:
    """What came is the beginning of an answer, which is no fault of the service."""
    ends = {"openai": {"finish": "length"}, "anthropic": {"stop": "max_tokens"}}
    service.upstream.then(service.says("The wheel turns [1]. And", **ends[service.kind]))
    pieces, written = service.generator.generate(ASKED), ""
    while not written.endswith("And"):
        written += await anext(pieces)
    assert written == "The wheel turns [1]. And"
    with pytest.raises(LengthReachedError):
        await anext(pieces)


async def test_json_is_asked_for_also_without_passages(service: Service) -> None:
    """The schema may have a place for what is not known; text has none, and is not asked for."""
    service.upstream.then(service.says('{"what": ""}'))
    asked = Prompt(question="What turns?", hits=[], schema=SCHEMA)
    assert "".join([piece async for piece in service.generator.generate(asked)]) == '{"what": ""}'
    assert [piece async for piece in service.generator.generate(replace(asked, schema=None))] == []


@pytest.mark.parametrize("code", [401, 404, 400])
async def test_refusals_name_the_remedy_and_are_not_repeated(service: Service, code: int) -> None:
    """The server's words come with where to look."""
    service.upstream.then(status(code, "because I say so"))
    error = await failure_of(service.generator)
    assert "because I say so" in error.message
    assert {401: "API_KEY", 404: "model's name", 400: "400"}[code] in error.message
    assert len(service.upstream.requests) == 1


async def test_a_server_that_hangs_is_given_up(service: Service) -> None:
    """Before its headers, and in the midst of an answer; after the stall, not after the deadline."""
    await text_of(service.generator)  # the client loads parts of itself with the first call
    service.generator._upstream._stall_seconds = 0.2
    for answer in (hang(), service.says("The wheel", " turns", stall_after=3)):
        service.upstream.then(answer)
        began = time.monotonic()
        assert "silent" in (await failure_of(service.generator)).message
        assert time.monotonic() - began < 4


@pytest.mark.parametrize("how", [{"cut": True}, {"cut": False}])
async def test_half_a_response_is_an_error_in_the_midst(service: Service, how: dict[str, bool]) -> None:
    """What came is handed on, and then the caller learns that it is not the whole; it is not begun anew."""
    whole = {"finish": None, "done": False} if service.kind == "openai" else {"stop": None}
    service.upstream.then(service.says("The wheel", " turns", **whole, **how))
    read = []
    with pytest.raises(GeneratorUnavailableError):  # noqa: PT012 - what was read before counts
        async for piece in service.generator.generate(ASKED):
            read.append(piece)  # noqa: PERF401 - it ends with an error
    assert "".join(read) == "The wheel turns"
    assert len(service.upstream.requests) == 1


async def test_an_empty_answer_is_an_error(service: Service) -> None:
    """It does not say that the documents do not say."""
    service.upstream.then(*[service.says()] * 3)
    assert "empty" in (await failure_of(service.generator)).message


async def test_a_whole_answer_stands_whatever_comes_after(service: Service) -> None:
    """A connection that breaks, or stays open, behind the last word takes nothing back."""
    for how in ({"cut": True}, {"tail": 9.0}):
        service.upstream.then(service.says(TEXT, **how))
        assert await text_of(service.generator) == TEXT


async def test_a_server_that_is_gone_is_left_alone_after_a_while(service: Service) -> None:
    """Its callers are answered at once, with the time to come back; and served when it is back."""
    service.generator._upstream._backoff = 0.01  # so that all of it falls into the first pause
    service.upstream.then(*[status(500)] * 5)
    await failure_of(service.generator)
    await failure_of(service.generator)
    seen = len(service.upstream.requests)
    error = await failure_of(service.generator)
    assert error.retry_after is not None
    assert len(service.upstream.requests) == seen == 5
    service.upstream.otherwise = well_behaved(TEXT)
    await asyncio.sleep(error.retry_after)
    assert await text_of(service.generator) == TEXT


async def test_calls_at_once_are_limited_and_leavers_make_room(service: Service) -> None:
    """The server never sees more than generator_concurrency; who leaves is noticed there at once."""
    service.upstream.otherwise = service.says("The wheel", " turns", stall_after=3)
    readers = [asyncio.create_task(text_of(service.generator)) for _ in range(4)]
    await until(lambda: service.upstream.open_calls == 2)
    await asyncio.sleep(0.05)
    assert service.upstream.most_open == 2
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    await until(lambda: service.upstream.open_calls == 0)
    service.upstream.otherwise = well_behaved(TEXT)
    assert await text_of(service.generator) == TEXT


async def until(condition: Callable[[], bool]) -> None:
    """Wait until this holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for is in another thread
            await asyncio.sleep(0.005)


async def test_a_reader_who_leaves_early_closes_the_connection(service: Service) -> None:
    """Nobody pays for words that nobody reads."""
    service.upstream.then(service.says("The wheel", *[" turns"] * 500, pause=0.01))
    async with aclosing(service.generator.generate(ASKED)) as pieces:
        assert await anext(pieces) == "The wheel"
    await until(lambda: service.upstream.open_calls == 0)


@pytest.mark.parametrize("answer", [status(500), status(401), hang(9.0)])
async def test_ping_tells_when_it_cannot_answer(
    service: Service, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors and silence; a server without a list of models is there."""
    monkeypatch.setattr(anthropic, "PING_SECONDS", 0.2)
    monkeypatch.setattr(openai_generator, "PING_SECONDS", 0.2)
    service.upstream.otherwise = answer
    with pytest.raises(GeneratorUnavailableError):
        await service.generator.ping()
    service.upstream.otherwise = status(404)
    await service.generator.ping()


@pytest.mark.parametrize("garbage", ["data: {not json\n\n", "data: 5\n\n", 'data: {"choices": [{}]}\n\n'])
async def test_a_malformed_chunk_is_an_error(gpt: Generator, upstream: ScriptedUpstream, garbage: str) -> None:
    """It is not taken for text, and does not end the answer as if it were whole."""
    upstream.then(malformed_chat("The wheel", garbage))
    await failure_of(gpt)
    upstream.then(events([garbage]), chat(TEXT))
    assert await text_of(gpt) == TEXT


async def test_an_error_within_the_stream_is_an_error(gpt: Generator, upstream: ScriptedUpstream) -> None:
    """Some servers have sent 200 before they fail."""
    upstream.then(malformed_chat("The wheel", 'data: {"error": {"message": "out of memory"}}\n\n'))
    assert "out of memory" in (await failure_of(gpt)).message


async def test_no_credit_is_not_waited_for(gpt: Generator, upstream: ScriptedUpstream) -> None:
    """A 429 that no waiting helps."""
    upstream.then(status(429, "You exceeded your quota", code="insufficient_quota"))
    assert "credit" in (await failure_of(gpt)).message
    assert len(upstream.requests) == 1


async def test_a_withheld_answer_is_an_error(gpt: Generator, upstream: ScriptedUpstream) -> None:
    """The content filter ended it."""
    upstream.then(chat("The", finish="content_filter"))
    assert "content filter" in (await failure_of(gpt)).message


async def test_parameters_that_a_server_lacks_are_left_out(gpt: Generator, upstream: ScriptedUpstream) -> None:
    """max_completion_tokens has its older name, and what was refused is remembered."""
    refusal = "Unsupported parameter: {}"
    for name in ("max_completion_tokens", "temperature"):
        upstream.then(status(400, refusal.format(name), param=name))
    asked = Prompt(question="What?", hits=ASKED.hits, max_tokens=9)
    for _ in range(2):
        await text_of(gpt, asked)
    *_, third, fourth = upstream.bodies()
    assert len(upstream.requests) == 4
    assert third["max_tokens"] == fourth["max_tokens"] == 9
    assert not {"temperature", "max_completion_tokens"} & (set(third) | set(fourth))


async def test_a_refused_response_format_is_left_to_the_prompt(gpt: Generator, upstream: ScriptedUpstream) -> None:
    """Whatever the server says against it; the next schema is tried again."""
    upstream.then(status(400, "unknown field"), chat("{}"), chat("{}"))
    prompt = Prompt(question="?", hits=ASKED.hits, schema=SCHEMA)
    for _ in range(2):
        assert await text_of(gpt, prompt) == "{}"
    kinds = [body.get("response_format", {}).get("type") for body in upstream.bodies()]
    assert kinds == ["json_schema", None, "json_schema"]
    assert upstream.bodies()[0]["response_format"]["json_schema"]["schema"] == SCHEMA


@pytest.mark.parametrize("before", ["", "The wheel"])
async def test_an_overloaded_service_is_tried_again_before_the_first_word_only(
    upstream: ScriptedUpstream, before: str
) -> None:
    """529, as a status or within the stream."""
    generator = a_generator("anthropic", upstream.url)
    upstream.then(status(529), broken_message(before), message(TEXT))
    if before:
        assert "529" in (await failure_of(generator)).message
    else:
        assert await text_of(generator) == TEXT
    await generator.close()


async def test_a_refusal_is_an_error(upstream: ScriptedUpstream) -> None:
    """The model would not answer."""
    generator = a_generator("anthropic", upstream.url)
    upstream.then(message("I", stop="refusal"))
    assert "refused" in (await failure_of(generator)).message
    await generator.close()


def test_urls_are_taken_apart() -> None:
    """Address and model; without an address it is the provider's own."""
    assert parse_model_url("openai:https://h/v1/?model=a/b%3A1", setting="S") == ModelUrl(
        scheme="openai", address="https://h/v1", model="a/b:1", options={}
    )
    assert parse_model_url("anthropic:?model=c", setting="S").address == ""


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("openai:https://h/v1", "names no model"),
        ("openai:?model=", "names no model"),
        ("openai:h/v1?model=a", "no usable address"),
        ("openai:https://?model=a", "no usable address"),
        ("openai:https://h?model=a&colour=red", "unknown option 'colour'"),
        ("openai:https://u:p@h?model=a", "holds a password"),
    ],
)
def test_unusable_urls_name_setting_and_remedy(url: str, says: str) -> None:
    """And never repeat a password."""
    with pytest.raises(SettingsError, match=says) as caught:
        parse_model_url(url, setting="BOOKWHEEL_GENERATOR_URL")
    assert "BOOKWHEEL_GENERATOR_URL" in caught.value.message
    assert ":p@" not in caught.value.message


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_the_providers_own_service_needs_a_key(kind: str) -> None:
    """Before the first request, with the setting's name; an own server needs none."""
    module = openai_generator if kind == "openai" else anthropic
    with pytest.raises(SettingsError, match=f"BOOKWHEEL_{kind.upper()}_API_KEY"):
        module.open_generator(f"{kind}:?model=a", Settings(), count=HashEmbedder().token_counts)


@pytest.mark.parametrize(
    ("module", "library"), [("anthropic", "anthropic"), ("openai.generator", "openai"), ("openai.embedder", "openai")]
)
def test_a_missing_library_is_named_with_its_extra(module: str, library: str) -> None:
    """What to install, in the words of the command."""
    code = f"import sys; sys.modules[{library!r}] = None; import bookwheel.backends.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert f"SettingsError: `{library}:` URLs need" in done.stderr
    assert f"pip install 'bookwheel[{library}]'" in done.stderr


async def test_the_key_is_sent(upstream: ScriptedUpstream) -> None:
    """In the header of its API."""
    settings = Settings(openai_api_key="sk-o", anthropic_api_key="sk-a")
    for kind in ("openai", "anthropic"):
        generator = a_generator(kind, upstream.url, settings)
        await text_of(generator)
        await generator.close()
    first, second = upstream.requests
    assert first.headers["authorization"] == "Bearer sk-o"
    assert "sk-a" in second.headers.get("authorization", "") + second.headers.get("x-api-key", "")
