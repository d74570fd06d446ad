"""The C library's heap, which keeps what a process has freed: a worker that runs for weeks gives it back."""

import ctypes
import platform
from functools import cache

ARENAS = 2  # heaps that threads take turns in; glibc makes eight for each core, and each keeps its own free memory
M_ARENA_MAX = -8


def share_arenas() -> None:
    """Let all threads started from here on share few heaps. Nothing happens without glibc."""
    library = _glibc()
    if library is not None:
        library.mallopt(M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """Return free pages to the system: some milliseconds. Nothing happens without glibc."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
