"""The examples of docs/api.md and docs/api/ run as they are, page by page, and print what the pages say."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.service.conftest import LiveServer

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = [DOCS / "api.md", *sorted((DOCS / "api").glob("*.md"))]
ADDRESS = "http://127.0.0.1:8000"
PRINTS = "# > "
NEEDS = {"frameworks.md": "langchain_core"}  # too heavy for every checkout; in CI it is there


def program(page: Path) -> str:
    """The page's Python, each line where it stands on the page, so that a traceback points there."""
    kept, inside = [], False
    for line in page.read_text().splitlines():
        fence = line.startswith("```")
        kept.append(line if inside and not fence else "")
        inside = line == "```python" if fence else inside
    return "\n".join(kept) + "\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_print_what_the_page_says(page: Path, trusting_server: LiveServer, tmp_path: Path) -> None:
    """A page's blocks are one program; what it prints stands behind `# > `."""
    needed = NEEDS.get(page.name)
    if needed and find_spec(needed) is None and os.environ.get("CI") != "true":
        pytest.skip(f"{needed} is missing: uv sync --group integrations")
    written = program(page)
    assert ADDRESS in written
    script = tmp_path / f"{page.stem}_examples.py"
    script.write_text(written.replace(ADDRESS, trusting_server.url))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    says = [line.strip().removeprefix(PRINTS) for line in written.splitlines() if line.strip().startswith(PRINTS)]
    assert done.stdout.splitlines() == says
    assert says
