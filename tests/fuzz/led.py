"""atheris over our own parsers: `uv run --with atheris python -m tests.fuzz.led html -max_total_time=60`.

It is led by coverage, so it finds its own way to rare branches. Every exception but a refusal is a crash.
"""

import sys
from collections.abc import Callable

import atheris
import orjson

with atheris.instrument_imports(include=["bookwheel"]):
    from bookwheel.decoding import NotTextError
    from bookwheel.email_text import read_mail
    from bookwheel.errors import BookwheelError
    from bookwheel.filters import parse
    from bookwheel.html_text import content_of, decode_html
    from bookwheel.inert import inert_text
    from bookwheel.injection import signs


def _html(data: bytes) -> None:
    content_of(decode_html(data))


def _mail(data: bytes) -> None:
    read_mail(data)


def _filters(data: bytes) -> None:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return
    parse(value)


def _answers(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    signs(text)
    inert_text(text)


TARGETS: dict[str, Callable[[bytes], None]] = {"html": _html, "mail": _mail, "filters": _filters, "answers": _answers}


def main() -> None:
    """One target by its name; the rest of the command line is libFuzzer's."""
    target = TARGETS[sys.argv.pop(1)]

    def once(data: bytes) -> None:
        try:
            target(data)
        except (BookwheelError, NotTextError):
            return

    atheris.Setup(sys.argv, once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
