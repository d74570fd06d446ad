"""API keys and bearer tokens: what a caller shows, and who it is by that.

A key is `bw-` and 43 random characters (256 bits); only its SHA-256 is stored. Everything else that looks like a token
of three parts is a JWT of the OIDC issuer, if one is set (tokens.py).
"""

import asyncio
import hashlib
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from cachetools import TTLCache

from bookwheel.access import LOCAL
from bookwheel.background import patience
from bookwheel.errors import AuthenticationError, PermissionDeniedError
from bookwheel.ports import Keys
from bookwheel.types import DEFAULT_TENANT, ApiKey, Caller, Limits, Role, Scope

if TYPE_CHECKING:
    from bookwheel.tokens import TokenVerifier

PREFIX = "bw-"
SECRET_BYTES = 32
SHOWN = len(PREFIX) + 6  #: characters of a key that tell it apart
TRUST_SECONDS = 2.0  #: so long a process may go on with what it read of a key: a revoked one ends everywhere after that
NOTE_SECONDS = 60.0  #: between notes that a key is used
MOST_KEYS = 10_000  #: that a process remembers


def new_secret() -> str:
    """A key that nobody can guess."""
    return PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def hash_of(secret: str) -> bytes:
    """What is stored of a key, 32 bytes: random secrets of this length need no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def operators_key(secret: str) -> ApiKey:
    """A key of the default tenant that may do everything: what the first start makes."""
    return ApiKey(
        id=uuid4(),
        tenant_id=DEFAULT_TENANT,
        name="first",
        prefix=secret[:SHOWN],
        role=Role.OPERATOR,
        principals=frozenset(),
        store_ids=None,
        rule=None,
        limits=Limits(requests_per_minute=0),  # who runs the server is not held up by it
        created_at=datetime.now(UTC),
        expires_at=None,
        last_used_at=None,
    )


def caller_of(key: ApiKey) -> Caller:
    """Who comes with this key. Raises PermissionDeniedError while its tenant is suspended."""
    if key.suspended:
        raise PermissionDeniedError("This tenant is suspended. Ask the operator of this server.")
    scope = Scope(
        tenant_id=key.tenant_id,
        principals=key.principals,
        granted=key.store_ids,
        rule=key.rule,
        manages=key.role.covers(Role.ADMIN),
    )
    return Caller(
        id=f"key_{key.id.hex}", role=key.role, scope=scope, limits=key.limits, tenant_limits=key.tenant_limits
    )


class Authenticator:
    """Finds out who sends a request by its Authorization header."""

    def __init__(self, keys: Keys, *, tokens: "TokenVerifier | None", is_open: bool) -> None:
        self._keys = keys
        self._tokens = tokens
        self._is_open = is_open
        self._known: TTLCache[bytes, ApiKey] = TTLCache(maxsize=MOST_KEYS, ttl=TRUST_SECONDS)
        self._noted: TTLCache[bytes, None] = TTLCache(maxsize=MOST_KEYS, ttl=NOTE_SECONDS)
        self._generation = 0  #: of what is known
        self._notes: set[asyncio.Task[None]] = set()

    async def caller(self, authorization: str | None) -> Caller:
        """Raises AuthenticationError, PermissionDeniedError."""
        scheme, _, secret = (authorization or "").partition(" ")
        secret = secret.strip() if scheme.lower() == "bearer" else ""
        if secret.startswith(PREFIX):
            return await self._by_key(secret)
        if self._tokens is not None and secret.count(".") == 2:
            return await self._tokens.caller(secret)
        if self._is_open:  # clients of OpenAI's API must send some key
            return LOCAL
        raise AuthenticationError

    async def _by_key(self, secret: str) -> Caller:
        secret_hash = hash_of(secret)
        key = self._known.get(secret_hash)
        if key is None:
            read_at = self._generation
            key = await self._keys.by_hash(secret_hash)
            if key is None:
                raise AuthenticationError
            if read_at == self._generation:  # else it may have been revoked while it was being read
                self._known[secret_hash] = key
        if key.expires_at is not None and key.expires_at.timestamp() <= time.time():
            raise AuthenticationError
        self._note(secret_hash, key)
        return caller_of(key)

    async def close(self) -> None:
        """Close the connections to the issuer."""
        if self._tokens is not None:
            await self._tokens.close()

    def forget(self) -> None:
        """Read every key again: one was just revoked or changed here."""
        self._generation += 1
        self._known.clear()

    def _note(self, secret_hash: bytes, key: ApiKey) -> None:
        if secret_hash in self._noted:
            return
        self._noted[secret_hash] = None
        task = asyncio.create_task(self._used(key))
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def _used(self, key: ApiKey) -> None:
        with patience("keys"):
            await self._keys.used([key.id])
