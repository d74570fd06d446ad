"""Filters on attributes and on what is known of every chunk: two ways to write them, one small tree, one meaning.

OpenAI's grammar, with `not`, `contains` and `exists` added:

    {"type": "gte", "key": "year", "value": 2024}
    {"type": "and", "filters": [..., ...]}          # also "or"
    {"type": "not", "filter": ...}

The shorthand, where every entry must hold:

    {"tags": ["physics"], "timestamp": {"$gte": "2024-01-01"}, "$or": [..., ...], "$not": ...}

A plain value means `eq`, a list means `in`, an object holds `$` operators. A mapping is read as OpenAI's grammar when
it has `type` beside `key`, `filters` or `filter`, or when `type` names an operator; write such attribute names in
OpenAI's grammar. The empty filter `{}` matches every document.

What a comparison means, the same in every backend:

* Keys are flat: `a.b` is a key with a dot in it.
* Values are strings, numbers or booleans. Strings are ordered by code point, `1` equals `1.0`, `true` is not `1`.
  Values of different types are never equal and have no order, so such a comparison is false.
* Dates are ISO strings (see moments.py). Where the attribute and the value are both dates, moments are compared: then
  `2024-01-31` equals `2024-01-31T02:00+02:00`. A date and another string are compared as strings.
* `gt gte lt lte` order strings and numbers; booleans have no order.
* An attribute that is a list is compared element by element: any one that matches is enough.
* `in` is true when the attribute equals one of the values; an empty list of values matches nothing.
* `contains` is true when the attribute is a list that holds the value.
* `exists` with `true` is true when the document has the key and its value is not null; with `false`, when not.
* `ne` and `nin` are exactly "not `eq`" and "not `in`", as in MongoDB: a document without the key, or with another type,
  matches them. So a missing key matches only `ne`, `nin`, `exists: false` and `not`.
* There is no third truth value: `not` turns false into true, whatever the reason for the false.

Keys that begin with `document.` or `chunk.` are not attributes but what Bookwheel itself knows, see `KEYS`; other such
keys are refused. They compare as attributes do, but their strings never as dates. A key of kind `time` takes ISO dates
and times, in UTC unless they say otherwise (`2024-01-31` is its first moment), or Unix seconds. With a key of a chunk,
single chunks of a document pass.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any, Literal, cast, get_args

from bookwheel.errors import InvalidFilterError
from bookwheel.moments import moment, moment_of
from bookwheel.types import Chunk, Document

Scalar = str | int | float | bool | datetime  # times are compared by the keys of kind `time` only
Kind = Literal["string", "number", "boolean", "time"]
Operator = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "contains", "exists"]

MAX_DEPTH = 8  #: levels of and, or, not
MAX_COMPARISONS = 100
MAX_VALUES = 1000  #: in one list
MAX_KEY = 256  #: characters
MAX_STRING = 4096  #: characters

OPERATORS: frozenset[str] = frozenset(get_args(Operator))
ORDERINGS: Mapping[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
COMPOUNDS = frozenset({"and", "or", "not"})

DOCUMENT_PREFIX, CHUNK_PREFIX = "document.", "chunk."
RESERVED = (DOCUMENT_PREFIX, CHUNK_PREFIX)

#: What Bookwheel knows of every chunk, and the kind of its value, or of each element where it is a list.
KEYS: Mapping[str, Kind] = {
    "document.file_id": "string",  #: as in search results: `file-...`, or `doc_...` where it was put as text
    "document.path": "string",  #: the caller's own id, `external_id`
    "document.filename": "string",
    "document.title": "string",
    "document.hash": "string",  #: SHA-256 as in types.Document, lower-case hexadecimal digits
    "document.access": "string",  #: a list; missing where everybody may read it
    "document.created_at": "time",
    "document.updated_at": "time",
    "chunk.page": "number",  #: from 1; missing where the format has no pages
    "chunk.ordinal": "number",  #: from 0
    "chunk.language": "string",
    "chunk.heading": "string",  #: a list: the heading path
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One attribute against a value, or against a tuple of values for `in` and `nin`."""

    key: str
    op: Operator
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class And:
    """All parts hold; true when there are none."""

    parts: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Or:
    """At least one part holds; false when there are none."""

    parts: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Not:
    """The part does not hold."""

    part: "Expression"


