"""What is fuzzed: each target takes one input, and gives the status of an answer where it is a door of the API.

A refusal is one of our errors (BookwheelError); every other exception is a crash.
"""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from bookwheel.api import create_app
from bookwheel.api.lines import MEDIA_TYPE
from bookwheel.backends.postgres.filters_sql import compiled
from bookwheel.errors import BookwheelError
from bookwheel.filters import matches, parse
from bookwheel.identity import Authenticator
from bookwheel.inert import inert_text
from bookwheel.injection import signs, visible
from bookwheel.parse import parse as parse_file
from bookwheel.sandbox import ParserPool
from bookwheel.settings import Settings
from bookwheel.testing import memory_ports
from bookwheel.tokens import TokenVerifier
from bookwheel.types import Chunking
from tests.fuzz import inputs

ISSUER, AUDIENCE = "https://issuer.example", "bookwheel"
WORDS = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
WORDS.pre_tokenizer = Whitespace()
CHUNKING = Chunking(max_tokens=64, overlap_tokens=8)
TEXT_SUFFIXES = frozenset({".html", ".htm", ".md", ".txt", ".json", ".csv", ".eml", ".ipynb", ".svg"})

Run = Callable[[Any], Awaitable[int | None]]


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of input, and what takes it."""

    name: str
    strategy: st.SearchStrategy[Any]
    run: Run


@dataclass(slots=True)
class World:
    """What the targets need: a door over ports in memory, a pool of readers, an issuer of tokens."""

    http: httpx.AsyncClient
    pool: ParserPool
    folder: Path
    authenticator: Authenticator
    key: ec.EllipticCurvePrivateKey
    store_id: str
    originals: list[tuple[str, bytes]] = field(default_factory=inputs.seeds)

    def targets(self) -> list[Target]:
        """All of them."""
        binary = inputs.files(self.originals)
        small = [(name, data) for name, data in self.originals if Path(name).suffix.lower() in TEXT_SUFFIXES]
        return [
            Target("parsers, in their process", binary, self._read),
            Target("parsers of text, here", inputs.files(small), self._read_here),
            Target("filters and their SQL", st.tuples(inputs.FILTERS, inputs.ATTRIBUTES), self._filter),
            Target("multipart uploads", st.tuples(inputs.FORMS, inputs.FORM_TYPES), self._upload),
            Target("headers", st.tuples(inputs.HEADERS, st.sampled_from(DOORS)), self._headers),
            Target("keys and tokens", inputs.TOKENS, self._token),
            Target("signed tokens", inputs.CLAIMS, self._signed),
            Target("NDJSON lines", inputs.LINES, self._lines),
            Target("MCP", inputs.RPC, self._mcp),
            Target("bodies of JSON", st.tuples(inputs.JSON | inputs.FILTERS, st.sampled_from(BODIES)), self._body),
            Target("answers and passages", st.text(max_size=300) | inputs.FORMS.map(_text), self._text),
        ]

    async def _read(self, file: tuple[str, bytes]) -> None:
        path = self._kept(file)
        try:
            async for _ in self.pool.cut(path, file[0], chunking=CHUNKING, tokenizer=WORDS):
                pass
        except BookwheelError:
            return

    async def _read_here(self, file: tuple[str, bytes]) -> None:
        path = self._kept(file)
        try:
            parse_file(path, file[0], ocr=False)
        except BookwheelError:
            return

    def _kept(self, file: tuple[str, bytes]) -> Path:
        path = self.folder / "input"
        path.write_bytes(file[1])
        return path

    async def _filter(self, given: tuple[Any, dict[str, Any]]) -> None:
        try:
            expression = parse(given[0])
        except BookwheelError:
            return
        compiled(expression)
        matches(expression, given[1])

    async def _upload(self, given: tuple[bytes, bytes]) -> int:
        return await self._post("/v1/files", given[0], {b"content-type": given[1]})

    async def _headers(self, given: tuple[dict[bytes, bytes], tuple[str, str, bytes]]) -> int:
        headers, (method, path, body) = given
        sent = {b"content-type": b"application/json", b"host": b"localhost", **headers}
        answer = await self.http.request(method, path, content=body, headers=list(sent.items()))
        return answer.status_code

    async def _token(self, authorization: str) -> None:
        try:
            await self.authenticator.caller(authorization)
        except BookwheelError:
            return

    async def _signed(self, claims: dict[str, Any]) -> None:
        whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "a", "exp": int(time.time()) + 60, **claims}
        header = {"alg": "ES256", "kid": "1", "typ": "JWT"}
        try:
            token = jwt.api_jws.encode(json.dumps(whole).encode(), self.key, algorithm="ES256", headers=header)
        except (ValueError, TypeError):
            return
        await self._token(f"Bearer {token}")

    async def _lines(self, lines: bytes) -> int:
        path = f"/v1/vector_stores/{self.store_id}/documents"
        return await self._post(path, lines, {b"content-type": MEDIA_TYPE.encode()})

    async def _mcp(self, call: bytes) -> int:
        kinds = {b"content-type": b"application/json", b"accept": b"application/json, text/event-stream"}
        return await self._post("/mcp", call, kinds)

    async def _body(self, given: tuple[Any, tuple[str, str]]) -> int:
        value, (path, name) = given
        body = json.dumps({"query": "a", "model": "a", "input": "a", "vector_store_ids": [self.store_id], name: value})
        return await self._post(path.format(store=self.store_id), body.encode(), {b"content-type": b"application/json"})

    async def _text(self, text: str) -> None:
        signs(text)
        visible(text)
        inert_text(text)

    async def _post(self, path: str, body: bytes, headers: dict[bytes, bytes]) -> int:
        answer = await self.http.post(path, content=body, headers=list(headers.items()))
        return answer.status_code


DOORS = [
    ("GET", "/v1/models", b""),
    ("GET", "/v1/search?q=wheel", b""),
    ("GET", "/healthz", b""),
    ("POST", "/v1/vector_stores", b'{"name": "a"}'),
    ("POST", "/v1/embeddings", b'{"model": "a", "input": "b"}'),
    ("POST", "/v1/chat/completions", b'{"model": "a", "messages": [{"role": "user", "content": "b"}]}'),
    ("DELETE", "/v1/files/file_1", b""),
]
BODIES = [
    ("/v1/vector_stores/{store}/search", "filters"),
    ("/v1/vector_stores/{store}/search", "query"),
    ("/v1/vector_stores/{store}/search", "ranking_options"),
    ("/v1/vector_stores", "metadata"),
    ("/v1/chat/completions", "messages"),
    ("/v1/chat/completions", "response_format"),
    ("/v1/responses", "input"),
    ("/v1/responses", "tools"),
    ("/v1/embeddings", "input"),
    ("/v2/rerank", "documents"),
    ("/v1/webhook_endpoints", "url"),
    ("/v1/sources", "urls"),
]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """All that the targets need, until the block ends."""
    ports = memory_ports()
    app = create_app(ports, Settings())
    key = ec.generate_private_key(ec.SECP256R1())
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    with TemporaryDirectory(prefix="bookwheel-fuzz-") as folder:
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as http,
            ParserPool(Settings(parse_timeout_seconds=20), size=1) as pool,
        ):
            made = await http.post("/v1/vector_stores", json={"name": "fuzz"})
            settings = Settings(oidc_issuer=ISSUER, oidc_audience=AUDIENCE, oidc_jwks_url=f"{ISSUER}/jwks")
            verifier = TokenVerifier(settings, ports.tenants, client=_issuer(key))
            yield World(
                http=http,
                pool=pool,
                folder=Path(folder),
                authenticator=Authenticator(ports.keys, tokens=verifier, is_open=False),
                key=key,
                store_id=made.json()["id"],
            )
            await verifier.close()


def _issuer(key: ec.EllipticCurvePrivateKey) -> httpx.AsyncClient:
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    keys = {"keys": [{**public, "kid": "1", "alg": "ES256", "use": "sig"}]}
    return httpx.AsyncClient(transport=httpx.MockTransport(lambda _request: httpx.Response(200, json=keys)))
