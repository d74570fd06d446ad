"""The filter grammar, its errors and its meaning."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookwheel.errors import InvalidFilterError
from bookwheel.filters import KEYS as BUILT_IN
from bookwheel.filters import (
    MAX_COMPARISONS,
    MAX_DEPTH,
    MAX_VALUES,
    OPERATORS,
    And,
    Comparison,
    Expression,
    Not,
    Or,
    attribute_keys,
    matches,
    parse,
    uses_chunks,
)
from bookwheel.moments import moment_of

KEYS = st.sampled_from(["a", "b", "year", "a.b"])
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-3, 3),
    st.floats(-3, 3),
    st.sampled_from(["", "x", "y", "2024-01-01", "2024-02-01", "2024-01-01T00:00Z", "2024-01-01T02:00+02:00"]),
)
ATTRIBUTES = st.dictionaries(
    KEYS, st.one_of(SCALARS, st.none(), st.lists(st.sampled_from(["x", "y", "z"]), max_size=3))
)


@st.composite
def comparisons(draw: st.DrawFn) -> dict[str, Any]:
    """A valid comparison in OpenAI's grammar."""
    kind = draw(st.sampled_from(sorted(OPERATORS)))
    if kind in {"in", "nin"}:
        value: Any = draw(st.lists(SCALARS, max_size=3))
    elif kind == "exists":
        value = draw(st.booleans())
    elif kind in {"gt", "gte", "lt", "lte"}:
        value = draw(SCALARS.filter(lambda scalar: not isinstance(scalar, bool)))
    else:
        value = draw(SCALARS)
    return {"type": kind, "key": draw(KEYS), "value": value}


