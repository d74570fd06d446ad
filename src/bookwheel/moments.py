"""Which strings are dates, and the moments that they name.

What counts as a date in an attribute is exactly this, in every backend: `2024-01-31`, or with a time
`2024-01-31T12:00[:00[.000000]]` (a blank may stand for the T), then `Z`, an offset such as `+02:00` (at most 15:59) or
nothing, which is UTC. PostgreSQL's own reading of it is `moment_of` in migration 0008.
"""

import re
from datetime import UTC, datetime

_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?"
_ZONE = r"(?:Z|[+-](?:0[0-9]|1[0-5]):[0-5][0-9])?"
_DATE = re.compile(rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?:[T ]{_CLOCK}{_ZONE})?")


def moment_of(text: str) -> datetime | None:
    """The moment that a date in an attribute names; None for every other string, also for 2024-02-30."""
    if not _DATE.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def moment(value: str | float) -> datetime | None:
    """Any ISO date or Unix seconds as a moment in UTC; None for others and outside the years 1 to 9999."""
    try:
        if not isinstance(value, str):
            return datetime.fromtimestamp(value, UTC)
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
