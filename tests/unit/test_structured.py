"""Answers in JSON: which schemas are taken, what is wrong with an answer in words, and one repair."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from bookwheel.errors import AnswerFormatError, GeneratorUnavailableError, InvalidRequestError
from bookwheel.structured import ANY_OBJECT, MAX_SCHEMA_CHARACTERS, check_schema, complaint, plain_json, structured
from bookwheel.testing.doubles import a_hit
from bookwheel.types import Prompt

SCHEMA = {"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]}
GOOD, BAD = '{"year": 1588}', '{"year": "long ago"}'
ASKED = Prompt(
    question="When?",
    hits=[a_hit("It was described in 1588.")],
    history=[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello"}],
    schema=SCHEMA,
)


class Scripted:
    """Fills ports.Generator from a script."""

    model = "scripted"
    writes_json = True

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.prompts: list[Prompt] = []

    async def ping(self) -> None:
        """See ports.Generator."""

    async def generate(self, prompt: Prompt) -> AsyncGenerator[str, None]:
        """The next answer, letter by letter; none left is a failure."""
        self.prompts.append(prompt)
        if not self.answers:
            raise GeneratorUnavailableError
        for letter in self.answers.pop(0):
            yield letter


@pytest.mark.parametrize("written", [GOOD, f"```json\n{GOOD}\n```", f"```\n{GOOD}\n```\n", f"\n {GOOD} \n"])
async def test_a_valid_answer_costs_one_call(written: str) -> None:
    """Without the fence or the space around it."""
    generator = Scripted(written)
    assert await structured(ASKED, generator) == GOOD
    assert generator.prompts == [ASKED]


@pytest.mark.parametrize("bad", [BAD, "1588", "", "It was 1588.", f"{GOOD} {GOOD}", "[]", '{"year": NaN}'])
async def test_an_invalid_answer_is_repaired_once(bad: str) -> None:
    """The model sees what it wrote, what was wrong, and all that was there before."""
    generator = Scripted(bad, GOOD)
    assert await structured(ASKED, generator) == GOOD
    _, again = generator.prompts
    assert again.history == [
        *ASKED.history,
        {"role": "user", "content": "When?"},
        {"role": "assistant", "content": bad},
    ]
    assert again.question.startswith("When?")
    assert str(complaint(bad, SCHEMA)) in again.question
    assert (again.schema, again.hits) == (SCHEMA, ASKED.hits)


async def test_wrong_twice_is_told() -> None:
    """With the place and the reason; there is no third call."""
    generator = Scripted(BAD, BAD, GOOD)
    with pytest.raises(AnswerFormatError, match=r"\$\.year"):
        await structured(ASKED, generator)
    assert len(generator.prompts) == 2


async def test_a_generator_that_fails_is_no_wrong_answer() -> None:
    """Also when it fails at the repair."""
    for generator in (Scripted(), Scripted(BAD)):
        with pytest.raises(GeneratorUnavailableError):
            await structured(ASKED, generator)


@pytest.mark.parametrize(
    ("written", "said"),
    [("{", "not JSON"), ("{}", "'year' is a required property"), (BAD, "$.year: 'long ago' is not of type 'integer'")],
)
def test_complaints_name_the_place(written: str, said: str) -> None:
    """In words that a model can use."""
    assert said in str(complaint(written, SCHEMA))


def test_a_complaint_is_short() -> None:
    """Whatever the value was."""
    assert len(str(complaint(json.dumps({"year": "x" * 100_000}), SCHEMA))) <= 600


def test_any_object_takes_objects_only() -> None:
    """As OpenAI's json_object."""
    assert complaint('{"a": [1]}', ANY_OBJECT) is None
    assert complaint("[]", ANY_OBJECT)


def test_a_fence_inside_a_value_stays() -> None:
    """Only one around everything goes."""
    value = json.dumps({"code": "```json\n1\n```"})
    assert plain_json(value) == value
    assert plain_json(f"```json\n{value}\n```") == value


