"""Freed memory goes back to the system."""

import platform
import subprocess
import sys

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's heap is known")
def test_threads_share_few_heaps() -> None:
    """However many there are: in a process of its own, since what was shared stays so."""
    script = """
import ctypes, os, threading
from bookwheel import heap
heap.share_arenas()
together = threading.Barrier(16)
def work():
    together.wait()
    kept = [bytes(5_000) for _ in range(200)]
    together.wait()
threads = [threading.Thread(target=work) for _ in range(16)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
library = ctypes.CDLL(None)
library.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(library.fdopen(1, b"w"))
library.malloc_info(0, out)
library.fflush(out)
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert 1 <= told.stdout.count("<heap nr=") <= heap.ARENAS
