"""Documents in PostgreSQL, from the caller's side: upsert, read, delete."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.backends.postgres.jobs import call_workers
from bookwheel.backends.postgres.removal import remove_documents
from bookwheel.backends.postgres.stores import chunking_json, page
from bookwheel.errors import InvalidDocumentError, NotFoundError
from bookwheel.etags import check_tag, document_tag
from bookwheel.given import passages_json, source_of
from bookwheel.types import Access, Attributes, Chunking, Document, DocumentDraft, FileStatus, Keep, Scope, Store

COLUMNS = (
    "id, tenant_id, store_id, file_id, external_id, filename, title, attributes, chunking, status, version,"
    " live_version, size, chunk_count, error_code, error_message, created_at, updated_at, sha256, access"
)
SELECT = "SELECT " + ", ".join(f"d.{name.strip()}" for name in COLUMNS.split(",")) + " FROM documents d"

# unnest would flatten lists of lists, so access lists travel as JSON: null for everybody, NULL for "keep".
ACCESS = "CASE WHEN jsonb_typeof(u.access) = 'array' THEN ARRAY(SELECT jsonb_array_elements_text(u.access)) END"
NEW_ACCESS = f"CASE WHEN u.access IS NULL THEN d.access ELSE {ACCESS} END"
# A title that was found in the text belongs to that text.
TITLE = "CASE WHEN u.renewed THEN u.title ELSE coalesce(u.title, d.title) END"

INSERT = f"""
INSERT INTO documents (id, tenant_id, store_id, file_id, external_id, filename, title, attributes, access, chunking,
    status, version, urgent, size, sha256, is_inline)
SELECT u.id, %s, %s, u.file_id, u.external_id, u.filename, u.title, u.attributes, {ACCESS}, u.chunking,
    'in_progress', 1, %s, u.size, u.sha256, u.is_inline
FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::text[], %s::jsonb[], %s::jsonb[], %s::jsonb[],
    %s::bigint[], %s::bytea[], %s::boolean[])
    AS u (id, file_id, external_id, filename, title, attributes, access, chunking, size, sha256, is_inline)
"""

# What a search would show of live documents changes with the next statement.
RAISE_VERSION = f"""
UPDATE stores s SET version = s.version + 1 WHERE s.id = %s AND EXISTS (
    SELECT FROM documents d JOIN unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::jsonb[], %s::jsonb[],
        %s::boolean[]) AS u (id, file_id, filename, title, attributes, access, renewed) ON d.id = u.id
    WHERE d.live_version IS NOT NULL AND (d.file_id, d.filename, d.title, d.attributes, d.access)
        IS DISTINCT FROM (u.file_id, u.filename, {TITLE}, u.attributes, {NEW_ACCESS}))
"""

CHANGE = f"""
UPDATE documents d SET filename = u.filename, title = {TITLE}, attributes = u.attributes, access = {NEW_ACCESS},
    chunking = u.chunking,
    size = CASE WHEN u.renewed THEN u.size ELSE d.size END, sha256 = u.sha256, is_inline = u.is_inline,
    file_id = u.file_id, version = d.version + u.renewed::integer, error_code = NULL, error_message = NULL,
    status = CASE WHEN u.renewed THEN 'in_progress' ELSE d.status END, urgent = %s, attempts = 0, retry_at = NULL,
    trouble = NULL, updated_at = now()
FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::jsonb[], %s::jsonb[], %s::jsonb[], %s::bigint[],
    %s::bytea[], %s::boolean[], %s::boolean[])
    AS u (id, file_id, filename, title, attributes, access, chunking, size, sha256, is_inline, renewed)
WHERE d.id = u.id
"""

# Touches a row only when it really changes.
NEW = "coalesce(%(attributes)s::jsonb, attributes), CASE WHEN %(keep)s THEN access ELSE %(access)s::text[] END"
VISIBLE = "id = %(id)s AND tenant_id = %(tenant)s AND store_id = ANY(%(stores)s)"
UPDATE = f"""
UPDATE documents SET (attributes, access) = ROW({NEW}), updated_at = now()
WHERE {VISIBLE}
    AND (attributes, access) IS DISTINCT FROM ({NEW})
RETURNING store_id
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

    async def put(
        self, drafts: Sequence[DocumentDraft], *, scope: Scope, store: Store, bulk: bool | None = None
    ) -> list[Document]:
        """See ports.Documents."""
        urgent = len(drafts) == 1 if bulk is None else not bulk

        async def work(connection: Connection) -> list[Document]:
            placed = await put_documents(connection, drafts, scope=scope, store=store, urgent=urgent)
            await call_for(connection, placed, urgent=urgent)
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
        return document_of(found[0])

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
        return document_of(found[0])

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
        return [document_of(row) for row in await self.database.fetch(query, [*parameters, limit])]

    async def update(
        self,
        document_id: UUID,
        *,
        scope: Scope,
        attributes: Attributes | None = None,
        access: Access | Keep | None = "keep",
        if_match: Collection[str] | None = None,
    ) -> Document:
        """See ports.Documents."""
        wanted = {
            "attributes": None if attributes is None else Jsonb(dict(attributes)),
            "keep": access == "keep",
            "access": None if access is None or access == "keep" else list(access),
            "id": document_id,
            "tenant": scope.tenant_id,
            "stores": list(scope.store_ids),
        }

        async def work(connection: Connection) -> None:
            if if_match is not None:
                held = await rows(connection, f"{SELECT} WHERE {VISIBLE} FOR NO KEY UPDATE", wanted)
                for row in held:
                    check_tag(document_tag(document_of(row)), if_match)
            for (store_id,) in await rows(connection, UPDATE, wanted):
                await connection.execute("UPDATE stores SET version = version + 1 WHERE id = %s", (store_id,))

        await self.database.transact(work)
        return await self.get(document_id, scope=scope)

    async def delete(self, document_ids: Sequence[UUID], *, scope: Scope) -> int:
        """See ports.Documents."""

        async def work(connection: Connection) -> int:
            return await remove_documents(
                connection,
                "d.id = ANY(%s) AND d.tenant_id = %s AND d.store_id = ANY(%s)",
                [sorted(document_ids), scope.tenant_id, list(scope.store_ids)],
            )

        return await self.database.transact(work)


