"""How each key is used as a rule, to tell a use out of pattern.

Three things are noticed: a network that the key never came from, once it is older than a day; a use after 30 days of
rest; and more than ten times the denied calls that an hour usually has. Of addresses only the network is kept, /24 or
/48. A thief in the same network, who asks for little, is not noticed: this is a hint for people, not a lock.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from cachetools import LRUCache

from bookwheel.ports import KeyUses
from bookwheel.types import Details

ADDRESSES: Final = 4_096  #: whose networks are not computed anew
KEYS: Final = 10_000  #: whose habits each process remembers
NETWORKS: Final = 64  #: of one key
YOUNG: Final = timedelta(days=1)  #: so long a key may come from new networks
REST: Final = timedelta(days=30)
HOUR: Final = timedelta(hours=1)  #: between two events of one key, and between two notes of one network
TIMES: Final = 10
WEIGHT: Final = 0.1  #: of the last hour in what is usual
KEY_PREFIX: Final = "key_"


def now() -> datetime:
    """The present moment."""
    return datetime.now(UTC)


@lru_cache(ADDRESSES)
def network_of(address: str | None) -> str | None:
    """The /24 or /48 around an address; None for what is none."""
    try:
        ip: IPv4Address | IPv6Address = ip_address(address or "")
    except ValueError:
        return None
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return str(ip_network((ip, 24 if isinstance(ip, IPv4Address) else 48), strict=False))


@dataclass(slots=True)
class _Habit:
    """Of one key."""

    networks: dict[str, tuple[datetime, datetime]]
    noted: dict[str, datetime] = field(default_factory=dict)  #: when its use was written down last, by network
    hour: int = 0
    denied: int = 0  #: in this hour
    usual: float = 0.0  #: denied calls of an hour
    told_at: datetime | None = None

    def count_denied(self, at: datetime) -> int:
        """Denied calls of this hour with this one."""
        hour = int(at.timestamp() // HOUR.total_seconds())
        if hour > self.hour:
            self.usual = ((1 - WEIGHT) * self.usual + WEIGHT * self.denied) * (1 - WEIGHT) ** (hour - self.hour - 1)
            self.hour, self.denied = hour, 0
        self.denied += 1
        return self.denied


class KeyHabits:
    """The habits of this process's callers. Networks are shared by all processes through the port, rates are not."""

    def __init__(self, uses: KeyUses, *, clock: Callable[[], datetime] = now) -> None:
        self._uses = uses
        self._clock = clock
        self._habits: LRUCache[str, _Habit] = LRUCache(KEYS)

    async def unusual(self, actor: str, address: str | None, *, denied: bool) -> Details | None:
        """Note a use; what is out of pattern in it, if anything, at most once an hour for each key."""
        if not actor.startswith(KEY_PREFIX):
            return None
        at, network = self._clock(), network_of(address)
        habit = self._habits.get(actor)
        if habit is None or (network is not None and network not in habit.networks):
            habit = await self._learnt(actor, habit)  # another process may know more
        found = _out_of_pattern(habit, network, at) or (_many_denied(habit, at) if denied else None)
        await self._note(actor, habit, network, at)
        if found is None or (habit.told_at is not None and at - habit.told_at < HOUR):
            return None
        habit.told_at = at
        return found

    async def _learnt(self, actor: str, habit: _Habit | None) -> _Habit:
        networks = dict(await self._uses.networks(actor))
        if habit is None:
            self._habits[actor] = habit = _Habit(networks)
        else:
            habit.networks = networks
        return habit

    async def _note(self, actor: str, habit: _Habit, network: str | None, at: datetime) -> None:
        if network is None:
            return
        first, _ = habit.networks.get(network, (at, at))
        habit.networks[network] = first, at
        if len(habit.networks) > NETWORKS:
            del habit.networks[min(habit.networks, key=lambda one: habit.networks[one][1])]
        if at - habit.noted.get(network, datetime.min.replace(tzinfo=UTC)) >= HOUR:
            habit.noted[network] = at
            await self._uses.used(actor, network, at=at, keep=NETWORKS)


def _out_of_pattern(habit: _Habit, network: str | None, at: datetime) -> Details | None:
    if not habit.networks:
        return None
    rest = at - max(last for _, last in habit.networks.values())
    if rest >= REST:
        return {"reason": "long_rest", "days": rest.days}
    age = at - min(first for first, _ in habit.networks.values())
    if network is not None and network not in habit.networks and age >= YOUNG:
        return {"reason": "new_network", "network": network}
    return None


def _many_denied(habit: _Habit, at: datetime) -> Details | None:
    denied = habit.count_denied(at)
    if denied <= TIMES * max(1.0, habit.usual):
        return None
    return {"reason": "many_denied", "denied": denied, "usual": round(habit.usual)}
