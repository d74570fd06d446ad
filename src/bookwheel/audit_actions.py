"""What each operation of the API is called in the audit log, by the name of its route function."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

#: Operations that change something, or take out much at once. What comes before the dot is the type of the object.
_TABLE: Final = """
create_response response.create | cancel_response response.cancel | delete_response response.delete
create_webhook webhook.create | modify_webhook webhook.update | delete_webhook webhook.delete
rotate_secret webhook.rotate_secret | try_webhook webhook.test
put_documents document.put | delete_document document.delete
create_store store.create | modify_store store.update | delete_store store.delete
pause_store store.pause | resume_store store.resume
create_batch file_batch.create | cancel_batch file_batch.cancel
attach store_file.create | update_attributes store_file.update | detach store_file.delete
upload file.create | delete_file file.delete
retry_all job.retry_all | retry job.retry | cancel job.cancel | drop job.delete
count_orphans orphans.count | repair_orphans orphans.repair
create_source source.create | modify_source source.update | delete_source source.delete | run_source source.run
modify_tenant tenant.update | export_tenant tenant.export
create_key key.create | create_tenant_key key.create | rotate_key key.rotate | revoke_key key.delete
create_tenant tenant.create | change_tenant tenant.update | update_tenant tenant.update | move_tenant tenant.move
offboard_tenant tenant.delete
export_audit_events audit.export | verify_audit_log audit.verify
"""

#: Operations of other methods than GET that change nothing.
UNCHANGING: Final = frozenset({"search", "plain_search", "complete", "embed", "rerank"})

#: An operator's acts stand in the server's chain: a tenant's own may be gone after them.
OF_THE_SERVER: Final = frozenset(
    {
        "count_orphans",
        "repair_orphans",
        "create_tenant",
        "create_tenant_key",
        "change_tenant",
        "update_tenant",
        "move_tenant",
        "offboard_tenant",
    }
)
_MAKING: Final = frozenset({"create", "put", "retry_all"})  #: the object's id is not in the path


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """An operation's name in the log."""

    name: str  #: such as `file.create`
    object_type: str
    makes: bool  #: the ids in the path are not the object's own


def _read() -> Mapping[str, Action]:
    rows = (row.split() for line in _TABLE.strip().splitlines() for row in line.split("|"))
    return {operation: _action(name) for operation, name in rows}


def _action(name: str) -> Action:
    object_type, _, verb = name.partition(".")
    return Action(name=name, object_type=object_type, makes=verb in _MAKING)


ACTIONS: Final[Mapping[str, Action]] = _read()


def attempt(operation: str) -> Action:
    """What a refused call is called: by its action, or as an access where it would have changed nothing."""
    return ACTIONS.get(operation) or Action(name=f"access.{operation}", object_type="operation", makes=False)
