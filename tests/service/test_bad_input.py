"""Bad input through the whole stack: one clear line for each file, the rest goes on, the exit status tells."""

import io
import zipfile
from pathlib import Path

import httpx
import pytest

from bookwheel.client import Client
from tests.service.conftest import LiveServer, bookwheel_up
from tests.service.test_command_line import FAILED, bookwheel


def bomb() -> bytes:
    """A DOCX whose one part unpacks to 2 GB."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "[Content_Types].xml", '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
        )
        with archive.open("word/document.xml", "w", force_zip64=True) as part:
            for _ in range(2048):
                part.write(b" " * (1 << 20))
    return data.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One good file among bad ones."""
    files: dict[str, bytes] = {
        "good.md": b"# Kelp\n\nKelp forests grow off Monterey.\n",
        "empty.txt": b"",
        "blank.txt": b"\n \n",
        "noise.bin": bytes(range(256)) * 40,
        "broken.pdf": b"%PDF-1.7\n1 0 obj <<",
        "cut.docx": b"PK\x03\x04" + b"\0" * 40,
        "bomb.docx": bomb(),
        "two\nlines.xyz": b"\0\1\2" * 100,
        "latin.txt": "Café olé, señor, das Mädchen läuft.".encode("latin-1"),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "nowhere")
    return tmp_path


def test_each_bad_file_gets_one_line(folder: Path, live_server: LiveServer) -> None:
    """Every bad file is named with a reason, the good ones are found, nothing shows a traceback."""
    done = bookwheel("add", str(folder), "--store", "bad", "--data-dir", str(live_server.data_dir))
    assert done.returncode == FAILED
    lines = [line for line in done.stdout.splitlines() if line.startswith("✗")]
    for name in (
        "empty.txt",
        "blank.txt",
        "noise.bin",
        "broken.pdf",
        "cut.docx",
        "bomb.docx",
        "two\\nlines.xyz",
        "dangling.txt",
    ):
        (line,) = [line for line in lines if f"/{name}:" in line]
        assert len(line.split(": ", 1)[1]) > 15, line
    assert len(lines) == 8
    assert "Traceback" not in done.stdout + done.stderr
    assert "2 searchable" in done.stdout
    shown = bookwheel("search", "kelp Monterey", "--store", "bad", "--data-dir", str(live_server.data_dir)).stdout
    assert "good.md" in shown
    assert "Mädchen" in bookwheel("search", "Mädchen", "--store", "bad", "--data-dir", str(live_server.data_dir)).stdout


def test_a_missing_path_is_named(live_server: LiveServer) -> None:
    """A path that does not exist is one clear line."""
    done = bookwheel("add", "/no/such/place", "--data-dir", str(live_server.data_dir))
    assert done.returncode == FAILED
    assert "/no/such/place: no such file or folder" in done.stdout


def test_too_large_is_refused_while_it_comes(data_dir: Path) -> None:
    """HTTP 413 with the setting to change, and no blob is left."""
    with bookwheel_up(data_dir, BOOKWHEEL_MAX_FILE_BYTES="1000") as server:
        upload = {"file": ("large.txt", b"x" * 100_000)}
        response = httpx.post(f"{server.url}/v1/files", files=upload, data={"purpose": "assistants"}, timeout=30)
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "too_large"
        assert [path for path in (data_dir / "blobs").rglob("*") if path.is_file() and path.stat().st_size] == []


def test_bad_lines_of_a_bulk_request_fail_alone(client: Client) -> None:
    """Each line has its own result; the good ones are stored."""
    store_id = client.call("POST", "/v1/vector_stores", json={"name": "lines"})["id"]
    lines = b'{"id":"a","text":"One good line."}\nnot json\n{"id":"b"}\n{"id":"c","text":"Another good line."}\n'
    response = httpx.post(
        f"{client.url}/v1/vector_stores/{store_id}/documents",
        content=lines,
        headers={"content-type": "application/x-ndjson"},
        timeout=30,
    )
    results = [httpx.Response(200, content=line).json() for line in response.text.splitlines()]
    assert ["error" in result for result in results] == [False, True, True, False]
    assert client.wait(store_id)["completed"] == 2
