"""The check of a document's attributes and a store's metadata as they come in."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from bookwheel.errors import InvalidRequestError
from bookwheel.filters import MAX_KEY, MAX_STRING, MAX_VALUES, RESERVED
from bookwheel.types import Access

MAX_ATTRIBUTES = 64
MAX_PRINCIPALS = 64  #: in one access list
MAX_METADATA = 16
MAX_LABEL = 512  #: characters of a metadata value or of a principal


def checked_attributes(raw: object, *, param: str = "attributes") -> Mapping[str, Any]:
    """The attributes, unchanged. Raises InvalidRequestError that names the first wrong one."""
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise InvalidRequestError(f"{param} must be an object.", param=param)
    if len(raw) > MAX_ATTRIBUTES:
        raise InvalidRequestError(f"{param} has {len(raw)} keys; at most {MAX_ATTRIBUTES} are allowed.", param=param)
    for key, value in raw.items():
        _check_key(key, param)
        _check_unreserved(key, param)
        _check_value(value, f"{param}.{key}")
    return raw


def checked_access(raw: object, *, param: str = "access") -> Access | None:
    """The access list without repeats; None for everybody. Raises InvalidRequestError."""
    if raw is None:
        return None
    if not isinstance(raw, list) or not 1 <= len(raw) <= MAX_PRINCIPALS:
        raise InvalidRequestError(
            f"{param} must be a list of 1 to {MAX_PRINCIPALS} users or groups, or null for everybody.", param=param
        )
    for index, principal in enumerate(raw):
        if not isinstance(principal, str) or not principal:
            raise InvalidRequestError(
                f"{param}[{index}] must be a string that is not empty.", param=f"{param}[{index}]"
            )
        _check_string(principal, f"{param}[{index}]", MAX_LABEL)
    return tuple(dict.fromkeys(raw))


def checked_denied(raw: object, *, param: str = "denied") -> Access:
    """Who is denied, without repeats; null or an empty list for nobody. Raises InvalidRequestError."""
    return () if raw is None or raw == [] else checked_access(raw, param=param) or ()


def checked_metadata(raw: Mapping[str, str] | None) -> Mapping[str, str]:
    """A store's metadata, unchanged. Raises InvalidRequestError."""
    if raw is None:
        return {}
    if len(raw) > MAX_METADATA:
        raise InvalidRequestError(f"metadata has {len(raw)} keys; at most {MAX_METADATA} fit.", param="metadata")
    for key, value in raw.items():
        _check_key(key, "metadata")
        _check_string(value, f"metadata.{key}", MAX_LABEL)
    return raw


def _check_key(key: str, param: str) -> None:
    if not key or len(key) > MAX_KEY or key.startswith("$") or "\0" in key:
        raise InvalidRequestError(
            f"{param} has the key {key[:80]!r}; keys have 1 to {MAX_KEY} characters and do not begin with $.",
            param=param,
        )


def _check_unreserved(key: str, param: str) -> None:
    if key.startswith(RESERVED):
        raise InvalidRequestError(
            f"{param} has the key {key[:80]!r}; keys that begin with {' or '.join(RESERVED)} are Bookwheel's own."
            " Choose another name.",
            param=param,
        )


def _check_value(value: object, param: str) -> None:
    if isinstance(value, str):
        _check_string(value, param, MAX_STRING)
    elif isinstance(value, list):
        _check_list(value, param)
    elif isinstance(value, float) and not isfinite(value):
        raise InvalidRequestError(f"{param} must be a finite number.", param=param)
    elif value is not None and not isinstance(value, int | float):
        raise InvalidRequestError(f"{param} must be a string, a number, a boolean or a list of strings.", param=param)


def _check_list(values: list[Any], param: str) -> None:
    if len(values) > MAX_VALUES:
        raise InvalidRequestError(f"{param} has {len(values)} values; at most {MAX_VALUES} fit.", param=param)
    for value in values:
        if not isinstance(value, str):
            raise InvalidRequestError(f"{param} may hold only strings.", param=param)
        _check_string(value, param, MAX_STRING)


def _check_string(value: str, param: str, limit: int) -> None:
    if len(value) > limit:
        raise InvalidRequestError(f"{param} has {len(value)} characters; at most {limit} are allowed.", param=param)
    if "\0" in value:
        raise InvalidRequestError(f"{param} holds a NUL character.", param=param)