FILTERS = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        st.builds(
            lambda kind, filters: {"type": kind, "filters": filters},
            st.sampled_from(["and", "or"]),
            st.lists(inner, min_size=1, max_size=3),
        ),
        st.builds(lambda part: {"type": "not", "filter": part}, inner),
    ),
    max_leaves=6,
)
JSON = st.recursive(
    st.one_of(st.none(), SCALARS, st.sampled_from(["and", "or", "not", "eq", "in"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["type", "key", "value", "filters", "filter", "$and", "$not", "$eq", "$in", "a"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


def depth(expression: Expression) -> int:
    """Levels of a tree."""
    match expression:
        case And(parts=parts) | Or(parts=parts):
            return 1 + max(map(depth, parts), default=0)
        case Not(part=part):
            return 1 + depth(part)
        case _:
            return 1


def holds(filter: Any, **attributes: Any) -> bool:
    """Whether a document with these attributes passes."""
    return matches(parse(filter), attributes)


@given(FILTERS, ATTRIBUTES)
def test_not_is_the_exact_complement(raw: Any, attributes: dict[str, Any]) -> None:
    """There is no third truth value."""
    try:
        plain = parse(raw)
    except InvalidFilterError:  # too deep
        return
    assert matches(Not(part=plain), attributes) is not matches(plain, attributes)


@given(KEYS, SCALARS, ATTRIBUTES)
def test_ne_and_nin_negate_eq_and_in(key: str, value: Any, attributes: dict[str, Any]) -> None:
    """`ne` is "not eq", `nin` is "not in", also for missing keys and other types."""
    for positive, negative, operand in (("eq", "ne", value), ("in", "nin", [value])):
        one = holds({"type": positive, "key": key, "value": operand}, **attributes)
        assert holds({"type": negative, "key": key, "value": operand}, **attributes) is not one


@given(KEYS, st.lists(SCALARS, max_size=3), ATTRIBUTES)
def test_in_is_any_eq(key: str, values: list[Any], attributes: dict[str, Any]) -> None:
    """`in` equals a chain of `eq`."""
    each = [holds({"type": "eq", "key": key, "value": value}, **attributes) for value in values]
    assert holds({"type": "in", "key": key, "value": values}, **attributes) is any(each)


@given(comparisons(), ATTRIBUTES)
def test_both_ways_of_writing_mean_the_same(raw: dict[str, Any], attributes: dict[str, Any]) -> None:
    """The shorthand of a comparison is the comparison."""
    assert parse({raw["key"]: {f"${raw['type']}": raw["value"]}}) == parse(raw)


@given(JSON)
def test_any_json_is_parsed_or_refused(raw: Any) -> None:
    """No input makes the parser fail in another way, and what it accepts is bounded and evaluates."""
    try:
        expression = parse(raw)
    except InvalidFilterError as error:
        refused = error.param or ""
    else:
        assert depth(expression) <= 2 * MAX_DEPTH + 1
        assert matches(expression, {}) in (True, False)
        return
    assert refused.startswith("filters")


def test_shorthand_of_the_design() -> None:
    """A list means any of, an object holds operators, entries are joined by and."""
    raw = {"tags": ["physics"], "timestamp": {"$gte": "2024-01-01"}}
    assert parse(raw) == And(
        parts=(
            Comparison(key="tags", op="in", value=("physics",)),
            Comparison(key="timestamp", op="gte", value="2024-01-01"),
        )
    )
    assert holds(raw, tags=["maths", "physics"], timestamp="2024-03-01T00:00:00Z")
    assert not holds(raw, tags=["maths"], timestamp="2024-03-01")
    assert not holds(raw, tags=["physics"], timestamp="2023-12-31")


def test_empty_filter_matches_everything() -> None:
    """`{}` is no restriction."""
    assert holds({})
    assert holds({}, a=1)


@pytest.mark.parametrize(
    ("filter", "attributes", "expected"),
    [
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": {"$gt": "0"}}, {"a": 1}, False),
        ({"a": {"$gt": 0}}, {"a": True}, False),
        ({"a": {"$lt": "é"}}, {"a": "z"}, True),
        ({"a": {"$ne": 1}}, {}, True),
        ({"a": {"$nin": [1]}}, {"b": 1}, True),
        ({"a": {"$lte": 1}}, {}, False),
        ({"a": {"$exists": False}}, {}, True),
        ({"a": {"$exists": False}}, {"a": None}, True),
        ({"a": {"$exists": True}}, {"a": []}, True),
        ({"a": {"$exists": True}}, {"a": False}, True),
        ({"a": []}, {"a": "x"}, False),
        ({"a": {"$contains": "x"}}, {"a": ["x", "y"]}, True),
        ({"a": {"$contains": "x"}}, {"a": "x"}, False),
        ({"a": "x"}, {"a": ["x", "y"]}, True),
        ({"a": {"$ne": "x"}}, {"a": ["x", "y"]}, False),
        ({"a": {"$not": {"$gt": 1}}}, {"a": 1}, True),
        ({"a": {"$not": {"$gt": 1}}}, {}, True),
        ({"$or": [{"a": 1}, {"b": 2}]}, {"b": 2}, True),
        ({"$not": {"a": 1}}, {"a": 1}, False),
        ({"type": "book"}, {"type": "book"}, True),
        ({"a.b": 1}, {"a": {"b": 1}}, False),
        ({"documents": 1}, {"documents": 1}, True),
        ({"document": {"$exists": True}}, {"document": "x"}, True),
        ({"chunk.heading": "B"}, {"chunk.heading": ("A", "B")}, True),
        ({"chunk.heading": {"$contains": "B"}}, {"chunk.heading": ("A", "B")}, True),
        ({"chunk.heading": {"$exists": True}}, {"chunk.heading": ()}, True),
        ({"chunk.page": {"$ne": 1}}, {"chunk.page": None}, True),
        ({"chunk.page": "1"}, {"chunk.page": 1}, False),
        ({"document.path": {"$lt": "b"}}, {"document.path": "a"}, True),
        ({"a": "2024-01-31"}, {"a": "2024-01-31T00:00:00Z"}, True),
        ({"a": "2024-01-31"}, {"a": "2024-01-31T02:00+02:00"}, True),
        ({"a": "2024-01-31"}, {"a": "2024-01-31 00:00"}, True),
        ({"a": {"$ne": "2024-01-31"}}, {"a": "2024-01-31T00:00:00.000Z"}, False),
        ({"a": ["x", "2024-01-31"]}, {"a": ["y", "2024-01-31T00:00Z"]}, True),
        ({"a": {"$contains": "2024-01-31"}}, {"a": ["2024-01-31T00:00Z"]}, True),
        ({"a": {"$lt": "2024-01-31T00:00Z"}}, {"a": "2024-01-31T01:00+02:00"}, True),
        ({"a": {"$gt": "2024-01-31T23:00+02:00"}}, {"a": "2024-01-31T22:00Z"}, True),
        ({"a": {"$gte": "2024-01-31"}}, {"a": "2024-01-31"}, True),
        ({"a": {"$gte": "2024-02-28"}}, {"a": "2024-02-30"}, True),
        ({"a": {"$lt": "2024-01-31T00:00Z"}}, {"a": "2024-01-31"}, False),
        ({"a": {"$lt": "2024-02-30T00:00Z"}}, {"a": "2024-02-30"}, True),
        ({"a": {"$gt": "2023-12-31"}}, {"a": "2024"}, True),
        ({"a": {"$gt": "2023-12-31"}}, {"a": 2024}, False),
        ({"document.path": "2024-01-31"}, {"document.path": "2024-01-31T00:00Z"}, False),
    ],
)
def test_meaning(filter: Any, attributes: dict[str, Any], expected: bool) -> None:
    """The cases that the docstring of filters.py decides."""
    assert matches(parse(filter), attributes) is expected


@pytest.mark.parametrize(
    ("filter", "param"),
    [
        ([], "filters"),
        ({"type": "eq", "value": 1}, "filters.key"),
        ({"type": "eq", "key": "a"}, "filters.value"),
        ({"type": "eq", "key": "", "value": 1}, "filters.key"),
        ({"type": "eq", "key": "a", "value": None}, "filters.value"),
        ({"type": "eq", "key": "a", "value": "\0"}, "filters.value"),
        ({"type": "like", "key": "a", "value": 1}, "filters.type"),
        ({"type": "and", "filters": []}, "filters.filters"),
        (
            {"type": "and", "filters": [{"a": 1}, {"type": "gt", "key": "a", "value": [1]}]},
            "filters.filters[1].value",
        ),
        ({"type": "in", "key": "a", "value": "x"}, "filters.value"),
        ({"type": "in", "key": "a", "value": ["x", {}]}, "filters.value[1]"),
        ({"type": "in", "key": "a", "value": ["x"] * (MAX_VALUES + 1)}, "filters.value"),
        ({"type": "gt", "key": "a", "value": True}, "filters.value"),
        ({"type": "exists", "key": "a", "value": 1}, "filters.value"),
        ({"type": "not", "filter": 3}, "filters.filter"),
        ({"a": {"$near": 1}}, "filters.a.$near"),
        ({"a": {"gt": 1}}, "filters.a.gt"),
        ({"a": {}}, "filters.a"),
        ({"a": None}, "filters.a"),
        ({"a": float("inf")}, "filters.a"),
        ({"$where": "1"}, "filters.$where"),
        ({"$and": [{"$or": [{"a": {"$in": 3}}]}]}, "filters.$and[0].$or[0].a.$in"),
        ({"document.titel": "x"}, "filters.document.titel"),
        ({"chunk.": "x"}, "filters.chunk."),
        ({"type": "eq", "key": "document.title.x", "value": 1}, "filters.key"),
        ({"document.created_at": "yesterday"}, "filters.document.created_at"),
        ({"document.created_at": {"$gt": ""}}, "filters.document.created_at.$gt"),
        ({"document.created_at": True}, "filters.document.created_at"),
        ({"document.created_at": {"$lt": 1e18}}, "filters.document.created_at.$lt"),
        ({"document.updated_at": ["2024-01-01", "9999-12-31T23:59-23:59"]}, "filters.document.updated_at[1]"),
        ({"type": "contains", "key": "a", "value": ["x"]}, "filters.value"),
        ({"type": "nin", "key": "a", "value": "x"}, "filters.value"),
        ({"type": "or", "filters": {"a": 1}}, "filters.filters"),
        ({"type": "not", "filters": [{"a": 1}]}, "filters.filter"),
        ({"type": ["eq"], "key": "a", "value": 1}, "filters.type"),
        ({"a": {"$contains": None}}, "filters.a.$contains"),
        ({"a": {"$lt": "2024-01-31", "$gte": []}}, "filters.a.$gte"),
        ({"$or": [{"a": {"$not": 3}}]}, "filters.$or[0].a.$not"),
        ({"document.updated_at": {"$exists": "2024-01-01"}}, "filters.document.updated_at.$exists"),
    ],
)
def test_errors_name_the_place(filter: Any, param: str) -> None:
    """A refused filter says which part of it is wrong."""
    with pytest.raises(InvalidFilterError) as caught:
        parse(filter)
    assert caught.value.param == param
    assert param in caught.value.message


def test_an_unknown_built_in_key_lists_the_known() -> None:
    """A typing error is told together with what could have been meant; attributes may have any other name."""
    with pytest.raises(InvalidFilterError) as caught:
        parse({"document.titel": "x"})
    assert all(key in caught.value.message for key in BUILT_IN)


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2024-01-31", datetime(2024, 1, 31, tzinfo=UTC)),
        ("2024-01-31T12:00", datetime(2024, 1, 31, 12, tzinfo=UTC)),
        ("2024-01-31T12:00:00Z", datetime(2024, 1, 31, 12, tzinfo=UTC)),
        ("2024-01-31T12:00:00.5+02:00", datetime(2024, 1, 31, 10, 0, 0, 500_000, tzinfo=UTC)),
        (1_700_000_000, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (0.5, datetime(1970, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_times_are_moments(value: Any, moment: datetime) -> None:
    """Dates, times with and without offset and Unix seconds are compared as points in time."""
    later = moment.replace(year=moment.year + 1)
    assert holds({"document.created_at": {"$gte": value, "$in": [value]}}, **{"document.created_at": moment})
    assert holds({"document.created_at": {"$lt": value}}, **{"document.created_at": moment}) is False
    assert holds({"document.created_at": {"$gt": value, "$ne": value}}, **{"document.created_at": later})


@pytest.mark.parametrize(
    "text",
    [
        "2024-02-30",
        "0000-01-01",
        "2024-1-31",
        "20240131",
        "2024-01-31T24:00",
        "2024-01-31T12",
        "2024-01-31T12:00:60",
        "2024-01-31T12:00+16:00",
        "2024-01-31T12:00+0200",
        "2024-01-31t12:00z",
        "2024-01-31\n",
        " 2024-01-31",
        "２０２４-01-31",
        "2024-01-31T12:00:00.1234567",
    ],
)
def test_only_dates_are_dates(text: str) -> None:
    """What is not written as moments.py says is a string like any other."""
    assert moment_of(text) is None


def test_attributes_of_a_filter_are_told() -> None:
    """Every attribute that is asked about, without what Bookwheel itself knows."""
    raw = {"$or": [{"a": 1}, {"$not": {"b": {"$exists": True}}}], "document.title": "x", "chunk.page": 1}
    assert attribute_keys(parse(raw)) == {"a", "b"}
    assert attribute_keys(parse({})) == frozenset()


def test_keys_of_chunks_are_told_apart() -> None:
    """A filter is about chunks when any of its comparisons is."""
    assert uses_chunks(parse({"$or": [{"a": 1}, {"$not": {"chunk.page": 1}}]}))
    assert not uses_chunks(parse({"document.title": "x", "chunk": 1, "$or": [{"b": 2}]}))


def test_depth_is_bounded() -> None:
    """Deep nesting is refused, not recursed into."""
    raw: Any = {"a": 1}
    for _ in range(5000):
        raw = {"type": "not", "filter": raw}
    with pytest.raises(InvalidFilterError, match="nested deeper"):
        parse(raw)


def test_size_is_bounded() -> None:
    """The number of comparisons of the whole filter is limited."""
    part = {"$or": [{"a": n} for n in range(MAX_COMPARISONS // 2 + 1)]}
    parse(part)
    with pytest.raises(InvalidFilterError, match="comparisons"):
        parse({"$and": [part, part]})
