"""Filters as SQL on a document `d` and its live chunk `c`, with the meaning of bookwheel.filters.

No part of a filter becomes SQL text: keys choose from a fixed table, values are parameters. Every comparison is true or
false, never NULL, so that NOT is its exact complement.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from psycopg.types.json import Jsonb

from bookwheel.filters import KEYS, And, Comparison, Expression, Kind, Not, Or, kind_of, parse, uses_chunks
from bookwheel.moments import moment_of
from bookwheel.types import Filter

Sql = tuple[str, list[Any]]

ORDERINGS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
COLUMNS = {
    "document.file_id": "(CASE WHEN d.file_id IS NULL THEN 'doc_' || replace(d.id::text, '-', '')"
    " ELSE 'file-' || replace(d.file_id::text, '-', '') END)",
    "document.path": "d.external_id",
    "document.filename": "d.filename",
    "document.title": "d.title",
    "document.hash": "encode(d.sha256, 'hex')",
    "document.access": "d.access",
    "document.created_at": "d.created_at",
    "document.updated_at": "d.updated_at",
    "chunk.page": "c.page",
    "chunk.ordinal": "c.ordinal",
    "chunk.language": "c.language",
    "chunk.heading": "c.heading_path",
}
LISTS = frozenset({"document.access", "chunk.heading"})
TYPES: dict[Kind, str] = {"string": "text", "number": "numeric", "time": "timestamptz"}
#: Begins a look at each string of an attribute; takes a jsonpath, and a test of `STRING` and a bracket must follow.
STRINGS = (
    "EXISTS (SELECT FROM jsonb_path_query(d.attributes, %s::jsonpath, '{}', true) AS e (one)"
    " WHERE jsonb_typeof(one) = 'string'"
)
STRING = "(one #>> '{}')"
FILE_ID = re.compile(r"(file-|doc_)([0-9a-f]{32})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Boolean SQL with %s placeholders; both parts must hold."""

    document: str = "TRUE"  #: on `d` alone
    chunk: str | None = None  #: on `c` and `d`; None when no chunk can differ from its document
    document_values: list[Any] = field(default_factory=list)
    chunk_values: list[Any] = field(default_factory=list)


def condition(filter: Filter | None) -> Condition:
    """The filter, its parts on documents kept apart so that their indexes serve. Raises InvalidFilterError."""
    if filter is None:
        return Condition()
    expression = parse(filter)
    parts = expression.parts if isinstance(expression, And) else (expression,)
    document, values = _joined([part for part in parts if not uses_chunks(part)], " AND ", empty="TRUE")
    of_chunks = [part for part in parts if uses_chunks(part)]
    if not of_chunks:
        return Condition(document=document, document_values=values)
    chunk, more = _joined(of_chunks, " AND ", empty="TRUE")
    return Condition(document=document, chunk=chunk, document_values=values, chunk_values=more)


def compiled(expression: Expression) -> Sql:
    """One expression and its values."""
    return _sql(expression)


def _sql(expression: Expression) -> Sql:
    match expression:
        case And(parts=parts):
            return _joined(parts, " AND ", empty="TRUE")
        case Or(parts=parts):
            return _joined(parts, " OR ", empty="FALSE")
        case Not(part=part):
            return _negated(_sql(part))
        case Comparison(key=key):
            return _builtin(expression) if key in KEYS else _attribute(expression)


def _joined(parts: Sequence[Expression], word: str, *, empty: str) -> Sql:
    if not parts:
        return empty, []
    compiled = [_sql(part) for part in parts]
    return f"({word.join(sql for sql, _ in compiled)})", [value for _, values in compiled for value in values]


def _negated(positive: Sql) -> Sql:
    return f"NOT {positive[0]}", positive[1]


def _attribute(comparison: Comparison) -> Sql:
    key, value = comparison.key, comparison.value
    values = value if isinstance(value, tuple) else (value,)
    match comparison.op:
        case "eq":
            return _or_dates(_contained(key, value), key, values)
        case "in":
            return _or_dates(_path(key, "==", value, many=True), key, values)
        case "contains":
            sql, found = _or_dates(_path(key, "==", value, many=False), key, values)
            return f"(jsonb_typeof(d.attributes -> %s) = 'array' AND {sql})", [key, *found]
        case "exists":
            sign = "<>" if value else "="
            return f"(coalesce(jsonb_typeof(d.attributes -> %s), 'null') {sign} 'null')", [key]
        case "ne":
            return _negated(_or_dates(_contained(key, value), key, values))
        case "nin":
            return _negated(_or_dates(_path(key, "==", value, many=True), key, values))
        case ordering:
            if isinstance(value, str) and (moment := moment_of(value)) is not None:
                return _ordered_dates(key, ORDERINGS[ordering], value, moment)
            return _path(key, ORDERINGS[ordering], value, many=False)


def _or_dates(plain: Sql, key: str, values: Sequence[Any]) -> Sql:
    """Equal as they are written, or dates of the same moment."""
    moments = [moment for value in values if isinstance(value, str) and (moment := moment_of(value)) is not None]
    if not moments:
        return plain
    near, found = _near(key, *_days_around(moments))
    sql = f"({plain[0]} OR ({near} AND {STRINGS} AND moment_of({STRING}) = ANY(%s::timestamptz[]))))"
    return sql, [*plain[1], *found, _elements(key), moments]


