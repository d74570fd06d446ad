"""Stores and documents in memory, from the caller's side."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from bookwheel.backends.memory.database import DocumentRow, MemoryDatabase, page
from bookwheel.backends.memory.files import visible_file
from bookwheel.errors import InvalidDocumentError, NotFoundError
from bookwheel.etags import check_tag, document_tag, store_tag
from bookwheel.given import source_of
from bookwheel.rights import (
    bound_to_stores,
    holds_hidden,
    in_bounds,
    lists_closed,
    out_of_bounds,
    store_is_open,
    store_is_there,
    taken,
)
from bookwheel.types import (
    Access,
    Attributes,
    Chunking,
    Document,
    DocumentDraft,
    FileStatus,
    Keep,
    Metadata,
    Scope,
    Space,
    Store,
)


class MemoryStores:
    """Fills ports.Stores."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def create(
        self,
        name: str,
        *,
        scope: Scope,
        space: Space,
        chunking: Chunking,
        metadata: Metadata,
        expires_after_days: int | None = None,
        access: Access | None = None,
        denied: Access = (),
    ) -> Store:
        """See ports.Stores."""
        if scope.granted is not None:
            raise bound_to_stores()
        now = self.database.now()
        store = Store(
            id=uuid4(),
            tenant_id=scope.tenant_id,
            name=name,
            space=space,
            chunking=chunking,
            metadata=dict(metadata),
            version=0,
            created_at=now,
            last_active_at=now,
            expires_after_days=expires_after_days,
            access=access,
            denied=denied,
        )
        self.database.stores[store.id] = store
        return self._counted(store, scope)

    async def get(self, store_id: UUID, *, scope: Scope) -> Store:
        """See ports.Stores."""
        return self._counted(self._one(store_id, scope), scope)

    async def list(
        self, *, scope: Scope, limit: int, after: UUID | None = None, newest: bool = True
    ) -> Sequence[Store]:
        """See ports.Stores."""
        found = page(
            self.database.stores,
            lambda store: store_is_there(store, scope),
            limit=limit,
            after=after,
            newest=newest,
        )
        return [self._counted(store, scope) for store in found]

    async def named(self, names: Sequence[str], *, scope: Scope, limit: int) -> Sequence[Store]:
        """See ports.Stores."""
        found = page(
            self.database.stores,
            lambda store: store_is_there(store, scope) and store.name in names,
            limit=limit,
            after=None,
            newest=False,
        )
        return [self._counted(store, scope) for store in found]

    async def update(
        self,
        store_id: UUID,
        *,
        scope: Scope,
        name: str | None = None,
        metadata: Metadata | None = None,
        paused: bool | None = None,
        expires_after_days: int | Keep | None = "keep",
        access: Access | Keep | None = "keep",
        denied: Access | Keep = "keep",
        if_match: Collection[str] | None = None,
    ) -> Store:
        """See ports.Stores."""
        store = self._one(store_id, scope)
        check_tag(store_tag(store), if_match)
        if not (access == denied == "keep" or scope.manages or store_is_open(store, scope)):
            raise lists_closed("vector store")
        self.database.stores[store_id] = changed = replace(
            store,
            name=store.name if name is None else name,
            metadata=store.metadata if metadata is None else dict(metadata),
            paused=store.paused if paused is None else paused,
            expires_after_days=store.expires_after_days if expires_after_days == "keep" else expires_after_days,
            access=store.access if access == "keep" else access,
            denied=store.denied if denied == "keep" else denied,
        )
        listed = (changed.access, changed.denied) != (store.access, store.denied)
        self.database.touch_store(store_id, version=int(listed))
        return self._counted(self.database.stores[store_id], scope)

    async def delete(self, store_id: UUID, *, scope: Scope, if_match: Collection[str] | None = None) -> None:
        """See ports.Stores."""
        check_tag(store_tag(self._one(store_id, scope)), if_match)
        rows = [row for row in self.database.documents.values() if row.document.store_id == store_id]
        if not all(self.database.may_know(row, scope) for row in rows):
            raise holds_hidden("vector store")
        self.database.remove_documents([row.document for row in rows])
        for source in [source for source in self.database.sources.values() if source.store_id == store_id]:
            self.database.remove_source(source.id)
        for batch in [batch for batch in self.database.batches.values() if batch.batch.store_id == store_id]:
            del self.database.batches[batch.batch.id]
        del self.database.stores[store_id]

    def _one(self, store_id: UUID, scope: Scope) -> Store:
        store = self.database.stores.get(store_id)
        if store is None or not store_is_there(store, scope):
            raise NotFoundError(f"No vector store with id vs_{store_id.hex}. List yours with GET /v1/vector_stores.")
        return store

    def _counted(self, store: Store, scope: Scope) -> Store:
        rows = [row for row in self.database.documents.values() if row.document.store_id == store.id]
        documents = [row.document for row in rows if self.database.may_know(row, scope)]
        counts = Counter(document.status for document in documents)
        return replace(
            store,
            expired=store.expired or (store.expires_at is not None and store.expires_at <= self.database.now()),
            size=sum(document.size for document in documents),
            chunk_count=sum(document.chunk_count for document in documents),
            counts={status: counts[status] for status in FileStatus},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """What a draft says, checked and with its defaults filled in."""

    draft: DocumentDraft
    filename: str
    size: int
    digest: bytes
    sha256: bytes | None
    chunking: Chunking


class MemoryDocuments:
    """Fills ports.Documents."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def put(
        self, drafts: Sequence[DocumentDraft], *, scope: Scope, store: Store, bulk: bool | None = None
    ) -> Sequence[Document]:
        """See ports.Documents."""
        urgent = len(drafts) == 1 if bulk is None else not bulk
        kept = self.database.stores.get(store.id)
        if kept is None or not store_is_there(kept, scope):
            raise NotFoundError(f"No vector store with id vs_{store.id.hex}.")
        sources = [self._source(draft, scope, store) for draft in drafts]
        for source in sources:  # one wrong draft stores nothing
            self._check(source, store, scope)
        return [self._place(source, store, urgent=urgent) for source in sources]

    async def get(self, document_id: UUID, *, scope: Scope) -> Document:
        """See ports.Documents."""
        row = self.database.visible_one(document_id, scope)
        if row is None:
            raise NotFoundError(f"No document with id doc_{document_id.hex} in this store.")
        return row.document

    async def find(self, *, scope: Scope, external_id: str | None = None, file_id: UUID | None = None) -> Document:
        """See ports.Documents."""
        for row in self.database.visible(scope):
            if _is(row.document, external_id=external_id, file_id=file_id):
                return row.document
        name = f"id {external_id!r}" if file_id is None else f"file file-{file_id.hex}"
        raise NotFoundError(f"No document with {name} in this store.")

    async def list(
        self,
        *,
        scope: Scope,
        limit: int,
        after: UUID | None = None,
        newest: bool = True,
        status: FileStatus | None = None,
    ) -> Sequence[Document]:
        """See ports.Documents."""
        visible = {row.document.id for row in self.database.visible(scope)}
        return page(
            {row.document.id: row.document for row in self.database.documents.values()},
            lambda document: document.id in visible and status in (None, document.status),
            limit=limit,
            after=after,
            newest=newest,
        )

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
        old = await self.get(document_id, scope=scope)
        check_tag(document_tag(old), if_match)
        new = replace(
            old,
            attributes=old.attributes if attributes is None else _stored(attributes),
            access=old.access if access == "keep" else access,
            denied=old.denied if denied == "keep" else denied,
        )
        if not in_bounds(new, scope):
            raise out_of_bounds(new.external_id)
        if _shown(new) != _shown(old):
            self.database.documents[document_id].document = replace(new, updated_at=self.database.now())
            self.database.touch_store(new.store_id, version=1)
        self._index_again(old, new)
        return self.database.documents[document_id].document

    async def delete(self, document_ids: Sequence[UUID], *, scope: Scope) -> int:
        """See ports.Documents."""
        rows = [self.database.visible_one(document_id, scope) for document_id in dict.fromkeys(document_ids)]
        return self.database.remove_documents([row.document for row in rows if row is not None])

    def _source(self, draft: DocumentDraft, scope: Scope, store: Store) -> _Source:
        chunking = draft.chunking or store.chunking
        if draft.file_id is not None:
            file = visible_file(self.database, draft.file_id, scope)
            return _Source(
                draft=draft,
                filename=file.filename,
                size=file.size,
                digest=file.sha256,
                sha256=file.sha256,
                chunking=chunking,
            )
        if draft.text is None:
            raise InvalidDocumentError
        size, digest = source_of(draft.text, draft.title, draft.given)
        return _Source(
            draft=draft,
            filename=draft.external_id or draft.title or "document",
            size=size,
            digest=digest,
            sha256=None,
            chunking=chunking,
        )

    def _place(self, source: _Source, store: Store, *, urgent: bool) -> Document:
        row = self._existing(source.draft, store)
        if row is None:
            row = self._insert(source, store)
            renewed = True
        else:
            renewed = _is_news(source, row)
            before = row.document
            _change(row, source, renewed=renewed)
            if before.live_version is not None and _shown(before) != _shown(row.document):
                self.database.touch_store(store.id, version=1)
            self._index_again(before, row.document)
        row.document = replace(row.document, updated_at=self.database.now())
        row.urgent, row.attempts, row.retry_at, row.trouble = urgent, 0, None, None
        self.database.touch_store(store.id)
        return row.document

    def _check(self, source: _Source, store: Store, scope: Scope) -> None:
        """Raises ConflictError where a document stands that the caller may not know of, PermissionDeniedError for one
        that its rule would hide."""
        row = self._existing(source.draft, store)
        if row is not None and not self.database.may_know(row, scope):
            raise taken(source.draft.external_id)
        if scope.rule is not None:
            made = (
                self._made(source, store)
                if row is None
                else _changed(row.document, source, renewed=_is_news(source, row))
            )
            if not in_bounds(made, scope):
                raise out_of_bounds(source.draft.external_id)

    def _index_again(self, old: Document, new: Document) -> None:
        """Have derived indexes take a live document's lists again."""
        if new.live_version is not None and (new.access, new.denied) != (old.access, old.denied):
            self.database.append("publish", replace(new, version=new.live_version))

    def _existing(self, draft: DocumentDraft, store: Store) -> DocumentRow | None:
        file_id = draft.file_id if draft.external_id is None else None
        if draft.external_id is None and file_id is None:
            return None
        rows = [row for row in self.database.documents.values() if row.document.store_id == store.id]
        return next((row for row in rows if _is(row.document, external_id=draft.external_id, file_id=file_id)), None)

    def _insert(self, source: _Source, store: Store) -> DocumentRow:
        document = self._made(source, store)
        row = DocumentRow(
            document=document,
            digest=source.digest,
            text=source.draft.text,
            sha256=source.sha256,
            given=source.draft.given,
        )
        self.database.documents[document.id] = row
        return row

    def _made(self, source: _Source, store: Store) -> Document:
        now = self.database.now()
        return Document(
            id=uuid4(),
            tenant_id=store.tenant_id,
            store_id=store.id,
            file_id=source.draft.file_id,
            external_id=source.draft.external_id,
            filename=source.filename,
            title=source.draft.title,
            sha256=source.digest,
            attributes=_stored(source.draft.attributes),
            access=None if source.draft.access == "keep" else source.draft.access,
            denied=() if source.draft.denied == "keep" else source.draft.denied,
            status=FileStatus.IN_PROGRESS,
            version=1,
            live_version=None,
            size=source.size,
            chunk_count=0,
            error_code=None,
            error_message=None,
            created_at=now,
            updated_at=now,
            chunking=source.chunking,
        )


def _is(document: Document, *, external_id: str | None, file_id: UUID | None) -> bool:
    return document.external_id == external_id if file_id is None else document.file_id == file_id


def _is_news(source: _Source, row: DocumentRow) -> bool:
    """Whether a document needs a new version; one that failed is tried again."""
    same = source.digest == row.digest and source.chunking == row.document.chunking
    return not same or row.document.status in (FileStatus.FAILED, FileStatus.CANCELLED)


def _change(row: DocumentRow, source: _Source, *, renewed: bool) -> None:
    row.digest, row.sha256 = source.digest, source.sha256
    row.text, row.given = source.draft.text, source.draft.given
    row.document = _changed(row.document, source, renewed=renewed)


def _changed(old: Document, source: _Source, *, renewed: bool) -> Document:
    return replace(
        old,
        file_id=source.draft.file_id,
        filename=source.filename,
        title=source.draft.title if renewed else source.draft.title or old.title,  # found in the text, it belongs to it
        sha256=source.digest,
        attributes=_stored(source.draft.attributes),
        access=old.access if source.draft.access == "keep" else source.draft.access,
        denied=old.denied if source.draft.denied == "keep" else source.draft.denied,
        chunking=source.chunking,
        size=source.size if renewed else old.size,
        version=old.version + renewed,
        status=FileStatus.IN_PROGRESS if renewed else old.status,
        error_code=None,
        error_message=None,
    )


def _shown(document: Document) -> tuple[object, ...]:
    """What searches show of a document whatever its version; `1` and `true` are as different as in JSON."""
    attributes = json.dumps(dict(document.attributes), sort_keys=True)
    return (document.file_id, document.filename, document.title, attributes, document.access, document.denied)


def _stored(attributes: Attributes) -> dict[str, object]:
    """Attributes as JSON storage gives them back; the caller's own mapping may change later."""
    stored: dict[str, object] = json.loads(json.dumps(dict(attributes)))
    return stored
