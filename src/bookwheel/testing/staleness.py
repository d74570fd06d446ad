"""What caches must never do, whatever fills the ports: serve an answer that rests on what has changed."""

import asyncio
import random
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from bookwheel.answer import answer
from bookwheel.follow import catch_up
from bookwheel.ports import Caches, Ports
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import Desk
from bookwheel.types import Answer, Ask, Freshness, Question, Scope, Store

READER = "anna"
NAMES = ("alpha", "bravo", "comet", "delta")
STEPS = 14  # of one interleaving
TOLD = re.compile(r"code of (\w+) is (\d+)")


@dataclass(slots=True)
class Shelf:
    """A store whose documents change, with what a reader may see of each: its code, or nothing."""

    desk: Desk
    store: Store
    ids: dict[str, UUID] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)  # of live documents
    shut: set[str] = field(default_factory=set)  # closed to the reader
    codes_given: int = 0

    @property
    def scope(self) -> Scope:
        """The reader's."""
        return replace(self.desk.scope(self.store), principals=frozenset({READER}))

    def visible(self) -> dict[str, int]:
        """What the reader may see now."""
        return {name: code for name, code in self.codes.items() if name not in self.shut}

    async def put(self, name: str) -> None:
        """A new document, or a new version of it."""
        self.codes_given += 1
        code = self.codes_given
        document, _ = await self.desk.add(self.store, f"The code of {name} is {code}.", external_id=name)
        self.ids[name], self.codes[name] = document.id, code

    async def remove(self, name: str) -> None:
        """Delete it; putting it again opens it to everybody."""
        await self.desk.ports.documents.delete([self.ids[name]], scope=self.desk.scope(self.store))
        del self.codes[name]
        self.shut.discard(name)

    async def turn(self, name: str) -> None:
        """Close it to the reader, or open it again."""
        closing = name not in self.shut
        await self.desk.ports.documents.update(
            self.ids[name], scope=self.desk.scope(self.store), access=("others",) if closing else None
        )
        (self.shut.add if closing else self.shut.discard)(name)

    async def ask(self, name: str) -> Answer:
        """The reader's question about one document."""
        as_of = time.time()
        store = await self.desk.ports.stores.get(self.store.id, scope=self.desk.scope())
        ask = Ask(
            question=Question(text=f"What is the code of {name}?", limit=3),
            space=store.space,
            freshness=Freshness(versions={store.id: store.version}, as_of=as_of),
        )
        return await answer(ask, scope=self.scope, ports=self.desk.ports)


class StalenessContract(PortsContract):
    """Subclass it for ports over a backend: stores, documents, indexes and caches together.

    `interleavings` random ones are tried, from seeds that follow one another; a failing one is named by its seed.
    """

    interleavings = 100

    def strict(self, caches: Caches) -> Caches:
        """The same, where any change of a store ends its answers."""
        return replace(caches, policy=replace(caches.policy, fresh_seconds=0.0))

    async def test_nothing_stale_is_answered(self, ports: Ports) -> None:
        """After an update, a delete or a change of access, no answer rests on what was before."""
        hits = 0
        for seed in range(self.interleavings):
            hits += await self._interleaved(ports, seed, strict=False)
        assert hits > self.interleavings  # else the caches were not asked

    async def test_strictly_every_answer_is_as_new(self, ports: Ports) -> None:
        """In strict mode a kept answer says what an answer made now would say, new documents included."""
        hits = 0
        for seed in range(self.interleavings):
            hits += await self._interleaved(replace(ports, caches=self.strict(ports.caches)), seed, strict=True)
        assert hits > self.interleavings // 2

    async def test_nothing_stale_is_answered_beside_changes(self, ports: Ports) -> None:
        """Questions that are asked while documents change see a state from their beginning on, never an older one."""
        for seed in range(max(5, self.interleavings // 10)):
            await self._beside(ports, seed)

    async def _interleaved(self, ports: Ports, seed: int, *, strict: bool) -> int:
        chance = random.Random(seed)  # noqa: S311 - repeatable
        shelf, hits = await self._shelf(ports), 0
        for _ in range(STEPS):
            await _change(shelf, chance)
            if strict or chance.random() < 0.7:
                while await catch_up(ports):
                    pass
            for _ in range(2):
                name = chance.choice(NAMES)
                got = await shelf.ask(name)
                hits += got.cached is not None
                assert _stale(got, [shelf.visible()]) == [], f"seed {seed}: {got.text!r}, cached {got.cached}"
                if strict:
                    anew = await _uncached(shelf, name)
                    assert got.text == anew.text, f"seed {seed}: {got.text!r} in place of {anew.text!r}"
        return hits

    async def _beside(self, ports: Ports, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - repeatable
        shelf = await self._shelf(ports)
        states = [shelf.visible()]

        noted = asyncio.Lock()  # held while a change may be committed and is not yet noted

        async def changes() -> None:
            for _ in range(STEPS):
                async with noted:
                    await _change(shelf, chance)
                    states.append(shelf.visible())
                await asyncio.sleep(0)

        async def questions() -> None:
            while not changing.done():
                since = len(states) - 1
                got = await shelf.ask(chance.choice(NAMES))
                async with noted:
                    assert _stale(got, states[since:]) == [], f"seed {seed}: {got.text!r}"

        changing = asyncio.ensure_future(changes())
        await asyncio.gather(changing, *(questions() for _ in range(3)))

    async def _shelf(self, ports: Ports) -> Shelf:
        desk = Desk(ports=ports, tenant=await self.new_tenant(ports))
        shelf = Shelf(desk=desk, store=await desk.store())
        for name in NAMES:
            await shelf.put(name)
        while await catch_up(ports):
            pass
        return shelf


async def _change(shelf: Shelf, chance: random.Random) -> None:
    """One thing that an owner does, or nothing."""
    name = chance.choice(NAMES)
    doing = chance.choice(("put", "remove", "turn", "nothing", "nothing"))
    if doing == "put" or (doing != "nothing" and name not in shelf.codes):
        await shelf.put(name)
    elif doing == "remove":
        await shelf.remove(name)
    elif doing == "turn":
        await shelf.turn(name)


def _stale(got: Answer, states: Sequence[dict[str, int]]) -> list[str]:
    """What the answer and its passages say that is true in none of these states."""
    said = " ".join([got.text, *(hit.text for hit in got.found.hits)])
    return [
        f"{name} {code}" for name, code in TOLD.findall(said) if not any(one.get(name) == int(code) for one in states)
    ]


async def _uncached(shelf: Shelf, name: str) -> Answer:
    store = await shelf.desk.ports.stores.get(shelf.store.id, scope=shelf.desk.scope())
    ask = Ask(question=Question(text=f"What is the code of {name}?", limit=3), space=store.space)
    return await answer(ask, scope=shelf.scope, ports=shelf.desk.ports)
