"""Lists in OpenAI's cursor pages."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Query

from bookwheel.errors import InvalidRequestError

T = TypeVar("T")
Order = Literal["asc", "desc"]


class Page:
    """What part of a list is wanted."""

    __slots__ = ("after", "limit", "newest")

    def __init__(self, limit: int, after: str | None, newest: bool) -> None:
        self.limit = limit
        self.after = after  #: a public id, or None for the beginning
        self.newest = newest  #: newest first


async def _page(
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: str | None = None,
    before: Annotated[str | None, Query(include_in_schema=False)] = None,
    order: Order = "desc",
) -> Page:
    if before is not None:
        raise InvalidRequestError("before is not supported; go through the list with after.", param="before")
    return Page(limit, after, order == "desc")


ThePage = Annotated[Page, Depends(_page)]


async def fetch(limit: int, read: Callable[[int], Awaitable[Sequence[T]]]) -> tuple[Sequence[T], bool]:
    """The items of one page and whether there are more: asks for one item too many."""
    items = await read(limit + 1)
    return items[:limit], len(items) > limit


def listed(data: Sequence[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """The list object around the items of a page."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": more,
    }
