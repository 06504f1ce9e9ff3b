"""The state of the process, which must be the same after a preload as before.

Hooks would inherit a change that they would not find in a fresh process, or that they would miss
because the import made it only once.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from time import sleep

from hookd.hook.capture import temporary_folder
from hookd.process import libc
from hookd.process.descriptors import flush_standard_streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Collection, Dict, List, Optional

# How many exit handlers modules of the standard library register when they are imported. A hook
# process that imports the module would register the same, and they do nothing if it is not used.
EXIT_HANDLERS: Dict[str, int] = {"logging": 1, "multiprocessing.util": 1}
THREADING_EXIT_HANDLERS: Dict[str, int] = {
    "concurrent.futures.thread": 1,
    "concurrent.futures.process": 1,
}
if sys.version_info < (3, 9):
    EXIT_HANDLERS.update(THREADING_EXIT_HANDLERS)
    THREADING_EXIT_HANDLERS = {}

# In seconds. A thread that was joined is still listed for a moment.
LONGEST_SETTLING = 0.2
SETTLING_STEP = 0.001

# In /proc/self/status: the signal masks, which also show handlers that C code has installed.
SIGNAL_FIELDS = (b"SigBlk:", b"SigIgn:", b"SigCgt:")

# The C library uses the first two real-time signals when there are threads.
OWN_SIGNALS_OF_LIBC = 1 << 31 | 1 << 32

ALL_SIGNALS = [int(number) for number in signal.Signals]


class OutputFile:
    """A nameless file that takes what modules print when they are imported."""

    def __init__(self) -> None:
        self._descriptor = _nameless_file()

    def put_in_place(self) -> None:
        """Make descriptors 1 and 2 write to it."""
        os.dup2(self._descriptor, 1)
        os.dup2(self._descriptor, 2)

    def written(self) -> int:
        """How many bytes were written so far, including buffered ones."""
        flush_standard_streams()
        try:
            libc.flush_stdio()
        except libc.NotAvailable:
            # The template has logged that already.
            pass
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Close it, in a forked worker, which gets other descriptors 1 and 2."""
        os.close(self._descriptor)


def _nameless_file() -> int:
    create = getattr(os, "memfd_create", None)
    if create is not None:
        try:
            return int(create("hookd-output"))
        except OSError:
            # Forbidden by a sandbox.
            pass
    path = os.path.join(temporary_folder(), "hookd-" + os.urandom(16).hex() + ".output")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.unlink(path)
    return descriptor


class ProcessState:
    """The state of the process when this was made."""

    def __init__(self, output: OutputFile) -> None:
        # First, as it waits for threads that are just ending, which may still change something.
        self.threads = settled_threads()
        self.output = output.written()
        self.exit_handlers = _exit_handlers()
        self.threading_exit_handlers = _threading_exit_handlers()
        self.finalizers = _finalizers()
        self.finalizers_registered = _finalizers_registered()
        self.descriptors = _descriptors()
        self.handlers = [signal.getsignal(number) for number in ALL_SIGNALS]
        self.signals = _signal_masks()
        self.folder = _folder()
        self.umask = _umask()
        self.environment = os.environ
        self.variables = _variables()

    def changes_to(self, after: ProcessState, imported: Collection[str]) -> List[str]:
        """What an import has changed, for people to read.

        `imported` are the names of the modules that are new.
        """
        changed = [
            text
            for text, was, now in (
                ("the current folder", self.folder, after.folder),
                ("the umask", self.umask, after.umask),
                ("environment variables", self.variables, after.variables),
                ("open descriptors", self.descriptors, after.descriptors),
                ("signal handlers or masks", self.signals, after.signals),
                ("finalizers (weakref.finalize)", self.finalizers, after.finalizers),
            )
            if was != now
        ]
        if after.environment is not self.environment:
            changed.append("os.environ")
        if any(now is not was for was, now in zip(self.handlers, after.handlers)):
            changed.append("signal handlers")
        problems = ["it started a thread"] if after.threads > 1 else []
        if changed:
            problems.append("it changed " + ", ".join(changed))
        if after.output != self.output:
            problems.append("it printed")
        if self._has_strange_exit_handlers(after, imported):
            problems.append("it registered an exit handler")
        return problems

    def _has_strange_exit_handlers(self, after: ProcessState, imported: Collection[str]) -> bool:
        allowed = sum(count for name, count in EXIT_HANDLERS.items() if name in imported)
        allowed += after.finalizers_registered and not self.finalizers_registered
        added = after.exit_handlers - self.exit_handlers
        if not 0 <= added <= allowed:
            return True
        allowed = sum(count for name, count in THREADING_EXIT_HANDLERS.items() if name in imported)
        added = after.threading_exit_handlers - self.threading_exit_handlers
        return not 0 <= added <= allowed


def count_threads() -> int:
    """How many threads this process has."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        threading = sys.modules.get("threading")
        return 1 if threading is None else int(threading.active_count())


def settled_threads() -> int:
    """As `count_threads`, but wait for threads that are just ending."""
    waited = 0.0
    threads = count_threads()
    while threads > 1 and waited < LONGEST_SETTLING:
        sleep(SETTLING_STEP)
        waited += SETTLING_STEP
        threads = count_threads()
    return threads


def _read(path: str) -> bytes:
    # Not by open(), which a backend may have replaced.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)


def _exit_handlers() -> int:
    count = getattr(atexit, "_ncallbacks", None)
    return 0 if count is None else int(count())


def _threading_exit_handlers() -> int:
    # Python 3.9. They run before those of atexit.
    threading = sys.modules.get("threading")
    return 0 if threading is None else len(getattr(threading, "_threading_atexits", ()))


def _finalizers() -> int:
    weakref = sys.modules.get("weakref")
    return 0 if weakref is None else len(weakref.finalize._registry)


def _finalizers_registered() -> bool:
    # weakref registers one exit handler, with the first finalizer.
    weakref = sys.modules.get("weakref")
    return weakref is not None and bool(weakref.finalize._registered_with_atexit)


def remove_temporary_folders() -> None:
    """Remove the folders of `tempfile.TemporaryDirectory`, since no exit handler will.

    A module that was refused may have made some.
    """
    weakref = sys.modules.get("weakref")
    for finalizer, entry in [] if weakref is None else list(weakref.finalize._registry.items()):
        if getattr(entry.func, "__qualname__", None) == "TemporaryDirectory._cleanup":
            try:
                finalizer()
            except BaseException:
                # The folder is gone already.
                pass


def _descriptors() -> Dict[str, str]:
    """The number of each open descriptor, and what it is open on."""
    descriptors = {}
    try:
        for number in os.listdir("/proc/self/fd"):
            try:
                descriptors[number] = os.readlink("/proc/self/fd/" + number)
            except OSError:
                # The descriptor by which the folder was listed.
                pass
    except OSError:
        pass
    return descriptors


def _signal_masks() -> List[int]:
    try:
        lines = _read("/proc/self/status").splitlines()
    except OSError:
        return []
    masks = [int(line[7:], 16) for line in lines if line[:7] in SIGNAL_FIELDS]
    return [mask & ~OWN_SIGNALS_OF_LIBC for mask in masks]


def _folder() -> Optional[str]:
    try:
        return os.getcwd()
    except OSError:
        # It is deleted.
        return None


def _umask() -> int:
    # There is no other way to read it, and no other thread that could be disturbed.
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _variables() -> Any:
    try:
        # Not decoded, and past any code that a module may have put around it.
        return dict(os.environ._data)  # type: ignore[attr-defined]
    except AttributeError:
        return dict(os.environ)
