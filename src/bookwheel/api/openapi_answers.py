"""What each operation takes and answers beside what FastAPI derives, by the name of its route function."""

from collections.abc import Mapping
from typing import Any, Final

from bookwheel.api.attributes import MAX_LABEL, MAX_PRINCIPALS
from bookwheel.api.documents import MAX_ID, MAX_TITLE
from bookwheel.api.files import MAX_LIFE, MIN_LIFE, PURPOSES
from bookwheel.api.given import MAX_HEADING, MAX_HEADINGS, MAX_PAGE, MAX_PASSAGE, MAX_PASSAGES, SCHEMA
from bookwheel.api.lines import MEDIA_TYPE
from bookwheel.replies.answers import ChatCompletion, Embeddings, InputMessage, Reranked, Response
from bookwheel.replies.service import (
    Alive,
    AuditEvent,
    AuditVerification,
    Delivery,
    EventTypes,
    Job,
    JobChanged,
    JobsRetried,
    Key,
    Model,
    NewKey,
    NewWebhook,
    Orphans,
    Readiness,
    SignedReceipt,
    SigningKey,
    Source,
    Status,
    Tenant,
    Webhook,
    WebhookTried,
    WholeSource,
    WholeTenant,
)
from bookwheel.replies.stores import (
    Batch,
    Deleted,
    Document,
    DocumentDeleted,
    DocumentPut,
    Failure,
    File,
    Page,
    SearchPage,
    SearchResults,
    Store,
    StoreFile,
    StoreFileContent,
)

ANSWERS: Final[Mapping[str, Any]] = {
    "search": SearchPage,
    "plain_search": SearchResults,
    "search_by_link": SearchResults,
    "complete": ChatCompletion,
    "create_response": Response,
    "get_response": Response,
    "cancel_response": Response,
    "delete_response": Deleted,
    "list_input_items": Page[InputMessage],
    "create_webhook": NewWebhook,
    "list_webhooks": Page[Webhook],
    "list_event_types": EventTypes,
    "get_webhook": Webhook,
    "modify_webhook": Webhook,
    "rotate_secret": NewWebhook,
    "delete_webhook": Deleted,
    "try_webhook": WebhookTried,
    "list_deliveries": Page[Delivery],
    "embed": Embeddings,
    "rerank": Reranked,
    "put_documents": DocumentPut,
    "list_documents": Page[Document],
    "get_document": Document,
    "delete_document": DocumentDeleted,
    "create_store": Store,
    "list_stores": Page[Store],
    "get_store": Store,
    "modify_store": Store,
    "pause_store": Store,
    "resume_store": Store,
    "delete_store": Deleted,
    "create_batch": Batch,
    "get_batch": Batch,
    "cancel_batch": Batch,
    "list_batch_files": Page[StoreFile],
    "attach": StoreFile,
    "list_store_files": Page[StoreFile],
    "get_store_file": StoreFile,
    "update_attributes": StoreFile,
    "detach": Deleted,
    "store_file_content": StoreFileContent,
    "upload": File,
    "list_files": Page[File],
    "get_file": File,
    "delete_file": Deleted,
    "list_jobs": Page[Job],
    "retry_all": JobsRetried,
    "retry": JobChanged,
    "cancel": JobChanged,
    "drop": JobChanged,
    "count_orphans": Orphans,
    "repair_orphans": Orphans,
    "list_models": Page[Model],
    "get_model": Model,
    "create_source": Source,
    "list_sources": Page[Source],
    "get_source": WholeSource,
    "modify_source": Source,
    "run_source": Source,
    "delete_source": Deleted,
    "get_tenant": Tenant,
    "modify_tenant": Tenant,
    "create_key": NewKey,
    "list_keys": Page[Key],
    "get_key": Key,
    "rotate_key": NewKey,
    "revoke_key": Deleted,
    "create_tenant": WholeTenant,
    "list_tenants": Page[WholeTenant],
    "show_tenant": WholeTenant,
    "change_tenant": WholeTenant,
    "create_tenant_key": NewKey,
    "offboard_tenant": SignedReceipt,
    "list_receipts": Page[SignedReceipt],
    "get_receipt": SignedReceipt,
    "get_signing_key": SigningKey,
    "list_audit_events": Page[AuditEvent],
    "verify_audit_log": AuditVerification,
    "live": Alive,
    "ready": Readiness,
    "status": Status,
}
ERROR: Final = ("error", Failure)
READINESS: Final = "ready"  #: says what is wrong in its own shape
_EVENTS: Final = {
    "text/event-stream": {
        "schema": {
            "type": "object",
            "description": "Each event; with `stream`.",
            "required": ["data"],
            "properties": {
                "event": {"type": "string"},
                "data": {"type": "string", "description": "JSON, or [DONE] at the end of a chat."},
            },
        }
    }
}
_TEXT: Final = {"schema": {"type": "string"}}
OTHER_KINDS: Final[Mapping[str, Any]] = {  #: of content, beside JSON
    "content": {"application/octet-stream": _TEXT, "multipart/byteranges": _TEXT},
    "metrics": {"text/plain": _TEXT},
    "complete": _EVENTS,
    "create_response": _EVENTS,
    "get_response": _EVENTS,
    "put_documents": {MEDIA_TYPE: _TEXT},
    "export_audit_events": {MEDIA_TYPE: _TEXT},
    "export_tenant": {MEDIA_TYPE: _TEXT},
}
TAGGED: Final = frozenset(
    {"create_store", "get_store", "modify_store", "attach", "get_store_file", "update_attributes"}
)
NAMES_IN_BODY: Final = frozenset(  #: ids, names or models that need not be there
    {
        "create_store",
        "plain_search",
        "search_by_link",
        "complete",
        "create_response",
        "embed",
        "rerank",
        "create_source",
        "modify_tenant",
        "create_key",
        "offboard_tenant",
    }
)
LINKS: Final = frozenset({"search_by_link"})  #: that HTTP's caches understand
WRITTEN: Final = frozenset({"complete", "create_response"})  #: by a model that may be busy or misunderstand
FETCHES: Final = frozenset({"put_documents", "try_webhook"})  #: from the address that the request names
RANGES: Final = frozenset({"content"})

