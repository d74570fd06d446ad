"""Background tasks outlive what may pass, and nothing else."""

import pytest

from bookwheel.background import patience
from bookwheel.errors import BookwheelError, DatabaseUnavailableError, NotFoundError, StorageFullError


@pytest.mark.parametrize("error", [DatabaseUnavailableError, StorageFullError])
def test_what_may_pass_is_outlived(error: type[BookwheelError]) -> None:
    """A database that is away, a disk that is full: the task looks again later."""
    with patience("test"):
        raise error


@pytest.mark.parametrize("error", [NotFoundError, ValueError])
def test_a_mistake_is_not_hidden(error: type[Exception]) -> None:
    """It would come again and again."""
    with pytest.raises(error), patience("test"):
        raise error
