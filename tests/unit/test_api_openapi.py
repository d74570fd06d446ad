"""The OpenAPI document: every operation says what it answers, in which shape, and with which errors."""

from typing import Any

import httpx
import pytest
from fastapi.openapi.utils import get_openapi

from bookwheel.api import create_app
from bookwheel.api.files import BAD_RANGE
from bookwheel.api.openapi import operations
from bookwheel.api.openapi_answers import ANSWERS, BODIES, OTHER_KINDS
from bookwheel.settings import Settings
from bookwheel.testing import memory_ports


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document that is served."""
    return create_app(memory_ports(), Settings()).openapi()


def named(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The operation of this route function."""
    (found,) = (one for _, _, one in operations(document) if one["operationId"] == name)
    return found


def test_every_operation_says_what_it_answers(document: dict[str, Any]) -> None:
    """By its own name, which no other has; and nothing is told of operations that do not exist."""
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    assert set(names) == {*ANSWERS, *OTHER_KINDS}
    assert set(BODIES) <= set(names)
    for _, _, operation in operations(document):
        assert operation["responses"]["200"]["content"], operation["operationId"]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """And every component is referred to."""
    found = set(references(document))
    components = {
        f"#/components/{kind}/{name}" for kind, members in document["components"].items() for name in members
    } - {"#/components/securitySchemes/key"}  # named, not referred to
    assert found == components


def test_no_component_stands_for_two_things() -> None:
    """What FastAPI makes of bodies and what we make of answers share names only where they share the schema."""
    app = create_app(memory_ports(), Settings())
    derived = get_openapi(title="", version="", routes=app.routes)["components"]["schemas"]
    whole = app.openapi()["components"]["schemas"]
    assert {name: whole[name] for name in derived if name in whole} == {
        name: schema for name, schema in derived.items() if name in whole
    }


def references(value: Any) -> list[str]:
    """Every `$ref` inside."""
    if isinstance(value, list):
        return [found for one in value for found in references(one)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return own + [found for one in value.values() for found in references(one)]


def test_errors_have_one_shape(document: dict[str, Any]) -> None:
    """That of OpenAI; those that pass say when to come back."""
    for name, response in document["components"]["responses"].items():
        assert response["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Failure"}
        tells_when = name in ("Error409", "Error429", "Error503", "Error507")
        assert ("Retry-After" in response.get("headers", {})) == tells_when


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        ("list_models", ["200", "401", "403", "429", "503"]),
        ("get_store", ["200", "401", "403", "404", "429", "503"]),
        ("modify_store", ["200", "400", "401", "403", "404", "409", "412", "413", "429", "503", "507"]),
        ("upload", ["200", "400", "401", "403", "409", "413", "429", "503", "507"]),
        ("content", ["200", "206", "400", "401", "403", "404", "416", "429", "503"]),
        ("try_webhook", ["200", "400", "401", "403", "404", "409", "413", "429", "502", "503", "507"]),
        ("complete", ["200", "400", "401", "403", "404", "409", "413", "429", "502", "503", "507"]),
        ("modify_tenant", ["200", "400", "401", "403", "404", "409", "413", "429", "503", "507"]),
        ("search_by_link", ["200", "304", "400", "401", "403", "404", "429", "431", "503"]),
        ("ready", ["200", "503"]),
        ("metrics", ["200", "401", "403", "429", "503"]),
    ],
)
def test_only_what_can_happen_is_told(document: dict[str, Any], name: str, statuses: list[str]) -> None:
    """Such as 412 only where there is a precondition."""
    assert list(named(document, name)["responses"]) == statuses


def test_headers_that_are_taken_and_given(document: dict[str, Any]) -> None:
    """A store is changed under its ETag, and once under a key."""
    operation = named(document, "modify_store")
    taken = {parameter["name"]: parameter for parameter in operation["parameters"] if parameter["in"] == "header"}
    assert set(taken) == {"if-match", "Idempotency-Key"}
    assert all(parameter["description"] and parameter["schema"]["type"] == "string" for parameter in taken.values())
    assert set(operation["responses"]["200"]["headers"]) == {"ETag", "idempotent-replayed"}


def test_a_search_as_a_link_tells_its_tag(document: dict[str, Any]) -> None:
    """With its results, and in place of them."""
    responses = named(document, "search_by_link")["responses"]
    assert set(responses["200"]["headers"]) == set(responses["304"]["headers"]) == {"ETag", "Cache-Control"}
    assert "content" not in responses["304"]


def test_bodies_that_are_not_json(document: dict[str, Any]) -> None:
    """Forms and lines are described, and streams of events."""
    assert list(named(document, "upload")["requestBody"]["content"]) == ["multipart/form-data"]
    assert list(named(document, "put_documents")["requestBody"]["content"]) == [
        "application/x-ndjson",
        "application/json",
    ]
    assert "text/event-stream" in named(document, "complete")["responses"]["200"]["content"]


async def test_bad_ranges_are_refused_in_the_shape_of_every_error() -> None:
    """One behind the end of the file, and one that is none; a good one gets its part."""
    transport = httpx.ASGITransport(app=create_app(memory_ports(), Settings()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        file = (await client.post("/v1/files", files={"file": ("a.txt", b"0123456789")})).json()
        url = f"/v1/files/{file['id']}/content"
        part = await client.get(url, headers={"range": "bytes=2-4"})
        assert (part.status_code, part.content) == (206, b"234")
        behind = await client.get(url, headers={"range": "bytes=10-"})
        assert (behind.status_code, behind.headers["content-range"]) == (416, "bytes */10")
        assert behind.json()["error"] == {
            "message": BAD_RANGE,
            "type": "invalid_request_error",
            "param": None,
            "code": "range_not_satisfiable",
        }
        wrong = await client.get(url, headers={"range": "bytes=x"})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "invalid_request")