@pytest.mark.parametrize(
    "schema",
    [
        {},
        SCHEMA,
        {"$defs": {"a": {"type": "string"}}, "properties": {"b": {"$ref": "#/$defs/a"}}},
        {"anyOf": [{"type": "null"}, SCHEMA]},
    ],
)
def test_schemas_are_taken(schema: Any) -> None:
    """With references inside themselves."""
    assert check_schema(schema, param="p") is schema


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (None, "an object"),
        ([], "an object"),
        ({"type": "nothing"}, "no JSON schema"),
        ({"properties": []}, "no JSON schema"),
        ({"$ref": "https://example.org/a.json"}, "another document"),
        ({"allOf": [{"properties": {"a": {"$ref": "other.json"}}}]}, "another document"),
        ({"patternProperties": {"^(a+)+$": {}}}, "patternProperties"),
        ({"properties": {"a": {"pattern": "(?=a)"}}}, "look-around"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}}, "not there"),
        ({"$id": "https://example.org/a"}, "an [$]id"),
        ({"$ref": "#"}, "without end"),
        ({"description": "x" * MAX_SCHEMA_CHARACTERS}, "characters"),
    ],
)
def test_what_is_no_schema_is_refused(schema: Any, said: str) -> None:
    """By the name of the field."""
    with pytest.raises(InvalidRequestError, match=said) as raised:
        check_schema(schema, param="text.format.schema")
    assert raised.value.param == "text.format.schema"


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/missing"},
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"type": "string", "pattern": "("},
        {"type": "string", "pattern": "^(a+)+$"},
        {"$id": "https://example.org/a", "properties": {"year": {"$ref": "#/$defs/x"}}},
        {"$dynamicRef": "#nowhere"},
    ],
    ids=["missing", "itself", "circle", "broken pattern", "slow pattern", "id", "dynamic"],
)
async def test_a_schema_that_cannot_be_followed_is_the_callers_fault(schema: Any) -> None:
    """It is refused, or fits nothing; it is never a fault of ours, and takes no time."""
    try:
        taken = check_schema(schema, param="schema")
        await structured(
            Prompt(question="Q", hits=[], schema=taken), Scripted(json.dumps("a" * 40 + "b"), json.dumps({"year": 1}))
        )
    except (InvalidRequestError, AnswerFormatError):
        return


def test_patterns_hold() -> None:
    """Wherever in the text they match."""
    schema = {"properties": {"year": {"pattern": "^1[0-9]{3}$"}, "name": {"pattern": "whale"}}}
    assert check_schema(schema, param="schema") is schema
    assert complaint('{"year": "1588", "name": "the whale here"}', schema) is None
    assert "does not match" in str(complaint('{"year": "2588"}', schema))
    assert "does not match" in str(complaint('{"name": "oak"}', schema))


def test_what_is_nested_deep_is_refused() -> None:
    """A schema as well as an answer."""
    schema: Any = {"type": "string"}
    for _ in range(1500):
        schema = {"items": schema}
    with pytest.raises(InvalidRequestError, match="deep"):
        check_schema(schema, param="schema")
    assert complaint("[" * 100_000, {"items": {"$ref": "#"}})
    assert "deep" in str(complaint("[" * 900 + "]" * 900, {"items": {"$ref": "#"}}))


def test_a_schema_that_branches_without_end_is_given_up() -> None:
    """Each level asks for two of the next: 40 levels would take a million years."""
    levels = {f"n{at}": {"anyOf": [{"$ref": f"#/$defs/n{at + 1}"}, {"$ref": f"#/$defs/n{at + 1}"}]} for at in range(40)}
    schema = {"$ref": "#/$defs/n0", "$defs": {**levels, "n40": {"type": "integer"}}}
    assert complaint('"text"', schema) == "It is nested too deep, or checking it takes too long."
    assert complaint("1", schema) is None
