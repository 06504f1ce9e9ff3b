"""The hook process: it is forked from the worker for one hook, which finds it like a fresh one."""

from __future__ import annotations

import os
import signal
import sys

# Taken before a hook can replace them.
from _signal import pthread_sigmask  # type: ignore[import-not-found]
from os import _exit
from signal import SIG_BLOCK, SIGINT

from hookd.hook.call import run_hook
from hookd.hook.ending import end_copy, end_tidily, leave_copy
from hookd.hook.report_pipes import Report
from hookd.hook.shadowing import PathWatch
from hookd.process import libc
from hookd.protocol.failures import HOOK_RUNTIME_ERROR, Failure, failure_from
from hookd.protocol.outcome import Outcome
from hookd.retained import stop_tracing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Optional

    from hookd.hook.capture import Capture
    from hookd.hook.observer import Observer
    from hookd.hook.report_pipes import ReportPipes
    from hookd.hook.starting_point import StartingPoint
    from hookd.process.signals import SignalWatch
    from hookd.protocol.requests import Request

# EX_SOFTWARE of sysexits.h: the exit code of a hook process in which our own code fails.
EXIT_UNREPORTED = 70


class Child:
    """What the hook process needs to know of the worker."""

    __slots__ = (
        "capture",
        "close_descriptors",
        "observer",
        "parent",
        "pipes",
        "report_imports",
        "report_shadowed",
        "request",
        "signal_mask",
        "signals",
        "start",
    )

    def __init__(
        self,
        request: Request,
        capture: Capture,
        pipes: ReportPipes,
        signals: SignalWatch,
        signal_mask: Iterable[Any],
        close_descriptors: Callable[[], None],
        report_imports: bool,
        report_shadowed: bool,
        observer: Optional[Observer],
        start: StartingPoint,
    ) -> None:
        self.request = request
        self.capture = capture
        self.pipes = pipes
        self.signals = signals
        self.signal_mask = signal_mask
        self.close_descriptors = close_descriptors
        self.report_imports = report_imports
        self.report_shadowed = report_shadowed
        self.observer = observer
        self.start = start
        # Compared after the fork: orphans may go to a subreaper instead of process 1.
        self.parent = os.getpid()


def run_in_hook_process(child: Child) -> None:
    """Run the hook and exit. Never returns."""
    exit_code = EXIT_UNREPORTED
    try:
        _leave_worker(child)
        report = Report(child.pipes)
        outcome = _run(child, report)
        if not report.is_ours():
            end_copy(outcome)
        end_tidily()
        if not report.is_ours():
            leave_copy(outcome)
        stop_tracing()
        # A SIGINT must not interrupt the message.
        pthread_sigmask(SIG_BLOCK, [SIGINT])
        if child.observer is not None:
            outcome.observed = child.observer.report()
        report.send(outcome)
        exit_code = 0
    except BaseException:
        # This is printed to the hook's captured standard error.
        sys.excepthook(*sys.exc_info())
    finally:
        _exit(exit_code)


def _leave_worker(child: Child) -> None:
    """Close everything that belongs to the worker."""
    os.setsid()
    _die_with_worker(child.parent)
    child.capture.put_in_place()
    child.capture.close()
    child.close_descriptors()
    child.pipes.close_reading()
    child.signals.restore_defaults()
    child.signals.unblock(child.signal_mask)


def _die_with_worker(worker: int) -> None:
    try:
        libc.die_with_parent(signal.SIGKILL)
    except libc.NotAvailable:
        # The worker has reported that already.
        return
    # The worker may have died before the call above.
    if os.getppid() != worker:
        os._exit(EXIT_UNREPORTED)


def _run(child: Child, report: Report) -> Outcome:
    request = child.request
    try:
        enter_tree(request.tree)
    except Failure as failure:
        return Outcome(failure=failure)
    sys.path[:0] = request.backend_path
    child.start.enter()
    watch = PathWatch() if child.report_shadowed else None
    imported = child.start.modules.imported_since if child.report_imports else None
    if child.observer is not None:
        child.observer.enter(request)
        child.observer.resume()
    return run_hook(request, imported, report.tell, watch)


def enter_tree(tree: str) -> None:
    """Change to the tree by its path: the folder may have been replaced meanwhile."""
    try:
        os.chdir(tree)
    except OSError as error:
        raise failure_from(
            HOOK_RUNTIME_ERROR,
            "the source tree {!r} cannot be entered: {}".format(tree, error.strerror),
            error,
        ) from error