async def put_documents(
    connection: Connection, drafts: Sequence[DocumentDraft], *, scope: Scope, store: Store, urgent: bool
) -> list[Document]:
    """Upsert in the caller's transaction, which ends with `call_for`; see ports.Documents.put."""
    await _hold_store(connection, store, scope=scope)
    placed = []
    for batch in _without_repeats(drafts):
        placed += await _put(connection, batch, scope=scope, store=store, urgent=urgent)
    return placed


async def call_for(connection: Connection, placed: Sequence[Document], *, urgent: bool) -> None:
    """Wake a worker for documents that were put, if any needs one."""
    if any(document.status is FileStatus.IN_PROGRESS for document in placed):
        await call_workers(connection, urgent=urgent)


async def _hold_store(connection: Connection, store: Store, *, scope: Scope) -> None:
    """Keep the store from being deleted until we commit; an expired one is used again. Raises NotFoundError when it is
    gone."""
    held = await rows(
        connection,
        "SELECT expired_at IS NOT NULL FROM stores WHERE id = %s AND tenant_id = %s FOR KEY SHARE",
        (store.id, scope.tenant_id),
    )
    if not held:
        raise NotFoundError(f"No vector store with id vs_{store.id.hex}. List yours with GET /v1/vector_stores.")
    if held[0][0]:
        await connection.execute("UPDATE stores SET expired_at = NULL WHERE id = %s", (store.id,))


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
    connection: Connection, drafts: Sequence[DocumentDraft], *, scope: Scope, store: Store, urgent: bool
) -> list[Document]:
    prepared = await _rows(connection, drafts, scope=scope, store=store)
    await _match_existing(connection, prepared, store=store)
    fresh = [row for row in prepared if row.is_new]
    known = [row for row in prepared if not row.is_new]
    if fresh:
        await connection.execute(INSERT.encode(), (scope.tenant_id, store.id, urgent, *_insert_columns(fresh)))
    if known:
        ids, files, filenames, titles, attributes, access, *rest = _change_columns(known)
        shown = (ids, files, filenames, titles, attributes, access)
        await connection.execute(RAISE_VERSION.encode(), (store.id, *shown, rest[-1]))
        await connection.execute(CHANGE.encode(), (urgent, *shown, *rest))
    found = await rows(connection, f"{SELECT} WHERE d.id = ANY(%s)", ([row.id for row in prepared],))
    documents = {document.id: document for document in map(document_of, found)}
    renewed = [row for row in prepared if row.renewed]
    await _write_bodies(connection, renewed, documents)
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
    size, digest = source_of(draft.text, draft.title, draft.given)
    name = draft.external_id or draft.title or "document"
    return _Row(draft=draft, id=uuid4(), filename=name, size=size, sha256=digest, chunking=chunking)


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
        [None if row.draft.access == "keep" else Jsonb(row.draft.access) for row in fresh],
        [Jsonb(chunking_json(row.chunking)) for row in fresh],
        [row.size for row in fresh],
        [row.sha256 for row in fresh],
        [row.draft.text is not None for row in fresh],
    )


def _change_columns(known: Sequence[_Row]) -> tuple[list[Any], ...]:
    ids, files, _, filenames, titles, *rest = _insert_columns(known)
    return (ids, files, filenames, titles, *rest, [row.renewed for row in known])


async def _write_bodies(connection: Connection, renewed: Sequence[_Row], documents: dict[UUID, Document]) -> None:
    inline = [row for row in renewed if row.draft.text is not None]
    if not inline:
        return
    statement = "COPY bodies (document_id, version, text, passages, vectors) FROM STDIN WITH (FORMAT BINARY)"
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(("uuid", "int4", "text", "jsonb", "bytea"))
        for row in inline:
            given = row.draft.given
            passages = None if given is None else Jsonb(given.passages, passages_json)
            vectors = None if given is None else given.vectors
            await copy.write_row((row.id, documents[row.id].version, row.draft.text, passages, vectors))


def document_of(row: tuple[Any, ...]) -> Document:
    """A row of SELECT."""
    return Document(
        id=row[0],
        tenant_id=row[1],
        store_id=row[2],
        file_id=row[3],
        external_id=row[4],
        filename=row[5],
        title=row[6],
        sha256=row[18],
        attributes=row[7],
        access=None if row[19] is None else tuple(row[19]),
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
