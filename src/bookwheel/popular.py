"""Questions that are asked again and again: counted, kept ready, and answered anew before their kept answers die.

The door counts what is asked; a worker looks at what is popular. A question is answered ahead of time at most once for
each time that it was asked, so that keeping it ready never costs more answers than answering it would.
"""

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

import structlog
from cachetools import TTLCache

from bookwheel.answer import answer, chosen
from bookwheel.background import patience, waited
from bookwheel.caching import is_settled, kept
from bookwheel.errors import BookwheelError
from bookwheel.kept_answers import answer_key, dies_in
from bookwheel.ports import Ports
from bookwheel.telemetry import ERRORS, REFRESHED
from bookwheel.types import Ask, AskedQuestion, Freshness, Question, Scope

NOTE_SECONDS = 2.0  #: between writes of the counts
MOST_NOTED = 10_000  #: different questions between two writes; more are not counted
LOOK_SECONDS = 5.0  #: between looks at what is popular
AHEAD_SECONDS = 30.0  #: so long before its death an answer is made anew
AT_LEAST = 3  #: times that a question was asked
DAY_SECONDS = 86_400.0
FORGET_DAYS, FORGOTTEN_AT_ONCE = 7, 10_000

IN_VAIN_SECONDS = 3_600.0  #: that a question is left alone whose new answer could not be kept

T = TypeVar("T")

log = structlog.get_logger()


def count_asked(ask: Ask, *, scope: Scope, ports: Ports) -> None:
    """Remember that it was asked, if it stands alone and may be kept."""
    asked, fresh = ports.caches.asked, ask.freshness
    if not ports.caches.policy.popular or fresh is None or not fresh.write or ask.history or ask.question.vector:
        return
    key = answer_key(ask, chosen(ask, ports).model, scope=scope, ports=ports)
    if key in asked:
        asked[key] = replace(asked[key], times=asked[key].times + 1)
    elif len(asked) < MOST_NOTED:
        asked[key] = AskedQuestion(tenant_id=scope.tenant_id, key=key, request=_request(ask, scope), times=1)


async def note_asked(ports: Ports, stop: asyncio.Event) -> None:
    """Write the counts down now and then, and once more at the end."""
    going_on = True
    while going_on:
        going_on = await waited(NOTE_SECONDS, stop)
        asked = list(ports.caches.asked.values())
        ports.caches.asked.clear()
        if asked:
            with patience("popular"):
                await _told_if_wrong(ports.asked.note(asked))


async def _told_if_wrong(work: Awaitable[T]) -> T | None:
    """What the work gives; one question that cannot be counted or answered must not end what keeps the others."""
    try:
        return await work
    except BookwheelError:
        raise
    except Exception as error:
        log.exception("popular questions", error=type(error).__name__)
        ERRORS.labels("popular", type(error).__name__).inc()
        return None


async def warm(ports: Ports) -> int:
    """Bring the kept answers of what is popular into this process; returns how many."""
    found = await _popular(ports)
    return len(await kept([one.key for one in found], ports=ports)) if found else 0


async def refresh_popular(ports: Ports, stop: asyncio.Event) -> None:
    """Keep what is popular ready until `stop` is set; where nothing is counted any more, forget what was."""
    days = FORGET_DAYS if ports.caches.policy.popular else 0
    in_vain: TTLCache[str, None] = TTLCache(maxsize=1_000, ttl=IN_VAIN_SECONDS)
    while await waited(LOOK_SECONDS, stop):
        for one in await _popular(ports):
            if stop.is_set():
                return
            if one.key not in in_vain:
                with patience("popular"):
                    if await _told_if_wrong(refresh(one, ports)) is False:
                        in_vain[one.key] = None
        with patience("popular"):
            await ports.asked.forget(older_than_seconds=days * DAY_SECONDS, limit=FORGOTTEN_AT_ONCE)


async def refresh(one: AskedQuestion, ports: Ports) -> bool | None:
    """Answer it anew if its kept answer is dead or about to die. True when it was, False when that was in vain: what
    came cannot be kept, or nobody can answer it any more; None when there was nothing to do."""
    scope = _scope(one)
    try:
        ask = await _ask(one.request, scope, ports)
        model = chosen(ask, ports).model
        if answer_key(ask, model, scope=scope, ports=ports) != one.key:  # asked under other settings
            return False
        if not await _is_due(one, ask, scope=scope, ports=ports):
            return None
        await answer(ask, scope=scope, ports=ports)
    except BookwheelError as error:
        if error.retryable:
            raise
        log.info("popular question not answered", reason=error.message)
        return False
    REFRESHED.inc()
    return await dies_in(one.key, ask, scope=scope, ports=ports) > 0


async def _is_due(one: AskedQuestion, ask: Ask, *, scope: Scope, ports: Ports) -> bool:
    """It dies soon, what is made now can be kept, and somebody asked since it was made ahead of time last."""
    ahead = AHEAD_SECONDS if ports.caches.policy.answer_seconds > 2 * AHEAD_SECONDS else 0.0
    if await dies_in(one.key, ask, scope=scope, ports=ports) > ahead:
        return False
    assert ask.freshness is not None  # noqa: S101 - `_ask` gives it
    return await is_settled(ask.freshness, scope=scope, ports=ports) and await ports.asked.refreshed(one.key)


async def _popular(ports: Ports) -> Sequence[AskedQuestion]:
    found: Sequence[AskedQuestion] = ()
    with patience("popular"):
        found = await ports.asked.popular(
            limit=ports.caches.policy.popular, at_least=AT_LEAST, within_seconds=DAY_SECONDS
        )
    return found  # noqa: RET504 - patience goes on without one


def _request(ask: Ask, scope: Scope) -> dict[str, Any]:
    question = {name: getattr(ask.question, name) for name in Question.__slots__ if name != "vector"}
    return {
        "question": question,
        "stores": [store.hex for store in scope.store_ids],
        "principals": sorted(scope.principals),
        "granted": None if scope.granted is None else sorted(store.hex for store in scope.granted),
        "rule": scope.rule,
        "instructions": ask.instructions,
        "schema": ask.schema,
        "max_tokens": ask.max_tokens,
        "model": ask.model,
    }


def _scope(one: AskedQuestion) -> Scope:
    """Of whoever asked it; what was counted before there were bounds had none."""
    granted = one.request.get("granted")
    return Scope(
        tenant_id=one.tenant_id,
        store_ids=tuple(UUID(store) for store in one.request["stores"]),
        principals=frozenset(one.request["principals"]),
        granted=None if granted is None else frozenset(map(UUID, granted)),
        rule=one.request.get("rule"),
    )


async def _ask(request: Mapping[str, Any], scope: Scope, ports: Ports) -> Ask:
    """The same over the stores as they are now; nothing kept is read. Raises NotFoundError."""
    as_of = time.time()
    stores = [await ports.stores.get(store, scope=scope) for store in scope.store_ids]
    return Ask(
        question=Question(**request["question"]),
        space=stores[0].space,
        instructions=request["instructions"],
        schema=request["schema"],
        max_tokens=request["max_tokens"],
        model=request["model"],
        freshness=Freshness(versions={store.id: store.version for store in stores}, as_of=as_of, read=False),
    )
