"""Bearer tokens of an issuer: what is believed, what is refused, and what becomes of the claims."""

import json
import time
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bookwheel import tokens
from bookwheel.errors import AuthenticationError, PermissionDeniedError, UnavailableError
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.testing import memory_ports
from bookwheel.tokens import TokenVerifier
from bookwheel.types import DEFAULT_TENANT, Limits, Role, Scope

ISSUER = "https://issuer.example"
CLAIMS = {"iss": ISSUER, "aud": "bookwheel", "sub": "ada", "exp": 4_000_000_000}


class Issuer:
    """An issuer with its keys; counts how often they are read."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.reads = 0
        self.away = False
        self.extra: list[Any] = []
        self.rotate("one")

    def rotate(self, kid: str) -> None:
        """Have a new key alone."""
        self.keys = {kid: rsa.generate_private_key(public_exponent=65537, key_size=2048)}

    def token(self, *, kid: str | None = None, alg: str = "RS256", **claims: Any) -> str:
        """A token as this issuer signs it; a claim that is None is left out."""
        name, key = next(iter(self.keys.items()))
        whole = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
        return jwt.encode(whole, key, algorithm=alg, headers={"kid": kid or name})

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Discovery, and the public keys."""
        if self.away:
            raise httpx.ConnectError("away")
        if request.url.path.endswith("openid-configuration"):
            return httpx.Response(200, json={"jwks_uri": f"{ISSUER}/keys"})
        self.reads += 1
        public = [
            {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig"}
            for kid, key in self.keys.items()
        ]
        return httpx.Response(200, json={"keys": [*self.extra, *public]})


@pytest.fixture
def issuer() -> Issuer:
    """An issuer."""
    return Issuer()


@pytest.fixture
def ports() -> Ports:
    """Empty ports."""
    return memory_ports()


def verifier(issuer: Issuer, ports: Ports, **settings: Any) -> TokenVerifier:
    """What checks its tokens."""
    client = httpx.AsyncClient(transport=httpx.MockTransport(issuer.answer))
    return TokenVerifier(Settings(oidc_issuer=ISSUER, **settings), ports.tenants, client=client)


async def test_claims_become_the_caller(issuer: Issuer, ports: Ports) -> None:
    """Subject and groups are principals; the role is the strongest that is named; never operator."""
    token = issuer.token(groups=["staff", "board"], roles=["reader", "writer", "operator", "x"])
    caller = await verifier(issuer, ports).caller(token)
    assert (caller.id, caller.role) == ("user_ada", Role.WRITER)
    assert caller.scope == Scope(
        tenant_id=DEFAULT_TENANT, principals=frozenset(["user:ada", "group:staff", "group:board"])
    )
    plain = await verifier(issuer, ports).caller(issuer.token())
    assert (plain.role, plain.scope.principals) == (Role.READER, frozenset(["user:ada"]))


async def test_attributes_bind_to_claims(issuer: Issuer, ports: Ports) -> None:
    """A claim that is missing, or no plain value, matches no document."""
    checks = verifier(issuer, ports, oidc_attribute_claims="department, level")
    rule = (await checks.caller(issuer.token(department="sales", level=[1, 2, {}]))).scope.rule
    assert rule == {
        "type": "and",
        "filters": [
            {"type": "in", "key": "department", "value": ["sales"]},
            {"type": "in", "key": "level", "value": [1, 2]},
        ],
    }
    rule = (await checks.caller(issuer.token(department={"$ne": ""}))).scope.rule
    assert rule is not None
    assert [part["value"] for part in rule["filters"]] == [[], []]


async def test_an_admin_who_is_bound_by_a_claim_is_a_writer(issuer: Issuer, ports: Ports) -> None:
    """Who makes keys would make itself one without the bound."""
    token = issuer.token(roles=["admin"], department="sales")
    assert (await verifier(issuer, ports).caller(token)).role is Role.ADMIN
    bound = await verifier(issuer, ports, oidc_attribute_claims="department").caller(token)
    assert (bound.role, bound.scope.manages) == (Role.WRITER, False)


async def test_long_subjects_do_not_meet(issuer: Issuer, ports: Ports) -> None:
    """Limits, responses and the audit log go by the id."""
    checks = verifier(issuer, ports)
    ids = {(await checks.caller(issuer.token(sub="a" * 200 + end))).id for end in "bc"}
    assert len(ids) == 2
    assert all(len(one) < 100 for one in ids)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1_000_000_000},
        {"exp": None},
        {"iss": "https://other.example"},
        {"aud": "another"},
        {"aud": None},
        {"sub": None},
        {"nbf": 3_900_000_000},
        {"groups": [str(number) for number in range(1_001)]},
    ],
)
async def test_what_is_not_for_us_is_refused(issuer: Issuer, ports: Ports, claims: dict[str, Any]) -> None:
    """Another audience or issuer, too late, too early, incomplete."""
    with pytest.raises(AuthenticationError):
        await verifier(issuer, ports).caller(issuer.token(**claims))


