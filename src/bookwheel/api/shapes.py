"""Our values as OpenAI's JSON objects."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bookwheel.api.cache_control import cached_object
from bookwheel.api.ids import public
from bookwheel.types import (
    Access,
    Answer,
    CheckedSentence,
    Chunking,
    Citation,
    Document,
    File,
    FileBatch,
    FileStatus,
    Hit,
    Store,
)

INVALID_FILE = frozenset(
    {
        "unprocessable_file",
        "encrypted_file",
        "broken_file",
        "no_text",
        "needs_ocr",
        "parse_timeout",
        "parse_memory",
        "too_large",
    }
)


def seconds(moment: datetime) -> int:
    """Unix time."""
    return int(moment.timestamp())


def milliseconds(timings: Mapping[str, float]) -> dict[str, float]:
    """Seconds by stage as milliseconds by stage."""
    return {stage: round(value * 1000, 3) for stage, value in timings.items()}


def file_object(file: File) -> dict[str, Any]:
    """A `file`."""
    return {
        "id": public("file", file.id),
        "object": "file",
        "bytes": file.size,
        "created_at": seconds(file.created_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "expires_at": file.expires_at and seconds(file.expires_at),
        "status_details": None,
    }


def store_object(store: Store) -> dict[str, Any]:
    """A `vector_store`."""
    counts = {status.value: store.counts.get(status, 0) for status in FileStatus}
    return {
        "id": public("store", store.id),
        "object": "vector_store",
        "created_at": seconds(store.created_at),
        "name": store.name,
        "usage_bytes": store.size,
        "file_counts": {**counts, "total": sum(counts.values())},
        "status": "expired" if store.expired else "in_progress" if counts["in_progress"] else "completed",
        "paused": store.paused,
        "chunk_count": store.chunk_count,
        "percent": _percent(counts),
        "expires_after": _expires_after(store.expires_after_days),
        "expires_at": store.expires_at and seconds(store.expires_at),
        "last_active_at": seconds(store.last_active_at),
        "metadata": dict(store.metadata),
        "access": access_object(store.access),
        "denied": list(store.denied),
        "chunking_strategy": chunking_object(store.chunking),
    }


def batch_object(batch: FileBatch) -> dict[str, Any]:
    """A `vector_store.files_batch`, as OpenAI's client types name it."""
    counts = {status.value: batch.counts.get(status, 0) for status in FileStatus}
    return {
        "id": public("batch", batch.id),
        "object": "vector_store.files_batch",
        "created_at": seconds(batch.created_at),
        "vector_store_id": public("store", batch.store_id),
        "status": _batch_status(batch, counts),
        "file_counts": {**counts, "total": sum(counts.values())},
        "percent": _percent(counts),
    }


def _batch_status(batch: FileBatch, counts: Mapping[str, int]) -> str:
    if counts["in_progress"]:
        return "in_progress"
    if batch.cancelled:
        return "cancelled"
    return "failed" if counts["failed"] and not counts["completed"] else "completed"


def _percent(counts: Mapping[str, int]) -> float:
    """Of what is not in progress any more."""
    return round(100 * (1 - counts["in_progress"] / max(1, sum(counts.values()))), 1)


def _expires_after(days: int | None) -> dict[str, Any] | None:
    return None if days is None else {"anchor": "last_active_at", "days": days}


def chunking_object(chunking: Chunking) -> dict[str, Any]:
    """A chunking strategy with its sizes."""
    sizes = {"max_chunk_size_tokens": chunking.max_tokens, "chunk_overlap_tokens": chunking.overlap_tokens}
    match chunking.strategy:
        case "structure":
            return {"type": "static", "static": sizes}
        case "parent_child":
            return {"type": "parent_child", **sizes, "parent_chunk_size_tokens": chunking.parent_tokens}
        case other:
            return {"type": other, **sizes}


def source_id(document: Document | Hit) -> str:
    """The id of its file, or its own where it was put as text."""
    if document.file_id is not None:
        return public("file", document.file_id)
    return public("document", document.id if isinstance(document, Document) else document.document_id)


def access_object(access: Access | None) -> list[str] | None:
    """Who may read it; null where there is no list."""
    return None if access is None else list(access)


