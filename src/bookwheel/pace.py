"""How fast somebody on the other side of a connection sends or reads, and whether that is too slow to wait for."""

from dataclasses import dataclass
from typing import Self

from bookwheel.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """What is waited for."""

    stall_seconds: float  #: longest silence, and how long any speed is good enough
    bytes_per_second: float  #: least average after that

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings have it."""
        return cls(stall_seconds=settings.body_stall_seconds, bytes_per_second=settings.min_bytes_per_second)


class Pace:
    """Counts only the time that the other side lets us wait."""

    __slots__ = ("_moved", "_patience", "_silent", "_waited")

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._moved = 0
        self._waited = 0.0
        self._silent = 0.0

    def waited(self, seconds: float) -> None:
        """So long came nothing."""
        self._waited += seconds
        self._silent += seconds

    def moved(self, count: int) -> None:
        """So many bytes came, or were taken."""
        if count:
            self._moved += count
            self._silent = 0.0

    @property
    def left_seconds(self) -> float:
        """How long silence may go on from now; not positive when it was too long, or the average too low."""
        silence = self._patience.stall_seconds - self._silent
        average = self._patience.stall_seconds + self._moved / self._patience.bytes_per_second - self._waited
        return min(silence, average)
