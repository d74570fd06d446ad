"""What the fuzzing sends: bytes made from real files, and values near what each door expects."""

import os
from base64 import urlsafe_b64encode
from pathlib import Path

import orjson
from hypothesis import strategies as st

#: Real files to mutate, where they are; the ones below are always used.
FILES = Path(os.environ.get("BOOKWHEEL_FUZZ_FILES", Path(__file__).parents[3] / "shared/data/awkward_files/files"))
MOST_BYTES = 200_000
SEEDS = {
    "a.html": b"<html><meta charset=utf-8><title>T</title><body><h1>H</h1><table><tr><td>1<td>2</table><p>x&amp;",
    "a.md": b"# T\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```c\nx\n```\n[a](b) ![c](data:image/png;base64,AAAA)\n",
    "a.txt": "Grüße, 世界.\r\nline\f\x00page".encode(),
    "a.json": b'{"a": [1, 2.5e300, null, "\\ud800"], "b": {"c": true}}',
    "a.csv": b'a,b\n1,"two\nlines"\n"""",\n',
    "a.eml": b"From: a@b\nSubject: =?utf-8?q?=C3?=\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\ntext\n--x--\n",
    "a.ipynb": b'{"cells": [{"cell_type": "code", "source": ["x"], "outputs": []}], "nbformat": 4, "metadata": {}}',
    "a.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><text>hi</text><!ENTITY x "y"></svg>',
    "a.rtf": b"{\\rtf1\\ansi Hello \\b world\\b0 \\u1234? \\'e4}",
    "a.pdf": b"%PDF-1.4\n1 0 obj<</Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages>>endobj\ntrailer<</Root 1 0 R>>",
    "a.xml": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]><a>&d;</a>',
    "a.docx": b"PK\x03\x04\x14\x00\x00\x00\x08\x00",
}
SCRAPS = [
    b"<",
    b"</table>",
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"%PDF-",
    b"PK\x03\x04",
    b"<!--",
    b"&#x110000;",
    b"\r\n",
    b"[" * 500,
]
SCRAPS += [
    b"<table>" * 200,
    b"<div>" * 500,
    b"{" * 1000,
    b"\xed\xa0\x80",
    b'"',
    b"\\",
    b"1e999",
    b"-1",
    b"endobj",
    b"/Length 999999999",
]


def seeds() -> list[tuple[str, bytes]]:
    """Names and bytes of the files that are mutated."""
    found = [path for path in sorted(FILES.rglob("*")) if path.is_file() and path.stat().st_size <= MOST_BYTES]
    return [*SEEDS.items(), *((path.name, path.read_bytes()) for path in found)]


@st.composite
def files(draw: st.DrawFn, originals: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """A name and bytes: of a real file with some damage, sometimes under another name, sometimes any bytes."""
    name, data = draw(st.sampled_from(originals))
    for _ in range(draw(st.integers(0, 8))):
        at, length = draw(st.integers(0, len(data))), draw(st.integers(0, 64))
        scrap = draw(st.one_of(st.sampled_from(SCRAPS), st.binary(max_size=16), st.just(data[: length * 16])))
        data = data[:at] + scrap + data[at + length :]
    if draw(st.integers(0, 9)) == 0:
        data = data[: draw(st.integers(0, len(data)))]
    if draw(st.integers(0, 9)) == 0:
        data = draw(st.binary(max_size=2_000))
    other = draw(st.sampled_from(originals))[0] if draw(st.integers(0, 4)) == 0 else name
    return other, data


TEXT = st.text(max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
FILTER_WORDS = [
    "type",
    "key",
    "value",
    "filters",
    "and",
    "or",
    "not",
    "eq",
    "ne",
    "gt",
    "gte",
    "lt",
    "lte",
    "in",
    "nin",
    "$and",
]
FILTER_WORDS += [
    "$or",
    "$not",
    "$in",
    "$gt",
    "$eq",
    "file_id",
    "created_at",
    "page",
    "language",
    "title",
    "2024-01-01",
    "'; --",
    "a.b",
]
FILTERS = st.recursive(
    st.sampled_from(FILTER_WORDS) | JSON,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FILTER_WORDS) | TEXT, inner, max_size=4)
    ),
    max_leaves=20,
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(FILTER_WORDS) | TEXT, st.text(max_size=9) | st.integers() | st.floats() | st.booleans()
)

