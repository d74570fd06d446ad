"""What people look at in the terminal: answers, hits, tables."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bookwheel.doctor import Finding

ID_WIDTH = 35
PREVIEW = 300  # characters of a passage
MIB = 1 << 20


class Clock:
    """How long each step took."""

    def __init__(self) -> None:
        self.laps: list[tuple[str, float]] = []
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Note the seconds since the last lap."""
        now = time.perf_counter()
        self.laps.append((name, now - self._last))
        self._last = now


def answer(console: Console, question: str, completion: Mapping[str, Any]) -> None:
    """The answer with its numbered citations: file, page where there are pages, the quoted passage."""
    message = completion["choices"][0]["message"]
    console.print()
    console.print(Text(question, style="bold"))
    console.print(Text(message["content"]))
    console.print()
    for annotation in message.get("annotations", ()):
        console.print(_citation(annotation["file_citation"]))


def _citation(citation: Mapping[str, Any]) -> Text:
    where = citation["filename"] + (f", page {citation['page']}" if citation.get("page") else "")
    line = Text.assemble((f"[{citation['index']}] ", "bold"), (where, "cyan"))
    line.append(f"\n    “{' '.join(citation['quote'].split())}”")
    return line


def steps(console: Console, completion: Mapping[str, Any], clock: Clock, *, total: float) -> None:
    """How long each step took."""
    table = Table("step", "seconds", box=None, pad_edge=False, header_style="dim")
    table.columns[1].justify = "right"
    for name, seconds in clock.laps:
        table.add_row(name, f"{seconds:.2f}")
    for name, milliseconds in completion["bookwheel"]["timings"].items():
        table.add_row(Text(f"  {name}", style="dim"), Text(f"{milliseconds / 1000:.4f}", style="dim"))
    table.add_row(Text("in all", style="bold"), Text(f"{total:.2f}", style="bold"))
    console.print()
    console.print(table)


def hits(console: Console, page: Mapping[str, Any]) -> None:
    """Search results, best first."""
    if not page["data"]:
        console.print("Nothing found.")
    for number, hit in enumerate(page["data"], start=1):
        where = hit["filename"] + (f", page {hit['document']['page']}" if hit["document"].get("page") else "")
        console.print(Text.assemble((f"{number}. ", "bold"), (where, "cyan"), (f"  {hit['score']:.3f}", "dim")))
        text = " ".join(" ".join(part["text"] for part in hit["content"]).split())
        console.print(Padding(Text(text[:PREVIEW] + ("…" if len(text) > PREVIEW else "")), (0, 0, 1, 3)))
    if page.get("degraded"):
        console.print(f"[yellow]left out:[/yellow] {', '.join(page['degraded'])}")


def status(console: Console, overview: Mapping[str, Any], stores: Iterable[Mapping[str, Any]]) -> None:
    """Stores with their documents, and what waits."""
    table = Table("store", "id", "completed", "in progress", "failed", "MiB", box=None, pad_edge=False)
    table.columns[1].no_wrap = True
    table.columns[1].min_width = ID_WIDTH  # it is there to be copied
    for column in table.columns[2:]:
        column.justify = "right"
    for store in stores:
        counts = store["file_counts"]
        numbers = (str(counts[name]) for name in ("completed", "in_progress", "failed"))
        table.add_row(Text(store["name"]), store["id"], *numbers, f"{store['usage_bytes'] / MIB:.1f}")
    console.print(table)
    queues = ", ".join(f"{count} {name}" for name, count in overview["queues"].items())
    console.print(f"\njobs: {queues}; embedder {overview['embedding_model']}", highlight=False)
    if behind := overview["keywords_behind"]:
        console.print(f"[yellow]the keyword index is {behind} changes behind[/yellow]", highlight=False)


def findings(console: Console, found: Iterable[Finding]) -> bool:
    """A doctor's report; False when something is wrong."""
    healthy = True
    for finding in found:
        mark = "[green]✓[/green]" if finding.good else "[red]✗[/red]"
        console.print(f"{mark} {finding.part}: ", Text(finding.detail), highlight=False, soft_wrap=True, sep="")
        if not finding.good:
            healthy = False
            console.print(Text(f"  → {finding.remedy}"), soft_wrap=True)
    return healthy