_UPLOAD: Final = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "minLength": 1},
        "purpose": {"enum": sorted(PURPOSES), "default": "assistants"},
        "expires_after[anchor]": {"const": "created_at"},
        "expires_after[seconds]": {"type": "integer", "minimum": MIN_LIFE, "maximum": MAX_LIFE},
    },
}
_PASSAGE: Final = {
    "type": "object",
    "required": ["text", "vector"],
    "properties": {
        "text": {"type": "string", "minLength": 1, "maxLength": MAX_PASSAGE},
        "vector": SCHEMA,
        "page": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_PAGE},
        "heading_path": {
            "type": ["array", "null"],
            "items": {"type": "string", "minLength": 1, "maxLength": MAX_HEADING},
            "maxItems": MAX_HEADINGS,
        },
    },
}
_DOCUMENT: Final = {
    "type": "object",
    "required": ["id"],
    "description": "One of: `text`, with its `vector` or without; `chunks`; a `url` whose page is fetched.",
    "oneOf": [{"required": ["text"]}, {"required": ["chunks"]}, {"required": ["url"]}],
    "dependentRequired": {"vector": ["text"]},
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": MAX_ID},
        "text": {"type": "string", "minLength": 1},
        "vector": SCHEMA,
        "chunks": {"type": "array", "items": _PASSAGE, "minItems": 1, "maxItems": MAX_PASSAGES},
        "url": {"type": "string"},
        "title": {"type": ["string", "null"], "maxLength": MAX_TITLE},
        "attributes": {"type": ["object", "null"]},
        "access": {
            "type": ["array", "null"],
            "items": {"type": "string", "minLength": 1, "maxLength": MAX_LABEL},
            "minItems": 1,
            "maxItems": MAX_PRINCIPALS,
        },
    },
}
BODIES: Final = {  #: of routes that read them themselves
    "upload": {"multipart/form-data": {"schema": _UPLOAD}},
    "put_documents": {
        MEDIA_TYPE: {"schema": {"type": "string", "description": "Such an object a line; one result line for each."}},
        "application/json": {"schema": _DOCUMENT},
    },
}
