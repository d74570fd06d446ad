"""The contracts of ports.Tenants and ports.AskedQuestions."""

from dataclasses import replace
from uuid import uuid4

from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import MANY, Desk
from bookwheel.types import AskedQuestion

DAY = 24 * 3600.0


class TenantsContract(PortsContract):
    """Subclass it for a backend that fills ports.Tenants."""

    async def test_a_choice_comes_back(self, desk: Desk, stranger: Desk) -> None:
        """A tenant's generator is its own; at first there is none."""
        assert (await desk.ports.tenants.get(scope=desk.scope())).generator is None
        chosen = await desk.ports.tenants.update(scope=desk.scope(), generator="one")
        assert (chosen.id, chosen.generator) == (desk.tenant, "one")
        assert (await desk.ports.tenants.update(scope=desk.scope())).generator == "one"
        assert (await desk.ports.tenants.get(scope=stranger.scope())).generator is None
        await desk.ports.tenants.update(scope=desk.scope(), generator=None)
        assert (await desk.ports.tenants.get(scope=desk.scope())).generator is None


class AskedQuestionsContract(PortsContract):
    """Subclass it for a backend that fills ports.AskedQuestions."""

    async def test_counts_add_up(self, desk: Desk, stranger: Desk) -> None:
        """Most often asked first, whoever's they are; what is asked seldom is left out."""
        often, seldom, other = _asked(desk, 2), _asked(desk, 1), _asked(stranger, 3)
        await desk.ports.asked.note([often, seldom, other])
        await desk.ports.asked.note([often])
        found = await _popular(desk, at_least=2)
        assert [(one.key, one.times) for one in found if one.key in {often.key, seldom.key, other.key}] == [
            (often.key, 4),
            (other.key, 3),
        ]
        (first,) = [one for one in found if one.key == often.key]
        assert (first.tenant_id, first.request) == (desk.tenant, often.request)

    async def test_what_was_asked_long_ago_is_not_popular(self, desk: Desk) -> None:
        """Only what is asked now is worth keeping ready."""
        asked = _asked(desk, 5)
        await desk.ports.asked.note([asked])
        found = await desk.ports.asked.popular(limit=MANY, at_least=1, within_seconds=-1.0)
        assert asked.key not in {one.key for one in found}

    async def test_nothing_is_refreshed_twice_for_one_asking(self, desk: Desk) -> None:
        """Only a new asking makes another refresh worth it."""
        asked = _asked(desk, 5)
        assert not await desk.ports.asked.refreshed(asked.key)
        await desk.ports.asked.note([asked])
        assert await desk.ports.asked.refreshed(asked.key)
        assert not await desk.ports.asked.refreshed(asked.key)
        await desk.ports.asked.note([asked])
        assert await desk.ports.asked.refreshed(asked.key)

    async def test_forgetting(self, desk: Desk) -> None:
        """Old questions go, at most so many at once; newer ones stay."""
        asked = [_asked(desk, 1), _asked(desk, 1)]
        await desk.ports.asked.note(asked)
        await desk.ports.asked.forget(older_than_seconds=DAY, limit=MANY)
        assert {one.key for one in asked} <= {one.key for one in await _popular(desk)}
        assert await desk.ports.asked.forget(older_than_seconds=-1.0, limit=1) == 1
        await desk.ports.asked.forget(older_than_seconds=-1.0, limit=MANY)
        assert not {one.key for one in asked} & {one.key for one in await _popular(desk)}

    async def test_any_text_may_be_asked(self, desk: Desk) -> None:
        """Also what a database may refuse as text."""
        asked = replace(_asked(desk, 5), request={"text": "nul \x00 and 😀"})
        await desk.ports.asked.note([asked])
        assert [one.request for one in await _popular(desk) if one.key == asked.key] == [asked.request]

    async def test_nothing_asked_is_no_fault(self, desk: Desk) -> None:
        """Whoever notes need not look whether there is something to note."""
        await desk.ports.asked.note([])


def _asked(desk: Desk, times: int) -> AskedQuestion:
    return AskedQuestion(
        tenant_id=desk.tenant, key=f"answer:{uuid4().hex}", request={"text": "Why?", "stores": []}, times=times
    )


async def _popular(desk: Desk, *, at_least: int = 1) -> list[AskedQuestion]:
    return list(await desk.ports.asked.popular(limit=MANY, at_least=at_least, within_seconds=DAY))
