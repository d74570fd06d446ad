"""What a process that reads hostile files gives up for good, by the kernel's own means: on Linux, as far as they go.

* No new privileges, and no capability of root's: neither it nor a program that it starts is more than its user.
* seccomp: no sockets, so no network and no database; no looking into other processes.
* Landlock: it writes only in its own folder; memory, environment and signals of other processes are out of reach.

What a kernel does not have is left out, and told to the caller: older ones lack Landlock, some containers forbid both.
"""

import ctypes
import os
import platform
import struct
import sys
from pathlib import Path
from typing import Final

PR_SET_NO_NEW_PRIVS: Final = 38
CAPABILITIES_V3: Final = 0x20080522
SECCOMP_SET_FILTER: Final = (1, 1)  # SECCOMP_SET_MODE_FILTER, for all threads
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000  # what a filter answers; REFUSE is EPERM
LOAD, EQUAL, LEAST, RETURN = 0x20, 0x15, 0x35, 0x06  # instructions of a filter
X32 = 0x40000000  # from here on the numbers of another set of calls

#: By machine: its number in filters, those of seccomp and capset, and the calls that nothing here needs.
MACHINES: Final = {
    # socket, ptrace, process_vm_readv, process_vm_writev, bpf, perf_event_open, keyctl, userfaultfd, io_uring_setup and
    # pidfd_getfd
    "x86_64": (0xC000003E, 317, 126, (41, 101, 310, 311, 321, 298, 250, 323, 425, 438)),
    "aarch64": (0xC00000B7, 277, 91, (198, 117, 270, 271, 280, 241, 219, 282, 425, 438)),
}
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on all machines
RULE_PATH_BENEATH = 1
WRITE_FILE, REFER, TRUNCATE = 1 << 1, 1 << 13, 1 << 14
CHANGES = WRITE_FILE | sum(1 << bit for bit in range(4, 13))  # making and removing things of any kind
TCP, SCOPES = 0b11, 0b11  # binding and connecting; abstract sockets and signals


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def confine(writable: Path) -> tuple[str, ...]:
    """Give all of it up; the names of what this kernel would not take."""
    if sys.platform != "linux":
        return ("no new privileges", "no capabilities", "Landlock", "seccomp")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    steps = {
        "no new privileges": libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0,
        "no capabilities": _no_capabilities(libc),
        "Landlock": _landlock(libc, writable),
        "seccomp": _seccomp(libc),
    }
    return tuple(name for name, done in steps.items() if not done)


def _no_capabilities(libc: ctypes.CDLL) -> bool:
    if platform.machine() not in MACHINES:
        return False
    _, _, number, _ = MACHINES[platform.machine()]
    return bool(libc.syscall(number, struct.pack("=Ii", CAPABILITIES_V3, 0), bytes(24)) == 0)


def _seccomp(libc: ctypes.CDLL) -> bool:
    if platform.machine() not in MACHINES:
        return False
    arch, number, _, refused = MACHINES[platform.machine()]
    code = _filter(arch, refused)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    return bool(libc.syscall(number, *SECCOMP_SET_FILTER, ctypes.byref(program)) == 0)


def _filter(arch: int, refused: tuple[int, ...]) -> bytes:
    """Calls of another machine kill, those refused fail with EPERM, all others go on."""
    lines = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, arch), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    lines.append((LEAST, len(refused) + 1, 0, X32))
    lines += [(EQUAL, len(refused) - place, 0, call) for place, call in enumerate(refused)]
    lines += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _landlock(libc: ctypes.CDLL, writable: Path) -> bool:
    version = libc.syscall(CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    changes = CHANGES | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    fields = [changes, *([TCP] if version >= 4 else []), *([SCOPES] if version >= 6 else [])]
    wanted = struct.pack(f"={len(fields)}Q", *fields)
    rules = libc.syscall(CREATE_RULESET, wanted, len(wanted), 0)
    if rules < 0:
        return False
    try:
        _allow(libc, rules, writable, changes)
        _allow(libc, rules, Path(os.devnull), changes & (WRITE_FILE | TRUNCATE))
        return bool(libc.syscall(RESTRICT_SELF, rules, 0) == 0)
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: Path, changes: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        libc.syscall(ADD_RULE, rules, RULE_PATH_BENEATH, struct.pack("=Qi", changes, place), 0)
    finally:
        os.close(place)
