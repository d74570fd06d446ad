"""The client of one server, and what its errors mean."""

from collections.abc import Mapping
from typing import Any

import openai

from bookwheel.errors import SettingsError, UnavailableError
from bookwheel.model_url import ModelUrl
from bookwheel.resilience import Failure, http_failure
from bookwheel.settings import Settings
from bookwheel.tls import upstream_context

OWN_ADDRESS = "https://api.openai.com/v1"
NO_KEY = "none"  # the client wants some key; servers on one's own machines mostly want none
CONNECT_SECONDS = 5.0
SAID_CHARACTERS = 300  # of a server's own words
NO_CREDIT = "insufficient_quota"
_ADVICE: Mapping[int, str] = {
    401: "Check BOOKWHEEL_OPENAI_API_KEY",
    403: "Check BOOKWHEEL_OPENAI_API_KEY and what it may use",
    404: "Check the address and the model's name in the URL",
}


class BrokenAnswerError(Exception):
    """The server's answer is not what the API promises; the message says how."""


class RefusedAnswerError(Exception):
    """The server will not answer this request; the message says why."""


def open_client(url: ModelUrl, settings: Settings, *, seconds: float) -> openai.AsyncOpenAI:
    """A client that tries once and waits so long for every byte. Raises SettingsError when there is no key for
    OpenAI's own service."""
    key, trust = settings.openai_api_key.get_secret_value(), upstream_context(settings)
    if not key and not url.address:
        raise SettingsError("BOOKWHEEL_OPENAI_API_KEY is not set. Set it, or name a server of your own in the URL.")
    return openai.AsyncOpenAI(
        api_key=key or NO_KEY,
        base_url=url.address or OWN_ADDRESS,
        max_retries=0,
        timeout=openai.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS)),
        http_client=openai.DefaultAsyncHttpxClient(verify=trust) if trust else None,
    )


def judge(failure: Exception, *, name: str, unavailable: type[UnavailableError]) -> Failure | None:
    """What an error of the client means; None for what is none of its errors."""
    match failure:
        case openai.APIStatusError():
            return _status(failure, name=name, unavailable=unavailable)
        case RefusedAnswerError():
            return Failure(error=unavailable(f"{name} {failure}."), retryable=False, broken=False)
        case openai.APITimeoutError():
            return Failure(error=unavailable(f"{name} was silent for too long."), retryable=False, broken=True)
        case openai.APIError() | BrokenAnswerError() | ValueError():  # a ValueError is JSON that is none
            return Failure(error=unavailable(f"{name} failed: {_one_line(failure)}."), retryable=True, broken=True)
    return None


def _status(failure: openai.APIStatusError, *, name: str, unavailable: type[UnavailableError]) -> Failure:
    said = said_by(failure)
    if failure.code == NO_CREDIT:  # a 429 that waiting does not help
        return Failure(error=unavailable(f"{name} has no credit left: {said}."), retryable=False, broken=False)
    if advice := _ADVICE.get(failure.status_code):
        said = f"{said}. {advice}"
    return http_failure(failure.status_code, said, name=name, headers=failure.response.headers, unavailable=unavailable)


def said_by(failure: openai.APIStatusError) -> str:
    """The server's own words."""
    body: Any = failure.body
    said = body.get("message") if isinstance(body, dict) else None
    return (str(said) if said else _one_line(failure)).strip().rstrip(".")[:SAID_CHARACTERS]


def _one_line(failure: Exception) -> str:
    return " ".join(str(failure).split()).rstrip(".")[:SAID_CHARACTERS]
