"""The OpenAPI document: what FastAPI derives from the routes, with the answers, statuses and headers that they have.

An operation is known by the name of its route function. What holds for a kind of operation is derived from its method
and parameters, so that a new route needs one line here: its answer in openapi_answers.py. A 500 is never documented: it
is a fault of ours.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import FastAPI
from pydantic import TypeAdapter

from bookwheel.api import openapi_answers as answers
from bookwheel.api.idempotency import MAX_KEY, PATHS, SECRETS
from bookwheel.api.roles import PUBLIC, needed

Json = dict[str, Any]

OK, PARTIAL, UNCHANGED, UNREADY = 200, 206, 304, 503
MEANINGS: Final = {  #: of the error statuses
    400: "The request is not valid: `param` names the field.",
    401: "The API key or token is missing or not valid.",
    403: "The caller's role does not allow it, or its tenant is suspended.",
    404: "Something that the request names is not there.",
    409: "The Idempotency-Key was used for another request, or its first request still runs (then with Retry-After).",
    412: "It was changed since its ETag was read. Nothing was done.",
    413: "The body is larger than the limit.",
    416: "The file has no such range.",
    429: "A limit is reached, or too many requests wait for the same model. Try again.",
    431: "The address with its query is longer than 32 KiB.",
    502: "The address in the request is refused or does not answer; or the model wrote no JSON of the wanted shape.",
    503: "A part of the service does not answer. Try again.",
    507: "The disk is full. Try again when there is room.",
}
AGAIN: Final = frozenset({429, 503, 507})  #: they say when to come back
_RETRY_AFTER: Final[Json] = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
_ETAG: Final[Json] = {"description": "For If-Match.", "required": True, "schema": {"type": "string"}}
_UNCHANGED: Final[Json] = {
    "description": "What If-None-Match names is what would be sent.",
    "headers": {
        "ETag": {"description": "For If-None-Match.", "required": True, "schema": {"type": "string"}},
        "Cache-Control": {"description": "Who may keep it.", "required": True, "schema": {"type": "string"}},
    },
}
_REPLAYED: Final[Json] = {
    "description": "There when this is the first answer to this Idempotency-Key, sent again.",
    "schema": {"const": "true"},
}
_KEY: Final[Json] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Chosen by the caller: the same request with the same key is done once, for 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
}
_SCHEME: Final[Json] = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, `bw-...`, or a token of the issuer that the server trusts. On a server that listens on"
    " loopback only and asks for no keys, anything.",
}
_RANGE: Final[Json] = {
    "name": "Range",
    "in": "header",
    "description": "The part of the file that is wanted, such as bytes=0-1023.",
    "schema": {"type": "string", "pattern": "^bytes=[0-9]+-[0-9]*$"},
}
_NOTES: Final = {  #: on parameters that many operations have
    "after": "The id behind which the page begins: `last_id` of the page before.",
    "if-match": "The ETag that was read: with another one nothing is done and the answer is 412.",
}


def install(app: FastAPI) -> None:
    """Have the application serve the whole document."""
    derived = app.openapi

    def whole() -> Json:
        if app.openapi_schema is None:
            app.openapi_schema = completed(derived())
        return app.openapi_schema

    app.openapi = whole  # type: ignore[method-assign]


def completed(document: Json) -> Json:
    """FastAPI's document, with what it cannot know."""
    objects, schemas = _object_schemas()
    components = document["components"]
    for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which we never send
        components["schemas"].pop(unused, None)
    components["schemas"] |= schemas
    components["responses"] = {_component(status): _error(status) for status in MEANINGS}
    components["securitySchemes"] = {"key": _SCHEME}
    for path, method, operation in operations(document):
        _complete(operation, path, method, objects)
    return document


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Path, method in capitals, and operation, of all of them."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def _complete(operation: Json, path: str, method: str, objects: Mapping[str, Json]) -> None:
    name = operation["operationId"]
    parameters = operation.get("parameters", [])
    for parameter in parameters:
        _tell(parameter)
    if name in answers.BODIES:
        operation["requestBody"] = {"required": True, "content": answers.BODIES[name]}
    replayed = method == "POST" and path.startswith(PATHS) and not SECRETS.search(path)
    if replayed:
        parameters = [*parameters, _KEY]
    if name in answers.RANGES:
        parameters = [*parameters, _RANGE]
    if parameters:
        operation["parameters"] = parameters
    if name not in PUBLIC:
        operation["security"] = [{"key": []}]
        operation["x-role"] = needed(name)
    operation["responses"] = {
        str(OK): _answer(name, objects, replayed=replayed),
        **({str(PARTIAL): _answer(name, objects, replayed=replayed)} if name in answers.RANGES else {}),
        **({str(UNCHANGED): _UNCHANGED} if name in answers.LINKS else {}),
        **{str(status): _ref("responses", _component(status)) for status in _errors(name, method, parameters)},
        **({str(UNREADY): _answer(name, objects, replayed=replayed)} if name == answers.READINESS else {}),
    }


def _tell(parameter: Json) -> None:
    """Put the note on a parameter, and take null away: a query or a header cannot say it."""
    if parameter["name"] in _NOTES:
        parameter["description"] = _NOTES[parameter["name"]]
    schema = parameter["schema"]
    kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) == 1:
        schema |= kinds[0]
    elif kinds:
        schema["anyOf"] = kinds


def _answer(name: str, objects: Mapping[str, Json], *, replayed: bool) -> Json:
    whole = {"application/json": {"schema": objects[name]}} if name in objects else {}
    content = {**whole, **answers.OTHER_KINDS.get(name, {})}
    headers = {"ETag": _ETAG} if name in answers.TAGGED else {}
    if name in answers.LINKS:
        headers = _UNCHANGED["headers"]
    if replayed:
        headers["idempotent-replayed"] = _REPLAYED
    return {"description": "Done.", "content": content, **({"headers": headers} if headers else {})}


def _errors(name: str, method: str, parameters: list[Json]) -> list[int]:
    """The error statuses that an operation can have."""
    named = {parameter["name"] for parameter in parameters}
    where = {parameter["in"] for parameter in parameters}
    can = {
        400: where - {"path"} or method == "POST",
        401: name not in PUBLIC,
        403: name not in PUBLIC,
        404: "path" in where or named & {"after", "store_id"} or name in answers.NAMES_IN_BODY,
        409: _KEY["name"] in named,
        412: "if-match" in named,
        413: method == "POST",
        416: name in answers.RANGES,
        429: name not in PUBLIC,
        431: "query" in where,
        502: name in answers.FETCHES | answers.WRITTEN,
        503: name not in PUBLIC,
        507: method != "GET",
    }
    return [status for status, possible in can.items() if possible]


def _error(status: int) -> Json:
    headers = {"Retry-After": {**_RETRY_AFTER, "required": True}} if status in AGAIN else {}
    if status == 409:
        headers = {"Retry-After": _RETRY_AFTER}
    content = {"application/json": {"schema": _ref("schemas", "Failure")}}
    return {"description": MEANINGS[status], "content": content, **({"headers": headers} if headers else {})}


def _object_schemas() -> tuple[Mapping[str, Json], Json]:
    """The schema of each operation's answer, and the components that they refer to."""
    wanted = [(name, "serialization", TypeAdapter(kind)) for name, kind in (*answers.ANSWERS.items(), answers.ERROR)]
    made, definitions = TypeAdapter.json_schemas(wanted, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    return {name: schema for (name, _), schema in made.items()}, definitions["$defs"]


def _component(status: int) -> str:
    return f"Error{status}"


def _ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}
