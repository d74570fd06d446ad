"""Answers that must be one JSON value of a given shape: validated, repaired once, else a clear error."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.validators import extend
from pydantic import StringConstraints, TypeAdapter
from pydantic import ValidationError as MismatchError
from pydantic_core import SchemaError as PatternError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from bookwheel.errors import AnswerFormatError, InvalidRequestError
from bookwheel.ports import Generator, LengthReachedError
from bookwheel.types import Prompt

MAX_SCHEMA_CHARACTERS = 32_768
TOLD_CHARACTERS = 500  # of a complaint
ANY_OBJECT: Mapping[str, Any] = {"type": "object"}  # what OpenAI's json_object asks for
MOST_STEPS = 20_000  # references followed for one answer
_steps: ContextVar[int] = ContextVar("steps", default=0)
_FENCED = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?```\s*\Z", re.S | re.I)


def check_schema(schema: Any, *, param: str) -> Mapping[str, Any]:
    """The schema itself. Raises InvalidRequestError when it is none, is too long, cannot be followed or points outside
    itself."""
    if not isinstance(schema, dict):
        raise InvalidRequestError(f"{param} must be a JSON schema: an object.", param=param)
    _steps.set(0)
    try:
        orjson.dumps(schema)  # as it is kept: it goes less deep than Python
        if len(json.dumps(schema)) > MAX_SCHEMA_CHARACTERS:
            raise InvalidRequestError(f"{param} has more than {MAX_SCHEMA_CHARACTERS:,} characters.", param=param)
        Draft202012Validator.check_schema(schema)
        if (problem := _unusable(schema)) is None:
            _Validator(schema).is_valid(None)  # a circle at its root shows with any value
    except SchemaError as error:
        problem = f"is no JSON schema: {error.message[:TOLD_CHARACTERS]}."
    except (RecursionError, orjson.JSONEncodeError):
        problem = "is nested too deep, or refers to itself without end."
    if problem is not None:
        raise InvalidRequestError(f"{param} {problem}", param=param)
    return schema


async def structured(prompt: Prompt, generator: Generator) -> str:
    """The generator's JSON, exactly one value that the schema accepts. Raises AnswerFormatError."""
    assert prompt.schema is not None  # noqa: S101 - its caller asked for it
    written = await _whole(prompt, generator)
    problem = complaint(written, prompt.schema)
    if problem is None:
        return plain_json(written)
    repaired = await _whole(_repair(prompt, written, problem), generator)
    if (left := complaint(repaired, prompt.schema)) is not None:
        raise AnswerFormatError(f"The model wrote no JSON that response_format accepts, also when asked again: {left}")
    return plain_json(repaired)


def complaint(written: str, schema: Mapping[str, Any]) -> str | None:
    """What is wrong with it, in words for the model; None when nothing is."""
    _steps.set(0)
    try:
        value = json.loads(plain_json(written), parse_constant=_no_number)
        worst = best_match(_Validator(schema).iter_errors(value))
    except ValueError as error:
        return f"It is not JSON: {error}."
    except RecursionError:
        return "It is nested too deep, or checking it takes too long."
    return None if worst is None else f"{worst.json_path}: {worst.message}"[:TOLD_CHARACTERS]


def plain_json(written: str) -> str:
    """Without the code fence that models like to put around it."""
    fenced = _FENCED.match(written)
    return (fenced[1] if fenced else written).strip()


def _repair(prompt: Prompt, written: str, problem: str) -> Prompt:
    again = (
        f"{prompt.question}\n\nYour last answer was refused. {problem}\nWrite the whole answer again as JSON that the"
        " schema accepts, and nothing else."
    )
    turns = [{"role": "user", "content": prompt.question}, {"role": "assistant", "content": written}]
    return replace(prompt, question=again, history=[*prompt.history, *turns])


async def _whole(prompt: Prompt, generator: Generator) -> str:
    written: list[str] = []
    with contextlib.suppress(LengthReachedError):  # what is cut short shows as JSON that is none
        async with aclosing(generator.generate(prompt)) as pieces:
            async for piece in pieces:
                written.append(piece)  # noqa: PERF401 - what came before the limit is wanted
    return "".join(written)


def _no_number(name: str) -> float:
    """For NaN and the infinities, which Python's reader takes."""
    raise ValueError(f"{name} is no JSON number")


def _unusable(schema: Mapping[str, Any]) -> str | None:
    """Why a schema cannot be followed, None when it can."""
    resolver = Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver()
    for name, value in _keywords(schema):
        if name == "patternProperties":
            return "has patternProperties. Name the properties, or allow all with additionalProperties."
        if name in ("$ref", "$dynamicRef"):
            if not value.startswith("#"):
                return "has a $ref to another document. Put the schema in place."
            try:
                resolver.lookup(value)
            except Unresolvable:
                return f"has a $ref to {value[:TOLD_CHARACTERS]!r}, which is not there."
        if name == "$id":
            return "has an $id. Leave it out: references stay inside the schema."
        if name == "pattern" and not _is_pattern(value):
            return f"has the pattern {value[:TOLD_CHARACTERS]!r}. Use one without look-around and back-references."
    return None


def _keywords(schema: Any) -> Iterator[tuple[str, str]]:
    """Every name with a text, wherever it stands; and patternProperties."""
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from ((name, value) for name, value in one.items() if isinstance(value, str))
            if "patternProperties" in one:
                yield "patternProperties", ""
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


@lru_cache(64)
def _matcher(pattern: str) -> TypeAdapter[str]:
    """By pydantic's engine, whose time is linear: a pattern of Python's can take for ever."""
    return TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])


def _is_pattern(pattern: str) -> bool:
    try:
        _matcher(pattern)
    except PatternError:
        return False
    return True


def _matches(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[ValidationError]:
    if isinstance(value, str):
        try:
            _matcher(pattern).validate_python(value)
        except MismatchError:
            yield ValidationError(f"{value!r} does not match {pattern!r}")


def _followed(keyword: str) -> Any:
    """The keyword with its steps counted: references that branch can make work without end of a short schema."""
    follow = Draft202012Validator.VALIDATORS[keyword]

    def counted(validator: Any, target: str, value: Any, schema: Any) -> Iterator[ValidationError]:
        _steps.set(_steps.get() + 1)
        if _steps.get() > MOST_STEPS:
            raise RecursionError
        yield from follow(validator, target, value, schema) or ()

    return counted


_Validator = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {"pattern": _matches, "$ref": _followed("$ref"), "$dynamicRef": _followed("$dynamicRef")},
)
