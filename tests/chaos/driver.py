"""A client that carries a plan through whatever dies, and looks for hits that must not be."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import httpx

from bookwheel.client import Client
from bookwheel.errors import NotFoundError, UnavailableError
from tests.chaos.checks import stale_hits
from tests.chaos.plan import Item, Round

ANSWER_SECONDS = 120.0  # that one operation may take, with all retries
SEARCHES_PER_ROUND = 3
PAUSE_SECONDS = 0.1  # before the next try
RECENT = 40  # documents that were touched last: what a stale hit would be of
RETRYABLE_CODES = {"unavailable", "database_unavailable", "index_unavailable", "embedder_unavailable", "storage_full"}

T = TypeVar("T")


@dataclass(slots=True)
class Driver:
    """Idempotent operations, repeated until they are acknowledged."""

    client: Client
    store_id: str
    folder: Path  #: for the files that it uploads
    random: Random
    newest: dict[str, int] = field(default_factory=dict)  #: revision sent last, by name
    least: dict[str, int] = field(default_factory=dict)  #: what a hit may show at least: older was deleted or replaced
    acknowledged: dict[tuple[str, int], Item] = field(default_factory=dict)  #: by document id and version
    findings: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0  #: seconds of one operation with its retries
    recent: list[Item] = field(default_factory=list)

    def carry_out(self, round_: Round) -> None:
        """One round: everything in it is acknowledged at the end."""
        self.put(round_.texts)
        for item in round_.files:
            self.add(item)
        for name in round_.deletions:
            self.delete(name)
        self.look()
        for _ in range(SEARCHES_PER_ROUND):
            self.search()

    def put(self, items: Sequence[Item]) -> None:
        """NDJSON lines, again and again until each has its answer."""
        waiting = {item.name: item for item in items}
        self.newest |= {item.name: item.revision for item in items}

        def send() -> None:
            lines = [{"id": item.name, "text": item.text} for item in waiting.values()]
            for result in self.client.put_documents(self.store_id, lines):
                self._answered(result, waiting)
            if waiting:
                raise UnavailableError("some lines had no answer")

        if waiting:
            self._until_answered("put", send)

    def _answered(self, result: Mapping[str, Any], waiting: dict[str, Item]) -> None:
        if "error" not in result:
            self._note(waiting.pop(result["id"]), result)
        elif result["error"]["code"] not in RETRYABLE_CODES:
            raise AssertionError(f"a line was refused: {result}")

    def add(self, item: Item) -> None:
        """A file by the caller's id."""
        path = self.folder / item.filename
        path.write_bytes(item.data())
        self.newest[item.name] = item.revision
        self._note(
            item,
            self._until_answered("add", lambda: self.client.add_file(self.store_id, path, external_id=item.name)),
        )

    def _note(self, item: Item, result: Mapping[str, Any]) -> None:
        self.acknowledged[result["document_id"], result["version"]] = item
        self.recent = [*self.recent, item][-RECENT:]
        self.counts["acknowledged"] += 1

    def delete(self, name: str) -> None:
        """A delete whose answer was lost may find nothing the second time: it is done all the same."""

        def send() -> None:
            try:
                self.client.delete_document(self.store_id, name)
            except NotFoundError:
                self.counts["deleted before"] += 1

        self._until_answered("delete", send)
        self.least[name] = self.newest[name] + 1
        self.counts["deleted"] += 1

    def look(self) -> None:
        """Note which revisions are published: from now on no older one may be shown. One try is enough."""
        try:
            for document in self.client.pages(f"/v1/vector_stores/{self.store_id}/documents"):
                item = self.acknowledged.get((document["document_id"], document["live_version"]))
                if item is not None:
                    self.least[item.name] = max(item.revision, self.least.get(item.name, 0))
        except (
            UnavailableError,
            NotFoundError,
            httpx.TransportError,
        ) as error:  # NotFound: the page's last was deleted
            self.counts[f"look: {type(error).__name__}"] += 1

    def search(self) -> None:
        """Ask for something that was touched lately, and judge the hits by what was known before asking."""
        if not self.recent:
            return
        item = self.random.choice(self.recent)
        least, newest = dict(self.least), dict(self.newest)
        try:
            page = self.client.search(self.store_id, self.random.choice(item.text.splitlines()))
        except (UnavailableError, httpx.TransportError) as error:
            self.counts[f"search: {type(error).__name__}"] += 1
            time.sleep(PAUSE_SECONDS)
            return
        self.counts["searched"] += 1
        self.counts.update(f"degraded: {part}" for part in page["degraded"])
        self.findings += stale_hits(page["data"], least=least, newest=newest)

    def _until_answered(self, name: str, send: Callable[[], T]) -> T:
        began = time.monotonic()
        while True:
            try:
                answer = send()
            except (UnavailableError, httpx.TransportError) as error:
                self.counts[f"{name}: {type(error).__name__}"] += 1
                if time.monotonic() - began > ANSWER_SECONDS:
                    raise AssertionError(f"{name} was not answered within {ANSWER_SECONDS:.0f} s") from error
                time.sleep(PAUSE_SECONDS)
            else:
                self.slowest = max(self.slowest, time.monotonic() - began)
                return answer
