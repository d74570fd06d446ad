"""What an installation takes: size on disk, memory of all processes, seconds to the first cited answer.

    uv run python benchmarks/footprint.py

Installs the package into a new environment of its own from the package index, so the size is what a user gets.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bookwheel.cli import documentation
from bookwheel.client import Client
from harness import Figure, report, running

ROOT = Path(__file__).resolve().parents[1]
MB = 1_000_000


def installed_size() -> tuple[float, float]:
    """Megabytes of a fresh environment, and seconds from a cold start of `demo` in it to its end."""
    with tempfile.TemporaryDirectory(prefix="bookwheel-size-") as directory:
        environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": f"{directory}/venv"}
        subprocess.run(["uv", "sync", "--quiet", "--no-dev"], cwd=ROOT, env=environment, check=True)
        size = sum(path.lstat().st_size for path in Path(directory).rglob("*") if path.is_file())
        began = time.perf_counter()
        demo = [f"{directory}/venv/bin/bookwheel", "demo", "--data-dir", f"{directory}/data"]
        subprocess.run(demo, check=True, stdout=subprocess.DEVNULL, cwd=directory)
        return size / MB, time.perf_counter() - began


def idle_memory() -> tuple[float, str]:
    """Megabytes (proportional set size) of all processes after the demo's work, and how they are shared out."""
    with running() as server, Client(server.url) as client:
        store_id = client.store("memory")
        for page in documentation():
            client.add_file(store_id, Path(page), external_id=page)
        client.wait(store_id)
        client.ask(store_id, "Why can a deleted document never be found again?")
        time.sleep(5)
        parts: dict[str, float] = {}
        for process in server.processes():
            words = process.cmdline()
            kind = (
                "postgres"
                if "postgres" in words[0]
                else next((w for w in words if w in ("up", "work", "serve")), "parser")
            )
            parts[kind] = parts.get(kind, 0.0) + process.memory_full_info().pss / MB
    return sum(parts.values()), ", ".join(f"{kind} {size:.0f}" for kind, size in parts.items())


def main() -> None:
    """All three."""
    size, seconds = installed_size()
    memory, parts = idle_memory()
    report(
        "footprint",
        [
            Figure(name="installed size", value=size, bar=700, unit="MB", at_most=True),
            Figure(name="memory of all processes, idle", value=memory, bar=1000, unit="MB", at_most=True, detail=parts),
            Figure(
                name="installed to first cited answer",
                value=seconds,
                bar=60,
                unit="s",
                at_most=True,
                detail="the whole demo",
            ),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
