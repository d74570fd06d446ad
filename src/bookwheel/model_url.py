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
    _check_address(address, url=url, scheme=scheme, setting=setting)
    if not model:
        raise _unusable(url, setting, f"names no model: put ?model=NAME behind it, {scheme}:{address}?model=NAME")
    if unknown := sorted(set(given) - set(options)):
        known = ", ".join(sorted({"model", *options}))
        raise _unusable(url, setting, f"has an unknown option {unknown[0]!r}; known are {known}")
    return ModelUrl(scheme=scheme, address=address.rstrip("/"), model=model, options=given)


def _check_address(address: str, *, url: str, scheme: str, setting: str) -> None:
    if not address:
        return
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _unusable(url, setting, f"has no usable address: write {scheme}:https://HOST/v1?model=NAME")
    if parts.username or parts.password:
        raise SettingsError(f"{setting} holds a password. Set the service's *_API_KEY instead.")


def _unusable(url: str, setting: str, reason: str) -> SettingsError:
    return SettingsError(f"{setting} has value {url!r}, which {reason}.")