Expression = Comparison | And | Or | Not


def parse(raw: object, *, path: str = "filters") -> Expression:
    """Read either way of writing a filter. Raises InvalidFilterError that names the place, such as
    `filters.filters[1].value`."""
    expression = _node(raw, path, depth=1)
    if (count := _comparisons(expression)) > MAX_COMPARISONS:
        raise _wrong(path, f"has {count} comparisons; at most {MAX_COMPARISONS} are allowed")
    return expression


def attribute_keys(expression: Expression) -> frozenset[str]:
    """The attributes that the filter asks about, without the built-in keys."""
    match expression:
        case Comparison(key=key):
            return frozenset() if key in KEYS else frozenset({key})
        case Not(part=part):
            return attribute_keys(part)
        case And(parts=parts) | Or(parts=parts):
            return frozenset[str]().union(*map(attribute_keys, parts))


def uses_chunks(expression: Expression) -> bool:
    """Whether chunks of one document may differ in passing."""
    match expression:
        case Comparison(key=key):
            return key.startswith(CHUNK_PREFIX)
        case Not(part=part):
            return uses_chunks(part)
        case And(parts=parts) | Or(parts=parts):
            return any(map(uses_chunks, parts))


def document_values(document: Document) -> dict[str, Any]:
    """What a filter sees of a document: its attributes and the built-in keys, which hide attributes of their names."""
    file_id = f"doc_{document.id.hex}" if document.file_id is None else f"file-{document.file_id.hex}"
    return {
        **document.attributes,
        "document.file_id": file_id,
        "document.path": document.external_id,
        "document.filename": document.filename,
        "document.title": document.title,
        "document.hash": document.sha256.hex(),
        "document.access": document.access,
        "document.created_at": document.created_at,
        "document.updated_at": document.updated_at,
    }


def chunk_values(chunk: Chunk) -> dict[str, Any]:
    """What a filter sees of a chunk beside its document."""
    return {
        "chunk.page": chunk.piece.page,
        "chunk.ordinal": chunk.ordinal,
        "chunk.language": chunk.piece.language,
        "chunk.heading": chunk.piece.heading_path,
    }


def matches(expression: Expression, attributes: Mapping[str, Any]) -> bool:
    """Whether what has these attributes or values passes: the reference that every backend agrees with."""
    match expression:
        case And(parts=parts):
            return all(matches(part, attributes) for part in parts)
        case Or(parts=parts):
            return any(matches(part, attributes) for part in parts)
        case Not(part=part):
            return not matches(part, attributes)
        case Comparison(op="exists", key=key, value=wanted):
            return (attributes.get(key) is not None) is wanted
        case Comparison(op="ne" | "nin", key=key, value=value):
            return not _any_element("eq", attributes.get(key), _value_of(key, value))
        case Comparison(op="contains", key=key, value=value):
            actual = attributes.get(key)
            return isinstance(actual, list | tuple) and _any_element("eq", actual, _value_of(key, value))
        case Comparison(op=op, key=key, value=value):
            return _any_element(op, attributes.get(key), _value_of(key, value))


@dataclass(frozen=True, slots=True)
class _Value:
    """One value of a comparison; `moment` where it is a date and an attribute is asked about."""

    plain: Scalar
    moment: datetime | None


def _value_of(key: str, value: Scalar | tuple[Scalar, ...]) -> tuple[_Value, ...]:
    values = value if isinstance(value, tuple) else (value,)
    return tuple(_Value(one, moment_of(one) if isinstance(one, str) and key not in KEYS else None) for one in values)


def _any_element(op: str, actual: object, values: Sequence[_Value]) -> bool:
    elements = actual if isinstance(actual, list | tuple) else (actual,)
    return any(_holds(op, element, value) for element in elements for value in values)


