"""Everything that a store left behind, read from the tables, the blobs and the keyword index themselves."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import tantivy
from psycopg.rows import namedtuple_row

from bookwheel.backends.tantivy import POSITION, TantivyIndex
from bookwheel.data_directory import holder


class DocumentRow(NamedTuple):
    """A row of `documents`."""

    id: str
    external_id: str
    status: str
    version: int
    live_version: int | None
    chunk_count: int
    is_inline: bool
    size: int
    error: str | None


class ChunkRow(NamedTuple):
    """A row of `chunks`."""

    id: int
    document_id: str
    version: int
    ordinal: int
    start: int
    end: int
    text: str


class VectorRow(NamedTuple):
    """A row of `vectors_*`."""

    chunk_id: int
    document_id: str
    version: int
    ordinal: int
    text_hash: str


class BodyRow(NamedTuple):
    """A row of `bodies`."""

    document_id: str
    version: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One data directory at rest."""

    documents: tuple[DocumentRow, ...]
    chunks: tuple[ChunkRow, ...]
    vectors: tuple[VectorRow, ...]
    bodies: tuple[BodyRow, ...]
    leases: tuple[str, ...]  #: document ids
    counters: dict[str, int]  #: of all stores together
    jobs: dict[str, int]  #: by status
    files: frozenset[str]  #: hashes of uploaded files
    blobs: frozenset[str]  #: hashes on disk
    damaged: frozenset[str]  #: blobs whose bytes do not have their hash
    incoming: int  #: unfinished uploads on disk
    keywords: tuple[int, ...]  #: chunk ids in the keyword index

    def of(self, external_id: str) -> DocumentRow | None:
        """The document with the caller's id."""
        return next((row for row in self.documents if row.external_id == external_id), None)


DOCUMENTS = """SELECT id::text, external_id, status, version, live_version, chunk_count, is_inline, size,
    error_message AS error FROM documents ORDER BY external_id"""
CHUNKS = """SELECT id, document_id::text, version, ordinal, start_offset AS start, end_offset AS end, text
    FROM chunks ORDER BY document_id, version, ordinal"""
VECTORS = "SELECT chunk_id, document_id::text, version, ordinal, text_hash::text FROM {}"
COUNTERS = """SELECT coalesce(sum(in_progress), 0)::int AS in_progress, coalesce(sum(completed), 0)::int AS completed,
    coalesce(sum(failed), 0)::int AS failed, coalesce(sum(cancelled), 0)::int AS cancelled,
    coalesce(sum(size), 0)::int AS size, coalesce(sum(chunk_count), 0)::int AS chunk_count FROM stores"""


def read_snapshot(data_dir: Path) -> Snapshot:
    """Read a running Bookwheel's stores, past its own code."""
    with psycopg.connect(holder(data_dir)["database_url"]) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        tables = [row[0] for row in connection.execute("SELECT 'vectors_' || id FROM spaces ORDER BY id").fetchall()]
        return Snapshot(
            documents=tuple(_rows(connection, DOCUMENTS, DocumentRow)),
            chunks=tuple(_rows(connection, CHUNKS, ChunkRow)),
            vectors=tuple(row for table in tables for row in _rows(connection, VECTORS.format(table), VectorRow)),
            bodies=tuple(_rows(connection, "SELECT document_id::text, version, text FROM bodies", BodyRow)),
            leases=tuple(row[0] for row in connection.execute("SELECT document_id::text FROM leases").fetchall()),
            counters=_counters(connection),
            jobs=dict(
                connection.execute("SELECT status::text, count(*)::int FROM procrastinate_jobs GROUP BY 1").fetchall()
            ),
            files=frozenset(row[0] for row in connection.execute("SELECT encode(sha256, 'hex') FROM files").fetchall()),
            **_blobs(data_dir / "blobs"),
            keywords=tuple(_keywords(data_dir / "keywords")),
        )


def _rows(connection: psycopg.Connection[Any], query: str, kind: Any) -> list[Any]:
    return [kind(*row) for row in connection.execute(query.encode()).fetchall()]


def _counters(connection: psycopg.Connection[Any]) -> dict[str, int]:
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        row = cursor.execute(COUNTERS).fetchone()
    assert row is not None
    return dict(row._asdict())


def _blobs(folder: Path) -> dict[str, Any]:
    files = {path.parent.name + path.name: path for path in folder.glob("[0-9a-f][0-9a-f]/*")}
    return {
        "blobs": frozenset(files),
        "damaged": frozenset(
            name for name, path in files.items() if hashlib.sha256(path.read_bytes()).hexdigest() != name
        ),
        "incoming": len(list((folder / "incoming").iterdir())),
    }


def _keywords(folder: Path) -> list[int]:
    """Chunk ids of all entries, duplicates too."""
    view = TantivyIndex(folder, writable=False)._current()
    chunks = tantivy.Query.boolean_query(
        [
            (tantivy.Occur.Must, tantivy.Query.all_query()),
            (tantivy.Occur.MustNot, tantivy.Query.term_query(view.schema, "kind", POSITION, "basic")),
        ]
    )
    hits = view.searcher.search(chunks, view.searcher.num_docs + 1).hits
    return [int(number) for number in view.searcher.fast_field_values("number", [address for _, address in hits])]
