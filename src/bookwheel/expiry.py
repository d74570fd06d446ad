"""What ends by itself: stores that nobody uses, files whose time is over, answers kept for requests that come again."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from bookwheel.access import within
from bookwheel.background import patience
from bookwheel.errors import StoreExpiredError
from bookwheel.ports import Ports
from bookwheel.types import Scope, Store

ACTIVE_SECONDS = 60.0  # so often a search is noted as activity of its store
KEEP_ANSWER_SECONDS = 24 * 3600.0
SWEEP_STORES, SWEEP_FILES, SWEEP_KEYS = 10, 100, 10_000  # at most, in one go


async def note_search(stores: Sequence[Store], *, scope: Scope, ports: Ports) -> None:
    """These stores, as they were just read, are searched by somebody. Raises StoreExpiredError."""
    for store in stores:
        if store.expired:
            raise StoreExpiredError(
                f"The vector store vs_{store.id.hex} expired after {store.expires_after_days} days without use, and its"
                " documents are gone. Attach files to it, or modify it, to use it again."
            )
    rested = datetime.now(UTC) - timedelta(seconds=ACTIVE_SECONDS)
    if at_rest := [store.id for store in stores if store.last_active_at < rested]:
        with patience("expiry"):  # a search is not refused because nobody could note it
            await ports.expiry.touch(scope=within(scope, *at_rest), every_seconds=ACTIVE_SECONDS)


async def remove_expired(ports: Ports) -> dict[str, int]:
    """Remove what is over; returns how many by kind, without those of which there were none."""
    counts = {
        "stores": await ports.expiry.stores(older_than_seconds=0.0, limit=SWEEP_STORES),
        "files": await ports.expiry.files(older_than_seconds=0.0, limit=SWEEP_FILES),
        "idempotency_keys": await ports.idempotency_keys.clean(
            older_than_seconds=KEEP_ANSWER_SECONDS, limit=SWEEP_KEYS
        ),
    }
    return {kind: count for kind, count in counts.items() if count}
