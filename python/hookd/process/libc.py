"""Functions of the C library that Python does not offer: prctl, clone (both Linux) and fflush.

mmap is here, too, as the import of its module takes half a millisecond.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Optional

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

# __WALL of linux/wait.h: also wait for children of `fork_unseen`.
WALL = 0x40000000

# asm/unistd.h: the number of clone(2) for 64-bit programs, by the machine's name of uname(2).
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
"""Loaded once; hook processes inherit it."""
_problem = ""
"""Why it cannot be loaded. Then it is not tried again."""


class NotAvailable(Exception):
    """The C library cannot be called; the message says why. Callers can do without."""


class Library:
    """Calls functions of the libraries that are loaded in this process."""

    def __init__(self, ctypes: Any) -> None:
        # A function object of ctypes looks for this attribute.
        self._handle = ctypes.dlopen(None, 0)
        self.get_errno: Callable[[], int] = ctypes.get_errno

        class Byte(ctypes._SimpleCData):  # type: ignore[misc]
            _type_ = "b"

        # All parameters and results fit in a long. For variadic functions it must be a long, as an
        # int would leave half of a register undefined.
        class Long(ctypes._SimpleCData):  # type: ignore[misc]
            _type_ = "l"

        class Function(ctypes.CFuncPtr):  # type: ignore[misc]
            _flags_ = ctypes.FUNCFLAG_CDECL | ctypes.FUNCFLAG_USE_ERRNO
            _restype_ = Long

        self.byte_at: Callable[[int], Any] = Byte.from_address
        self._long = Long
        self._function = Function
        # Looking for a name touches the symbols of all libraries, which a hook process should not.
        self._found: Dict[str, Any] = {}
        self._find("fflush")

    def call(self, name: str, *arguments: int) -> int:
        """Call the function of this name. Returns its result."""
        return int(self._find(name)(*map(self._long, arguments)))

    def _find(self, name: str) -> Any:
        if name not in self._found:
            self._found[name] = self._function((name, self))
        return self._found[name]


def load() -> Library:
    """Return the C library, which is loaded at the first call. Raises `NotAvailable`."""
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
    """Import the part of `ctypes` that is written in C: a fifth of the time of the whole."""
    # In older versions the part in Python makes the callback: see below.
    if sys.version_info >= (3, 13) and "_ctypes" not in sys.modules:
        from importlib.util import find_spec

        spec = find_spec("_ctypes")
        if spec is not None:
            _run_without_files(spec)
    import _ctypes

    return _ctypes


def _run_without_files(spec: Any) -> None:
    """Import a module while no file can be opened. If that fails, do not import it.

    When `_ctypes` is imported, it makes a callback to find out whether it can. Newer versions of
    libffi open a file for that and keep it open, so each hook would have one more descriptor. If
    libffi cannot open a file for the first callback, it never tries again.
    """
    import resource
    from importlib.util import module_from_spec

    # This opens the module's own file.
    module = module_from_spec(spec)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        spec.loader.exec_module(module)
    except (ImportError, MemoryError, OSError):
        # Without a file, a callback needs memory that is both writable and executable, which some
        # systems forbid.
        return
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    sys.modules[spec.name] = module


def become_subreaper() -> None:
    """Make orphaned descendants our children, instead of init's (Linux 3.4). Not inherited."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signal_number: int) -> None:
    """Get this signal when the parent *thread* dies; 0 for none. Not inherited by fork."""
    _prctl(PR_SET_PDEATHSIG, signal_number)


def flush_stdio() -> None:
    """Flush the open streams of C code."""
    load().call("fflush", 0)


def fork_unseen() -> int:
    """As `os.fork`, but wait() does not find the child unless it is given `WALL`.

    So a hook that waits for any child does not reap it. Functions of os.register_at_fork are not
    called, and locks of other threads would stay locked, so the process must have one thread.
    Raises `NotAvailable`.
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
    # Without flags and a stack, this is a fork. The flags hold the signal that the child's end
    # sends; a child without one is hidden from wait(): clone(2), wait4(2).
    pid = load().call("syscall", number, *[0] * 5)
    if pid < 0:
        raise _failed("clone")
    return pid


def share_byte() -> Any:
    """Make a number, from 0 to 127 in `value`, that is shared with processes forked from now on.

    Raises `NotAvailable`.
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
