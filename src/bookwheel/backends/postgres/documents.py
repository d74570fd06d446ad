"""Documents in PostgreSQL, from the caller's side: upsert, read, delete."""

from collections.abc import Collection, Sequence
from uuid import UUID

from psycopg.types.json import Jsonb

from bookwheel.backends.postgres.access_sql import Where, visible
from bookwheel.backends.postgres.database import Connection, Database, rows
from bookwheel.backends.postgres.document_puts import call_for, put_documents
from bookwheel.backends.postgres.document_rows import SELECT, check_rule, document_of, index_again
from bookwheel.backends.postgres.removal import remove_documents
from bookwheel.backends.postgres.stores import page
from bookwheel.errors import NotFoundError
from bookwheel.etags import check_tag, document_tag
from bookwheel.types import Access, Attributes, Document, DocumentDraft, FileStatus, Keep, Scope, Store

# Touches a row only when it really changes.
NEW_LISTS = (
    "CASE WHEN %(keep_access)s THEN d.access ELSE %(access)s::text[] END,"
    " CASE WHEN %(keep_denied)s THEN d.denied ELSE nullif(%(denied)s::text[], '{}') END"
)
NEW = f"coalesce(%(attributes)s::jsonb, d.attributes), {NEW_LISTS}"
HELD = f"{SELECT} WHERE d.id = %(id)s AND {{visible}} FOR NO KEY UPDATE"
UPDATE = f"""
UPDATE documents d SET (attributes, access, denied) = ROW({NEW}), updated_at = now()
WHERE d.id = %(id)s AND (d.attributes, d.access, d.denied) IS DISTINCT FROM ({NEW})
RETURNING d.store_id
"""


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
        may = visible(scope)
        found = await self.database.fetch(f"{SELECT} WHERE d.id = %s AND {may.sql}", [document_id, *may.values])
        if not found:
            raise _unknown(document_id)
        return document_of(found[0])

    async def find(self, *, scope: Scope, external_id: str | None = None, file_id: UUID | None = None) -> Document:
        """See ports.Documents."""
        column, value = ("external_id", external_id) if file_id is None else ("file_id", file_id)
        may = visible(scope)
        found = await self.database.fetch(
            f"{SELECT} WHERE d.store_id = %s AND d.{column} = %s AND {may.sql}"
            " ORDER BY d.external_id NULLS FIRST LIMIT 1",  # a file may also stand under ids of the caller's
            [scope.store_ids[0], value, *may.values],
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
        may = visible(scope)
        if status is not None:
            may &= Where("d.status = %s", [status.value])
        query, parameters = page(SELECT, may.sql, may.values, alias="d", table="documents", after=after, newest=newest)
        return [document_of(row) for row in await self.database.fetch(query, [*parameters, limit])]

    async def update(
        self,
        document_id: UUID,
        *,
        scope: Scope,
        attributes: Attributes | None = None,
        access: Access | Keep | None = "keep",
        denied: Access | Keep = "keep",
        if_match: Collection[str] | None = None,
    ) -> Document:
        """See ports.Documents."""
        wanted = {
            "attributes": None if attributes is None else Jsonb(dict(attributes)),
            "keep_access": access == "keep",
            "access": None if access is None or access == "keep" else list(access),
            "keep_denied": denied == "keep",
            "denied": None if denied == "keep" else list(denied),
            "id": document_id,
        }
        may, values = visible(scope).named()

        async def work(connection: Connection) -> Document:
            held = await rows(connection, HELD.format(visible=may), {"id": document_id, **values})
            if not held:
                raise _unknown(document_id)
            old = document_of(held[0])
            check_tag(document_tag(old), if_match)
            for (store_id,) in await rows(connection, UPDATE, wanted):
                await connection.execute("UPDATE stores SET version = version + 1 WHERE id = %s", (store_id,))
            new = document_of((await rows(connection, f"{SELECT} WHERE d.id = %s", (document_id,)))[0])
            await check_rule(connection, [document_id], scope=scope)
            if new.live_version is not None and (new.access, new.denied) != (old.access, old.denied):
                await index_again(connection, [(new.tenant_id, new.store_id, new.id, new.live_version)])
            return new

        return await self.database.transact(work)

    async def delete(self, document_ids: Sequence[UUID], *, scope: Scope) -> int:
        """See ports.Documents."""

        async def work(connection: Connection) -> int:
            may = visible(scope)
            return await remove_documents(
                connection, f"d.id = ANY(%s) AND {may.sql}", [sorted(document_ids), *may.values]
            )

        return await self.database.transact(work)


def _unknown(document_id: UUID) -> NotFoundError:
    return NotFoundError(f"No document with id doc_{document_id.hex} in this store.")
