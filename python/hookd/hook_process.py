"""The hook process: forked from the worker for one hook, which it runs as if it were fresh."""

from __future__ import annotations

import os
import signal
import sys

# Bound before a hook can replace them: what reports its result.
from os import _exit, fstat, getpid, write
from signal import SIG_BLOCK, SIGINT, pthread_sigmask

from hookd import libc
from hookd.bound import stop_tracing, to_json
from hookd.ending import end_copy, end_tidily
from hookd.failures import HOOK_RUNTIME_ERROR, Failure, failure_from
from hookd.imports import invalidate_import_caches
from hookd.running import Outcome, run_hook
from hookd.shadowing import PathWatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable

    from hookd.capture import Capture
    from hookd.requests import Request
    from hookd.signals import SignalWatch

# What a hook process tells its worker begins with one byte: what it does now (see `running`), or
# this one, which a length and the outcome as JSON follow.
OUTCOME = b"O"
LENGTH_SIZE = 8

# sysexits.h, EX_SOFTWARE: seen as the hook process's exit code if our own code fails in it.
EXIT_UNREPORTED = 70

HIGH_DESCRIPTOR = 200


class ResultPipe:
    """The writing end of the hook process's own pipe to its worker."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = _out_of_the_way(descriptor)
        self._identity = self._identify()
        self._owner = os.getpid()

    def tell(self, phase: bytes) -> None:
        """Tell the worker what is about to be done, if that is still possible."""
        try:
            if self.is_ours():
                self._write(phase)
        except OSError:
            # The outcome will not get through either, and that is told.
            pass

    def is_ours(self) -> bool:
        """Whether this is still the hook process, not one that the hook forked."""
        return getpid() == self._owner

    def send(self, outcome: Outcome) -> None:
        """Send the outcome. From then on nothing that happens to this process matters."""
        data = to_json(outcome.to_json()).encode("ascii")
        self._write(OUTCOME + len(data).to_bytes(LENGTH_SIZE, "big") + data)

    def _write(self, data: bytes) -> None:
        # A hook may close every descriptor that it does not know, as daemons do when they start,
        # and open files of its own in their place. Those are not for us to write in.
        if self._identify() != self._identity:
            raise OSError("the hook closed the descriptor for its result")
        view = memoryview(data)
        while view:
            view = view[write(self._descriptor, view) :]

    def _identify(self) -> Any:
        status = fstat(self._descriptor)
        return status.st_dev, status.st_ino


def _out_of_the_way(descriptor: int) -> int:
    """Move a descriptor to a high number, if the limit allows that.

    There are programs that close all descriptors up to some number, out of habit.
    """
    try:
        import fcntl

        moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, HIGH_DESCRIPTOR)
    except (ImportError, AttributeError, OSError):
        return descriptor
    os.close(descriptor)
    return moved


class Child:
    """What the worker hands over to the hook process when it forks it."""

    __slots__ = (
        "capture",
        "close_descriptors",
        "parent",
        "report_imports",
        "report_shadowed",
        "request",
        "result",
        "signal_mask",
        "signals",
    )

    def __init__(
        self,
        request: Request,
        capture: Capture,
        result: int,
        signals: SignalWatch,
        signal_mask: Iterable[Any],
        close_descriptors: Callable[[], None],
        report_imports: bool,
        report_shadowed: bool,
    ) -> None:
        self.request = request
        self.capture = capture
        self.result = result
        self.signals = signals
        self.signal_mask = signal_mask
        self.close_descriptors = close_descriptors
        self.report_imports = report_imports
        self.report_shadowed = report_shadowed
        # Compared after the fork: with a subreaper above us, orphans do not go to process 1.
        self.parent = os.getpid()


def run_in_hook_process(child: Child) -> None:
    """Everything that a hook process does, from fork to exit. Never returns."""
    exit_code = EXIT_UNREPORTED
    try:
        _leave_worker(child)
        pipe = ResultPipe(child.result)
        outcome = _run(child, pipe)
        if not pipe.is_ours():
            end_copy(outcome)
        end_tidily()
        stop_tracing()
        # A SIGINT that comes now must not break the message in two.
        pthread_sigmask(SIG_BLOCK, [SIGINT])
        pipe.send(outcome)
        exit_code = 0
    except BaseException:
        # Goes to the hook's captured stderr.
        sys.excepthook(*sys.exc_info())
    finally:
        _exit(exit_code)


def _leave_worker(child: Child) -> None:
    """Let go of everything that is the worker's."""
    os.setsid()
    _die_with_worker(child.parent)
    child.capture.put_in_place()
    child.capture.close()
    child.close_descriptors()
    child.signals.restore_defaults()
    child.signals.unblock(child.signal_mask)
    sys.argv = sys.argv[:1]
    hide_our_modules()


def _die_with_worker(worker: int) -> None:
    try:
        libc.die_with_parent(signal.SIGKILL)
    except libc.NotAvailable:
        # The worker has said so already.
        return
    # It may have died before the call above.
    if os.getppid() != worker:
        os._exit(EXIT_UNREPORTED)


def hide_our_modules() -> None:
    """Forget the modules of this package, so that a backend of the same name can be imported.

    Their functions go on working: they hold on to their own globals.
    """
    package = __name__.partition(".")[0]
    for name in list(sys.modules):
        if name == package or name.startswith(package + "."):
            del sys.modules[name]


def _run(child: Child, pipe: ResultPipe) -> Outcome:
    request = child.request
    try:
        enter_tree(request.tree)
    except Failure as failure:
        return Outcome(failure=failure)
    sys.path[:0] = request.backend_path
    invalidate_import_caches()
    watch = PathWatch() if child.report_shadowed else None
    return run_hook(request, child.report_imports, pipe.tell, watch)


def enter_tree(tree: str) -> None:
    """Make the tree the current folder, by its name: it may have been replaced by another."""
    try:
        os.chdir(tree)
    except OSError as error:
        raise failure_from(
            HOOK_RUNTIME_ERROR,
            "the source tree {!r} cannot be entered: {}".format(tree, error.strerror),
            error,
        ) from error
