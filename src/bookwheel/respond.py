"""Background responses: waiting ones are taken by lease, told event by event into the catalog, and never left stuck.

A worker that takes over from a dead one writes the answer again. As long as it comes out as it was told, the story goes
on behind the last event that is kept, so that a client which follows it sees every event once; where it comes out
differently, the response fails with that reason.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol
from uuid import uuid4

import orjson
import structlog

from bookwheel.background import patience, waited
from bookwheel.errors import BookwheelError, BrokenOffError
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.telemetry import ERRORS
from bookwheel.types import ModelResponse, ResponseEvent, Scope

AT_ONCE = 4  #: responses that one worker writes together
POLL_SECONDS = 0.4  #: between looks for waiting responses
MAX_ATTEMPTS = 3  #: then it fails: its workers died, or a part stayed away
RETRY_SECONDS = 2.0  #: times the attempt, when a part of ours is away
SWEEP_SECONDS = 60.0
SWEPT_AT_ONCE = 1_000
DAY_SECONDS = 86_400.0
MANY_EVENTS = 1_000_000  #: more than a response has

log = structlog.get_logger()


class Narrator(Protocol):
    """Who knows the shapes in which a response is told."""

    def tell(self, kept: ModelResponse, *, ports: Ports, told: int = 0) -> AsyncGenerator[ResponseEvent, None]:
        """The events behind those of its creation; the last one has a `response` that has ended. Where events were
        `told` before, the same are told again as far as can be: nothing is taken from a cache then."""
        ...

    def failure(self, kept: ModelResponse, error: BookwheelError, *, number: int) -> ResponseEvent:
        """The event that ends the response with this reason."""
        ...


async def run_responses(
    ports: Ports, settings: Settings, stop: asyncio.Event, owner: str, *, narrator: Callable[[], Narrator]
) -> None:
    """Write background responses until `stop` is set; what is unfinished then is given back. The narrator is asked for
    when the first one waits, off the event loop."""
    runner = _Runner(ports, settings, stop, owner, narrator)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(runner.run_due())
        tasks.create_task(runner.beat())
        tasks.create_task(runner.sweep())


async def write_response(kept: ModelResponse, *, owner: str, ports: Ports, narrator: Narrator) -> bool:
    """Tell a claimed response to its end, or to its failure; False when it is not the owner's any more. Raises
    retryable errors while a later attempt may succeed."""
    scope, whose = Scope(tenant_id=kept.tenant_id), kept.caller_id
    told = await ports.responses.events(kept.id, scope=scope, caller_id=whose, limit=MANY_EVENTS)
    try:
        return await _write(kept, told, owner=owner, ports=ports, narrator=narrator)
    except BookwheelError as error:
        if error.retryable and kept.attempts < MAX_ATTEMPTS:
            raise
        reason = error
    except Exception as error:
        log.exception("response failed", response=kept.id.hex)
        ERRORS.labels("responses", type(error).__name__).inc()
        reason = BookwheelError()
    behind = len(told) - 1
    last = await ports.responses.events(kept.id, scope=scope, caller_id=whose, after=behind, limit=MANY_EVENTS)
    event = narrator.failure(kept, reason, number=len(told) + len(last))
    return await ports.response_runs.record(kept.id, [event], owner=owner, body=event["response"])


async def _write(
    kept: ModelResponse, told: Sequence[ResponseEvent], *, owner: str, ports: Ports, narrator: Narrator
) -> bool:
    if kept.attempts > MAX_ATTEMPTS:
        raise BrokenOffError(f"The answer was not finished in {MAX_ATTEMPTS} attempts. Ask again.")
    async with aclosing(narrator.tell(kept, ports=ports, told=len(told))) as events:
        async for event in events:
            number = event["sequence_number"]
            if number < len(told):
                if not _is_same(event, told[number]):
                    raise BrokenOffError
            elif not await ports.response_runs.record(kept.id, [event], owner=owner, body=event.get("response")):
                return False
    return True


def _is_same(event: ResponseEvent, told: ResponseEvent) -> bool:
    again = orjson.loads(orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY))
    return bool(again == told)


class _Runner:
    """What one worker process does for responses."""

    def __init__(
        self, ports: Ports, settings: Settings, stop: asyncio.Event, owner: str, narrator: Callable[[], Narrator]
    ) -> None:
        self.ports = ports
        self.settings = settings
        self.stop = stop
        self.owner = owner
        self.narrator = narrator
        self.running: dict[str, asyncio.Task[None]] = {}  #: by the owner that the lease names

    async def run_due(self) -> None:
        """Start what waits; at the end cancel what runs."""
        while await waited(POLL_SECONDS, self.stop):
            with patience("responses"):
                while len(self.running) < AT_ONCE and await self._start():
                    pass
        ending = list(self.running.values())
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def beat(self) -> None:
        """Tell that the runs are alive; end those whose response was cancelled, deleted or taken over."""
        while await waited(self.settings.lease_seconds / 4, self.stop):
            with patience("responses"):
                for owner, task in list(self.running.items()):
                    held = await self.ports.response_runs.renew(owner, lease_seconds=self.settings.lease_seconds)
                    if not held:
                        task.cancel()

    async def sweep(self) -> None:
        """Forget old responses."""
        seconds = self.settings.response_keep_days * DAY_SECONDS
        while await waited(SWEEP_SECONDS, self.stop):
            with patience("responses"):
                while await self.ports.response_runs.forget(older_than_seconds=seconds, limit=SWEPT_AT_ONCE):
                    pass

    async def _start(self) -> bool:
        """Begin one response; False when none waits."""
        owner = f"{self.owner}-{uuid4().hex[:8]}"
        seconds = self.settings.lease_seconds
        for kept in await self.ports.response_runs.claim(owner=owner, lease_seconds=seconds, limit=1):
            self.running[owner] = task = asyncio.create_task(self._run(kept, owner))
            task.add_done_callback(lambda _: self.running.pop(owner))
            return True
        return False

    async def _run(self, kept: ModelResponse, owner: str) -> None:
        try:
            narrator = await asyncio.to_thread(self.narrator)
            await write_response(kept, owner=owner, ports=self.ports, narrator=narrator)
        except BookwheelError as error:
            log.warning("response waits", response=kept.id.hex, reason=error.message)
            with patience("responses"):  # else the lease runs out
                await self.ports.response_runs.release(owner, retry_in=RETRY_SECONDS * kept.attempts)
        except asyncio.CancelledError:
            with patience("responses"):
                await self.ports.response_runs.release(owner, uncounted=True)
            raise