def store_file_object(document: Document) -> dict[str, Any]:
    """A document as a `vector_store.file`."""
    return {
        "id": source_id(document),
        "object": "vector_store.file",
        "created_at": seconds(document.created_at),
        "usage_bytes": document.size,
        "vector_store_id": public("store", document.store_id),
        "status": document.status.value,
        "last_error": _last_error(document),
        "chunking_strategy": chunking_object(document.chunking),
        "attributes": dict(document.attributes),
        "access": access_object(document.access),
        "denied": list(document.denied),
        "document_id": public("document", document.id),
        "external_id": document.external_id,
        "filename": document.filename,
        "version": document.version,
    }


def document_object(document: Document) -> dict[str, Any]:
    """A document under the caller's own id."""
    return {
        "id": document.external_id or source_id(document),
        "object": "vector_store.document",
        "document_id": public("document", document.id),
        "file_id": public("file", document.file_id) if document.file_id else None,
        "vector_store_id": public("store", document.store_id),
        "filename": document.filename,
        "title": document.title,
        "attributes": dict(document.attributes),
        "access": access_object(document.access),
        "denied": list(document.denied),
        "hash": document.sha256.hex(),
        "status": document.status.value,
        "version": document.version,
        "live_version": document.live_version,
        "chunk_count": document.chunk_count,
        "usage_bytes": document.size,
        "last_error": _last_error(document),
        "created_at": seconds(document.created_at),
        "updated_at": seconds(document.updated_at),
        "chunking_strategy": chunking_object(document.chunking),
    }


def _last_error(document: Document) -> dict[str, Any] | None:
    code = document.error_code
    if code is None:
        return None
    known = "unsupported_file" if code == "unsupported_file" else "server_error"
    theirs = "invalid_file" if code in INVALID_FILE else known  # OpenAI's clients know these three
    return {"code": theirs, "message": document.error_message or "", "reason": code}


def hit_object(hit: Hit) -> dict[str, Any]:
    """A hit as a search result."""
    return {
        "file_id": source_id(hit),
        "filename": hit.filename,
        "score": float(hit.score),
        "attributes": dict(hit.attributes),
        "content": [{"type": "text", "text": hit.text}],
        "document": {
            "id": public("document", hit.document_id),
            "external_id": hit.external_id,
            "vector_store_id": public("store", hit.store_id),
            "title": hit.title,
            "version": hit.version,
            "page": hit.page,
            "start": hit.start,
            "end": hit.end,
            "heading_path": list(hit.heading_path),
            "ordinal": hit.ordinal,
            "language": hit.language,
            "hash": hit.sha256.hex(),
            "access": access_object(hit.access),
            "created_at": seconds(hit.created_at),
            "updated_at": seconds(hit.updated_at),
        },
    }


def chunk_object(hit: Hit) -> dict[str, Any]:
    """A chunk of a document, for `include=content`."""
    return {
        "text": hit.text,
        "ordinal": hit.ordinal,
        "page": hit.page,
        "start": hit.start,
        "end": hit.end,
        "heading_path": list(hit.heading_path),
        "language": hit.language,
    }


def citation_object(citation: Citation) -> dict[str, Any]:
    """A citation as an annotation of a chat message."""
    hit = citation.hit
    return {
        "type": "file_citation",
        "file_citation": {
            "file_id": source_id(hit),
            "filename": hit.filename,
            "quote": citation.quote,
            "page": hit.page,
            "start": citation.start,
            "end": citation.end,
            "index": citation.index,
            "answer_offset": citation.answer_offset,
            "document_id": public("document", hit.document_id),
            "external_id": hit.external_id,
        },
    }


def _sentence_object(sentence: CheckedSentence) -> dict[str, Any]:
    return {
        "start": sentence.start,
        "end": sentence.end,
        "claims": sentence.claims,
        "supported": sentence.supported,
        "score": round(sentence.score, 4),
        "citations": list(sentence.citations),
        "reason": sentence.reason,
    }


def answer_details(answer: Answer) -> dict[str, Any]:
    """The `bookwheel` extension of a chat completion."""
    return {
        "supported": answer.supported,
        "model": answer.model,
        "search_query": answer.search_query,
        "warnings": list(answer.found.warnings),
        "degraded": list(dict.fromkeys((*answer.found.degraded, *answer.degraded))),
        "timings": milliseconds({**answer.found.timings, **answer.timings}),
        "cache": cached_object(answer.cached),
        "grounding": None if answer.grounding is None else round(answer.grounding, 4),
        "sentences": [_sentence_object(sentence) for sentence in answer.sentences],
        "hits": [hit_object(hit) for hit in answer.found.hits],
    }
