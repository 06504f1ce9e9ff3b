"""Isolation `none`: hooks run in the worker itself, one after the other, as in the original hookd.

The import cache is kept from hook to hook, and so is everything else that a hook does to its
process.
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


class InProcessWorker(Worker):
    """Runs each hook in the worker's only thread; something beside it sees the caller's death."""

    def __init__(self, options: Options, channel: Channel, descriptors: Descriptors) -> None:
        super().__init__(options, channel, descriptors)
        self._pid = os.getpid()
        self._hook_runs = False
        self._guard: Sentinel | Watchdog = Watchdog(channel.input, self._may_end)
        self._stopped_by: Optional[int] = None
        self._signals: Optional[SignalWatch] = None

    def prepare(self) -> None:
        if self.options.control:
            self.forget_parent_death()
            self.adopt_orphans()
            self._start_sentinel()
        # Started in the background by a shell, SIGINT is ignored, and stays so: sh(1).
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
        # The hook gets the chance to clean up. Its failure is reported; then we die of the signal.
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
        """From the last hook's end on: before that, SIGCHLD is the hooks' own affair."""
        # What hooks have open would close now, if nothing kept us. Helpers that end by that, as
        # multiprocessing's do, would otherwise keep us, and we them.
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
            # Not while a hook runs, which may wait for children of its own. But one that waits
            # for any is not to be told of those that were adopted.
            reap_ended()
        capture = self.captures.open()
        self.announce(capture)
        capture.put_in_place()
        capture.close()
        try:
            # What a hook writes to each descriptor that it finds is no answer.
            with self._guard, HiddenDescriptor(self.descriptors.output):
                outcome = self._run_hook(request)
        finally:
            self._flush()
            # The hook may have closed any: the null device, or a file that is opened next, would
            # come to be there, and be closed with its other number.
            open_missing()
            point_at_null_device(os.O_WRONLY, 1, 2)
            # What found no room on a full disk must not come out among the next hook's output.
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
            # Raised by our own handler, a moment before or after the hook.
            if self._stopped_by is None:
                raise
            message = describe(error, "the worker")
            return Outcome(failure=failure_from(HOOK_RUNTIME_ERROR, message, error))
        finally:
            self._hook_runs = False
            # The hook may have set its own.
            self._install_handlers()
            for folder in request.backend_path:
                if folder in sys.path:
                    sys.path.remove(folder)

    def _watch_imports(self) -> Optional[Callable[[], List[Dict[str, Any]]]]:
        try:
            known = set(sys.modules)
        except BaseException:
            # A former hook has made something else of sys.modules: no more can be known.
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
        # A supervisor is gone when its pipe ends, whatever it may have written before. But a script
        # that is piped into a bare hookd ends early as a rule: its lines are answered.
        return self.options.control or not (has_unread_input or self.channel.waiting_bytes())

    def cancel(self, signal_name: str) -> None:
        """Nothing to do: it is only read when no hook runs."""

    def clean_up(self) -> None:
        # It is code of hooks, and may hang as they may.
        if self.options.control:
            with self._guard:
                end_worker()
        else:
            # The end of a script's input says nothing: its last line brought us here.
            end_worker()

    def leave(self) -> NoReturn:
        if not self.options.control:
            os._exit(0)
        super().leave()

    def kill_everything(self) -> None:
        # Without --control nobody asked for it: it is the original's equal.
        if self.options.control and os.getpid() == self._pid:
            kill_all(other_threads=True)
            self._guard.dismiss()
