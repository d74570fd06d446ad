"""The proxy itself: each verb does what it says, and all is well after it."""

import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.chaos.proxy import Proxy, tcp_proxy
from tests.scripted_upstream import reply, scripted_upstream

LONG = "x" * 5_000
TIMEOUT = 1.0


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    """Before a server whose answers are long."""
    with scripted_upstream() as upstream, tcp_proxy(upstream.url) as proxy:
        upstream.otherwise = reply({"text": LONG})
        yield proxy


def ask(proxy: Proxy, client: httpx.Client | None = None) -> str:
    """The whole answer."""
    answer = (client or httpx).post(f"{proxy.url}/any", json={}, timeout=TIMEOUT)
    return str(answer.json()["text"])


FAULTS: dict[str, tuple[Callable[[Proxy], None], type[httpx.TransportError]]] = {
    "delay": (lambda proxy: proxy.delay(5.0), httpx.ReadTimeout),
    "stall": (lambda proxy: proxy.stall(after=400), httpx.ReadTimeout),
    "stall before anything": (lambda proxy: proxy.stall(after=0), httpx.ReadTimeout),
    "cut": (lambda proxy: proxy.cut(after=400), httpx.ReadError),
    "reset": (lambda proxy: proxy.reset(), httpx.TransportError),
    "refuse": (lambda proxy: proxy.refuse(), httpx.ConnectError),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("connection", ["new", "kept"])
def test_a_fault_hits_every_connection_and_passes(proxy: Proxy, fault: str, connection: str) -> None:
    """One that is made during it, and one that was made before."""
    breaks, error = FAULTS[fault]
    with httpx.Client() as client:
        assert ask(proxy, client) == LONG
        breaks(proxy)
        wanted = httpx.TransportError if connection == "kept" else error
        with pytest.raises(wanted):
            ask(proxy, client if connection == "kept" else None)
        proxy.heal()
        assert ask(proxy, client) == LONG


def test_a_short_delay_is_only_late(proxy: Proxy) -> None:
    """The answer comes whole."""
    proxy.delay(0.3)
    began = time.monotonic()
    assert ask(proxy) == LONG
    assert time.monotonic() - began >= 0.3
    proxy.heal()
