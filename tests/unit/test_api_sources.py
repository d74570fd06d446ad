"""What a source may not be: refused with the field, before anything is kept."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from bookwheel.api import create_app
from bookwheel.identity import hash_of, new_secret, operators_key
from bookwheel.settings import Settings
from bookwheel.testing import memory_ports


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"path": "/" + "x" * 1000}, "path"),
        ({"path": "/" + "x/" * 2000}, "path"),
        ({"path": "/\0"}, "path"),
        ({"path": "there"}, "path"),
        ({"path": "/etc"}, "path"),
        ({"include": ["\0"]}, "include[0]"),
        ({"exclude": ["a", "\0"]}, "exclude[1]"),
    ],
)
async def test_what_no_directory_source_can_be(tmp_path: Path, fields: dict[str, Any], param: str) -> None:
    """Names that no file system takes, and places that are not allowed."""
    app = create_app(memory_ports(), Settings(source_roots=str(tmp_path)))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        store = (await client.post("/v1/vector_stores", json={})).json()["id"]
        body = {"kind": "directory", "path": str(tmp_path), "vector_store_id": store} | fields
        answer = await client.post("/v1/sources", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        assert (await client.get("/v1/sources")).json()["data"] == []


async def test_with_a_key_nobody_names_a_folder_unless_the_operator_does(tmp_path: Path) -> None:
    """Else a writer of any tenant could index what the server may read; the machine's own user may."""
    ports, secret = memory_ports(), new_secret()
    await ports.keys.create(operators_key(secret), secret_hash=hash_of(secret))
    for settings, expected in ((Settings(), 400), (Settings(source_roots=str(tmp_path)), 200)):
        transport = httpx.ASGITransport(app=create_app(ports, settings), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            store = (await client.post("/v1/vector_stores", json={})).json()["id"]
            body = {"kind": "directory", "path": str(tmp_path), "vector_store_id": store}
            by_key = await client.post("/v1/sources", json=body, headers={"authorization": f"Bearer {secret}"})
            assert by_key.status_code == expected, by_key.text
            assert (await client.post("/v1/sources", json=body)).status_code == 200
