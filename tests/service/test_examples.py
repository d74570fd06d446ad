"""Every example runs as it is against a real server."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.conftest import LiveServer

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example: Path, live_server: LiveServer) -> None:
    """It ends well; its own assertions hold."""
    done = subprocess.run(
        [sys.executable, str(example), "--url", live_server.url],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
