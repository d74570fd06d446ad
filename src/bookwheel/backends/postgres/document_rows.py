"""Rows of documents, and what every change of one ends with."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from bookwheel.backends.postgres.access_sql import in_rule
from bookwheel.backends.postgres.database import Connection, rows
from bookwheel.rights import out_of_bounds
from bookwheel.types import Chunking, Document, FileStatus, Scope

COLUMNS = (
    "id, tenant_id, store_id, file_id, external_id, filename, title, attributes, chunking, status, version,"
    " live_version, size, chunk_count, error_code, error_message, created_at, updated_at, sha256, access, denied"
)
SELECT = "SELECT " + ", ".join(f"d.{name.strip()}" for name in COLUMNS.split(",")) + " FROM documents d"


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
        denied=tuple(row[20] or ()),
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


async def index_again(connection: Connection, documents: Sequence[tuple[Any, ...]]) -> None:
    """Have derived indexes take these live documents again. Last in a transaction: it holds up whoever publishes."""
    if documents:
        columns = map(list, zip(*documents, strict=True))
        await connection.execute(
            "SELECT append_to_outbox(%s, %s, %s, %s, %s)", (["publish"] * len(documents), *columns)
        )


async def check_rule(connection: Connection, document_ids: Sequence[UUID], *, scope: Scope) -> None:
    """Raises PermissionDeniedError where one of these documents does not pass the caller's own rule."""
    if scope.rule is not None:
        rule = in_rule(scope)
        query = f"SELECT d.external_id FROM documents d WHERE d.id = ANY(%s) AND NOT ({rule.sql}) LIMIT 1"
        for (external_id,) in await rows(connection, query, [list(document_ids), *rule.values]):
            raise out_of_bounds(external_id)
