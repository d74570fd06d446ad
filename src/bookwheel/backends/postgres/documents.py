"""Documents in PostgreSQL, from the caller's side: upsert, read, delete."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.backends.postgres.jobs import defer
from bookwheel.backends.postgres.stores import chunking_json, page
from bookwheel.errors import InvalidDocumentError, NotFoundError
from bookwheel.types import Chunking, Document, DocumentDraft, FileStatus, Scope, Store

COLUMNS = (
    "id, tenant_id, store_id, file_id, external_id, filename, title, attributes, chunking, status, version,"
    " live_version, size, chunk_count, error_code, error_message, created_at, updated_at"
)
SELECT = "SELECT " + ", ".join(f"d.{name.strip()}" for name in COLUMNS.split(",")) + " FROM documents d"

INSERT = """
INSERT INTO documents (id, tenant_id, store_id, file_id, external_id, filename, title, attributes, chunking, status,
    version, size, sha256, is_inline)
SELECT u.id, %s, %s, u.file_id, u.external_id, u.filename, u.title, u.attributes, u.chunking, 'in_progress',
    1, u.size, u.sha256, u.is_inline
FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::text[], %s::jsonb[], %s::jsonb[], %s::bigint[],
    %s::bytea[], %s::boolean[])
    AS u (id, file_id, external_id, filename, title, attributes, chunking, size, sha256, is_inline)
"""

CHANGE = """
UPDATE documents d SET filename = u.filename, title = u.title, attributes = u.attributes, chunking = u.chunking,
    size = CASE WHEN u.renewed THEN u.size ELSE d.size END, sha256 = u.sha256, is_inline = u.is_inline,
    file_id = u.file_id, version = d.version + u.renewed::integer, error_code = NULL, error_message = NULL,
    status = CASE WHEN u.renewed THEN 'in_progress' ELSE d.status END, updated_at = now()
FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::jsonb[], %s::jsonb[], %s::bigint[], %s::bytea[],
    %s::boolean[], %s::boolean[])
    AS u (id, file_id, filename, title, attributes, chunking, size, sha256, is_inline, renewed)
WHERE d.id = u.id
"""


@dataclass(slots=True, kw_only=True)
class _Row:
    """A draft on its way into the table."""

    draft: DocumentDraft
    id: UUID
    filename: str
    size: int
    sha256: bytes
    chunking: Chunking
    is_new: bool = True
    renewed: bool = True  #: it gets a new version


class PostgresDocuments:
    """Fills ports.Documents."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def put(self, drafts: Sequence[DocumentDraft], *, scope: Scope, store: Store) -> list[Document]:
        """See ports.Documents."""

        async def work(connection: Connection) -> list[Document]:
            await _hold_store(connection, store, scope=scope)
            placed = []
            for batch in _without_repeats(drafts):
                placed += await _put(connection, batch, scope=scope, store=store)
            return placed

        return await self.database.transact(work)

    async def get(self, document_id: UUID, *, scope: Scope) -> Document:
        """See ports.Documents."""
        found = await self.database.fetch(
            f"{SELECT} WHERE d.id = %s AND d.tenant_id = %s AND d.store_id = ANY(%s)",
            (document_id, scope.tenant_id, list(scope.store_ids)),
        )
        if not found:
            raise NotFoundError(f"No document with id doc_{document_id.hex} in this store.")
        return _document(found[0])

    async def find(self, *, scope: Scope, external_id: str | None = None, file_id: UUID | None = None) -> Document:
        """See ports.Documents."""
        column, value = ("external_id", external_id) if file_id is None else ("file_id", file_id)
        found = await self.database.fetch(
            f"{SELECT} WHERE d.tenant_id = %s AND d.store_id = %s AND d.{column} = %s"
            " ORDER BY d.external_id NULLS FIRST LIMIT 1",  # a file may also stand under ids of the caller's
            (scope.tenant_id, scope.store_ids[0], value),
        )
        if not found:
            name = f"id {external_id!r}" if file_id is None else f"file file-{file_id.hex}"
            raise NotFoundError(f"No document with {name} in this store.")
        return _document(found[0])

    async def list(
        self,
        *,
        scope: Scope,
        limit: int,
        after: UUID | None = None,
        newest: bool = True,
        status: FileStatus | None = None,
    ) -> "list[Document]":
        """See ports.Documents."""
        condition = "d.tenant_id = %s AND d.store_id = ANY(%s)"
        parameters: list[Any] = [scope.tenant_id, list(scope.store_ids)]
        if status is not None:
            condition, parameters = f"{condition} AND d.status = %s", [*parameters, status.value]
        query, parameters = page(
            SELECT, condition, parameters, alias="d", table="documents", after=after, newest=newest
        )
        return [_document(row) for row in await self.database.fetch(query, [*parameters, limit])]

    async def delete(self, document_ids: Sequence[UUID], *, scope: Scope) -> int:
        """See ports.Documents."""

        async def work(connection: Connection) -> int:
            return await remove_documents(
                connection,
                "d.id = ANY(%s) AND d.tenant_id = %s AND d.store_id = ANY(%s)",
                [sorted(document_ids), scope.tenant_id, list(scope.store_ids)],
            )

        return await self.database.transact(work)


