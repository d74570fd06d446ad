"""Who may read what: the rules of access lists and of a caller's own bounds, as every backend has them.

Lists name users and groups. A document without a list of its own goes by its store's; where neither has one, everybody
of the tenant may read it. Whom the document or its store denies may not, whatever list names them.

A caller's bounds hold beside the lists: the stores that are `granted` to it, and its `rule`, a filter on documents.
Content (passages, vectors, keywords, bytes) is for those whom lists and bounds permit, and for nobody else. That a
document exists is told to the same, and to callers that `manages`, whom lists do not stop but bounds do.
"""

from bookwheel.errors import ConflictError, InvalidFilterError, PermissionDeniedError
from bookwheel.filters import Expression, document_values, matches, parse, uses_chunks
from bookwheel.types import Access, Document, Scope, Store


def store_is_there(store: Store, scope: Scope) -> bool:
    """Whether the caller may know of the store."""
    own = store.tenant_id == scope.tenant_id and (scope.granted is None or store.id in scope.granted)
    return own and (scope.manages or scope.principals.isdisjoint(store.denied))


def store_is_open(store: Store, scope: Scope) -> bool:
    """Whether the store's lists let the caller read documents without a list of their own."""
    return _names(store.access, scope) and scope.principals.isdisjoint(store.denied)


def readable(document: Document, store: Store, scope: Scope) -> bool:
    """Whether the caller may read the document; its store is the scope's business."""
    access = store.access if document.access is None else document.access
    denied = {*document.denied, *store.denied}
    return _names(access, scope) and scope.principals.isdisjoint(denied) and in_bounds(document, scope)


def visible(document: Document, store: Store, scope: Scope) -> bool:
    """Whether the caller may know of the document."""
    return in_bounds(document, scope) if scope.manages else readable(document, store, scope)


def in_bounds(document: Document, scope: Scope) -> bool:
    """Whether the document is the tenant's, in a store granted to the caller, and passes its rule."""
    own = document.tenant_id == scope.tenant_id and (scope.granted is None or document.store_id in scope.granted)
    rule = rule_of(scope)
    return own and (rule is None or matches(rule, document_values(document)))


def rule_of(scope: Scope) -> Expression | None:
    """The scope's rule, if any. Raises InvalidFilterError, also for one that asks about chunks."""
    if scope.rule is None:
        return None
    rule = parse(scope.rule, path="rule")
    if uses_chunks(rule):
        raise InvalidFilterError("rule asks about chunks; it is a rule on documents.", param="rule")
    return rule


def sees_all(scope: Scope) -> bool:
    """Whether nothing of the tenant can be hidden from the caller."""
    return scope.manages and scope.granted is None and scope.rule is None


def taken(external_id: str | None) -> ConflictError:
    """Why a document cannot be put where another one stands that the caller may not see."""
    name = "this file" if external_id is None else f"the id {external_id!r}"
    return ConflictError(f"A document cannot be put under {name} with your key. Use another id.")


def out_of_bounds(external_id: str | None) -> PermissionDeniedError:
    """Why a document cannot become what the caller's own rule would hide from it."""
    name = "The document" if external_id is None else f"The document {external_id!r}"
    return PermissionDeniedError(f"{name} would not pass the rule of your key. Change its attributes to pass it.")


def holds_hidden(what: str) -> ConflictError:
    """Why something cannot be deleted with documents that the caller may not see."""
    return ConflictError(f"The {what} cannot be deleted with your key. Ask an admin of the tenant to delete it.")


def lists_closed(what: str) -> PermissionDeniedError:
    """Why lists cannot be changed by a caller whom they stop."""
    return PermissionDeniedError(f"The lists of the {what} are for those whom they let read, and for admins.")


def bound_to_stores() -> PermissionDeniedError:
    """Why a caller with granted stores cannot make one."""
    return PermissionDeniedError("Your key is for certain vector stores and cannot make others. Use another key.")


def _names(access: Access | None, scope: Scope) -> bool:
    return access is None or not scope.principals.isdisjoint(access)
