"""What the README and the other pages point at exists, and the commands that they name are real."""

import re
from pathlib import Path

import pytest
import typer.main

from bookwheel.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
COMMANDS = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page is a file or folder of the repository."""
    targets = [target.partition("#")[0] for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text())]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    """Every `bookwheel COMMAND` in code is a command."""
    code = re.findall(r"`([^`\n]+)`|^ {4}(.+)$", page.read_text(), re.MULTILINE)
    named = {word for pair in code for part in pair for word in re.findall(r"(?:^|run |\s)bookwheel ([a-z]+)", part)}
    assert named - COMMANDS == set()


def test_readme_has_the_two_commands() -> None:
    """A newcomer needs one line to see it work and one to test it."""
    readme = (ROOT / "README.md").read_text()
    assert "pip install uv && uv run bookwheel demo " in readme
    assert "pip install uv && uv run pytest " in readme