def _holds(op: str, element: object, value: _Value) -> bool:
    kind, plain = kind_of(element), value.plain
    if kind is None or kind != kind_of(plain) or (kind == "boolean" and op in ORDERINGS):
        return False
    compare: Callable[[Any, Any], bool] = ORDERINGS.get(op, operator.eq)
    if value.moment is not None and (dated := moment_of(cast("str", element))) is not None:
        return compare(dated, value.moment)
    return compare(element, plain)


def kind_of(value: object) -> Kind | None:
    """What a value can be compared with; None for null and for what is no scalar."""
    if isinstance(value, bool):  # before numbers: True is an int
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, datetime):
        return "time"
    return "string" if isinstance(value, str) else None


def _comparisons(expression: Expression) -> int:
    match expression:
        case Comparison():
            return 1
        case Not(part=part):
            return _comparisons(part)
        case And(parts=parts) | Or(parts=parts):
            return sum(map(_comparisons, parts))


def _node(raw: object, path: str, depth: int) -> Expression:
    if not isinstance(raw, Mapping):
        raise _wrong(path, f"must be an object, not {_name(raw)}")
    if depth > MAX_DEPTH:
        raise _wrong(path, f"is nested deeper than {MAX_DEPTH} levels")
    return _openai(raw, path, depth) if _is_openai(raw) else _shorthand(raw, path, depth)


def _is_openai(raw: Mapping[Any, Any]) -> bool:
    kind = raw.get("type")
    named = isinstance(kind, str) and kind in OPERATORS | COMPOUNDS
    return "type" in raw and (named or not raw.keys().isdisjoint({"key", "filters", "filter"}))


def _openai(raw: Mapping[Any, Any], path: str, depth: int) -> Expression:
    kind = raw["type"]
    if kind == "not":
        return Not(part=_node(_required(raw, "filter", path), f"{path}.filter", depth + 1))
    if kind in ("and", "or"):
        parts = _nodes(_required(raw, "filters", path), f"{path}.filters", depth)
        return And(parts=parts) if kind == "and" else Or(parts=parts)
    if not isinstance(kind, str) or kind not in OPERATORS:
        raise _wrong(f"{path}.type", f"must be one of {', '.join(sorted(OPERATORS | COMPOUNDS))}, not {kind!r:.80}")
    key = _key(_required(raw, "key", path), f"{path}.key")
    return _comparison(key, kind, _required(raw, "value", path), f"{path}.value")


def _shorthand(raw: Mapping[Any, Any], path: str, depth: int) -> Expression:
    parts = tuple(part for key, value in raw.items() for part in _entry(key, value, path, depth))
    return parts[0] if len(parts) == 1 else And(parts=parts)


def _entry(key: object, value: object, path: str, depth: int) -> Sequence[Expression]:
    here = f"{path}.{key}"
    if key in ("$and", "$or"):
        parts = _nodes(value, here, depth)
        return (And(parts=parts) if key == "$and" else Or(parts=parts),)
    if key == "$not":
        return (Not(part=_node(value, here, depth + 1)),)
    name = _key(key, here)
    if name.startswith("$"):
        raise _wrong(here, "is not known; beside attribute names only $and, $or and $not may stand here")
    if isinstance(value, Mapping):
        return _operators(name, value, here, depth)
    return (_comparison(name, "in" if isinstance(value, list | tuple) else "eq", value, here),)


def _operators(key: str, raw: Mapping[Any, Any], path: str, depth: int) -> Sequence[Expression]:
    if not raw:
        raise _wrong(path, "is an empty object; give it an operator such as $eq")
    if depth > MAX_DEPTH:
        raise _wrong(path, f"is nested deeper than {MAX_DEPTH} levels")
    return [_operator(key, name, value, f"{path}.{name}", depth) for name, value in raw.items()]


