"""What becomes of secrets in texts: `***`, in whatever form they stand there."""

import logging
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from bookwheel.errors import LONGEST_MESSAGE, BookwheelError, SettingsError
from bookwheel.redaction import passwords, redacted, remember
from bookwheel.settings import PREFIX, Settings, load_settings, secret_names
from bookwheel.supervisor import Stack
from bookwheel.telemetry import configure_logging

SECRET = 'qu"ote-9'


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No secret but those that a test tells of."""
    for name in secret_names():
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
        monkeypatch.delenv(f"{PREFIX}{name.upper()}_FILE", raising=False)
    yield
    remember(())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:p@h/d is away", "postgresql://u:***@h/d is away"),
        ("redis://:p%40ss@h:1/0", "redis://:***@h:1/0"),
        ("redis://u:p@ss/w@h:1/0 'x'", "redis://u:***@h:1/0 'x'"),
        ("postgresql://h/d?user=u&password=p&sslmode=disable", "postgresql://h/d?user=u&password=***&sslmode=disable"),
        ("openai:https://h/v1?model=m&api_key=k", "openai:https://h/v1?model=m&api_key=***"),
        ("host=h password='a b' dbname=d", "host=h password=*** dbname=d"),
        ("max_tokens=100 and mail to a@b.example", "max_tokens=100 and mail to a@b.example"),
        ("https://h/path?query=x", "https://h/path?query=x"),
    ],
)
def test_passwords_are_hidden_where_they_stand(text: str, shown: str) -> None:
    """In URLs, also such as are not well formed, and by name; nothing else is touched."""
    assert redacted(text) == shown


def test_known_secrets_are_hidden_in_every_form() -> None:
    """As they are, in JSON, in a repr and in a URL; short ones and plain words would tear texts apart."""
    remember([SECRET, "abc", "postgres"])
    for form in (SECRET, 'qu\\"ote-9', "qu%22ote-9", repr(SECRET)):
        assert "ote-9" not in redacted(f"so <{form}> it is")
    assert redacted("abc postgres") == "abc postgres"


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("embedded:", []),
        ("postgresql://u:p%40ss@h/d", ["p%40ss"]),
        ("redis://:one@h redis://:two@h?password=three", ["one", "two", "three"]),
        ("http://[broken", []),
    ],
)
def test_passwords_of_urls_are_found(url: str, found: list[str]) -> None:
    """Of several too, and in what is no URL there is none."""
    assert passwords(url) == found


def test_errors_hide_secrets() -> None:
    """What an upstream repeats of our key reaches no caller."""
    remember(["sk-1234567890"])
    error = BookwheelError("It said: key sk-1234567890 is wrong")
    assert "sk-1234567890" not in str(error) + error.message + str(error.body())


@pytest.mark.parametrize("form", ["text", "json"])
def test_logs_hide_secrets(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """In fields, in what libraries log, and in tracebacks."""
    remember([SECRET])
    kept = logging.getLogger().handlers[:]
    try:
        configure_logging(level="info", format=form)
        own: Any = structlog.get_logger("own").bind()
        try:
            int(f"redis://:{SECRET}@h")
        except ValueError:
            own.exception("failed", given=SECRET, url="postgresql://u:pw@h/d")
            logging.getLogger("theirs").exception("failed with %s", SECRET)
    finally:
        logging.getLogger().handlers[:] = kept
        structlog.reset_defaults()
    said = capsys.readouterr().err
    assert "ValueError" in said
    assert "ote-9" not in said
    assert ":pw@" not in said


def test_settings_do_not_show_their_secrets() -> None:
    """In repr and str."""
    settings = Settings(database_url="postgresql://u:pw@h/d", openai_api_key=SecretStr("sk-1"))
    for shown in (repr(settings), str(settings)):
        assert "postgresql://u:***@h/d" in shown
        assert "pw" not in shown
        assert "sk-1" not in shown


@pytest.mark.parametrize("name", sorted(secret_names()))
def test_every_secret_can_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """Its white space at the end does not count; both ways at once are refused, and no message has the secret."""
    variable, path = PREFIX + name.upper(), tmp_path / "secret"
    secret = b64encode(b"of-file:" * 4).decode() if name == "signing_key" else "of-file:"
    path.write_text(f"{secret} \n\n")
    monkeypatch.setenv(f"{variable}_FILE", str(path))
    given = getattr(load_settings(), name)
    assert (given.get_secret_value() if isinstance(given, SecretStr) else given) == secret
    monkeypatch.setenv(variable, "of-environment:")
    with pytest.raises(SettingsError, match=f"{variable} and {variable}_FILE are both set") as told:
        load_settings()
    assert "of-" not in told.value.message.replace("of them", "")


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"x" * 100_000], ids=["missing", "no text", "too large"])
def test_a_file_that_is_no_secret_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    """With the variable, the path and the reason."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("BOOKWHEEL_CACHE_URL_FILE", str(path))
    with pytest.raises(SettingsError, match="BOOKWHEEL_CACHE_URL_FILE") as told:
        load_settings()
    assert str(path) in told.value.message


@pytest.mark.parametrize("url", ["redis://:a@b@h", "redis://:a/b@h", "redis://:a?b@h", "postgresql://u:a#b@h/d"])
def test_ambiguous_passwords_are_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Part of such a password would be taken for a host's name, and shown; the message shows nothing of it."""
    monkeypatch.setenv("BOOKWHEEL_DATABASE_URL", url)
    with pytest.raises(SettingsError, match="BOOKWHEEL_DATABASE_URL has a value that should have its password") as told:
        load_settings()
    assert url not in told.value.message


def test_children_get_the_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As they are, over the environment, and not those that stand in a file, whose path they get."""
    path = tmp_path / "secret"
    path.write_text("of-file")
    monkeypatch.setenv("BOOKWHEEL_RERANKER_API_KEY_FILE", str(path))
    monkeypatch.setenv("BOOKWHEEL_OPENAI_API_KEY", "sk-of-environment")
    handed = Stack(settings=load_settings(port=1), say=print).environment()
    assert handed["BOOKWHEEL_OPENAI_API_KEY"] == "sk-of-environment"
    assert handed["BOOKWHEEL_RERANKER_API_KEY_FILE"] == str(path)
    assert "BOOKWHEEL_RERANKER_API_KEY" not in handed
    assert handed["BOOKWHEEL_PORT"] == "1"
    for name in list(handed):
        if name.startswith(PREFIX):
            monkeypatch.setenv(name, handed[name])
    assert load_settings().reranker_api_key.get_secret_value() == "of-file"


def test_unexpected_ends_hide_secrets() -> None:
    """A traceback that nothing caught."""
    program = (
        "from bookwheel.redaction import remember; from bookwheel.telemetry import hide_in_tracebacks\n"
        "hide_in_tracebacks(); remember(['sk-1234567890']); raise ValueError('no sk-1234567890 and redis://:pw@h')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "ValueError: no *** and redis://:***@h" in ended.stderr


@pytest.mark.parametrize("piece", ["a.", "a://", "a://b:", "?key", "://:@"])
def test_long_text_of_a_caller_takes_no_time(piece: str) -> None:
    """Errors repeat what callers send: a pattern that tries every place of it again would never end here."""
    error = BookwheelError(piece * 2_000_000)
    assert len(error.message) <= LONGEST_MESSAGE + 100
