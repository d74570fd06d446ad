"""Requests made from an OpenAPI document, sent to its server, and what is wrong with the answers."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from bookwheel.api.lines import MEDIA_TYPE
from bookwheel.replies import answers, service, stores
from tests.service.openapi_world import World

OBJECTS = vars(stores) | vars(answers) | vars(service)
JSON = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text() | st.lists(st.text())
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
VALID_SHARE = 0.6  #: of the cases; the others break a rule of the document
UNKNOWN_SHARE = 0.1  #: valid ones for ids that do not exist
SECONDS = 30  #: that one answer may take


LINES = st.lists(
    st.one_of(
        st.fixed_dictionaries({"id": st.text(min_size=1, max_size=20), "text": st.text(min_size=1)}).map(orjson.dumps),
        st.dictionaries(st.sampled_from(["id", "text", "title", "url", "attributes", "access"]), JSON).map(
            orjson.dumps
        ),
        st.binary(),
    ),
    max_size=4,
).map(b"\n".join)
schemathesis.openapi.media_type(MEDIA_TYPE, LINES)  # it knows forms and JSON


@dataclass(slots=True)
class Tally:
    """What became of the cases."""

    statuses: Counter[int] = field(default_factory=Counter)
    reached: set[str] = field(default_factory=set)  #: operations that answered with 2xx
    faults: dict[str, str] = field(default_factory=dict)  #: the first of each kind

    @property
    def cases(self) -> int:
        """All of them."""
        return sum(self.statuses.values())

    def __str__(self) -> str:
        statuses = ", ".join(f"{count} of {status}" for status, count in sorted(self.statuses.items()))
        return f"{self.cases} cases: {statuses}"


class Runner:
    """Sends cases to a server and keeps the tally."""

    def __init__(self, document: dict[str, Any], url: str, world: World) -> None:
        schema = schemathesis.openapi.from_dict(closed(document))
        schema.config.update(base_url=url)
        found = [operation.ok() for operation in schema.get_all_operations()]
        self.operations = sorted(found, key=lambda operation: operation.method == "delete")  # what removes comes last
        self.tally = Tally()
        self._session = requests.Session()
        self._world = world

    def run(self, cases: int, *, seed: int) -> Tally:
        """So many in all, about as many of each operation; those with few different requests leave the others more."""
        operations = self.operations
        with self._session:
            while (left := cases - self.tally.cases) > 0:
                share = -(-left // len(operations))
                operations = [one for one in operations if self._operation(one, cases, share=share, seed=seed)]
                seed += 1
        return self.tally

    def _operation(self, operation: Any, limit: int, *, share: int, seed: int) -> bool:
        """Its share of the cases, within the limit of all; whether it had so many."""
        before = self.tally.cases
        cases = min(share, limit - before)
        ids = self._world.path(operation.path, {parameter.name for parameter in operation.path_parameters})
        breakable = bool(operation.query or operation.headers or operation.body)
        unknown = round(cases * UNKNOWN_SHARE) if ids else 0
        wrong = round(cases * (1 - VALID_SHARE)) if breakable else 0
        valid = operation.as_strategy(generation_mode=GenerationMode.POSITIVE, path_parameters=ids)
        self._cases(valid, cases - unknown - wrong, seed=seed)
        self._cases(operation.as_strategy(generation_mode=GenerationMode.POSITIVE), unknown, seed=seed)
        if wrong:
            self._cases(
                operation.as_strategy(generation_mode=GenerationMode.NEGATIVE, path_parameters=ids), wrong, seed=seed
            )
        if operation.method == "delete":
            self._world.renew()
        return self.tally.cases - before == share

    def _cases(self, strategy: st.SearchStrategy[Case], count: int, *, seed: int) -> None:
        if not count:
            return

        @seeded(seed)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def send(case: Case) -> None:
            self._send(case)

        with suppress(Unsatisfiable):  # a rule that no request can break, such as "any string"
            send()

    def _send(self, case: Case) -> None:
        self._world.touch(case)
        response = case.call(session=self._session, timeout=SECONDS)
        self.tally.statuses[response.status_code] += 1
        if response.status_code < 300:
            self.tally.reached.add(case.operation.label)
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as group:
            for fault in group.exceptions:
                self.tally.faults.setdefault(_kind(case, response.status_code, fault), str(group))


def _kind(case: Case, status: int, fault: BaseException) -> str:
    title = fault.title if isinstance(fault, Failure) else type(fault).__name__
    return f"{case.operation.label}: {status}: {title}"


def closed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with objects in answers that may have no other fields than those that it tells of."""
    for name, schema in document["components"]["schemas"].items():
        if name.partition("_")[0] in OBJECTS:
            schema["additionalProperties"] = False
    return document


def labels(document: dict[str, Any]) -> Iterator[str]:
    """Every operation as `GET /path`."""
    for path, methods in document["paths"].items():
        for method in methods:
            yield f"{method.upper()} {path}"