VALUES = st.one_of(
    st.sampled_from(
        [b"", b'"a"', b"*", b"W/", b'W/"x"', b"no-cache", b"max-age=99999999999999999999", b"no-store, max-age=-1"]
    ),
    st.sampled_from(
        [b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-00", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01", b"a" * 300]
    ),
    st.binary(max_size=60).map(lambda value: value.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")),
    st.text("0123456789abcdef-\"',;=*/ \t", max_size=80).map(str.encode),
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            b"idempotency-key",
            b"traceparent",
            b"tracestate",
            b"cache-control",
            b"if-match",
            b"if-none-match",
            b"x-request-id",
            b"authorization",
            b"content-type",
            b"accept",
            b"content-length",
            b"range",
            b"host",
            b"origin",
            b"cookie",
            b"last-event-id",
            b"mcp-session-id",
            b"mcp-protocol-version",
            b"x-forwarded-for",
            b"content-encoding",
            b"expect",
        ]
    ),
    VALUES,
    max_size=6,
)

FORM_PARTS = [
    b"--x",
    b"--x--",
    b"--y",
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"data",
    b"assistants",
    b"\x00",
    b'; filename="a.txt"',
    b";",
    b"=",
]
FORM_PARTS += [
    b'Content-Disposition: form-data; name="file"; filename="a.txt"',
    b'Content-Disposition: form-data; name="purpose"',
]
FORM_PARTS += [
    b"Content-Type: text/plain",
    b"Content-Disposition:",
    b"filename*=utf-8''%ff",
    b"Content-Transfer-Encoding: base64",
    b"a" * 5_000,
]
FORM = b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
FORM += b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello\r\n--x--\r\n'
FORMS = st.lists(st.sampled_from(FORM_PARTS) | st.binary(max_size=20), max_size=16).map(b"".join)
FORMS |= st.tuples(st.integers(0, len(FORM)), st.integers(0, 20), st.binary(max_size=8)).map(
    lambda cut: FORM[: cut[0]] + cut[2] + FORM[cut[0] + cut[1] :]
)
FORM_TYPES = st.sampled_from(
    [b"multipart/form-data; boundary=x", b"multipart/form-data", b'multipart/form-data; boundary="x"']
)
FORM_TYPES |= st.binary(max_size=20).map(
    lambda tail: b"multipart/form-data; boundary=" + tail.translate(None, b"\r\n\0")
)

LINES = st.lists(
    st.one_of(
        st.dictionaries(st.sampled_from(["id", "text", "title", "url", "attributes", "access", "chunks"]), JSON).map(
            lambda line: orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS) if _plain(line) else b"{"
        ),
        st.binary(max_size=60),
    ),
    max_size=6,
).map(b"\n".join)

RPC = st.fixed_dictionaries(
    {
        "jsonrpc": st.just("2.0") | JSON,
        "method": st.sampled_from(["initialize", "tools/list", "tools/call", "resources/read"]) | TEXT,
    },
    optional={
        "id": st.integers(0, 9) | JSON,
        "params": JSON
        | st.fixed_dictionaries(
            {"name": st.sampled_from(["search", "fetch", "ask"]) | JSON},
            optional={
                "arguments": st.dictionaries(st.sampled_from(["query", "id", "limit", "filters"]), JSON),
                "uri": TEXT,
            },
        ),
    },
).map(lambda call: orjson.dumps(call) if _plain(call) else b"[")
RPC |= st.binary(max_size=80)


def _plain(value: object) -> bool:
    """Whether orjson can write it."""
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def _part(value: bytes) -> bytes:
    return urlsafe_b64encode(value).rstrip(b"=")


CLAIM = JSON | st.sampled_from(["https://issuer.example", "bookwheel", 9_999_999_999, -1, 1e300, "default"])
JOSE = st.fixed_dictionaries(
    {"alg": st.sampled_from(["RS256", "none", "HS256", "ES256", "EdDSA", "PS512"]) | JSON},
    optional={"kid": TEXT | JSON, "typ": JSON, "crit": JSON, "b64": JSON, "jwk": JSON, "jku": TEXT},
)
CLAIMS = st.dictionaries(
    st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "roles", "groups", "tenant", "role"]), CLAIM
)
FORGED = st.tuples(JOSE, CLAIMS, st.binary(max_size=80)).map(
    lambda parts: b".".join(
        _part(orjson.dumps(part) if _plain(part) else b"{}") if isinstance(part, dict) else _part(part)
        for part in parts
    ).decode()
)
SCHEMES = st.sampled_from(["Bearer ", "bearer bw-", "Bearer bw-", "Basic ", "", "Bearer  "])
TOKENS = st.tuples(SCHEMES, FORGED | st.text(max_size=90)).map("".join)
