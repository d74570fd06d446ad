"""Run every benchmark and write the table.

    uv run python benchmarks/run.py [NAME ...]          # all of them when none is named: see NAMES

Writes benchmarks/results.jsonl (one line for each figure, the newest wins) and benchmarks/RESULTS.md.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import machine, read_lines

HERE = Path(__file__).resolve().parent
NAMES = (
    "quality",
    "answers",
    "grounding",
    "reranking",
    "semantic_cache",
    "caches",
    "degraded",
    "limiter",
    "embedder",
    "ingestion",
    "freshness",
    "takeover",
    "memory",
    "footprint",
    "tenants",
    "neighbour",
)
LINES, TABLE = HERE / "results.jsonl", HERE / "RESULTS.md"

HEAD = """# Results

Written by `uv run python benchmarks/run.py`; each figure is printed by the script named beside it. Ratios are taken in
one run on one machine, medians of several. The data sets are described in each script.

| figure | measured | bar | | script | machine and date |
|---|---:|---:|---|---|---|
"""


def run(name: str) -> list[dict[str, object]]:
    """One benchmark's figures."""
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        environment = {**os.environ, "BOOKWHEEL_BENCHMARK_LINES": file.name}
        if subprocess.run([sys.executable, str(HERE / f"{name}.py")], env=environment, check=False).returncode:
            print(f"{name} ended early; what it measured until then is kept", file=sys.stderr)
        return [{**line, "machine": machine()} for line in read_lines(Path(file.name))]


def row(line: dict[str, object]) -> str:
    """One line of the table."""
    unit = f" {line['unit']}" if line["unit"] else ""
    sign = "≤" if line["at_most"] else "≥"
    verdict = "met" if line["met"] else "**not met**"
    detail = f" ({line['detail']})" if line["detail"] else ""
    measured = f"{line['value']:.3g}" if unit else f"{line['value']:.3f}"
    return (
        f"| {line['name']}{detail} | {measured}{unit} | {sign} {line['bar']:g}{unit} | {verdict} |"
        f" `{line['benchmark']}.py` | {line['machine']}, {line['date']} |"
    )


def main(names: list[str]) -> None:
    """Run, keep the newest line of each figure, write the table."""
    known = {line["name"]: line for line in (read_lines(LINES) if LINES.exists() else [])}
    for name in names:
        print(f"== {name}")
        known |= {line["name"]: line for line in run(name)}
        LINES.write_text("".join(json.dumps(line) + "\n" for line in known.values()))
        TABLE.write_text(HEAD + "\n".join(row(line) for line in known.values()) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:] or list(NAMES))
