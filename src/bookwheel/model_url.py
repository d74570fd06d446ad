"""URLs that name a model of a service: `openai:https://host/v1?model=NAME`, `anthropic:?model=NAME`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from bookwheel.errors import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUrl:
    """Which model, and where."""

    scheme: str  #: of the backend: openai, anthropic, cohere
    address: str  #: of the service, without a slash at its end; "" for the provider's own
    model: str
    options: Mapping[str, str]  #: what else stands behind the `?`


def parse_model_url(url: str, *, setting: str, options: Collection[str] = ()) -> ModelUrl:
    """Take such a URL apart. Raises SettingsError, naming the setting, when it is none."""
    scheme, _, rest = url.partition(":")
    address, _, query = rest.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    model = given.pop("model", "")
    _check_address(address, scheme=scheme, setting=setting)
    if not model:
        raise _unusable(scheme, setting, "names no model: put ?model=NAME behind it")
    if unknown := sorted(set(given) - set(options)):
        known = ", ".join(sorted({"model", *options}))
        raise _unusable(scheme, setting, f"has an unknown option {unknown[0]!r}; known are {known}")
    return ModelUrl(scheme=scheme, address=address.rstrip("/"), model=model, options=given)


def _check_address(address: str, *, scheme: str, setting: str) -> None:
    if not address:
        return
    if "@" in address:
        raise SettingsError(f"{setting} holds a password. Set the service's *_API_KEY instead.")
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise _unusable(scheme, setting, f"has no usable address: write {scheme}:https://HOST/v1?model=NAME")


def _unusable(scheme: str, setting: str, reason: str) -> SettingsError:
    """Without the URL itself, which may hold a key by mistake."""
    return SettingsError(f"{setting} has a value {scheme}:..., which {reason}.")