def _operator(key: str, name: object, value: object, path: str, depth: int) -> Expression:
    if name == "$not":
        if not isinstance(value, Mapping):
            raise _wrong(path, f"must be an object of operators, not {_name(value)}")
        return Not(part=And(parts=tuple(_operators(key, value, path, depth + 1))))
    if not isinstance(name, str) or not name.startswith("$") or name[1:] not in OPERATORS:
        allowed = ", ".join(f"${one}" for one in sorted(OPERATORS | {"not"}))
        raise _wrong(path, f"is not an operator; use one of {allowed}")
    return _comparison(key, name[1:], value, path)


def _nodes(raw: object, path: str, depth: int) -> tuple[Expression, ...]:
    if not isinstance(raw, list | tuple) or not raw:
        raise _wrong(path, "must be a list with at least one filter")
    if len(raw) > MAX_COMPARISONS:
        raise _wrong(path, f"has {len(raw)} filters; at most {MAX_COMPARISONS} are allowed")
    return tuple(_node(part, f"{path}[{index}]", depth + 1) for index, part in enumerate(raw))


def _comparison(key: str, op: str, value: object, path: str) -> Comparison:
    checked: Scalar | tuple[Scalar, ...]
    if op in ("in", "nin"):
        checked = _values(key, value, path)
    elif op == "exists":
        checked = _truth(value, path)
    elif op in ORDERINGS and kind_of(value) not in ("string", "number"):
        raise _wrong(path, f"must be a string or a number for {op}, not {_name(value)}")
    else:
        checked = _value(key, value, path)
    return Comparison(key=key, op=cast("Operator", op), value=checked)


def _truth(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(path, f"must be true or false for exists, not {_name(value)}")
    return value


def _values(key: str, raw: object, path: str) -> tuple[Scalar, ...]:
    if not isinstance(raw, list | tuple):
        raise _wrong(path, f"must be a list, not {_name(raw)}")
    if len(raw) > MAX_VALUES:
        raise _wrong(path, f"has {len(raw)} values; at most {MAX_VALUES} are allowed")
    return tuple(_value(key, value, f"{path}[{index}]") for index, value in enumerate(raw))


def _value(key: str, raw: object, path: str) -> Scalar:
    value = _scalar(raw, path)
    if KEYS.get(key) != "time":
        return value
    named = None if isinstance(value, bool) else moment(value)
    if named is None:
        expected = "a date such as 2024-01-31 or 2024-01-31T12:00:00Z, or Unix seconds"
        raise _wrong(path, f"must be {expected}, not {value!r:.80}")
    return named


def _scalar(value: object, path: str) -> str | int | float | bool:
    if not isinstance(value, str | int | float):
        raise _wrong(path, f"must be a string, a number or a boolean, not {_name(value)}")
    if isinstance(value, float) and not isfinite(value):
        raise _wrong(path, "must be a finite number")
    if isinstance(value, str):
        _check_text(value, path, MAX_STRING)
    return value


def _key(raw: object, path: str) -> str:
    if not isinstance(raw, str) or not raw:
        raise _wrong(path, f"must be the name of an attribute, not {raw!r:.80}")
    _check_text(raw, path, MAX_KEY)
    if raw.startswith(RESERVED) and raw not in KEYS:
        raise _wrong(path, f"is not known; the built-in keys are {', '.join(KEYS)}")
    return raw


def _check_text(text: str, path: str, limit: int) -> None:
    if len(text) > limit:
        raise _wrong(path, f"has {len(text)} characters; at most {limit} are allowed")
    if "\0" in text:  # PostgreSQL cannot store it, so nothing could match
        raise _wrong(path, "holds a NUL character")


def _required(raw: Mapping[Any, Any], name: str, path: str) -> object:
    if name not in raw:
        raise _wrong(f"{path}.{name}", "is missing")
    return raw[name]


def _name(value: object) -> str:
    names = {"Mapping": "an object", "list": "a list", "tuple": "a list", "dict": "an object", "NoneType": "null"}
    return names.get(type(value).__name__, type(value).__name__)


def _wrong(path: str, problem: str) -> InvalidFilterError:
    return InvalidFilterError(f"{path[:200]} {problem}.", param=path[:200])
