"""Isolation `none` with --control: seeing the supervisor's death from another process.

A hook that blocks in C code may hold the interpreter's lock for as long as it likes. No thread of
the worker runs then.
"""

from __future__ import annotations

import os
import select
import signal
from time import monotonic, sleep

from hookd.process import libc
from hookd.process.children import (
    LONGEST_KILLING,
    are_known,
    is_stopped,
    look_at_children,
    overlook,
    send_signal,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, Set

# How long a worker without a hook may take to see the end by itself. It does so at once, unless
# it is stopped, or a thread that a hook left behind holds the interpreter's lock.
PATIENCE = 2.0
TICK = 0.005


class Sentinel:
    """A process that kills the worker, with its hook, when the input hangs up while a hook runs.

    A hook runs for as long as the `with` statement. The process is a child of the worker that
    hooks do not meet when they wait for children. It dies with the worker, whatever ends that.
    """

    def __init__(self, input_descriptor: int) -> None:
        self._worker = os.getpid()
        if not are_known():
            raise libc.NotAvailable(
                "a process beside the worker cannot see it: no /proc of its own"
            )
        # In memory: a hook may close any descriptor.
        self._hook_runs = libc.share_byte()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, list(signal.Signals))
        try:
            self._pid = libc.fork_unseen()
            if self._pid == 0:
                # No signal is meant for it, so the mask stays.
                _be_sentinel(self._worker, input_descriptor, self._hook_runs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        overlook(self._pid)

    def __enter__(self) -> None:
        self._hook_runs.value = 1

    def __exit__(self, *error: object) -> None:
        # A process that the hook forked shares the byte.
        if os.getpid() == self._worker:
            self._hook_runs.value = 0

    def dismiss(self) -> None:
        """End it and reap it: who adopts it may not look for it after the worker's orderly end."""
        try:
            # The pid is its own for as long as we are told that it lives.
            if os.waitpid(self._pid, os.WNOHANG | libc.WALL) == (0, 0):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, libc.WALL)
        except OSError:
            # Reaped by a hook that waits for really any child.
            pass


def _be_sentinel(worker: int, input_descriptor: int, hook_runs: Any) -> NoReturn:
    try:
        libc.die_with_parent(signal.SIGKILL)
        if os.getppid() == worker:
            _leave_worker(input_descriptor)
            _wait_for_hang_up(input_descriptor)
            _wait_for_reason(hook_runs)
            _end_worker(worker)
    finally:
        os._exit(0)


def _leave_worker(input_descriptor: int) -> None:
    # The supervisor stops, continues and kills the worker's process group.
    os.setsid()
    # The output ends, for who reads it, with its last writer.
    for name in os.listdir("/proc/self/fd"):
        if int(name) != input_descriptor:
            try:
                os.close(int(name))
            except OSError:
                # The one by which they were listed.
                pass
    # Not getpid(), which old C libraries answer without asking after a clone(2) of our own.
    overlook(int(os.readlink("/proc/self")))
    try:
        with open("/proc/self/comm", "w") as file:
            file.write("hookd-sentinel")
    except OSError:
        pass


def _wait_for_hang_up(input_descriptor: int) -> None:
    # Told by poll() unasked. What can be read is the worker's.
    poll = select.poll()
    poll.register(input_descriptor, 0)
    poll.poll()


def _wait_for_reason(hook_runs: Any) -> None:
    deadline = monotonic() + PATIENCE
    while not hook_runs.value and monotonic() < deadline:
        sleep(TICK)


def _end_worker(worker: int) -> None:
    """Kill the worker's children, and whatever becomes its child by that, and then the worker.

    While it is stopped it reaps none, so that their pids stay their own. (Where a hook has SIGCHLD
    ignored, the kernel reaps them; but it does not give a pid away again that soon.) The same
    holds for the worker's: at its end the kernel kills us before anybody can reap it.
    """
    deadline = monotonic() + LONGEST_KILLING
    known: Set[int] = set()
    while monotonic() < deadline:
        # Each time: a supervisor that lives continues whom it wants to see ended.
        send_signal(worker, signal.SIGSTOP)
        stopped = is_stopped(worker)
        living, ended = look_at_children(worker)
        killed = [send_signal(pid, signal.SIGKILL) for pid, _ in living]
        # One that ended during the look may have left it children that were missed.
        if stopped and not any(killed) and ended <= known:
            break
        known = ended
        sleep(0.001)
    # In a process group of its own, as supervisors start it, not all need be its descendants.
    if os.getpgid(worker) == worker:
        os.killpg(worker, signal.SIGKILL)
    send_signal(worker, signal.SIGKILL)
