"""The few calls of the C library that Python does not offer.

These are prctl and clone (Linux), fflush, and mmap, whose own module costs half a millisecond.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

# linux/wait.h: also wait for children like those of `fork_unseen`.
WALL = 0x40000000

# asm/unistd.h: clone(2) of programs with 64 bits, by what uname(2) calls the machine.
CLONE = {
    "x86_64": 56,
    "aarch64": 220,
    "loongarch64": 220,
    "riscv64": 220,
    "ppc64le": 120,
    "s390x": 120,
}

# sys/mman.h, the same on these machines.
PROT_READ, PROT_WRITE = 1, 2
MAP_SHARED, MAP_ANONYMOUS = 0x01, 0x20

_library: Any = None
"""Kept, so that a hook process inherits it and finds it ready."""
_problem = ""
"""Why there is none: it is not looked for again in each hook process."""


class NotAvailable(Exception):
    """The C library cannot be called; the message says why. All can go on without."""


def load() -> None:
    """Load the C library, once. Raises `NotAvailable`."""
    global _library, _problem  # noqa: PLW0603
    if _library is not None:
        return
    if _problem:
        raise NotAvailable(_problem)
    try:
        # Not at the top of this file: it is the most costly import of all, and an interpreter
        # may have been built without it.
        import ctypes

        _library = ctypes.CDLL(None, use_errno=True)
    except (ImportError, OSError, TypeError) as error:
        _problem = "the C library cannot be called: {}".format(error)
        raise NotAvailable(_problem) from error


def become_subreaper() -> None:
    """Have orphaned descendants become our children, instead of init's (Linux 3.4).

    Children do not inherit this: prctl(2).
    """
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signal_number: int) -> None:
    """Get that signal when the parent *thread* dies; 0 for none. Not inherited by fork."""
    _prctl(PR_SET_PDEATHSIG, signal_number)


def flush_stdio() -> None:
    """Write out what C code has in the buffers of its own open streams."""
    load()
    _library.fflush(None)


def fork_unseen() -> int:
    """As `os.fork`, but no wait() finds the child unless it passes `WALL`.

    So a hook that waits for its children, whichever they are, neither meets nor reaps it. Raises
    `NotAvailable`. Exit handlers and the like that were registered for forks are not run, and
    locks that other threads hold stay locked: it takes a process of one thread.
    """
    number = CLONE.get(os.uname().machine) if sys.platform.startswith("linux") else None
    if number is None or sys.maxsize < 2**32 or sys.implementation.name != "cpython":
        raise NotAvailable("clone: not on this platform")
    try:
        threads = len(os.listdir("/proc/self/task"))
    except OSError as error:
        raise NotAvailable("clone: {}".format(error)) from error
    if threads != 1:
        raise NotAvailable("clone: there are {} threads".format(threads))
    load()
    import ctypes

    # No flags, no stack of its own: a fork. The signal that tells of its end is a part of the
    # flags, and that it has none is what hides it from wait(): clone(2), wait4(2).
    pid = _library.syscall(ctypes.c_long(number), *[ctypes.c_long(0)] * 5)
    if pid < 0:
        raise NotAvailable("clone: {}".format(os.strerror(ctypes.get_errno())))
    return int(pid)


def share_byte() -> Any:
    """A number from 0 to 127, its `value`, that this process and those forked from it share.

    It stays for as long as any of them lives. Raises `NotAvailable`.
    """
    load()
    import ctypes

    function = _library.mmap
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    address = function(None, 1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
    if address == ctypes.c_void_p(-1).value:
        raise NotAvailable("mmap: {}".format(os.strerror(ctypes.get_errno())))
    return ctypes.c_byte.from_address(address)


def _prctl(option: int, value: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    load()
    import ctypes

    # prctl is variadic and takes unsigned longs: an int would leave half of a register as it was.
    if _library.prctl(option, ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3) != 0:
        number = ctypes.get_errno()
        raise NotAvailable("prctl({}): {}".format(option, os.strerror(number)))
