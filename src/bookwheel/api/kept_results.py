"""What the search of a response found, as far as it is asked for and may still be shown."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bookwheel.access import within
from bookwheel.api.ids import parse
from bookwheel.ports import Ports
from bookwheel.types import Scope

Item = Mapping[str, Any]


def without_results(told: Mapping[str, Any]) -> dict[str, Any]:
    """A response or an event of one, without what its search found."""
    return _changed(told, lambda _: None)


async def with_readable_results(told: Mapping[str, Any], *, ports: Ports, scope: Scope) -> dict[str, Any]:
    """The same with those results whose document is still as it was found, and may be read."""
    found = [result for call in _calls(told) for result in call["results"] or ()]
    if not found:
        return dict(told)
    stores = {parse("store", result["vector_store_id"]) for result in found}
    documents = {result["document"]["id"]: parse("document", result["document"]["id"]) for result in found}
    live = await ports.passages.live_versions([*documents.values()], scope=within(scope, *stores))

    def left(call: Item) -> list[Item] | None:
        if call["results"] is None:
            return None
        return [
            one for one in call["results"] if live.get(documents[one["document"]["id"]]) == one["document"]["version"]
        ]

    return _changed(told, left)


def _calls(told: Mapping[str, Any]) -> Iterator[Item]:
    """The file search calls in a response or an event of one."""
    response = told.get("response", told)
    items = [*response.get("output", ()), *([told["item"]] if "item" in told else ())]
    return (item for item in items if item["type"] == "file_search_call")


def _changed(told: Mapping[str, Any], results: Callable[[Item], list[Item] | None]) -> dict[str, Any]:
    def item(one: Item) -> Item:
        return {**one, "results": results(one)} if one["type"] == "file_search_call" else one

    shown = dict(told)
    if "output" in shown:
        shown["output"] = [item(one) for one in shown["output"]]
    if "response" in shown:
        shown["response"] = _changed(shown["response"], results)
    if "item" in shown:
        shown["item"] = item(shown["item"])
    return shown
