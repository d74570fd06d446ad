"""A few documents that differ in all that filters know, and filters whose answer is known by the reference."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from bookwheel.filters import KEYS, OPERATORS, ORDERINGS, Kind, chunk_values, document_values, matches, parse
from bookwheel.testing.desk import Desk, chunks_of
from bookwheel.types import Chunk, DocumentDraft, Scope, Store

STAFF, BOARD = "group:staff", "user:Ä'%s"
DATED = "dated"  # an attribute of dates, some not alone and some that only look like dates
DATES = (
    ["2024-01-31", "x", "2024-02-30"],
    "2024-01-31T02:00:00.250000+02:00",
    "2024-12-31 23:59",
    "2024-02-29T00:00:60Z",
    "2023-02-29",
    "2025-01-01T15:58:00+15:59",
    "2024-12-30T08:01:00-15:59",
)
ASKED_DATES = (
    "2024-01-31",
    "2024-01-31T00:00Z",
    "2024-01-31T00:00:00.25",
    "2024-12-31T23:59:00+00:00",
    "2024-12-31",
    "2025-01-01T15:58+15:59",
    "2024-02-30",
    "2024-02-29T00:01",
    "0001-01-01T00:00+15:59",
    "9999-12-31T23:59:59.999999-15:59",
    "2024",
    "x",
)
COMBINATIONS = 60  # random filters of several comparisons


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """A store whose every chunk is known by the values that a filter sees."""

    store: Store
    reader: Scope  #: who may read all of it
    chunks: dict[int, dict[str, Any]]  #: by id
    documents: dict[int, UUID]  #: of the chunks

    def passing(self, filter: Any) -> set[int]:
        """The chunks that pass, by the reference in bookwheel.filters."""
        expression = parse(filter)
        return {chunk_id for chunk_id, values in self.chunks.items() if matches(expression, values)}


async def shelf(desk: Desk) -> Shelf:
    """Documents of a file and of texts, some restricted, of several pages, languages and headings."""
    store, file = await desk.store(), await desk.file(filename="b %s {c}.pdf")
    drafts = [
        DocumentDraft(
            external_id="path/a'--", text="one\ntwo\nthree", title="Ünï", attributes={"document.title": "old"}
        ),
        DocumentDraft(file_id=file.id, access=(STAFF,)),
        DocumentDraft(external_id="z", text="four", title="a", access=(BOARD, STAFF), attributes={"year": 2024}),
        *(
            DocumentDraft(external_id=f"d{number}", text="x", attributes={DATED: one})
            for number, one in enumerate(DATES)
        ),
    ]
    shelf = Shelf(
        store=store, reader=replace(desk.scope(store), principals=frozenset({STAFF})), chunks={}, documents={}
    )
    for draft in drafts:
        await _publish(desk, shelf, draft)
    return shelf


async def _publish(desk: Desk, shelf: Shelf, draft: DocumentDraft) -> None:
    scope = desk.scope(shelf.store)
    (document,) = await desk.ports.documents.put([draft], scope=scope, store=shelf.store)
    claim = await desk.claim(document)
    chunks = [_placed(chunk) for chunk in chunks_of(claim)]
    await desk.ports.ingestion.write([claim], chunks)
    vectors = await desk.ports.embedders[claim.space.id].embed([chunk.piece.embed_text for chunk in chunks])
    await desk.ports.vectors.upsert(claim.space, [claim], chunks, vectors)
    await desk.ports.ingestion.publish([claim])
    live = await desk.ports.documents.get(document.id, scope=scope)
    for chunk in chunks:
        shelf.chunks[chunk.id] = document_values(live) | chunk_values(chunk)
        shelf.documents[chunk.id] = document.id


def _placed(chunk: Chunk) -> Chunk:
    """The first chunk has no page, and each has other headings and another language than the one before."""
    number = chunk.ordinal
    return replace(
        chunk,
        piece=replace(
            chunk.piece,
            page=number or None,
            language=("en", "de")[number % 2],
            heading_path=((), ("Part", "Ω"), ("Part", "B %s"))[number % 3],
        ),
    )


def filters(shelf: Shelf) -> Iterator[dict[str, Any]]:
    """Each built-in key with each operator and values that it has, nearly has and cannot have; then combinations."""
    single = [
        {"type": op, "key": key, "value": value}
        for key, kind in KEYS.items()
        for op in sorted(OPERATORS)
        for value in _values(shelf, key, kind, op)
    ]
    single += list(_dated())
    yield from single
    chance = random.Random(5)  # noqa: S311 - the same filters in every run
    single += [{"type": "gte", "key": "year", "value": 2024}, {"type": "ne", "key": "year", "value": 2024}]
    for _ in range(COMBINATIONS):
        some = [{"type": "not", "filter": one} if chance.random() < 0.3 else one for one in chance.sample(single, 3)]
        yield {"type": chance.choice(["and", "or"]), "filters": [some[0], {"type": "or", "filters": some[1:]}]}


def _dated() -> Iterator[dict[str, Any]]:
    """An attribute of dates with each operator."""
    for op in sorted(OPERATORS - {"exists"}):
        values: list[Any] = [*ASKED_DATES, 2024]
        if op in ("in", "nin"):
            values = [values, values[:1], ["x", "2024-02-29"]]
        yield from ({"type": op, "key": DATED, "value": value} for value in values)


def _values(shelf: Shelf, key: str, kind: Kind, op: str) -> list[Any]:
    if op == "exists":
        return [True, False]
    held = [values[key] for values in shelf.chunks.values() if values[key] is not None]
    flat = {one for value in held for one in (value if isinstance(value, tuple) else (value,))}
    values: list[Any] = sorted(flat)[:: max(1, len(flat) - 1)]  # the least and the greatest
    if kind == "time":
        values = [one.isoformat() for one in values]
        values += ["2001-02-03", (datetime.now(UTC) + timedelta(days=2)).date().isoformat(), 1e9]
    else:
        values += ["B %s", "' OR true --", 1, 0.5, 10**30, *([] if op in ORDERINGS else [True])]
    return [values, [], values[:1]] if op in ("in", "nin") else values
