"""What HTTP statuses and Retry-After mean to callers of an upstream."""

import time
from email.utils import formatdate

import pytest

from bookwheel.errors import EmbedderUnavailableError
from bookwheel.resilience import http_failure, retry_after

NAME = "test:upstream"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3.0), ("0.25", 0.25), ("soon", None), ("", None), ("-5", None), ("nan", None), ("1e9", None)],
)
def test_retry_after_in_seconds(value: str, seconds: float | None) -> None:
    """A number of seconds, or nothing that is relied on."""
    assert retry_after({"retry-after": value}) == seconds


def test_retry_after_as_a_date() -> None:
    """An HTTP date counts from now; one that has passed is no wait."""
    assert retry_after({"retry-after": formatdate(time.time() + 60, usegmt=True)}) == pytest.approx(60, abs=2)
    assert retry_after({"retry-after": formatdate(time.time() - 60, usegmt=True)}) == 0.0
    assert retry_after({}) is None


@pytest.mark.parametrize(
    ("status", "retryable", "broken"),
    [
        *((status, False, False) for status in (400, 401, 404, 501)),
        *((status, True, True) for status in (500, 503, 529)),
        (429, True, False),
    ],
)
def test_statuses(status: int, retryable: bool, broken: bool) -> None:
    """Refusals are not repeated and open no breaker; a limit is waited for and opens none either."""
    failure = http_failure(status, "no", name=NAME, headers={"retry-after": "2"}, unavailable=EmbedderUnavailableError)
    assert (failure.retryable, failure.broken) == (retryable, broken)
    assert failure.error.retry_after == 2.0
    assert isinstance(failure.error, EmbedderUnavailableError)
    assert str(status) in failure.error.message
