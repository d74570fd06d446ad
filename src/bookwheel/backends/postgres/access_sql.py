"""The rules of rights.py as SQL on a document `d`, a store `s` or a file `f`; never NULL, so that NOT is the exact
complement."""

from dataclasses import dataclass, field
from typing import Any

from bookwheel.backends.postgres.filters_sql import compiled, condition
from bookwheel.rights import rule_of, sees_all
from bookwheel.types import Filter, Scope

# What a caller with these principals may read of a store: the documents without a list of their own, or only others.
UNDENIED = "(s.denied IS NULL OR NOT s.denied && %s::text[])"
OPEN = f"(s.access IS NULL OR s.access && %s::text[]) AND {UNDENIED}"
ALLOWED = "(d.denied IS NULL OR NOT d.denied && %s::text[])"

# Where the stores are named, their lists are read once, not for each document. CASE, since the planner takes a document
# for readable half of the time then; what OR makes of arrays that it cannot see is far less, and its plans are worse.
BY_ARRAYS = f"""
CASE WHEN d.access IS NULL THEN d.store_id = ANY(ARRAY(SELECT s.id FROM stores s WHERE s.id = ANY(%s) AND {OPEN}))
ELSE d.access && %s::text[] AND d.store_id = ANY(ARRAY(SELECT s.id FROM stores s WHERE s.id = ANY(%s) AND {UNDENIED}))
END AND {ALLOWED}
"""
BY_LOOKS = f"""
EXISTS (SELECT FROM stores s WHERE s.id = d.store_id AND {UNDENIED}
    AND (coalesce(d.access, s.access) IS NULL OR coalesce(d.access, s.access) && %s::text[])) AND {ALLOWED}
"""

# Documents that a store's list or their own may hide; what else a store has is not looked at.
LISTED = "(d.access IS NOT NULL OR d.denied IS NOT NULL)"
COUNTED = "SELECT d.status, d.size, d.chunk_count"
A_DOCUMENT = "SELECT FROM documents d WHERE d.file_id = f.id"


@dataclass(frozen=True, slots=True)
class Where:
    """Boolean SQL with %s placeholders, and their values."""

    sql: str
    values: list[Any] = field(default_factory=list)

    def __and__(self, other: "Where") -> "Where":
        return Where(f"{self.sql} AND {other.sql}", [*self.values, *other.values])

    def named(self, prefix: str = "f") -> "tuple[str, dict[str, Any]]":
        """The same with named placeholders."""
        values = {f"{prefix}{number}": value for number, value in enumerate(self.values)}
        return self.sql % tuple(f"%({name})s" for name in values), values


TRUE = Where("TRUE")


@dataclass(frozen=True, slots=True)
class Passing:
    """What a caller may read and a filter lets pass."""

    document: Where  #: on `d` alone
    chunk: Where | None  #: on `c` and `d`; None where no chunk can differ from its document

    @property
    def whole(self) -> Where:
        """Both parts, where `d` and `c` are joined; where there is no chunk's part, `d` is enough."""
        return self.document if self.chunk is None else self.document & self.chunk


def passing(scope: Scope, filter: Filter | None) -> Passing:
    """Raises InvalidFilterError."""
    wanted = condition(filter)
    document = readable(scope) & Where(wanted.document, wanted.document_values)
    return Passing(document, None if wanted.chunk is None else Where(wanted.chunk, wanted.chunk_values))


def readable(scope: Scope) -> Where:
    """Documents of the scope's stores whose content its caller may read."""
    return _inside(scope) & _lists(scope) & _rule(scope)


def visible(scope: Scope) -> Where:
    """Documents of the scope's stores that its caller may know of."""
    return _inside(scope) & (TRUE if scope.manages else _lists(scope)) & _rule(scope)


def visible_anywhere(scope: Scope) -> Where:
    """The same in all stores that the caller may look at."""
    return _tenant(scope, "d", "store_id") & (TRUE if scope.manages else _looks(scope)) & _rule(scope)


