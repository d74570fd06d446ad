"""What no answer may ever hold, whatever fills the ports: a passage that is not its caller's, or that is gone.

Tenants with the same names for everything, stores and documents with random lists, callers with random principals,
stores and rules; documents come, change, close, open and go while many ask at once, with all caches on.
"""

import asyncio
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from bookwheel.answer import answer
from bookwheel.follow import catch_up
from bookwheel.ports import Ports
from bookwheel.retrieve import retrieve
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import Desk
from bookwheel.types import Access, Ask, Freshness, Question, Scope, Store

NAMES = ("alpha", "bravo", "comet", "delta", "ember")
PRINCIPALS = ("user:ada", "user:bob", "group:staff", "group:board")
DEPARTMENTS = ("sales", "legal")
TENANTS, STORES, READERS = 3, 2, 4
CODE = re.compile(r"code of \w+ is (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """Who may read."""

    access: Access | None = None
    denied: Access = ()


@dataclass(slots=True)
class History:
    """What something was, from which step on; None when it was not there."""

    steps: list[tuple[int, Any]] = field(default_factory=list)

    def between(self, since: int, until: int) -> list[Any]:
        """All that it was then."""
        ends = [start for start, _ in self.steps[1:]] + [until + 1]
        return [what for (start, what), end in zip(self.steps, ends, strict=True) if start <= until and end > since]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A document as readers may have it."""

    code: int
    department: str
    lists: Lists


@dataclass(slots=True)
class Shelf:
    """A store with the history of its lists and of each of its documents."""

    desk: Desk
    store: Store
    lists: History = field(default_factory=History)
    documents: dict[str, History] = field(default_factory=dict)
    ids: dict[str, UUID] = field(default_factory=dict)


class Library:
    """All tenants, what is true of them at each step, and what an answer may hold."""

    def __init__(self, ports: Ports, chance: random.Random) -> None:
        self.ports = ports
        self.chance = chance
        self.shelves: list[Shelf] = []
        self.owner: dict[int, tuple[Shelf, str]] = {}  #: of each code that was ever given
        self.step = 0
        self.changing = asyncio.Lock()  #: held while a change may be committed and is not yet noted

    async def change(self) -> None:
        """One thing that an owner does."""
        shelf, name = self.chance.choice(self.shelves), self.chance.choice(NAMES)
        async with self.changing:
            self.step += 1
            known = shelf.documents.get(name)
            if known is None or known.steps[-1][1] is None:
                await self._put(shelf, name, lists=self._lists())
                return
            doing = self.chance.choice(("put", "remove", "turn", "turn", "move", "store"))
            await getattr(self, f"_{doing}")(shelf, name)

    def foreign(self, scope: Scope, said: str, since: int) -> list[str]:
        """What it says that its caller could not have read at any moment since this step."""
        wrong = []
        for code in map(int, CODE.findall(said)):
            shelf, name = self.owner[code]
            readings = shelf.documents[name].between(since, self.step)
            lists = shelf.lists.between(since, self.step)
            if not any(
                reading is not None and reading.code == code and may_read(scope, shelf, reading, of_store)
                for reading in readings
                for of_store in lists
            ):
                wrong.append(f"{name} {code} of {shelf.store.id}")
        return wrong

    async def _put(self, shelf: Shelf, name: str, lists: Lists | None = None) -> None:
        before = None if name not in shelf.documents else shelf.documents[name].steps[-1][1]
        code, department = len(self.owner) + 1, self.chance.choice(DEPARTMENTS)
        self.owner[code] = (shelf, name)
        document, _ = await shelf.desk.add(
            shelf.store,
            f"The code of {name} is {code}.",
            external_id=name,
            attributes={"department": department},
        )
        shelf.ids[name] = document.id
        reading = Reading(code=code, department=department, lists=Lists() if before is None else before.lists)
        self._note(shelf, name, reading)
        if lists is not None:
            await self._set(shelf, name, replace(reading, lists=lists))

    async def _remove(self, shelf: Shelf, name: str) -> None:
        await self.ports.documents.delete([shelf.ids[name]], scope=shelf.desk.scope(shelf.store))
        self._note(shelf, name, None)

    async def _turn(self, shelf: Shelf, name: str) -> None:
        await self._set(shelf, name, replace(shelf.documents[name].steps[-1][1], lists=self._lists()))

    async def _move(self, shelf: Shelf, name: str) -> None:
        department = self.chance.choice(DEPARTMENTS)
        await self._set(shelf, name, replace(shelf.documents[name].steps[-1][1], department=department))

    async def _store(self, shelf: Shelf, _name: str) -> None:
        lists = self._lists()
        scope = shelf.desk.scope(shelf.store)
        await self.ports.stores.update(shelf.store.id, scope=scope, access=lists.access, denied=lists.denied)
        shelf.lists.steps.append((self.step, lists))

    async def _set(self, shelf: Shelf, name: str, reading: Reading) -> None:
        await self.ports.documents.update(
            shelf.ids[name],
            scope=shelf.desk.scope(shelf.store),
            attributes={"department": reading.department},
            access=reading.lists.access,
            denied=reading.lists.denied,
        )
        self._note(shelf, name, reading)

    def _note(self, shelf: Shelf, name: str, reading: Reading | None) -> None:
        shelf.documents.setdefault(name, History()).steps.append((self.step, reading))

    def _lists(self) -> Lists:
        some = tuple(self.chance.sample(PRINCIPALS, self.chance.randint(1, 2)))
        return self.chance.choice(
            (Lists(), Lists(), Lists(access=some), Lists(denied=some[:1]), Lists(access=some, denied=some[:1]))
        )


def may_read(scope: Scope, shelf: Shelf, reading: Reading, of_store: Lists) -> bool:
    """The rule in plain words: the tenant and the stores of the scope; deny wins, the document's list before the
    store's; the caller's rule holds for every document."""
    allowed = of_store.access if reading.lists.access is None else reading.lists.access
    denied = {*reading.lists.denied, *of_store.denied}
    return (
        scope.tenant_id == shelf.store.tenant_id
        and shelf.store.id in scope.store_ids
        and not scope.principals & denied
        and (allowed is None or not scope.principals.isdisjoint(allowed))
        and (scope.rule is None or scope.rule == {"department": reading.department})
    )


class IsolationContract(PortsContract):
    """Subclass it for ports over a backend: stores, documents, indexes and caches together. `answers` are asked for;
    everything random comes from `seed`."""

    answers = 1_000
    seed = 1

    async def test_no_answer_holds_what_is_foreign_or_gone(self, ports: Ports) -> None:
        """Whoever asks, whatever changes meanwhile, kept or made anew."""
        library = await self._library(ports)
        wrong: list[str] = []
        told, kept, left = 0, 0, self.answers

        async def ask_on(chance: random.Random) -> None:
            nonlocal told, kept, left
            while left > 0:
                left -= 1
                scope, since = _scope(library, chance), library.step
                said, was_kept = await _said(ports, scope, chance)
                async with library.changing:
                    wrong.extend(library.foreign(scope, said, since))
                told, kept = told + len(CODE.findall(said)), kept + was_kept

        async def change_on() -> None:
            while left > 0:
                await library.change()
                if library.chance.random() < 0.5:
                    await catch_up(ports)
                await asyncio.sleep(library.chance.choice((0, 0, 0.005)))

        readers = [ask_on(random.Random(self.seed * 100 + number)) for number in range(READERS)]  # noqa: S311
        await asyncio.gather(change_on(), *readers)
        assert wrong == []
        assert told > self.answers // 10  # else nothing could have been wrong
        assert kept > self.answers // 50  # else the caches were not asked

    async def _library(self, ports: Ports) -> Library:
        library = Library(ports, random.Random(self.seed))  # noqa: S311 - repeatable
        for _ in range(TENANTS):
            desk = Desk(ports=ports, tenant=await self.new_tenant(ports))
            for _ in range(STORES):
                shelf = Shelf(desk=desk, store=await desk.store())
                shelf.lists.steps.append((0, Lists()))
                library.shelves.append(shelf)
        for _ in range(len(NAMES) * len(library.shelves)):
            await library.change()
        while await catch_up(ports):
            pass
        return library


def _scope(library: Library, chance: random.Random) -> Scope:
    """A caller: of one tenant, with some principals, sometimes with a rule, looking at one or all of its stores."""
    shelf = chance.choice(library.shelves)
    stores = [one.store.id for one in library.shelves if one.desk.tenant == shelf.desk.tenant]
    return Scope(
        tenant_id=shelf.desk.tenant,
        store_ids=tuple(stores) if chance.random() < 0.5 else (shelf.store.id,),
        principals=frozenset(chance.sample(PRINCIPALS, chance.randint(0, 2))),
        rule=chance.choice((None, None, *({"department": one} for one in DEPARTMENTS))),
        manages=chance.random() < 0.2,
    )


async def _said(ports: Ports, scope: Scope, chance: random.Random) -> tuple[str, bool]:
    """All that an answer or a search shows, and whether it was kept."""
    as_of = time.time()
    stores = [await ports.stores.get(store, scope=replace(scope, manages=True)) for store in scope.store_ids]
    freshness = Freshness(versions={store.id: store.version for store in stores}, as_of=as_of)
    question = Question(text=f"What is the code of {chance.choice(NAMES)}?", limit=3, filter=_filter(chance))
    if chance.random() < 0.5:
        found = await retrieve(question, space=stores[0].space, scope=scope, ports=ports, freshness=freshness)
        return " ".join(hit.text for hit in found.hits), found.cached is not None
    got = await answer(Ask(question=question, space=stores[0].space, freshness=freshness), scope=scope, ports=ports)
    return " ".join([got.text, *(hit.text for hit in got.found.hits)]), got.cached is not None


def _filter(chance: random.Random) -> Mapping[str, Any] | None:
    return {"department": chance.choice(DEPARTMENTS)} if chance.random() < 0.2 else None
