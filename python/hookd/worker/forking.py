"""Isolation `hook`: every hook runs in a process of its own, forked for it.

The worker never imports anything of the source tree or its environment, so each hook process finds
them as they are on the disk. It can answer while a hook runs.
"""

from __future__ import annotations

import gc
import os
import signal

from hookd.hook.observer import observer
from hookd.hook.process import Child, run_in_hook_process
from hookd.hook.report_pipes import ReportPipes
from hookd.hook.starting_point import hide_hookd, starting_point
from hookd.hook.supervision import RunningHook
from hookd.process.children import (
    kill_all,
    living_children,
    reap_ended,
    reap_others,
    send_signal,
)
from hookd.process.descriptors import wait_readable
from hookd.process.signals import SignalWatch
from hookd.protocol.failures import HOOK_RUNTIME_ERROR, CallerGone, Failure, describe
from hookd.worker.base import Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from hookd.arguments import Options
    from hookd.hook.capture import Capture
    from hookd.process.descriptors import Descriptors
    from hookd.protocol.channel import Channel
    from hookd.protocol.requests import Request
    from hookd.worker.tree import ServedTree

# While a hook runs, input is read for control actions and its end. Requests among it are kept, up
# to this many bytes; beyond that, the worker only looks whether the caller has hung up.
MOST_READ_AHEAD = 16 << 20


class ForkingWorker(Worker):
    """Forks a hook process for each request. It has one thread and waits only in `_wait`."""

    def __init__(
        self, options: Options, tree: ServedTree, channel: Channel, descriptors: Descriptors
    ) -> None:
        super().__init__(options, tree, channel, descriptors)
        self.signals = SignalWatch()
        self.hook: Optional[RunningHook] = None
        self.stopped_by: Optional[int] = None
        """The first SIGTERM or SIGINT that came while a hook ran."""

    def prepare(self) -> None:
        self.forget_parent_death()
        self.adopt_orphans()
        hide_hookd()

    # Waiting.

    def wait_for_input(self) -> None:
        self._wait()

    def wait_for_event(self) -> None:
        self._wait()

    def _wait(self) -> None:
        """Block until there is an event, and handle it."""
        readable = [self.signals.descriptor]
        hung_up = []
        if self.hook is not None and self.hook.is_readable():
            readable.append(self.hook.descriptor)
        if not self.channel.ended:
            if self.hook is None or self.channel.waiting_bytes() < MOST_READ_AHEAD:
                readable.append(self.channel.input)
            elif self.options.control:
                hung_up.append(self.channel.input)

        ready = wait_readable(readable, hung_up)

        if self.signals.descriptor in ready:
            self._on_signals()
        if self.hook is not None and self.hook.descriptor in ready:
            self.hook.receive()
        if self.channel.input in ready:
            self._on_input(hung_up=self.channel.input in hung_up)

    def _on_signals(self) -> None:
        for number in self.signals.take():
            if self.hook is None:
                self.die(number)
            self.hook.signal_group(number)
            self.stopped_by = self.stopped_by or number
        if self.hook is None:
            reap_ended()
        elif not self.hook.reaped:
            reap_others(self.hook.pid)

    def _on_input(self, hung_up: bool) -> None:
        if hung_up:
            raise CallerGone("end of input")
        self.channel.fill()
        if self.hook is None:
            return
        line = self._act_on_read_ahead()
        if self.channel.ended and (self.options.control or line is None):
            # When a supervisor's pipe ends, it is dead, whatever it wrote before. A script that is
            # piped into a bare hookd usually ends early; its lines are still answered.
            raise CallerGone("end of input")

    def _act_on_read_ahead(self) -> Optional[bytes]:
        """Carry out the control actions that were read; return the line that follows them.

        The first line that is no control action begins the next request. It is left unread, as is
        everything after it.
        """
        line = self.channel.peek_line()
        while line is not None and (not line or self.act_on_control(line)):
            self.channel.next_line()
            line = self.channel.peek_line()
        return line

    # One hook.

    def run_request(self, request: Request) -> None:
        capture = self.captures.open()
        try:
            pipes = ReportPipes()
        except BaseException:
            capture.discard()
            raise
        self.announce(capture)
        try:
            hook = self._fork(request, capture, pipes)
        except OSError as error:
            pipes.close_reading()
            message = "the hook did not start: {}".format(describe(error, "fork"))
            details = {"exception": type(error).__name__, "unsupported_operation": False}
            self.report_failure(Failure(HOOK_RUNTIME_ERROR, message, details))
            return
        finally:
            pipes.close_writing()
            capture.close()
        self.hook = hook
        # A `cancel` may have been read together with its request.
        self._act_on_read_ahead()
        while not hook.is_over():
            self._wait()
        if hook.outcome is not None:
            self.report(hook.outcome, capture)
            self.channel.flush()
        are_left = self._sweep(hook)
        self.hook = None
        hook.close()
        if self.stopped_by is not None:
            self.die(self.stopped_by)
        if are_left and self.options.control:
            # Where they cannot be listed, there is one at least.
            self.report_kept(max(len(living_children()), 1))

    def _fork(self, request: Request, capture: Capture, pipes: ReportPipes) -> RunningHook:
        # Hide all objects from the garbage collector, which would write to pages that the hook
        # process shares.
        freeze = getattr(gc, "freeze", None)
        if freeze is not None:
            freeze()

        start = starting_point()
        mask = self.signals.block()
        try:
            child = Child(
                request,
                capture,
                pipes,
                self.signals,
                mask,
                self.descriptors.close,
                self.options.report_imports,
                self.options.report_shadowed,
                observer() if self.options.observe is not None else None,
                start,
            )
            pid = os.fork()
            if pid == 0:
                run_in_hook_process(child)
        finally:
            self.signals.unblock(mask)
        return RunningHook(pid, pipes, request.hook)

    def _sweep(self, hook: RunningHook) -> bool:
        """Kill the hook process, and all that it left in its process group or session.

        Processes in sessions of their own live on, unless --kill-detached was given. Returns
        whether any are left, those of earlier hooks included.
        """
        hook.signal_group(signal.SIGKILL)
        idle_looks = 0
        # Look twice: a process that became our child during the first look may have been missed.
        while idle_looks < 2:
            ended, any_left = reap_ended()
            hook.reaped = hook.reaped or hook.pid in ended
            if not any_left:
                return False
            if not hook.reaped:
                # Most hooks leave no process behind: wait for this one before looking for others.
                self._wait()
                continue
            killed = [
                send_signal(pid, signal.SIGKILL)
                for pid, session in living_children()
                if self.options.kill_detached or session == hook.pid
            ]
            if any(killed):
                self._wait()
            else:
                idle_looks += 1
        return True

    def change_tree(self, line: bytes) -> bool:
        action, _, path = line.partition(b" ")
        if not (self.options.control and action == b"tree" and path):
            return False
        self.tree.change(os.fsdecode(path))
        return True

    def cancel(self, signal_name: str) -> None:
        known = {number.name: number for number in signal.Signals}
        if signal_name not in known:
            self.debug("cancel: {!r} is no signal".format(signal_name))
        elif self.hook is not None:
            self.hook.signal_group(known[signal_name])

    def kill_everything(self) -> None:
        hook = self.hook
        kill_all(hook.pid if hook is not None and not hook.reaped else None)
