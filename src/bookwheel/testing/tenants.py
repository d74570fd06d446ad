"""The contracts of ports.Tenants, ports.Keys and ports.AskedQuestions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from bookwheel.errors import ConflictError, NotFoundError
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import MANY, Desk
from bookwheel.types import ApiKey, AskedQuestion, Limits, Role, Scope

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

    async def test_a_new_tenant_is_known_and_listed(self, desk: Desk) -> None:
        """With its limits and its share; its name is its own."""
        name = uuid4().hex
        limits = Limits(requests_per_minute=7, bytes=0)
        made = await desk.ports.tenants.create(name, limits=limits, weight=2.5)
        assert (made.name, made.limits, made.weight, made.suspended) == (name, limits, 2.5, False)
        assert await desk.ports.tenants.get(scope=Scope(tenant_id=made.id)) == made
        with pytest.raises(ConflictError):
            await desk.ports.tenants.create(name, limits=Limits())
        listed = [one.id for one in await desk.ports.tenants.list(limit=MANY)]
        assert made.id in listed
        place = listed.index(made.id)
        if place:
            behind = await desk.ports.tenants.list(limit=1, after=listed[place - 1])
            assert [one.id for one in behind] == [made.id]

    async def test_what_is_given_changes(self, desk: Desk) -> None:
        """The rest stays; a name that another one has is refused."""
        one, other = [await desk.ports.tenants.create(uuid4().hex, limits=Limits()) for _ in range(2)]
        scope = Scope(tenant_id=one.id)
        limits = Limits(tokens_per_minute=5)
        changed = await desk.ports.tenants.update(scope=scope, suspended=True, weight=3.0, limits=limits)
        assert changed == replace(one, suspended=True, weight=3.0, limits=limits)
        with pytest.raises(ConflictError):
            await desk.ports.tenants.update(scope=scope, name=other.name)
        assert (await desk.ports.tenants.update(scope=scope, name=one.name, suspended=False)).suspended is False

    async def test_what_a_tenant_holds_is_counted(self, desk: Desk, stranger: Desk) -> None:
        """Documents by text, and files; of this tenant alone."""
        documents, size = await desk.ports.tenants.held(scope=desk.scope())
        store = await desk.store()
        one = await desk.put(store, "12345")
        file = await desk.file()
        await stranger.put(await stranger.store(), "123")
        assert await desk.ports.tenants.held(scope=desk.scope()) == (documents + 1, size + one.size + file.size)


def a_key(tenant: UUID, **changes: object) -> ApiKey:
    """A key with all that it can have."""
    key = ApiKey(
        id=uuid4(),
        tenant_id=tenant,
        name="n",
        prefix="bw-abcdef",
        role=Role.WRITER,
        principals=frozenset(["user:a", "group:b"]),
        store_ids=frozenset([uuid4()]),
        rule={"type": "eq", "key": "a", "value": "b"},
        limits=Limits(requests_per_minute=3),
        created_at=datetime.now(UTC),
        expires_at=None,
        last_used_at=None,
    )
    return replace(key, **changes)  # type: ignore[arg-type]


class KeysContract(PortsContract):
    """Subclass it for a backend that fills ports.Keys."""

    async def test_a_key_is_found_by_its_hash_alone(self, desk: Desk) -> None:
        """Whole, with what its tenant allows."""
        key, secret_hash = a_key(desk.tenant), uuid4().bytes * 2
        made = await desk.ports.keys.create(key, secret_hash=secret_hash)
        found = await desk.ports.keys.by_hash(secret_hash)
        assert found == made == await desk.ports.keys.get(key.id, scope=desk.scope())
        assert replace(made, created_at=key.created_at) == key
        assert await desk.ports.keys.by_hash(uuid4().bytes * 2) is None
        assert await desk.ports.keys.any()

    async def test_a_key_knows_its_tenants_limits_and_whether_it_is_suspended(self, desk: Desk) -> None:
        """As they are when the key is looked up."""
        tenant = await desk.ports.tenants.create(uuid4().hex, limits=Limits(documents=4))
        secret_hash = uuid4().bytes * 2
        await desk.ports.keys.create(a_key(tenant.id), secret_hash=secret_hash)
        found = await desk.ports.keys.by_hash(secret_hash)
        assert found is not None
        assert (found.tenant_limits, found.suspended) == (Limits(documents=4), False)
        await desk.ports.tenants.update(scope=Scope(tenant_id=tenant.id), suspended=True)
        found = await desk.ports.keys.by_hash(secret_hash)
        assert found is not None
        assert found.suspended

    async def test_another_tenants_key_is_not_there(self, desk: Desk, stranger: Desk) -> None:
        """For no verb."""
        key = await desk.ports.keys.create(a_key(desk.tenant), secret_hash=uuid4().bytes * 2)
        keys, scope = desk.ports.keys, stranger.scope()
        for act in (
            keys.get(key.id, scope=scope),
            keys.revoke(key.id, scope=scope),
            keys.expire(key.id, scope=scope, at=datetime.now(UTC)),
        ):
            with pytest.raises(NotFoundError):
                await act
        assert key.id not in [one.id for one in await keys.list(scope=scope, limit=MANY)]
        assert await keys.list(scope=scope, limit=MANY, after=key.id) == []

    async def test_an_expired_key_opens_nothing(self, desk: Desk) -> None:
        """It is still listed; its end is never put off."""
        past, secret_hash = datetime.now(UTC) - timedelta(seconds=5), uuid4().bytes * 2
        key = await desk.ports.keys.create(a_key(desk.tenant), secret_hash=secret_hash)
        await desk.ports.keys.expire(key.id, scope=desk.scope(), at=past)
        assert await desk.ports.keys.by_hash(secret_hash) is None
        later = await desk.ports.keys.expire(key.id, scope=desk.scope(), at=past + timedelta(days=1))
        assert later.expires_at == past
        assert key.id in [one.id for one in await desk.ports.keys.list(scope=desk.scope(), limit=MANY)]

    async def test_a_revoked_key_is_gone(self, desk: Desk) -> None:
        """At once; a second time there is nothing to revoke."""
        secret_hash = uuid4().bytes * 2
        key = await desk.ports.keys.create(a_key(desk.tenant), secret_hash=secret_hash)
        await desk.ports.keys.revoke(key.id, scope=desk.scope())
        assert await desk.ports.keys.by_hash(secret_hash) is None
        with pytest.raises(NotFoundError):
            await desk.ports.keys.revoke(key.id, scope=desk.scope())

    async def test_pages_go_from_new_to_old(self, desk: Desk) -> None:
        """Behind the key that is named."""
        made = [await desk.ports.keys.create(a_key(desk.tenant), secret_hash=uuid4().bytes * 2) for _ in range(3)]
        listed = [one.id for one in await desk.ports.keys.list(scope=desk.scope(), limit=MANY)]
        assert [one for one in listed if one in {key.id for key in made}] == [key.id for key in reversed(made)]
        behind = await desk.ports.keys.list(scope=desk.scope(), limit=1, after=made[2].id)
        assert [one.id for one in behind] == [made[1].id]

    async def test_use_is_noted(self, desk: Desk) -> None:
        """Of the keys that are named."""
        one, other = [await desk.ports.keys.create(a_key(desk.tenant), secret_hash=uuid4().bytes * 2) for _ in range(2)]
        await desk.ports.keys.used([one.id])
        assert (await desk.ports.keys.get(one.id, scope=desk.scope())).last_used_at is not None
        assert (await desk.ports.keys.get(other.id, scope=desk.scope())).last_used_at is None


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
