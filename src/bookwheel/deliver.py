"""Webhooks on their way: signed by the Standard Webhooks scheme, tried again at growing distances, given up in time."""

import asyncio
import random
from datetime import UTC, datetime
from time import time
from typing import Literal, get_args
from uuid import UUID, uuid4

import orjson
import structlog
from standardwebhooks import Webhook

from bookwheel import __version__
from bookwheel.background import patience, waited
from bookwheel.errors import SourceError
from bookwheel.fetching import AGENT, Fetcher
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.telemetry import WEBHOOK_ATTEMPTS
from bookwheel.types import Delivery, DeliveryOutcome, DeliveryStatus, WebhookEndpoint

EventType = Literal[
    "response.completed",
    "response.failed",
    "response.cancelled",
    "response.incomplete",
    "vector_store.file.completed",
    "vector_store.file.failed",
]
EVENT_TYPES: tuple[str, ...] = get_args(EventType)
AT_ONCE = 64  #: deliveries that one worker tries together
EACH_AT_ONCE = 4  #: of one endpoint, which gets no more before these have ended: a slow one holds up no other
POLL_SECONDS = 0.5  #: between looks for due deliveries
TIMEOUT_SECONDS = 15.0  #: of one attempt
LEASE_SECONDS = 60.0  #: an attempt that has not ended by then is made again
FIRST_WAIT_SECONDS, GROWTH, LONGEST_WAIT_SECONDS = 5.0, 4.0, 6 * 3_600.0
JITTER = 0.2  #: of each wait, either way
GIVEN_UP_SECONDS = 86_400.0  #: after the event
STOP_SECONDS = 2.0  #: that running attempts get to finish; what is cut off is sent again, under the same id
SWEEP_SECONDS = 60.0
SWEPT_AT_ONCE = 1_000
DAY_SECONDS = 86_400.0
GONE = 410  #: by which an endpoint says that it wants no more of this

log = structlog.get_logger()


def signed(delivery_id: str, payload: str, *, secret: bytes) -> dict[str, str]:
    """The headers of the Standard Webhooks scheme, for an attempt that is made now."""
    moment = int(time())
    signature = Webhook(secret).sign(delivery_id, datetime.fromtimestamp(moment, UTC), payload)
    return {
        "content-type": "application/json",
        "user-agent": f"{AGENT}/{__version__}",
        "webhook-id": delivery_id,
        "webhook-timestamp": str(moment),
        "webhook-signature": signature,
    }


async def send(endpoint: WebhookEndpoint, delivery_id: UUID, payload: str, *, fetcher: Fetcher) -> int:
    """One attempt; the status of the answer. Raises FetchRefusedError or FetchFailedError."""
    headers = signed(f"wh_{delivery_id.hex}", payload, secret=endpoint.secret)
    return await fetcher.post(endpoint.url, content=payload.encode(), headers=headers, timeout_seconds=TIMEOUT_SECONDS)


async def send_test(endpoint: WebhookEndpoint, event_type: str, *, settings: Settings) -> int:
    """Send an event about nothing, once; the status of the answer. Raises FetchRefusedError or FetchFailedError."""
    event = {
        "id": f"evt_{uuid4().hex}",
        "object": "event",
        "type": event_type,
        "created_at": int(time()),
        "data": {"id": f"test_{uuid4().hex}"},
    }
    async with Fetcher(settings) as fetcher:
        return await send(endpoint, uuid4(), orjson.dumps(event).decode(), fetcher=fetcher)