def _ordered_dates(key: str, operator: str, value: str, moment: datetime) -> Sql:
    """Dates by their moments, other strings by code point: both ways agree on all that is some days away."""
    low, high = _days_around([moment])
    beyond, first = _path(key, ">=", high, many=False) if operator[0] == ">" else _path(key, "<", low, many=False)
    near, second = _near(key, low, high)
    exact = (
        f'{STRINGS} AND CASE WHEN moment_of({STRING}) IS NULL THEN {STRING} COLLATE "C" {operator} %s'
        f" ELSE moment_of({STRING}) {operator} %s::timestamptz END)"
    )
    return f"({beyond} OR ({near} AND {exact}))", [*first, *second, _elements(key), value, moment]


def _near(key: str, low: str, high: str) -> Sql:
    """A string from `low` to `high`: few documents have one, and only these are worth reading as dates."""
    path = f"$.{orjson.dumps(key).decode()} ? (@ >= $low && @ < $high)"
    return "jsonb_path_exists(d.attributes, %s::jsonpath, %s, true)", [path, Jsonb({"low": low, "high": high})]


def _days_around(moments: Sequence[datetime]) -> tuple[str, str]:
    """Every way to write one of the moments, whatever its offset, is a string from the first to before the second."""
    return _day(min(moments), -1, beyond=""), _day(max(moments), 2, beyond=":")  # ":" follows "9"


def _day(moment: datetime, days: int, *, beyond: str) -> str:
    try:
        return (moment.astimezone(UTC) + timedelta(days=days)).date().isoformat()
    except OverflowError:
        return beyond


def _elements(key: str) -> str:
    """A jsonpath in lax mode to the value or, of a list, to each element."""
    return f"$.{orjson.dumps(key).decode()}[*]"


def _contained(key: str, value: Any) -> Sql:
    """Containment, which the GIN index answers: the value itself, or an element of a list."""
    return "(d.attributes @> %s OR d.attributes @> %s)", [Jsonb({key: value}), Jsonb({key: [value]})]


def _path(key: str, operator: str, value: Any, *, many: bool) -> Sql:
    """A jsonpath in lax mode, which looks into lists by itself and never compares different types."""
    path = f"$.{orjson.dumps(key).decode()} ? (@ {operator} $v{'[*]' if many else ''})"
    return "jsonb_path_exists(d.attributes, %s::jsonpath, %s, true)", [path, Jsonb({"v": value})]


def _builtin(comparison: Comparison) -> Sql:
    key, value = comparison.key, comparison.value
    values = value if isinstance(value, tuple) else (value,)
    match comparison.op:
        case "eq" | "in":
            return _equal(key, values)
        case "ne" | "nin":
            return _negated(_equal(key, values))
        case "contains":
            return _equal(key, values) if key in LISTS else ("FALSE", [])
        case "exists":
            return f"({COLUMNS[key]} IS {'NOT ' if value else ''}NULL)", []
        case ordering:
            return _ordered(key, ORDERINGS[ordering], values)


def _equal(key: str, values: Sequence[Any]) -> Sql:
    comparable = _comparable(key, values)
    if not comparable:
        return "FALSE", []
    if key == "document.file_id":
        return _file_ids(comparable)
    column, kind = COLUMNS[key], TYPES[KEYS[key]]
    test = f"{column} && %s::{kind}[]" if key in LISTS else f"{column} = ANY(%s::{kind}[])"
    return f"({column} IS NOT NULL AND {test})", [comparable]


def _file_ids(values: Sequence[str]) -> Sql:
    """Ids as they are stored, so that their indexes answer."""
    found = [match for match in map(FILE_ID.fullmatch, values) if match]
    files, texts = ([UUID(hex=match[2]) for match in found if match[1] == prefix] for prefix in ("file-", "doc_"))
    sql = "((d.file_id IS NOT NULL AND d.file_id = ANY(%s::uuid[])) OR (d.file_id IS NULL AND d.id = ANY(%s::uuid[])))"
    return sql, [files, texts]


def _ordered(key: str, operator: str, values: Sequence[Any]) -> Sql:
    comparable = _comparable(key, values)
    if not comparable:
        return "FALSE", []
    column, kind = COLUMNS[key], TYPES[KEYS[key]]
    collated = ' COLLATE "C"' if kind == "text" else ""  # by code point
    if key in LISTS:
        return f"EXISTS (SELECT FROM unnest({column}) AS one WHERE one{collated} {operator} %s::{kind})", comparable
    return f"({column} IS NOT NULL AND {column}{collated} {operator} %s::{kind})", comparable


def _comparable(key: str, values: Sequence[Any]) -> list[Any]:
    """Those values that have the key's kind; no other is ever equal or ordered."""
    same = [value for value in values if kind_of(value) == KEYS[key]]
    return [Decimal(repr(value)) for value in same] if KEYS[key] == "number" else same
