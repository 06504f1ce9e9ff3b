"""Isolation `none` with --control: a process that notices the supervisor's death.

Workers that were forked from a template need none: the template does it.

A hook that blocks in C code may hold the interpreter's lock for any time. Then no thread of the
worker can run.
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

# How long a worker that runs no hook may take to notice the end of its input, in seconds. It takes
# no time, unless it is stopped or a thread that a hook left holds the interpreter's lock.
PATIENCE = 2.0
TICK = 0.005


class Sentinel:
    """A process that kills the worker, with its hook, when the input hangs up while a hook runs.

    A hook runs during the `with` statement. The process is a child of the worker, but hooks that
    wait for children do not get it. It dies with the worker, however that ends.
    """

    def __init__(self, input_descriptor: int) -> None:
        self._worker = os.getpid()
        if not are_known():
            raise libc.NotAvailable(
                "a process beside the worker cannot see it: no /proc of its own"
            )
        # In shared memory, as a hook may close any descriptor.
        self._hook_runs = libc.share_byte()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, list(signal.Signals))
        try:
            self._pid = libc.fork_unseen()
            if self._pid == 0:
                # The signal mask stays, as no signal is meant for it.
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
        """Kill and reap it: after the worker's exit, nobody may look for it."""
        try:
            # As long as waitpid says that it lives, no other process can have its pid.
            if os.waitpid(self._pid, os.WNOHANG | libc.WALL) == (0, 0):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, libc.WALL)
        except OSError:
            # A hook has reaped it, by waiting with __WALL.
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
    # The caller sees the end of the output only when all processes have closed it.
    for name in os.listdir("/proc/self/fd"):
        if int(name) != input_descriptor:
            try:
                os.close(int(name))
            except OSError:
                # The descriptor by which the folder was listed.
                pass
    # Not getpid(): old C libraries return a cached pid after our own clone(2).
    overlook(int(os.readlink("/proc/self")))
    try:
        with open("/proc/self/comm", "w") as file:
            file.write("hookd-sentinel")
    except OSError:
        pass


def _wait_for_hang_up(input_descriptor: int) -> None:
    # poll() reports a hang-up without being asked. Input is for the worker to read.
    poll = select.poll()
    poll.register(input_descriptor, 0)
    poll.poll()


def _wait_for_reason(hook_runs: Any) -> None:
    deadline = monotonic() + PATIENCE
    while not hook_runs.value and monotonic() < deadline:
        sleep(TICK)


def _end_worker(worker: int) -> None:
    """Kill the worker's children, and those that become its children by that; then the worker.

    A stopped worker reaps no child, so no pid can go to another process meanwhile. (If a hook
    ignores SIGCHLD, the kernel reaps them, but does not use a pid again that soon.) The worker's
    own pid is safe, too: when it dies, the kernel kills us before anybody can reap it.
    """
    deadline = monotonic() + LONGEST_KILLING
    known: Set[int] = set()
    while monotonic() < deadline:
        # Each time: a supervisor that is alive may have continued it, to let it end.
        send_signal(worker, signal.SIGSTOP)
        stopped = is_stopped(worker)
        living, ended = look_at_children(worker)
        killed = [send_signal(pid, signal.SIGKILL) for pid, _ in living]
        # A child that ended during the look may have left children of its own, not seen yet.
        if stopped and not any(killed) and ended <= known:
            break
        known = ended
        sleep(0.001)
    # A supervisor gives the worker its own process group, in which others may be, too.
    if os.getpgid(worker) == worker:
        os.killpg(worker, signal.SIGKILL)
    send_signal(worker, signal.SIGKILL)
