"""The data directories of chaos runs, the seed, and the number of kills."""

import os
import secrets

import pytest

from tests.service.conftest import data_dir  # noqa: F401 - a fixture of the tests here


@pytest.fixture
def kills() -> int:
    """How many processes are killed: BOOKWHEEL_CHAOS_KILLS."""
    return int(os.environ.get("BOOKWHEEL_CHAOS_KILLS", "100"))


@pytest.fixture
def seed(capsys: pytest.CaptureFixture[str]) -> int:
    """What decides the plan and the kills: BOOKWHEEL_CHAOS_SEED, printed so that a run can be repeated."""
    number = int(os.environ.get("BOOKWHEEL_CHAOS_SEED") or secrets.randbelow(1_000_000))
    with capsys.disabled():
        print(f"\nBOOKWHEEL_CHAOS_SEED={number}")
    return number