async def remove_documents(connection: Connection, condition: str, parameters: Iterable[Any]) -> int:
    """Delete documents with their chunks, vectors and bodies, and tell the outbox; returns how many."""
    doomed = await rows(
        connection,
        "SELECT d.id, d.tenant_id, d.store_id, d.version, s.space_id, t.shard FROM documents d"
        " JOIN stores s ON s.id = d.store_id JOIN tenants t ON t.id = d.tenant_id"
        f" WHERE {condition} ORDER BY d.id FOR UPDATE OF d",
        list(parameters),
    )
    if not doomed:
        return 0
    ids = [row[0] for row in doomed]
    await connection.execute("DELETE FROM chunks WHERE document_id = ANY(%s)", (ids,))
    for space_id, shard in {(row[4], row[5]) for row in doomed}:
        await connection.execute(
            f"DELETE FROM vectors_{int(space_id)}"
            " WHERE shard = %s AND store_id = ANY(%s) AND document_id = ANY(%s)".encode(),
            (shard, list({row[2] for row in doomed}), ids),
        )
    await connection.execute("DELETE FROM documents WHERE id = ANY(%s)", (ids,))
    await connection.execute(
        "UPDATE stores SET version = version + 1 WHERE id = ANY(%s)", (sorted({row[2] for row in doomed}),)
    )
    await connection.execute(
        "SELECT append_to_outbox(%s, %s, %s, %s, %s)",
        (
            ["remove"] * len(ids),
            [row[1] for row in doomed],
            [row[2] for row in doomed],
            ids,
            [row[3] for row in doomed],
        ),
    )
    return len(ids)


async def _hold_store(connection: Connection, store: Store, *, scope: Scope) -> None:
    """Keep the store from being deleted until we commit. Raises NotFoundError when it is gone."""
    held = await rows(
        connection,
        "SELECT 1 FROM stores WHERE id = %s AND tenant_id = %s FOR KEY SHARE",
        (store.id, scope.tenant_id),
    )
    if not held:
        raise NotFoundError(f"No vector store with id vs_{store.id.hex}. List yours with GET /v1/vector_stores.")


def _without_repeats(drafts: Sequence[DocumentDraft]) -> Iterable[list[DocumentDraft]]:
    """Cut where an id comes again, so that each statement sees a document once and order decides."""
    batch: list[DocumentDraft] = []
    seen: set[object] = set()
    for draft in drafts:
        key = draft.external_id if draft.external_id is not None else draft.file_id
        if key in seen:
            yield batch
            batch, seen = [], set()
        batch.append(draft)
        seen.add(key)
    if batch:
        yield batch


async def _put(
    connection: Connection, drafts: Sequence[DocumentDraft], *, scope: Scope, store: Store
) -> list[Document]:
    prepared = await _rows(connection, drafts, scope=scope, store=store)
    await _match_existing(connection, prepared, store=store)
    fresh = [row for row in prepared if row.is_new]
    known = [row for row in prepared if not row.is_new]
    if fresh:
        await connection.execute(INSERT.encode(), (scope.tenant_id, store.id, *_insert_columns(fresh)))
    if known:
        await connection.execute(CHANGE.encode(), _change_columns(known))
    found = await rows(connection, f"{SELECT} WHERE d.id = ANY(%s)", ([row.id for row in prepared],))
    documents = {document.id: document for document in map(_document, found)}
    renewed = [row for row in prepared if row.renewed]
    await _write_bodies(connection, renewed, documents)
    await defer(connection, [(row.id, row.size) for row in renewed])
    return [documents[row.id] for row in prepared]


