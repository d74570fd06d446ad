"""Audit events in the words of the Open Cybersecurity Schema Framework: class 6003, API Activity, version 1.6.0."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

from bookwheel.audit import as_json
from bookwheel.types import AuditEvent, Outcome

VERSION: Final = "1.6.0"
CATEGORY, CLASS = 6, 6003  #: Application Activity, API Activity
OTHER: Final = (99, "Other")
ACTIVITIES: Final[Mapping[str, tuple[int, str]]] = {  #: by the verb of the action
    "create": (1, "Create"),
    "put": (1, "Create"),
    "count": (2, "Read"),
    "export": (2, "Read"),
    "verify": (2, "Read"),
    "update": (3, "Update"),
    "rotate": (3, "Update"),
    "rotate_secret": (3, "Update"),
    "pause": (3, "Update"),
    "resume": (3, "Update"),
    "move": (3, "Update"),
    "cancel": (3, "Update"),
    "retry": (3, "Update"),
    "retry_all": (3, "Update"),
    "delete": (4, "Delete"),
}
INFORMATIONAL, LOW, MEDIUM = (1, "Informational"), (2, "Low"), (3, "Medium")
USER, ADMIN, UNKNOWN = (1, "User"), (2, "Admin"), (0, "Unknown")
STATUS: Final[Mapping[Outcome, tuple[int, str]]] = {
    Outcome.SUCCESS: (1, "Success"),
    Outcome.DENIED: (2, "Failure"),
    Outcome.FAILURE: (2, "Failure"),
}


def api_activity(event: AuditEvent) -> dict[str, Any]:
    """The event as OCSF has it; what is needed to check the chain is in `unmapped`."""
    activity_id, activity = ACTIVITIES.get(event.action.rpartition(".")[2], OTHER)
    severity_id, severity = _severity(event)
    status_id, status = STATUS[event.outcome]
    known = as_json(event)
    return {
        "activity_id": activity_id,
        "activity_name": activity,
        "category_uid": CATEGORY,
        "category_name": "Application Activity",
        "class_uid": CLASS,
        "class_name": "API Activity",
        "type_uid": CLASS * 100 + activity_id,
        "type_name": f"API Activity: {activity}",
        "time": int(event.at.timestamp() * 1000),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "status_detail": event.outcome.value,
        "metadata": _metadata(event),
        "actor": {"user": _user(event)},
        "api": {"operation": str(event.details.get("operation", event.action)), "request": {"uid": event.request_id}},
        "src_endpoint": {"ip": event.address} if event.address else {"name": "unknown"},
        "resources": [{"type": event.object_type, **({"uid": event.object_id} if event.object_id else {})}],
        "unmapped": {
            name: known[name] for name in ("at", "object_hash", "details", "previous_hash", "hash", "actor_role")
        },
    }


def _metadata(event: AuditEvent) -> dict[str, Any]:
    return {
        "version": VERSION,
        "product": {"name": "Bookwheel", "vendor_name": "Bookwheel", "version": version("bookwheel")},
        "uid": f"{event.tenant_id.hex}-{event.sequence}",
        "sequence": event.sequence,
        "tenant_uid": str(event.tenant_id),
        "event_code": event.action,
        "correlation_uid": event.request_id,
    }


def _user(event: AuditEvent) -> dict[str, Any]:
    kinds = {"admin": ADMIN, "operator": ADMIN, None: UNKNOWN}
    type_id, type_ = kinds.get(event.actor_role, USER)
    return {"uid": event.actor, "type_id": type_id, "type": type_}


def _severity(event: AuditEvent) -> tuple[int, str]:
    if event.action == "key.unusual":
        return MEDIUM
    return LOW if event.outcome is Outcome.DENIED else INFORMATIONAL
