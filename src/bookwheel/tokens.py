"""Bearer tokens of an OpenID Connect issuer: who the caller is, by signed claims.

The issuer's keys come from its JWKS and are kept; a token signed by a key that is not known yet has them read again, so
that a rotation needs no restart. An issuer that is away costs nothing while its keys are known.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from uuid import UUID

import httpx
import jwt
import structlog
from cachetools import TTLCache

from bookwheel.errors import AuthenticationError, NotFoundError, PermissionDeniedError, UnavailableError
from bookwheel.filters import MAX_VALUES
from bookwheel.ports import Tenants
from bookwheel.settings import Settings
from bookwheel.tls import upstream_context
from bookwheel.types import DEFAULT_TENANT, Caller, Role, Scope, Tenant

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_SECONDS = 30  #: that clocks may differ
REREAD_SECONDS = 10.0  #: at least between two readings of the JWKS that unknown keys ask for
FRESH_SECONDS = 600.0  #: a JWKS is read again after that: keys that the issuer withdrew end then
FETCH_SECONDS = 5.0
TRUST_SECONDS = 2.0  #: so long a process may go on with what it read of a tenant
MOST_TOKEN_BYTES = 16_384
MOST_PRINCIPALS = 1_000
LONGEST_SUBJECT = 190  #: characters

log = structlog.get_logger()


class TokenVerifier:
    """Checks tokens of one issuer. `settings` has its address, the audience, and which claims mean what."""

    def __init__(self, settings: Settings, tenants: Tenants, *, client: httpx.AsyncClient | None = None) -> None:
        self._settings = settings
        self._tenants = tenants
        trust = upstream_context(settings)
        self._client = client or httpx.AsyncClient(
            timeout=FETCH_SECONDS, follow_redirects=False, verify=True if trust is None else trust
        )
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at = self._tried_at = float("-inf")
        self._reading = asyncio.Lock()
        self._rereading: asyncio.Task[None] | None = None
        self._known: TTLCache[UUID, Tenant] = TTLCache(maxsize=10_000, ttl=TRUST_SECONDS)

    async def close(self) -> None:
        """Close the connections to the issuer."""
        await self._client.aclose()

    async def caller(self, token: str) -> Caller:
        """Raises AuthenticationError with the reason, PermissionDeniedError for a tenant that is suspended,
        UnavailableError when the issuer's keys cannot be read."""
        claims = await self._claims(token)
        tenant = await self._tenant(claims)
        rule = self._rule(claims)
        role = self._role(claims)
        if rule is not None and role.covers(Role.ADMIN):  # an admin makes keys, and would make itself one without it
            role = Role.WRITER
        return Caller(
            id=_user_id(str(claims["sub"])),
            role=role,
            scope=Scope(
                tenant_id=tenant.id,
                principals=self._principals(claims),
                rule=rule,
                manages=role.covers(Role.ADMIN),
            ),
            tenant_limits=tenant.limits,
        )

    async def _claims(self, token: str) -> Mapping[str, Any]:
        if len(token) > MOST_TOKEN_BYTES:
            raise AuthenticationError("The token is too long.")
        try:
            header = jwt.get_unverified_header(token)
            key = await self._key(header)
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm_name] if key.algorithm_name in ALGORITHMS else [],
                issuer=self._settings.oidc_issuer,
                audience=self._settings.oidc_audience,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise AuthenticationError("The token has expired. Get a new one from the issuer.") from None
        except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
            log.info("token refused", reason=type(error).__name__)
            raise AuthenticationError("The token is not valid here: its signature, issuer or audience.") from None
        return claims

    async def _key(self, header: Mapping[str, Any]) -> jwt.PyJWK:
        kid = str(header.get("kid", ""))
        if header.get("alg") not in ALGORITHMS:
            raise AuthenticationError("The token's algorithm is not accepted.")
        if kid not in self._keys:
            await self._read()
        elif time.monotonic() - self._read_at > FRESH_SECONDS and self._rereading is None:
            self._rereading = asyncio.create_task(self._read_beside())
        only = next(iter(self._keys.values())) if len(self._keys) == 1 and not kid else None
        key = self._keys.get(kid, only)
        if key is None:
            raise AuthenticationError("The token was signed with a key that the issuer does not have.")
        return key

    async def _read_beside(self) -> None:
        """Without anybody waiting: an issuer that hangs costs nothing while its keys are known."""
        try:
            await self._read()
        finally:
            self._rereading = None

    async def _read(self) -> None:
        async with self._reading:
            if time.monotonic() - self._tried_at < REREAD_SECONDS:
                return
            self._tried_at = time.monotonic()
            try:
                found = (await self._fetch(await self._jwks_url()))["keys"]
                self._keys = {key.key_id or "": key for key in _signing_keys(found)}
                self._read_at = self._tried_at
            except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("keys of the token issuer not read", error=type(error).__name__)
            finally:
                self._tried_at = time.monotonic()
        if not self._keys:
            raise UnavailableError("The token issuer's keys cannot be read. Retry in a moment.")

    async def _jwks_url(self) -> str:
        if self._settings.oidc_jwks_url:
            return self._settings.oidc_jwks_url
        issuer = self._settings.oidc_issuer.rstrip("/")
        return str((await self._fetch(f"{issuer}/.well-known/openid-configuration"))["jwks_uri"])

    async def _fetch(self, url: str) -> Any:
        response = await self._client.get(url)
        response.raise_for_status()
        return response.json()

    def _principals(self, claims: Mapping[str, Any]) -> frozenset[str]:
        """`user:<sub>` and, of the claim of groups, `group:<name>`."""
        groups = claims.get(self._settings.oidc_groups_claim, ())
        names = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
        if len(names) > MOST_PRINCIPALS:
            raise AuthenticationError(f"The token names more than {MOST_PRINCIPALS} groups.")
        return frozenset([f"user:{claims['sub']}", *(f"group:{name}" for name in names)])

    def _role(self, claims: Mapping[str, Any]) -> Role:
        """The strongest role that the claim of roles names; a reader without one. Never operator: that takes a key."""
        named = claims.get(self._settings.oidc_role_claim, ())
        names = {named} if isinstance(named, str) else set(map(str, named)) if isinstance(named, list) else set()
        allowed = [role for role in Role if role.value in names and role is not Role.OPERATOR]
        return allowed[-1] if allowed else Role.READER  # they are in the order of what they may do

    def _rule(self, claims: Mapping[str, Any]) -> dict[str, Any] | None:
        """Attributes of documents that must equal the claims of the same names; a claim that is missing, or is no
        plain value, matches nothing."""
        names = [name.strip() for name in self._settings.oidc_attribute_claims.split(",") if name.strip()]
        parts = [{"type": "in", "key": name, "value": _values(claims.get(name))} for name in names]
        return {"type": "and", "filters": parts} if parts else None

    async def _tenant(self, claims: Mapping[str, Any]) -> Tenant:
        claim = self._settings.oidc_tenant_claim
        tenant_id = _tenant_id(claims.get(claim)) if claim else DEFAULT_TENANT
        tenant = self._known.get(tenant_id)
        if tenant is None:
            try:
                tenant = self._known[tenant_id] = await self._tenants.get(scope=Scope(tenant_id=tenant_id))
            except NotFoundError:
                raise AuthenticationError("The token's tenant is not known here.") from None
        if tenant.suspended:
            raise PermissionDeniedError("This tenant is suspended. Ask the operator of this server.")
        return tenant


def _user_id(subject: str) -> str:
    """Of the subject; of a long one its hash, since what is alike at the beginning need not be the same."""
    if len(subject) <= LONGEST_SUBJECT:
        return f"user_{subject}"
    return f"user_{hashlib.sha256(subject.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _values(claim: Any) -> list[str | int | float | bool]:
    """A claim as values that an attribute may have."""
    found = claim if isinstance(claim, list) else [claim]
    return [one for one in found if isinstance(one, str | int | float | bool)][:MAX_VALUES]


def _tenant_id(claim: Any) -> UUID:
    """Of `tenant_<32 digits>`, as the API shows it, or a UUID."""
    try:
        return UUID(str(claim).removeprefix("tenant_"))
    except ValueError:
        raise AuthenticationError("The token names no tenant of this server.") from None


def _signing_keys(found: Iterable[Mapping[str, Any]]) -> Iterator[jwt.PyJWK]:
    """Those that check signatures; others, and what is no key that we know, are left out."""
    for one in found:
        if one.get("use", "sig") == "sig" and one.get("kty") != "oct":
            with contextlib.suppress(jwt.PyJWTError):  # of a kind that we do not know
                yield jwt.PyJWK(dict(one))
