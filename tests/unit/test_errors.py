"""Errors are designed: documented, of one shape, retryable or not by class."""

import re
from collections.abc import Iterator

import pytest

from bookwheel import errors
from bookwheel.errors import BookwheelError, QuotaError

LINE = re.compile(r"^(?P<indent> *)[*+-] (?P<name>\w+)(?: \((?P<status>\d+)(?P<retryable>, retryable)?\))?$", re.M)


def tree(kind: type[BookwheelError] = BookwheelError) -> Iterator[type[BookwheelError]]:
    """The class and everything below, each below its own."""
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


def drawn_tree() -> list[tuple[int, str]]:
    """(depth, name) of each line of the tree in the module's docstring."""
    return [(len(line["indent"]) // 2, line["name"]) for line in LINE.finditer(errors.__doc__ or "")]


def depth(kind: type[BookwheelError]) -> int:
    """0 for BookwheelError."""
    return kind.__mro__.index(BookwheelError)


def test_the_drawn_tree_is_the_tree() -> None:
    """The module's docstring draws the classes as they are, in their order."""
    assert drawn_tree() == [(depth(kind), kind.__name__) for kind in tree()]


def test_the_drawn_status_is_the_status() -> None:
    """The tree says the HTTP status and whether to retry; classes below without a status have their parent's."""
    for line in LINE.finditer(errors.__doc__ or ""):
        kind: type[BookwheelError] = getattr(errors, line["name"])
        if line["status"]:
            assert (kind.status, kind.retryable) == (int(line["status"]), bool(line["retryable"]))
        elif kind is not BookwheelError:
            (parent,) = kind.__bases__
            assert (kind.status, kind.retryable) == (parent.status, parent.retryable)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_the_docstring_is_the_message(kind: type[BookwheelError]) -> None:
    """Every class has a docstring of its own: whole sentences on one line, what is wrong and what to do."""
    message = kind().message
    assert kind.__doc__
    assert message == str(kind())
    assert message[0].isupper()
    assert message.endswith(".")
    assert "\n" not in message


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_errors_have_one_json_shape(kind: type[BookwheelError]) -> None:
    """OpenAI's shape, with the specifics as the message and the class's own code."""
    assert kind("It is broken.", param="file").body() == {
        "error": {"message": "It is broken.", "type": kind.type, "param": "file", "code": kind.code}
    }
    assert kind().body()["error"]["param"] is None


def test_codes_are_distinct() -> None:
    """A program can tell the errors apart by their code."""
    codes = [kind.code for kind in tree()]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z_]+", code) for code in codes)


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_type_follows_from_the_status(kind: type[BookwheelError]) -> None:
    """4xx is the caller's, 5xx is ours, and only ours may be retried as it is, and what came too fast."""
    assert 400 <= kind.status < 600
    names = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    theirs = "insufficient_quota" if kind is QuotaError else names.get(kind.status, "invalid_request_error")
    assert kind.type == (theirs if kind.status < 500 else "server_error")
    assert not kind.retryable or kind.status >= 500 or kind.status == 429
