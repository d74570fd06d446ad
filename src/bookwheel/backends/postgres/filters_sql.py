"""Filters as SQL on `d.attributes`, with the meaning of bookwheel.filters."""

from collections.abc import Sequence
from typing import Any

import orjson
from psycopg.types.json import Jsonb

from bookwheel.filters import And, Comparison, Expression, Not, Or, parse
from bookwheel.types import Filter

Condition = tuple[str, list[Any]]

PATH_OPERATORS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def condition(filter: Filter | None) -> Condition:
    """A boolean SQL expression with %s placeholders, and its values. Raises InvalidFilterError."""
    return ("TRUE", []) if filter is None else _sql(parse(filter))


def _sql(expression: Expression) -> Condition:
    match expression:
        case And(parts=parts):
            return _joined(parts, " AND ", empty="TRUE")
        case Or(parts=parts):
            return _joined(parts, " OR ", empty="FALSE")
        case Not(part=part):
            inner, values = _sql(part)
            return f"NOT {inner}", values
        case Comparison():
            return _comparison(expression)


def _joined(parts: Sequence[Expression], word: str, *, empty: str) -> Condition:
    if not parts:
        return empty, []
    compiled = [_sql(part) for part in parts]
    return f"({word.join(sql for sql, _ in compiled)})", [value for _, values in compiled for value in values]


def _comparison(comparison: Comparison) -> Condition:
    key, value = comparison.key, comparison.value
    match comparison.op:
        case "eq":
            return _equals(key, value)
        case "in":
            return _path(key, "==", value, many=True)
        case "contains":
            sql, values = _path(key, "==", value, many=False)
            return f"(jsonb_typeof(d.attributes -> %s) = 'array' AND {sql})", [key, *values]
        case "exists":
            sign = "<>" if value else "="
            return f"(coalesce(jsonb_typeof(d.attributes -> %s), 'null') {sign} 'null')", [key]
        case "ne" | "nin":
            inner, values = _equals(key, value) if comparison.op == "ne" else _path(key, "==", value, many=True)
            return f"NOT {inner}", values
        case ordering:
            return _path(key, PATH_OPERATORS[ordering], value, many=False)


def _equals(key: str, value: Any) -> Condition:
    """Containment, which the GIN index answers: the value itself, or an element of a list."""
    return "(d.attributes @> %s OR d.attributes @> %s)", [Jsonb({key: value}), Jsonb({key: [value]})]


def _path(key: str, operator: str, value: Any, *, many: bool) -> Condition:
    """A jsonpath in lax mode, which looks into lists by itself and never compares different types."""
    path = f"$.{orjson.dumps(key).decode()} ? (@ {operator} $v{'[*]' if many else ''})"
    return "jsonb_path_exists(d.attributes, %s::jsonpath, %s, true)", [path, Jsonb({"v": value})]
