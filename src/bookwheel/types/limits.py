"""What is taken from limits, and how they stand then."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """So much of one counter."""

    name: str  #: of the counter: ASCII of at most 200 characters that names the tenant or the service
    limit: int  #: at most so much in any window, wherever it begins; at least 1
    amount: int = 1  #: 0 takes nothing, and is allowed while anything is left
    seconds: float = 60.0  #: the window; always the same for a counter


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A place among those who run at once."""

    name: str  #: of the group, as a counter's
    limit: int  #: at most so many at once; at least 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a counter stands after a take, or after it was refused."""

    name: str
    limit: int
    allowed: bool  #: this one; all that were asked together are taken when all are allowed, else none is
    remaining: int  #: may be below 0, where more was booked after the fact
    whole_in: float  #: seconds until all of the limit is there again, if nothing more is taken
    wait: float | None = 0.0  #: seconds until it would be allowed; 0.0 where it is, None where it never can be
