"""Settings: read once, checked, and wrong ones named."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from bookwheel.errors import SettingsError
from bookwheel.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have settings of their own."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"BOOKWHEEL_{name.upper()}", raising=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BOOKWHEEL_PORT", "eighty"),
        ("BOOKWHEEL_PORT", "65536"),
        ("BOOKWHEEL_API_PROCESSES", "0"),
        ("BOOKWHEEL_LEASE_SECONDS", "-1"),
        ("BOOKWHEEL_MAX_FILE_BYTES", "1 MB"),
    ],
)
def test_wrong_value_names_the_setting(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The message has the variable to change, the value that it has and the reason."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert name in caught.value.message
    assert repr(value) in caught.value.message
    assert "should be" in caught.value.message


def test_wrong_override_names_the_setting() -> None:
    """A wrong command-line option is told like the variable that it stands for."""
    with pytest.raises(SettingsError, match="BOOKWHEEL_PORT"):
        load_settings(port=-1)


def test_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables with the prefix win over defaults; others are no settings."""
    monkeypatch.setenv("BOOKWHEEL_PORT", "9000")
    monkeypatch.setenv("PORT", "1")
    monkeypatch.setenv("BOOKWHEEL_SOMETHING_ELSE", "1")
    assert load_settings().port == 9000


def test_overrides_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given on the command line wins over the environment; None was not given."""
    monkeypatch.setenv("BOOKWHEEL_PORT", "9000")
    assert load_settings(port=9001, host=None).port == 9001
    assert load_settings(port=None).port == 9000


def test_settings_do_not_change() -> None:
    """What was read at the start holds until the end."""
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]


def test_directory_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The data directory means the same from everywhere, with the user's home filled in."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert load_settings(data_dir="~/data").directory == tmp_path / "data"
    assert load_settings(data_dir="data").directory == tmp_path / "data"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_a_help_text(name: str) -> None:
    """The table of settings is documentation: each has one sentence that ends."""
    description = Settings.model_fields[name].description
    assert description
    assert description.endswith(".")
