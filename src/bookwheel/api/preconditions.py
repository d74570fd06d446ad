"""ETag and If-Match: a change is made only while the thing is what its caller read."""

import re
from typing import Annotated, Any

from fastapi import Depends, Header

from bookwheel.api.wiring import JSON
from bookwheel.errors import InvalidRequestError

_TAGS = re.compile(r'\s*(?:(W/)?"([^"]*)"\s*(?:,\s*|$))+')
_TAG = re.compile(r'(W/)?"([^"]*)"')


async def _if_match(if_match: Annotated[str | None, Header()] = None) -> tuple[str, ...] | None:
    """The tags of the header; None where any will do. Raises InvalidRequestError."""
    if if_match is None or if_match.strip() == "*":
        return None
    if not _TAGS.fullmatch(if_match):
        raise InvalidRequestError(
            'If-Match must be * or the ETag that came with the thing, in its quotes: "...".', param="if-match"
        )
    # A weak tag never matches: our tags are strong.
    return tuple(tag for weak, tag in _TAG.findall(if_match) if not weak)


IfMatch = Annotated[tuple[str, ...] | None, Depends(_if_match)]


def tagged(content: Any, tag: str) -> JSON:
    """A response with its ETag. The tag is for If-Match: it leaves counters and states out, so it is not one to
    answer 304 by."""
    return JSON(content, headers={"etag": f'"{tag}"'})
