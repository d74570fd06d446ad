"""Freed memory goes back to the system."""

import platform

import psutil
import pytest

from bookwheel import heap

MB = 1_000_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's heap is known")
def test_freed_memory_is_given_back() -> None:
    """Also between what is still in use, where glibc alone keeps it."""
    heap.share_arenas()
    held: list[bytes | None] = [bytes(2_000) for _ in range(100_000)]
    for number in range(len(held)):
        if number % 100:
            held[number] = None
    before = psutil.Process().memory_info().rss
    heap.give_back()
    assert psutil.Process().memory_info().rss < before - 80 * MB
    assert held[0] is not None
