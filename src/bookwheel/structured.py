"""Answers that must be one JSON value of a given shape: validated, repaired once, else a clear error."""

import json
import re
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match

from bookwheel.errors import AnswerFormatError, InvalidRequestError
from bookwheel.ports import Generator
from bookwheel.types import Prompt

MAX_SCHEMA_CHARACTERS = 32_768
TOLD_CHARACTERS = 500  # of a complaint
ANY_OBJECT: Mapping[str, Any] = {"type": "object"}  # what OpenAI's json_object asks for
_FENCED = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?```\s*\Z", re.S | re.I)


def check_schema(schema: Any, *, param: str) -> Mapping[str, Any]:
    """The schema itself. Raises InvalidRequestError when it is none, is too long or points outside itself."""
    if not isinstance(schema, dict):
        raise InvalidRequestError(f"{param} must be a JSON schema: an object.", param=param)
    text = json.dumps(schema)
    if len(text) > MAX_SCHEMA_CHARACTERS:
        raise InvalidRequestError(f"{param} has more than {MAX_SCHEMA_CHARACTERS:,} characters.", param=param)
    if any(not target.startswith("#") for target in _targets(schema)):
        raise InvalidRequestError(f"{param} has a $ref to another document. Put the schema in place.", param=param)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise InvalidRequestError(
            f"{param} is no JSON schema: {error.message[:TOLD_CHARACTERS]}.", param=param
        ) from error
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
    try:
        value = json.loads(plain_json(written))
    except json.JSONDecodeError as error:
        return f"It is not JSON: {error}."
    worst = best_match(Draft202012Validator(schema).iter_errors(value))
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
    async with aclosing(generator.generate(prompt)) as pieces:
        return "".join([piece async for piece in pieces])


def _targets(schema: Any) -> list[str]:
    """Where the schema's references point."""
    found, waiting = list[str](), [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            found += [target for name in ("$ref", "$dynamicRef") if isinstance(target := one.get(name), str)]
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return found