async def test_a_signature_must_be_the_issuers(issuer: Issuer, ports: Ports) -> None:
    """Not another's under the same key id, not none, not one made with the public key as a secret, not cut."""
    checks, other = verifier(issuer, ports), Issuer()
    public = json.dumps(json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(issuer.keys["one"].public_key())))
    good = issuer.token()
    header, claims, _ = good.split(".")
    for bad in (
        other.token(),
        jwt.encode(CLAIMS, None, algorithm="none", headers={"kid": "one"}),  # type: ignore[arg-type]
        jwt.encode(CLAIMS, public.encode() * 2, algorithm="HS256", headers={"kid": "one"}),
        jwt.encode(CLAIMS, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers={"kid": "one"}),
        f"{header}.{claims}.",
        good[:-4] + "AAAA",
        "a.b.c",
        "..",
        "é.b.c",
        good + "A" * 20_000,
    ):
        with pytest.raises(AuthenticationError):
            await checks.caller(bad)
    assert (await checks.caller(good)).id == "user_ada"


async def test_a_rotated_key_needs_no_restart(issuer: Issuer, ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read when it first comes; unknown keys do not have the issuer asked again and again."""
    checks = verifier(issuer, ports)
    old = issuer.token()
    await checks.caller(old)
    issuer.rotate("two")
    for _ in range(3):
        with pytest.raises(AuthenticationError):
            await checks.caller(issuer.token())
    assert issuer.reads == 1
    now = time.monotonic()
    monkeypatch.setattr(tokens.time, "monotonic", lambda: now + tokens.REREAD_SECONDS + 1)
    assert (await checks.caller(issuer.token())).id == "user_ada"
    assert issuer.reads == 2
    with pytest.raises(AuthenticationError):
        await checks.caller(old)


async def test_an_issuer_that_is_away(issuer: Issuer, ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs nothing while its keys are known; at the start it is a 503 and not a 401."""
    issuer.away = True
    checks = verifier(issuer, ports)
    with pytest.raises(UnavailableError):
        await checks.caller(issuer.token())
    issuer.away = False
    now = time.monotonic()
    monkeypatch.setattr(tokens.time, "monotonic", lambda: now + tokens.REREAD_SECONDS + 1)
    await checks.caller(issuer.token())
    issuer.away = True
    monkeypatch.setattr(tokens.time, "monotonic", lambda: now + tokens.FRESH_SECONDS + 99)
    assert (await checks.caller(issuer.token())).id == "user_ada"


async def test_a_key_that_we_do_not_know_spoils_nothing(issuer: Issuer, ports: Ports) -> None:
    """New kinds, secrets and keys for encryption are left out."""
    issuer.extra = [{"kty": "new", "kid": "x"}, {"kty": "oct", "kid": "y", "k": "c2VjcmV0"}, {"kid": "z", "use": "enc"}]
    assert (await verifier(issuer, ports).caller(issuer.token())).id == "user_ada"
    with pytest.raises(AuthenticationError):
        await verifier(issuer, ports).caller(jwt.encode(CLAIMS, b"secret" * 8, algorithm="HS256", headers={"kid": "y"}))


async def test_the_tenant_comes_from_a_claim(issuer: Issuer, ports: Ports) -> None:
    """With its limits; a suspended one is refused, and so is a token that names none."""
    tenant = await ports.tenants.create("t", limits=Limits(requests_per_minute=5))
    token = issuer.token(org=f"tenant_{tenant.id.hex}")
    caller = await verifier(issuer, ports, oidc_tenant_claim="org").caller(token)
    assert (caller.scope.tenant_id, caller.tenant_limits.requests_per_minute) == (tenant.id, 5)
    for claim in (None, "x", 5):
        with pytest.raises(AuthenticationError):
            await verifier(issuer, ports, oidc_tenant_claim="org").caller(issuer.token(org=claim))
    await ports.tenants.update(scope=Scope(tenant_id=tenant.id), suspended=True)
    with pytest.raises(PermissionDeniedError):
        await verifier(issuer, ports, oidc_tenant_claim="org").caller(token)