def store_visible(scope: Scope) -> Where:
    """Stores that the caller may know of."""
    undenied = TRUE if scope.manages else Where(UNDENIED, [sorted(scope.principals)])
    return _tenant(scope, "s", "id") & undenied


def store_open(scope: Scope) -> Where:
    """Stores whose lists let the caller read documents without a list of their own."""
    return Where(OPEN, [sorted(scope.principals)] * 2)


def store_undenied(scope: Scope) -> Where:
    """Stores where the caller may read documents whose own list names it."""
    return _tenant(scope, "s", "id") & Where(UNDENIED, [sorted(scope.principals)])


def in_rule(scope: Scope) -> Where:
    """Documents that pass the caller's rule."""
    return _rule(scope)


def file_visible(scope: Scope) -> Where:
    """Files that some visible document is made of, or none at all."""
    own = Where("f.tenant_id = %s", [scope.tenant_id])
    if sees_all(scope):
        return own
    shown = visible_anywhere(scope)
    used = f"(EXISTS ({A_DOCUMENT} AND {shown.sql}) OR NOT EXISTS ({A_DOCUMENT}))"
    return own & Where(used, shown.values)


def layout_rows(scope: Scope) -> Where:
    """How many live chunks of the stores `s`, grouped, the caller may read; its rule is not looked at. Documents with
    lists of their own are the only ones that are counted one by one."""
    names, stores = sorted(scope.principals), list(scope.store_ids)
    lists = _lists(scope)
    own = f"""
        SELECT coalesce(sum(d.chunk_count * (({lists.sql})::integer - (d.store_id = ANY(ARRAY(
            SELECT s.id FROM stores s WHERE s.id = ANY(%s) AND {OPEN})))::integer)), 0)::bigint
        FROM documents d WHERE d.store_id = ANY(%s) AND d.tenant_id = %s AND {LISTED}
    """
    open_stores = f"coalesce(sum(s.chunk_count) FILTER (WHERE {OPEN}), 0)::bigint"
    values = [names, names, *lists.values, stores, names, names, stores, scope.tenant_id]
    return Where(f"{open_stores} + ({own})", values)


def hidden_of_store(scope: Scope) -> Where | None:
    """`d` in documents of a store `s` that the caller may not know of, as a FROM and its conditions; None where there
    can be none. Where nothing is restricted this costs one look."""
    names = sorted(scope.principals)
    if scope.rule is not None:
        hidden = _not(_rule(scope) if scope.manages else _looks(scope) & _rule(scope))
        return Where(f"documents d WHERE d.store_id = s.id AND {hidden.sql}", hidden.values)
    if scope.manages:
        return None
    looks = _not(_looks(scope))
    own = Where(f"{COUNTED} FROM documents d WHERE d.store_id = s.id AND {LISTED} AND {looks.sql}", looks.values)
    others = Where(
        f"{COUNTED} FROM documents d WHERE d.store_id = s.id AND NOT {LISTED} AND NOT ({OPEN})", [names, names]
    )
    return Where(f"({own.sql} UNION ALL {others.sql}) AS d WHERE TRUE", [*own.values, *others.values])


def _inside(scope: Scope) -> Where:
    stores = [one for one in scope.store_ids if scope.granted is None or one in scope.granted]
    return Where("d.tenant_id = %s AND d.store_id = ANY(%s)", [scope.tenant_id, stores])


def _tenant(scope: Scope, alias: str, store: str) -> Where:
    own = Where(f"{alias}.tenant_id = %s", [scope.tenant_id])
    return own if scope.granted is None else own & Where(f"{alias}.{store} = ANY(%s)", [sorted(scope.granted)])


def _lists(scope: Scope) -> Where:
    stores, names = list(scope.store_ids), sorted(scope.principals)
    return Where(BY_ARRAYS, [stores, names, names, names, stores, names, names])


def _looks(scope: Scope) -> Where:
    names = sorted(scope.principals)
    return Where(BY_LOOKS, [names, names, names])


def _rule(scope: Scope) -> Where:
    rule = rule_of(scope)
    return TRUE if rule is None else Where(*compiled(rule))


def _not(where: Where) -> Where:
    return Where(f"NOT ({where.sql})", where.values)
