"""All of the fuzzing in one command; for each target: runs, crashes, answers of 5xx.

    uv run --with atheris python -m tests.fuzz --minutes 60

Most of the time goes to the targets here by turns, a fifth to requests made from the OpenAPI document against a whole
server (schemathesis), a tenth to atheris, which follows the branches of our own parsers, where it is installed. Exits 1
when there was a crash or a 5xx.
"""

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bookwheel.telemetry import configure_logging
from tests.fuzz.runner import Tally, fuzz, running

ROOT = Path(__file__).parents[2]
OPENAPI_SHARE, ATHERIS_SHARE = 0.2, 0.1
OPENAPI_CASES = 1500  # of one run


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--only", default="", help="targets whose name has this in it; leaves the whole server out")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options = parser.parse_args()
    seconds = options.minutes * 60
    print(f"seed {options.seed}", flush=True)
    configure_logging(level="critical")
    tallies = _here(seconds * (1 if options.only else 1 - OPENAPI_SHARE - ATHERIS_SHARE), options.seed, options.only)
    if not options.only:
        tallies += [_openapi(seconds * OPENAPI_SHARE, options.seed), *_atheris(seconds * ATHERIS_SHARE)]
    print("\n".join(f"{tally}" for tally in tallies))
    for tally in tallies:
        for problem in tally.problems.values():
            print(f"\n{tally.name}: {problem}")
    sys.exit(any(tally.problems for tally in tallies))


def _here(seconds: float, seed: int, only: str) -> list[Tally]:
    with running() as (made, runner):
        targets = [target for target in made.targets() if only in target.name]
        return [fuzz(target, seconds / len(targets), seed=seed, runner=runner) for target in targets]


def _openapi(seconds: float, seed: int) -> Tally:
    """The suite's own test of the document, again and again with other seeds."""
    tally = Tally("the OpenAPI document, on a server")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        env = {**os.environ, "BOOKWHEEL_OPENAPI_CASES": str(OPENAPI_CASES), "BOOKWHEEL_OPENAPI_SEED": str(seed)}
        call = [sys.executable, "-m", "pytest", "-q", "tests/service/test_openapi.py", "-k", "documented"]
        done = subprocess.run(call, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        tally.runs += sum(map(int, re.findall(r": (\d+) cases", done.stdout)))  # none where the server did not start
        tally.server_errors += sum(map(int, re.findall(r"(\d+) of 5\d\d", done.stdout)))
        if done.returncode:
            tally.crash("schemathesis", f"seed {seed}:\n{done.stdout[-4_000:]}")
        seed += 1
    return tally


def _atheris(seconds: float) -> list[Tally]:
    """Each of the parsers that are our own Python, led by coverage; nothing where atheris is not installed."""
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: run with `uv run --with atheris python -m tests.fuzz`")
        return []
    names = ("html", "mail", "filters", "answers")
    return [_led(name, seconds / len(names)) for name in names]


def _led(name: str, seconds: float) -> Tally:
    tally = Tally(f"atheris: {name}")
    call = [sys.executable, "-m", "tests.fuzz.led", name, f"-max_total_time={max(1, int(seconds))}", "-timeout=20"]
    call += ["-rss_limit_mb=4096", f"-artifact_prefix={tempfile.gettempdir()}/"]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    counted = re.findall(r"Done (\d+) runs", done.stderr)
    tally.runs = int(counted[-1]) if counted else 0
    if done.returncode:
        tally.crash("atheris", (done.stdout + done.stderr)[-3_000:])
    return tally


if __name__ == "__main__":
    main()
