"""Documents that are put: new ones, new versions, and what of known ones changes without."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from bookwheel.backends.postgres.access_sql import file_visible, store_visible, visible
from bookwheel.backends.postgres.database import Connection, rows
from bookwheel.backends.postgres.document_rows import SELECT, check_rule, document_of, index_again
from bookwheel.backends.postgres.jobs import call_workers
from bookwheel.backends.postgres.stores import chunking_json
from bookwheel.errors import InvalidDocumentError, NotFoundError
from bookwheel.given import passages_json, source_of
from bookwheel.rights import taken
from bookwheel.types import Chunking, Document, DocumentDraft, FileStatus, Scope, Store

# unnest would flatten lists of lists, so access lists travel as JSON: null for everybody, NULL for "keep".
ACCESS = "CASE WHEN jsonb_typeof(u.access) = 'array' THEN ARRAY(SELECT jsonb_array_elements_text(u.access)) END"
DENIED = "nullif(ARRAY(SELECT jsonb_array_elements_text(u.denied)), '{}')"
NEW_ACCESS = f"CASE WHEN u.access IS NULL THEN d.access ELSE {ACCESS} END"
NEW_DENIED = f"CASE WHEN u.denied IS NULL THEN d.denied ELSE {DENIED} END"
# A title that was found in the text belongs to that text.
TITLE = "CASE WHEN u.renewed THEN u.title ELSE coalesce(u.title, d.title) END"

INSERT = f"""
INSERT INTO documents (id, tenant_id, store_id, file_id, external_id, filename, title, attributes, access, denied,
    chunking, status, version, urgent, size, sha256, is_inline)
SELECT u.id, %s, %s, u.file_id, u.external_id, u.filename, u.title, u.attributes, {ACCESS}, {DENIED}, u.chunking,
    'in_progress', 1, %s, u.size, u.sha256, u.is_inline
FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::text[], %s::jsonb[], %s::jsonb[], %s::jsonb[],
    %s::jsonb[], %s::bigint[], %s::bytea[], %s::boolean[])
    AS u (id, file_id, external_id, filename, title, attributes, access, denied, chunking, size, sha256, is_inline)
"""

# What a search would show of live documents changes with the next statement.
RAISE_VERSION = f"""
UPDATE stores s SET version = s.version + 1 WHERE s.id = %s AND EXISTS (
    SELECT FROM documents d JOIN unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::jsonb[], %s::jsonb[],
        %s::jsonb[], %s::boolean[]) AS u (id, file_id, filename, title, attributes, access, denied, renewed)
        ON d.id = u.id
    WHERE d.live_version IS NOT NULL AND (d.file_id, d.filename, d.title, d.attributes, d.access, d.denied)
        IS DISTINCT FROM (u.file_id, u.filename, {TITLE}, u.attributes, {NEW_ACCESS}, {NEW_DENIED}))
"""

# Indexes that hold a document's lists are to take it again.
RELISTED = f"""
SELECT d.tenant_id, d.store_id, d.id, d.live_version FROM documents d
    JOIN unnest(%s::uuid[], %s::jsonb[], %s::jsonb[]) AS u (id, access, denied) ON d.id = u.id
WHERE d.live_version IS NOT NULL AND (d.access, d.denied) IS DISTINCT FROM ({NEW_ACCESS}, {NEW_DENIED})
"""

CHANGE = f"""
UPDATE documents d SET filename = u.filename, title = {TITLE}, attributes = u.attributes, access = {NEW_ACCESS},
    denied = {NEW_DENIED}, chunking = u.chunking,
    size = CASE WHEN u.renewed THEN u.size ELSE d.size END, sha256 = u.sha256, is_inline = u.is_inline,
    file_id = u.file_id, version = d.version + u.renewed::integer, error_code = NULL, error_message = NULL,
    status = CASE WHEN u.renewed THEN 'in_progress' ELSE d.status END, urgent = %s, attempts = 0, retry_at = NULL,
    trouble = NULL, updated_at = now()
FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::jsonb[], %s::jsonb[], %s::jsonb[], %s::jsonb[],
    %s::bigint[], %s::bytea[], %s::boolean[], %s::boolean[])
    AS u (id, file_id, filename, title, attributes, access, denied, chunking, size, sha256, is_inline, renewed)
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


async def put_documents(
    connection: Connection, drafts: Sequence[DocumentDraft], *, scope: Scope, store: Store, urgent: bool
) -> list[Document]:
    """Upsert in the caller's transaction, which ends with `call_for`; see ports.Documents.put."""
    await _hold_store(connection, store, scope=scope)
    placed = list[Document]()
    relisted = list[tuple[Any, ...]]()
    for batch in _without_repeats(drafts):
        prepared = await _rows(connection, batch, scope=scope, store=store)
        await _match_existing(connection, prepared, store=store, scope=scope)
        relisted += await _relisted(connection, prepared)
        placed += await _put(connection, prepared, scope=scope, store=store, urgent=urgent)
    await check_rule(connection, [document.id for document in placed], scope=scope)
    await index_again(connection, relisted)
    return placed


async def call_for(connection: Connection, placed: Sequence[Document], *, urgent: bool) -> None:
    """Wake a worker for documents that were put, if any needs one."""
    if any(document.status is FileStatus.IN_PROGRESS for document in placed):
        await call_workers(connection, urgent=urgent)


async def _hold_store(connection: Connection, store: Store, *, scope: Scope) -> None:
    """Keep the store from being deleted until we commit; an expired one is used again. Raises NotFoundError when it is
    gone."""
    there = store_visible(scope)
    held = await rows(
        connection,
        f"SELECT s.expired_at IS NOT NULL FROM stores s WHERE s.id = %s AND {there.sql} FOR KEY SHARE",
        [store.id, *there.values],
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
    connection: Connection, prepared: Sequence[_Row], *, scope: Scope, store: Store, urgent: bool
) -> list[Document]:
    fresh = [row for row in prepared if row.is_new]
    known = [row for row in prepared if not row.is_new]
    if fresh:
        await connection.execute(INSERT.encode(), (scope.tenant_id, store.id, urgent, *_insert_columns(fresh)))
    if known:
        ids, files, filenames, titles, attributes, access, denied, *rest = _change_columns(known)
        shown = (ids, files, filenames, titles, attributes, access, denied)
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
        there = file_visible(scope)
        found = await rows(
            connection,
            f"SELECT f.id, f.filename, f.size, f.sha256 FROM files f WHERE f.id = ANY(%s) AND {there.sql} FOR SHARE",
            [wanted, *there.values],
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


async def _match_existing(connection: Connection, prepared: Sequence[_Row], *, store: Store, scope: Scope) -> None:
    """Give rows that exist already their ids, and decide which of them need a new version. Locks them by id. Raises
    ConflictError for one that the caller may not see."""
    may = visible(replace(scope, store_ids=(store.id,)))
    found = await rows(
        connection,
        f"SELECT d.id, d.external_id, d.file_id, d.sha256, d.chunking, d.status, {may.sql} FROM documents d"
        " WHERE d.store_id = %s AND (d.external_id = ANY(%s) OR d.file_id = ANY(%s)) ORDER BY d.id FOR UPDATE OF d",
        (
            *may.values,
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
            if not old[6]:
                raise taken(external)
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
        [None if row.draft.denied == "keep" else Jsonb(row.draft.denied) for row in fresh],
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


async def _relisted(connection: Connection, prepared: Sequence[_Row]) -> list[tuple[Any, ...]]:
    """Live documents whose lists are about to change."""
    known = [row for row in prepared if not row.is_new and (row.draft.access, row.draft.denied) != ("keep", "keep")]
    if not known:
        return []
    _, _, _, _, _, _, access, denied, *_ = _insert_columns(known)
    return await rows(connection, RELISTED, ([row.id for row in known], access, denied))
