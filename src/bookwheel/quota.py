"""How much a tenant may hold: documents, and bytes of documents' sources and files.

Looked at before something is taken in, so callers who add at the same moment may go over by what they bring then. What
is there already is never removed for it.
"""

from bookwheel.access import caller
from bookwheel.errors import QuotaError
from bookwheel.ports import Ports
from bookwheel.types import Scope


async def check_room(*, scope: Scope, ports: Ports, documents: int = 0, size: int = 0) -> None:
    """Raises QuotaError when so many more documents or bytes would not fit. Costs nothing where there is no limit."""
    present = caller()
    limits = None if present is None else present.tenant_limits
    if limits is None or not (limits.documents or limits.bytes):
        return
    held_documents, held_bytes = await ports.tenants.held(scope=scope)
    for what, held, more, most in (
        ("documents", held_documents, documents, limits.documents),
        ("bytes", held_bytes, size, limits.bytes),
    ):
        if most and more and held + more > most:
            raise QuotaError(
                f"The tenant holds {held:,} {what}; with {more:,} more it would have more than its {most:,}."
                " Remove something, or ask the operator for a larger limit."
            )
