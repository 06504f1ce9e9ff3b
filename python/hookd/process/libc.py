"""The few calls of the C library that Python does not offer.

These are prctl and clone (Linux), fflush, and mmap, whose own module costs half a millisecond.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

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
MAP_FAILED = -1

_library: Optional[Library] = None
"""Kept, so that a hook process inherits it and finds it ready."""
_problem = ""
"""Why there is none: it is not looked for again in each hook process."""


class NotAvailable(Exception):
    """The C library cannot be called; the message says why. All can go on without."""


class Library:
    """The functions of all libraries that are part of the process."""

    def __init__(self, ctypes: Any) -> None:
        # By this name a function object asks for where to look.
        self._handle = ctypes.dlopen(None, 0)
        self.get_errno: Callable[[], int] = ctypes.get_errno

        class Byte(ctypes._SimpleCData):  # type: ignore[misc]
            _type_ = "b"

        # All parameters and results here fit in a long. Those of variadic functions have to be
        # one: an int would leave half of a register as it was.
        class Long(ctypes._SimpleCData):  # type: ignore[misc]
            _type_ = "l"

        class Function(ctypes.CFuncPtr):  # type: ignore[misc]
            _flags_ = ctypes.FUNCFLAG_CDECL | ctypes.FUNCFLAG_USE_ERRNO
            _restype_ = Long

        self.byte_at: Callable[[int], Any] = Byte.from_address
        self._long = Long
        self._function = Function

    def call(self, name: str, *arguments: int) -> int:
        """Call the function of this name, and return what it does."""
        return int(self._function((name, self))(*map(self._long, arguments)))


def load() -> Library:
    """The C library, which is loaded once. Raises `NotAvailable`."""
    global _library, _problem  # noqa: PLW0603
    if _library is None:
        if _problem:
            raise NotAvailable(_problem)
        try:
            _library = Library(_import_ctypes())
        except (ImportError, AttributeError, OSError, TypeError, MemoryError) as error:
            _problem = "the C library cannot be called: {!r}".format(error)
            raise NotAvailable(_problem) from error
    return _library


def _import_ctypes() -> Any:
    """The part of `ctypes` that is written in C, which takes a fifth of the time of all of it."""
    # Before, it is the other part that makes a callback: see below.
    if sys.version_info >= (3, 13) and "_ctypes" not in sys.modules:
        from importlib.util import find_spec

        spec = find_spec("_ctypes")
        if spec is not None:
            _run_without_files(spec)
    import _ctypes

    return _ctypes


def _run_without_files(spec: Any) -> None:
    """Import a module that may open no file when it is run, or leave it if it cannot do without.

    Each hook would have the descriptor: `_ctypes` makes a callback to see whether it can, and newer
    versions of libffi make callbacks from a file, their own library as a rule, that they keep open.
    They do without, for good, where the first cannot open any.
    """
    import resource
    from importlib.util import module_from_spec

    # Opens the file of the module itself.
    module = module_from_spec(spec)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        spec.loader.exec_module(module)
    except (ImportError, MemoryError, OSError):
        # A callback is then memory that can be written to and run, which some systems forbid.
        return
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    sys.modules[spec.name] = module


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
    load().call("fflush", 0)


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
    # No flags, no stack of its own: a fork. The signal that tells of its end is a part of the
    # flags, and that it has none is what hides it from wait(): clone(2), wait4(2).
    pid = load().call("syscall", number, *[0] * 5)
    if pid < 0:
        raise _failed("clone")
    return pid


def share_byte() -> Any:
    """A number from 0 to 127, its `value`, that this process and those forked from it share.

    It stays for as long as any of them lives. Raises `NotAvailable`.
    """
    protection, flags = PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS
    address = load().call("mmap", 0, 1, protection, flags, -1, 0)
    if address == MAP_FAILED:
        raise _failed("mmap")
    return load().byte_at(address)


def _prctl(option: int, value: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    if load().call("prctl", option, value, *[0] * 3) != 0:
        raise _failed("prctl({})".format(option))


def _failed(function: str) -> NotAvailable:
    return NotAvailable("{}: {}".format(function, os.strerror(load().get_errno())))
