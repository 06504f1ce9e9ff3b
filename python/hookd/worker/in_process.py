"""Isolation `none`: hooks run in the worker itself, one after the other, as in the original hookd.

Everything that a hook changes in its process stays, imported modules included.
"""

from __future__ import annotations

import os
import signal
import sys

from hookd.hook.call import run_hook
from hookd.hook.ending import end_copy, end_worker
from hookd.hook.modules import imported_since, invalidate_import_caches
from hookd.hook.process import enter_tree
from hookd.hook.starting_point import hide_hookd
from hookd.process import libc
from hookd.process.children import kill_all, reap_ended
from hookd.process.descriptors import (
    HiddenDescriptor,
    flush_standard_streams,
    open_missing,
    point_at_null_device,
    wait_readable,
)
from hookd.process.signals import STOP_SIGNALS, WATCHED, SignalWatch
from hookd.protocol.failures import HOOK_RUNTIME_ERROR, Failure, describe, failure_from
from hookd.protocol.outcome import Outcome
from hookd.template.preloadable import Preloadable
from hookd.worker.base import Worker
from hookd.worker.sentinel import Sentinel
from hookd.worker.watchdog import Watchdog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, NoReturn, Optional

    from hookd.arguments import Options
    from hookd.process.descriptors import Descriptors
    from hookd.protocol.channel import Channel
    from hookd.protocol.requests import Request
    from hookd.worker.tree import ServedTree


class WatchedByTemplate:
    """In place of a sentinel: the worker's template kills it when its input hangs up."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass

    def dismiss(self) -> None:
        """Nothing to do."""


class InProcessWorker(Worker):
    """Runs hooks in the worker's only thread. Its template, a sentinel or a watchdog notices the
    caller's death.
    """

    def __init__(
        self,
        options: Options,
        tree: ServedTree,
        channel: Channel,
        descriptors: Descriptors,
        is_watched: bool,
    ) -> None:
        super().__init__(options, tree, channel, descriptors)
        self._is_watched = is_watched
        self._pid = os.getpid()
        self._hook_runs = False
        self._guard: Sentinel | Watchdog | WatchedByTemplate = (
            WatchedByTemplate() if is_watched else Watchdog(channel.input, self._may_end)
        )
        self._stopped_by: Optional[int] = None
        self._signals: Optional[SignalWatch] = None

    def prepare(self) -> None:
        if self.options.control:
            self.forget_parent_death()
            self.adopt_orphans()
            if not self._is_watched:
                self._start_sentinel()
        # A shell starts background jobs with SIGINT ignored, which must stay so: sh(1).
        self._watched = [
            number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN
        ]
        self._install_handlers()
        hide_hookd()

    def _start_sentinel(self) -> None:
        try:
            self._guard = Sentinel(self.channel.input)
        except libc.NotAvailable as error:
            self.debug(str(error))

    def _install_handlers(self) -> None:
        for number in self._watched:
            signal.signal(number, self._on_stop_signal)

    def _on_stop_signal(self, number: int, frame: object) -> None:
        if not self._hook_runs:
            self.die(number)
        # Let the hook clean up. Its failure is reported, and then we die of the signal.
        self._stopped_by = self._stopped_by or number
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def wait_for_input(self) -> None:
        wait_readable([self.channel.input])
        self.channel.fill()

    def wait_for_event(self) -> None:
        if self._signals is None:
            self._signals = self._watch_signals()
            # A child may have ended before.
            return
        ready = wait_readable([self.channel.input, self._signals.descriptor])
        if self._signals.descriptor in ready:
            for number in self._signals.take():
                self.die(number)
        if self.channel.input in ready:
            self.channel.fill()

    def _watch_signals(self) -> SignalWatch:
        """Begin to watch signals after the last hook: until then SIGCHLD belongs to the hooks."""
        # Close all that hooks have left open, as the end of this process would. Helper processes,
        # such as those of multiprocessing, exit when their pipe is closed; we wait for them.
        ours = (self.descriptors.input, self.descriptors.output, self.descriptors.log)
        start = 3
        for descriptor in sorted(ours):
            os.closerange(start, descriptor)
            start = descriptor + 1
        os.closerange(start, os.sysconf("SC_OPEN_MAX"))
        signals = SignalWatch()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        return signals

    def run_request(self, request: Request) -> None:
        if self.options.control:
            # Not while a hook runs, which may wait for its own children. But a hook that waits for
            # any child must not get those that we have adopted.
            reap_ended()
        capture = self.captures.open()
        self.announce(capture)
        capture.put_in_place()
        capture.close()
        try:
            # A hook that writes to every open descriptor must not write to the protocol.
            with self._guard, HiddenDescriptor(self.descriptors.output):
                outcome = self._run_hook(request)
        finally:
            self._flush()
            # The hook may have closed a standard descriptor. The next file that is opened would get
            # its number, and would be overwritten below.
            open_missing()
            point_at_null_device(os.O_WRONLY, 1, 2)
            # What could not be written to a full disk must not appear in the next hook's output.
            self._flush()
        self.report(outcome, capture)
        if self._stopped_by is not None:
            self.channel.flush()
            self.die(self._stopped_by)

    def _run_hook(self, request: Request) -> Outcome:
        try:
            self._hook_runs = True
            enter_tree(request.tree)
            sys.path[:0] = request.backend_path
            invalidate_import_caches()
            imported = self._watch_imports() if self.options.report_imports else None
            outcome = run_hook(request, imported, lambda phase: None)
            if os.getpid() != self._pid:
                end_copy(outcome)
            return outcome
        except Failure as failure:
            return Outcome(failure=failure)
        except BaseException as error:
            # Raised by our own signal handler, just before or after the hook.
            if self._stopped_by is None:
                raise
            message = describe(error, "the worker")
            return Outcome(failure=failure_from(HOOK_RUNTIME_ERROR, message, error))
        finally:
            self._hook_runs = False
            # The hook may have replaced them.
            self._install_handlers()
            for folder in request.backend_path:
                if folder in sys.path:
                    sys.path.remove(folder)

    def _watch_imports(self) -> Optional[Callable[[], List[Dict[str, Any]]]]:
        try:
            known = set(sys.modules)
        except BaseException:
            # An earlier hook has replaced sys.modules by something unusable.
            return None
        preloadable = Preloadable()
        return lambda: imported_since(known, preloadable)

    def _flush(self) -> None:
        flush_standard_streams()
        try:
            libc.flush_stdio()
        except libc.NotAvailable as error:
            self.debug(str(error))

    def _may_end(self, has_unread_input: bool) -> bool:
        # When a supervisor's pipe ends, it is dead, whatever it wrote before. A script that is
        # piped into a bare hookd usually ends early; its lines are still answered.
        return self.options.control or not (has_unread_input or self.channel.waiting_bytes())

    def change_tree(self, line: bytes) -> bool:
        """Nothing: what hooks of one tree have left in the process is not for those of another."""
        return False

    def cancel(self, signal_name: str) -> None:
        """Nothing to do: `cancel` is read only when no hook runs."""

    def clean_up(self) -> None:
        # This runs code of hooks, which may hang.
        if self.options.control:
            with self._guard:
                end_worker()
        else:
            # A script's input may have ended already, which does not mean that it is gone.
            end_worker()

    def leave(self) -> NoReturn:
        if not self.options.control:
            os._exit(0)
        super().leave()

    def kill_everything(self) -> None:
        # Without --control it behaves as the original hookd, which kills nothing.
        if self.options.control and os.getpid() == self._pid:
            kill_all(other_threads=True)
            self._guard.dismiss()
