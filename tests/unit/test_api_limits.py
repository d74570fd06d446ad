"""Limits over HTTP: who is held up, by what, and how that is told."""

from typing import Any

import httpx

from bookwheel.settings import Settings

STORES = "/v1/vector_stores"


async def key(client: httpx.AsyncClient, operator: str, *, tenant: dict[str, Any], **limits: int) -> dict[str, str]:
    """The header of a writer of a new tenant, each with limits."""
    by = {"authorization": f"Bearer {operator}"}
    made = (await client.post("/v1/tenants", json={"name": operator[:9], "limits": tenant}, headers=by)).json()
    body = {"role": "writer", "limits": limits}
    secret = (await client.post(f"/v1/tenants/{made['id']}/keys", json=body, headers=by)).json()["secret"]
    return {"authorization": f"Bearer {secret}"}


async def test_a_key_may_send_so_many_requests(client: httpx.AsyncClient, operator: str) -> None:
    """Exactly; then it is told when to come back, in the words of OpenAI's clients, and others go on."""
    by = await key(client, operator, tenant={}, requests_per_minute=3)
    answers = [await client.get(STORES, headers=by) for _ in range(5)]
    assert [one.status_code for one in answers] == [200, 200, 200, 429, 429]
    assert [one.headers["x-ratelimit-remaining-requests"] for one in answers] == ["2", "1", "0", "0", "0"]
    refused = answers[-1]
    assert refused.headers["x-ratelimit-limit-requests"] == "3"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert "3 requests per minute of this key" in refused.json()["error"]["message"]
    assert (await client.get(STORES)).status_code == 200
    assert (await client.get("/health/live", headers=by)).status_code == 200


async def test_the_keys_of_a_tenant_share_its_limit(client: httpx.AsyncClient, operator: str) -> None:
    """Whatever each may send alone."""
    by = await key(client, operator, tenant={"requests_per_minute": 2}, requests_per_minute=0)
    answers = [await client.get(STORES, headers=by) for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 429]
    assert "of the tenant" in answers[-1].json()["error"]["message"]


async def test_an_operator_is_not_held_up_by_its_tenant(client: httpx.AsyncClient, operator: str) -> None:
    """Who must act when the tenant is at its limit."""
    by = {"authorization": f"Bearer {operator}"}
    own = (await client.get("/v1/tenants", headers=by)).json()["data"]
    tenant = (await client.get("/v1/tenant", headers=by)).json()["id"]
    await client.post(f"/v1/tenants/{tenant}", json={"limits": {"requests_per_minute": 1}}, headers=by)
    assert [(await client.get("/v1/status", headers=by)).status_code for _ in range(4)] == [200] * 4, own


async def test_the_defaults_are_those_that_the_documentation_names(client: httpx.AsyncClient, operator: str) -> None:
    """100 a minute for each key, 500 for its tenant; the machine's own user has none."""
    by = await key(client, operator, tenant={})
    headers = (await client.get(STORES, headers=by)).headers
    assert headers["x-ratelimit-limit-requests"] == "100"
    assert Settings().limit_tenant_requests_per_minute == 500
    assert "x-ratelimit-limit-requests" not in (await client.get(STORES)).headers


async def test_tokens_are_counted_when_they_are_known(client: httpx.AsyncClient, operator: str) -> None:
    """An answer that goes over is given; the next request waits."""
    by = await key(client, operator, tenant={}, tokens_per_minute=10)
    body = {"input": "one two three four five six seven eight nine ten eleven", "model": "hash"}
    model = (await client.get("/v1/models", headers=by)).json()["data"]
    body["model"] = next(one["id"] for one in model if "hash" in one["id"])
    first = await client.post("/v1/embeddings", json=body, headers=by)
    assert first.status_code == 200, first.text
    assert first.headers["x-ratelimit-remaining-tokens"] == "10"
    second = await client.post("/v1/embeddings", json=body, headers=by)
    assert second.status_code == 429
    assert "10 tokens per minute of this key" in second.json()["error"]["message"]


async def test_embedding_tokens_of_a_day(client: httpx.AsyncClient, operator: str) -> None:
    """Taken before the texts are embedded; what can never fit is not worth another try."""
    by = await key(client, operator, tenant={"embedding_tokens_per_day": 3})
    model = next(
        one["id"] for one in (await client.get("/v1/models", headers=by)).json()["data"] if "hash" in one["id"]
    )
    fits = await client.post("/v1/embeddings", json={"input": "one", "model": model}, headers=by)
    assert fits.status_code == 200, fits.text
    too_many = await client.post(
        "/v1/embeddings", json={"input": "one two three four five", "model": model}, headers=by
    )
    assert (too_many.status_code, too_many.json()["error"]["code"]) == (429, "insufficient_quota")
    assert too_many.headers["x-should-retry"] == "false"


async def test_a_tenant_holds_so_many_documents_and_bytes(client: httpx.AsyncClient, operator: str) -> None:
    """One more is refused with the figures; in a list of lines, line by line."""
    by = await key(client, operator, tenant={"documents": 2, "bytes": 1_000})
    store = (await client.post(STORES, json={"name": "s"}, headers=by)).json()["id"]
    path = f"{STORES}/{store}/documents"
    files = [{"file": (f"{name}.txt", b"x")} for name in "abc"]
    sent = [await client.post("/v1/files", files=one, data={"purpose": "assistants"}, headers=by) for one in files]
    many = {"name": "m", "file_ids": [one.json()["id"] for one in sent]}
    assert (await client.post(STORES, json=many, headers=by)).status_code == 429
    for name in "ab":
        put = await client.post(path, json={"id": name, "text": "x" * 10}, headers=by)
        assert put.status_code == 200, put.text
    third = await client.post(path, json={"id": "c", "text": "x"}, headers=by)
    assert (third.status_code, third.json()["error"]["code"]) == (429, "insufficient_quota")
    assert "holds 2 documents" in third.json()["error"]["message"]
    lines = await client.post(
        path, content=b'{"id": "d", "text": "x"}\n', headers={**by, "content-type": "application/x-ndjson"}
    )
    assert "insufficient_quota" in lines.text
    file = {"file": ("a.txt", b"x" * 2_000)}
    upload = await client.post("/v1/files", files=file, data={"purpose": "assistants"}, headers=by)
    assert (upload.status_code, upload.json()["error"]["code"]) == (429, "insufficient_quota")
