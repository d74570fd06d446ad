"""docs/settings.md is the settings table: made from it, checked against it.

Write it anew with `uv run python tests/docs/test_settings_docs.py`.
"""

from pathlib import Path

from bookwheel.settings import Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
HEAD = """# Settings

Read once at start from the environment. The unit is in the name. `bookwheel check` says what is in force.

| Variable | Default | What it does |
|---|---|---|
"""


def page() -> str:
    """The page as it should be."""
    rows = [
        f"| `BOOKWHEEL_{name.upper()}` | `{field.default}` | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return HEAD + "\n".join(rows) + "\n"


def test_every_setting_is_documented() -> None:
    """The page says exactly what the table says."""
    assert PAGE.read_text() == page()


def test_every_setting_has_a_description() -> None:
    """A setting without a word about it does not exist."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


if __name__ == "__main__":
    PAGE.write_text(page())
