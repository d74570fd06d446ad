"""What counts as a use of a key out of pattern, and how often it is told."""

from datetime import UTC, datetime, timedelta

import pytest

from bookwheel.backends.memory.audit import MemoryKeyUses
from bookwheel.backends.memory.database import MemoryDatabase
from bookwheel.key_habits import NETWORKS, KeyHabits, network_of

HOME, AWAY = "192.0.2.7", "198.51.100.9"
KEY = "key_1"


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 22, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def pass_(self, **time: float) -> None:
        """Move it on."""
        self.at += timedelta(**time)


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


@pytest.fixture
def uses() -> MemoryKeyUses:
    """What processes share."""
    return MemoryKeyUses(MemoryDatabase())


@pytest.fixture
def habits(uses: MemoryKeyUses, clock: Clock) -> KeyHabits:
    """Of one process."""
    return KeyHabits(uses, clock=clock)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("testclient", None),
        (None, None),
    ],
)
def test_networks_are_coarse(address: str | None, network: str | None) -> None:
    """/24 and /48; what is no address has none."""
    assert network_of(address) == network


async def test_a_young_key_may_come_from_anywhere(habits: KeyHabits, clock: Clock) -> None:
    """In its first day."""
    assert await habits.unusual(KEY, HOME, denied=False) is None
    clock.pass_(hours=23)
    assert await habits.unusual(KEY, AWAY, denied=False) is None
    clock.pass_(hours=2)
    assert await habits.unusual(KEY, AWAY, denied=False) is None


async def test_a_new_network_is_told_once(habits: KeyHabits, clock: Clock) -> None:
    """Then it is known; another one within the hour is not told, but known too."""
    await habits.unusual(KEY, HOME, denied=False)
    clock.pass_(days=2)
    told = {"reason": "new_network", "network": "198.51.100.0/24"}
    assert await habits.unusual(KEY, AWAY, denied=False) == told
    assert await habits.unusual(KEY, AWAY, denied=False) is None
    assert await habits.unusual(KEY, "203.0.113.1", denied=False) is None
    clock.pass_(hours=1)
    assert await habits.unusual(KEY, "203.0.114.1", denied=False) is not None


async def test_processes_share_networks(habits: KeyHabits, uses: MemoryKeyUses, clock: Clock) -> None:
    """What one has seen is no news to another, also to one that knows the key."""
    other = KeyHabits(uses, clock=clock)
    await habits.unusual(KEY, HOME, denied=False)
    await other.unusual(KEY, HOME, denied=False)
    clock.pass_(days=2)
    assert await habits.unusual(KEY, AWAY, denied=False) is not None
    assert await other.unusual(KEY, AWAY, denied=False) is None


async def test_a_long_rest_is_told(habits: KeyHabits, uses: MemoryKeyUses, clock: Clock) -> None:
    """Also after a start of the process; not while the key is in use."""
    await habits.unusual(KEY, HOME, denied=False)
    for _ in range(3):
        clock.pass_(days=29)
        assert await habits.unusual(KEY, HOME, denied=False) is None
    clock.pass_(days=31)
    again = KeyHabits(uses, clock=clock)
    assert await again.unusual(KEY, HOME, denied=False) == {"reason": "long_rest", "days": 31}
    assert await again.unusual(KEY, HOME, denied=False) is None


async def test_many_denied_calls_are_told(habits: KeyHabits, clock: Clock) -> None:
    """More than ten in an hour; who has as many every hour is no news for ever."""
    found = [await habits.unusual(KEY, HOME, denied=True) for _ in range(30)]
    assert [number for number, one in enumerate(found, 1) if one] == [11]
    assert found[10] == {"reason": "many_denied", "denied": 11, "usual": 0}
    told = 0
    for _ in range(48):
        clock.pass_(hours=1)
        told = sum([await habits.unusual(KEY, HOME, denied=True) is not None for _ in range(30)])
    assert told == 0


async def test_calls_that_go_well_are_not_counted(habits: KeyHabits) -> None:
    """However many."""
    assert [await habits.unusual(KEY, HOME, denied=False) for _ in range(100)] == [None] * 100


async def test_only_keys_have_habits(habits: KeyHabits, uses: MemoryKeyUses) -> None:
    """The machine's own user and users of tokens have none."""
    for actor in ("local", "user_1"):
        assert await habits.unusual(actor, HOME, denied=True) is None
        assert await uses.networks(actor) == {}


async def test_uses_are_written_seldom(habits: KeyHabits, uses: MemoryKeyUses, clock: Clock) -> None:
    """Once an hour for each network, and only so many networks."""
    await habits.unusual(KEY, HOME, denied=False)
    clock.pass_(minutes=59)
    await habits.unusual(KEY, HOME, denied=False)
    (first, last), *_ = (await uses.networks(KEY)).values()
    assert first == last
    clock.pass_(minutes=1)
    for number in range(NETWORKS + 5):
        await habits.unusual(KEY, f"10.0.{number}.1", denied=False)
    assert len(await uses.networks(KEY)) == NETWORKS
