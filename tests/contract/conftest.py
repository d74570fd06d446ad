"""What the contract tests of several backends share."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bookwheel.backends.postgres.embedded import EmbeddedPostgres


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """An embedded server for all tests of this folder, outside pytest's own folder, which only its user may enter."""
    with TemporaryDirectory(prefix="bookwheel-test-") as directory:
        server = EmbeddedPostgres(Path(directory) / "postgres")
        server.start()
        yield server.url
        server.stop()
