"""What role each operation needs, by the name of its route function. A route without a row here cannot be made."""

from collections.abc import Mapping
from typing import Final

from bookwheel.types import Role

#: Operations that anybody may call, without a key: they say only that the service lives, and what its routes are.
PUBLIC: Final = frozenset({"live", "ready"})
PUBLIC_PATHS: Final = frozenset({"/health/live", "/health/ready", "/openapi.json"})

_READER = """
search plain_search search_by_link complete create_response get_response delete_response cancel_response
list_input_items embed rerank list_documents get_document list_stores get_store get_batch list_batch_files
list_store_files get_store_file store_file_content list_files get_file content list_models get_model get_tenant
list_event_types
"""
_WRITER = """
put_documents delete_document create_store modify_store delete_store pause_store resume_store create_batch cancel_batch
attach update_attributes detach upload delete_file list_jobs retry_all retry cancel drop create_source list_sources
get_source modify_source delete_source run_source
"""
_ADMIN = """
modify_tenant create_webhook list_webhooks get_webhook modify_webhook delete_webhook rotate_secret try_webhook
list_deliveries create_key list_keys get_key rotate_key revoke_key export_tenant
list_audit_events export_audit_events verify_audit_log
"""
_OPERATOR = """
count_orphans repair_orphans status metrics create_tenant list_tenants show_tenant change_tenant create_tenant_key
offboard_tenant list_receipts get_receipt get_signing_key
"""

ROLES: Final[Mapping[str, Role]] = {
    name: role
    for role, names in (
        (Role.READER, _READER),
        (Role.WRITER, _WRITER),
        (Role.ADMIN, _ADMIN),
        (Role.OPERATOR, _OPERATOR),
    )
    for name in names.split()
}


def needed(operation: str) -> Role | None:
    """The role that an operation needs, None where it is public. Raises LookupError for one without a row."""
    if operation in PUBLIC:
        return None
    if operation not in ROLES:
        raise LookupError(f"The operation {operation!r} has no row in api/roles.py: say who may call it.")
    return ROLES[operation]