async def _rows(connection: Connection, drafts: Sequence[DocumentDraft], *, scope: Scope, store: Store) -> list[_Row]:
    wanted = [draft.file_id for draft in drafts if draft.file_id is not None]
    uploads: dict[UUID, tuple[str, int, bytes]] = {}
    if wanted:
        found = await rows(
            connection,
            "SELECT id, filename, size, sha256 FROM files WHERE id = ANY(%s) AND tenant_id = %s FOR SHARE",
            (wanted, scope.tenant_id),
        )
        uploads = {row[0]: (row[1], row[2], row[3]) for row in found}
    return [_row(draft, uploads, store.chunking) for draft in drafts]


def _row(draft: DocumentDraft, uploads: dict[UUID, tuple[str, int, bytes]], chunking: Chunking) -> _Row:
    chunking = draft.chunking or chunking
    if draft.file_id is not None:
        if draft.file_id not in uploads:
            raise NotFoundError(f"No file with id file-{draft.file_id.hex}. Upload it with POST /v1/files first.")
        filename, size, sha256 = uploads[draft.file_id]
        return _Row(draft=draft, id=uuid4(), filename=filename, size=size, sha256=sha256, chunking=chunking)
    if draft.text is None:
        raise InvalidDocumentError
    content = draft.text.encode()
    digest = hashlib.sha256(content + b"\0" + (draft.title or "").encode()).digest()
    name = draft.external_id or draft.title or "document"
    return _Row(draft=draft, id=uuid4(), filename=name, size=len(content), sha256=digest, chunking=chunking)


async def _match_existing(connection: Connection, prepared: Sequence[_Row], *, store: Store) -> None:
    """Give rows that exist already their ids, and decide which of them need a new version. Locks them by id."""
    found = await rows(
        connection,
        "SELECT id, external_id, file_id, sha256, chunking, status FROM documents"
        " WHERE store_id = %s AND (external_id = ANY(%s) OR file_id = ANY(%s)) ORDER BY id FOR UPDATE",
        (
            store.id,
            [row.draft.external_id for row in prepared if row.draft.external_id is not None],
            [row.draft.file_id for row in prepared if row.draft.file_id is not None],
        ),
    )
    by_external = {row[1]: row for row in found if row[1] is not None}
    by_file = {row[2]: row for row in found if row[1] is None}
    for row in prepared:
        external = row.draft.external_id
        old = by_external.get(external) if external is not None else by_file.get(row.draft.file_id)
        if old is not None:
            row.id, row.is_new = old[0], False
            same = old[3] == row.sha256 and old[4] == chunking_json(row.chunking)
            row.renewed = not same or old[5] in (FileStatus.FAILED, FileStatus.CANCELLED)


def _insert_columns(fresh: Sequence[_Row]) -> tuple[list[Any], ...]:
    return (
        [row.id for row in fresh],
        [row.draft.file_id for row in fresh],
        [row.draft.external_id for row in fresh],
        [row.filename for row in fresh],
        [row.draft.title for row in fresh],
        [Jsonb(dict(row.draft.attributes)) for row in fresh],
        [Jsonb(chunking_json(row.chunking)) for row in fresh],
        [row.size for row in fresh],
        [row.sha256 for row in fresh],
        [row.draft.text is not None for row in fresh],
    )


def _change_columns(known: Sequence[_Row]) -> tuple[list[Any], ...]:
    ids, files, _, filenames, titles, *rest = _insert_columns(known)
    return (ids, files, filenames, titles, *rest, [row.renewed for row in known])


async def _write_bodies(connection: Connection, renewed: Sequence[_Row], documents: dict[UUID, Document]) -> None:
    inline = [(row.id, documents[row.id].version, row.draft.text) for row in renewed if row.draft.text is not None]
    if not inline:
        return
    async with (
        connection.cursor() as cursor,
        cursor.copy("COPY bodies (document_id, version, text) FROM STDIN") as copy,
    ):
        for values in inline:
            await copy.write_row(values)


def _document(row: tuple[Any, ...]) -> Document:
    return Document(
        id=row[0],
        tenant_id=row[1],
        store_id=row[2],
        file_id=row[3],
        external_id=row[4],
        filename=row[5],
        title=row[6],
        attributes=row[7],
        chunking=Chunking(**row[8]),
        status=FileStatus(row[9]),
        version=row[10],
        live_version=row[11],
        size=row[12],
        chunk_count=row[13],
        error_code=row[14],
        error_message=row[15],
        created_at=row[16],
        updated_at=row[17],
    )