async def attempted(delivery: Delivery, endpoint: WebhookEndpoint, *, fetcher: Fetcher, age: float) -> DeliveryOutcome:
    """Try a claimed delivery, `age` seconds after its event: how it went, and when it is to be tried again."""
    http_status: int | None = None
    try:
        http_status = await send(endpoint, delivery.id, delivery.payload, fetcher=fetcher)
        error = f"The endpoint answered HTTP {http_status}; only 2xx counts as received."
    except SourceError as failure:
        error = failure.message
    if http_status is not None and 200 <= http_status < 300:
        return DeliveryOutcome(status=DeliveryStatus.DELIVERED, http_status=http_status)
    wait = wait_seconds(delivery.attempts)
    if http_status == GONE or age + wait > GIVEN_UP_SECONDS:
        return DeliveryOutcome(status=DeliveryStatus.FAILED, http_status=http_status, error=error)
    return DeliveryOutcome(status=DeliveryStatus.PENDING, http_status=http_status, error=error, retry_in=wait)


def wait_seconds(attempts: int) -> float:
    """Until the next attempt after so many: 5 s, 20 s, 80 s, ... 6 hours, more or less."""
    # A power that no float holds would come after some hundred attempts; there are about ten in a day.
    wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * GROWTH ** min(attempts - 1, 20))
    return wait * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, keeps no secret


async def deliver_webhooks(ports: Ports, settings: Settings, stop: asyncio.Event) -> None:
    """Deliver what is due until `stop` is set."""
    async with Fetcher(settings, connections=AT_ONCE) as fetcher, asyncio.TaskGroup() as tasks:
        courier = _Courier(ports, settings, stop, fetcher)
        tasks.create_task(courier.run())
        tasks.create_task(courier.sweep())


class _Courier:
    """What one worker process does for webhooks."""

    def __init__(self, ports: Ports, settings: Settings, stop: asyncio.Event, fetcher: Fetcher) -> None:
        self.ports = ports
        self.settings = settings
        self.stop = stop
        self.fetcher = fetcher
        self.running: dict[asyncio.Task[None], UUID] = {}  #: attempts under way, and the endpoint of each
        self.freed = asyncio.Event()  #: an attempt has ended

    async def run(self) -> None:
        """Try what is due; at the end give what is under way a moment."""
        while await self._rested():
            with patience("webhooks"):
                await self._start()
        if self.running:
            _, late = await asyncio.wait(set(self.running), timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def sweep(self) -> None:
        """Forget old deliveries."""
        seconds = self.settings.response_keep_days * DAY_SECONDS
        while await waited(SWEEP_SECONDS, self.stop):
            with patience("webhooks"):
                while await self.ports.webhook_runs.forget(older_than_seconds=seconds, limit=SWEPT_AT_ONCE):
                    pass

    async def _start(self) -> None:
        busy = set(self.running.values())
        while not self.stop.is_set() and (limit := min(EACH_AT_ONCE, AT_ONCE - len(self.running))):
            taken = await self.ports.webhook_runs.claim(lease_seconds=LEASE_SECONDS, limit=limit, without=busy)
            for delivery, endpoint in taken:
                task = asyncio.create_task(self._try(delivery, endpoint))
                self.running[task] = endpoint.id
                task.add_done_callback(self._end)
                busy.add(endpoint.id)
            if len(taken) < limit:
                break

    def _end(self, task: asyncio.Task[None]) -> None:
        del self.running[task]
        self.freed.set()

    async def _rested(self) -> bool:
        """Wait until an attempt has ended, or some time; False, at once, when `stop` is set."""
        waiting = [asyncio.create_task(event.wait()) for event in (self.stop, self.freed)]
        await asyncio.wait(waiting, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        self.freed.clear()
        return not self.stop.is_set()

    async def _try(self, delivery: Delivery, endpoint: WebhookEndpoint) -> None:
        age = time() - delivery.created_at.timestamp()
        outcome = await attempted(delivery, endpoint, fetcher=self.fetcher, age=age)
        WEBHOOK_ATTEMPTS.labels(outcome.status.value).inc()
        if outcome.status is DeliveryStatus.FAILED:
            log.warning("webhook given up", delivery=delivery.id.hex, url=endpoint.url[:200], reason=outcome.error)
        with patience("webhooks"):  # else the lease runs out, and it is sent again
            await self.ports.webhook_runs.finish(delivery, outcome)
