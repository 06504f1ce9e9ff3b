"""A template's workers: forking and reaping them, and killing what they leave behind.

A worker is reaped when the supervisor knows that it is dead: until then no other process can get
its pid. All other children are orphans that came to us as their subreaper. The worker that should
have ended them is dead, so they are killed.
"""

from __future__ import annotations

import gc
import os
import signal
import sys

from hookd.hook.starting_point import starting_point
from hookd.process.children import _candidates
from hookd.process.descriptors import flush_standard_streams
from hookd.process.signals import WATCHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, List, NoReturn, Optional, Set, Tuple

# Python's exit code after an uncaught exception.
EXIT_FAILED = 1

# The part of the files that may be open that are inputs of watched workers.
PART_FOR_INPUTS = 1 / 4


class ChildWatch:
    """Makes SIGCHLD readable on a descriptor, while it is enabled.

    It is disabled during imports, so that modules find the signal handlers of a fresh interpreter.
    After enabling it, look at the children: some may have ended before.
    """

    def __init__(self) -> None:
        self.descriptor, self._write_end = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._write_end, False)

    def enable(self) -> None:
        """Catch SIGCHLD."""
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _do_nothing)

    def disable(self) -> None:
        """Leave SIGCHLD as it is in a fresh interpreter."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)

    def drain(self) -> None:
        """Read what is there, so that `descriptor` waits for the next signal."""
        try:
            while len(os.read(self.descriptor, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close it, in a forked worker."""
        self.disable()
        os.close(self.descriptor)
        os.close(self._write_end)


def _do_nothing(number: int, frame: object) -> None:
    """Not SIG_IGN: with that the kernel would reap children by itself."""


def fork_worker(
    descriptors: List[int],
    leave_template: Callable[[], None],
    become_worker: Callable[[], NoReturn],
) -> int:
    """Fork a worker with these as its descriptors 0, 1 and 2.

    Returns its pid. Raises `OSError` if there is no process to be had.
    """
    # Here, for all workers and their hooks.
    starting_point()
    # Out of the collector's sight, so that it does not write to pages that are shared.
    freeze = getattr(gc, "freeze", None)
    if freeze is not None:
        freeze()
    # Between the fork and the worker's own handlers a signal must not be taken for ours.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    try:
        pid = os.fork()
        if pid == 0:
            _run(descriptors, leave_template, become_worker, mask)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def _run(
    descriptors: List[int],
    leave_template: Callable[[], None],
    become_worker: Callable[[], NoReturn],
    mask: object,
) -> NoReturn:
    """Run as the worker. Never returns to the template's code."""
    exit_code = EXIT_FAILED
    try:
        os.setsid()
        leave_template()
        for place, descriptor in enumerate(descriptors):
            os.dup2(descriptor, place)
        for descriptor in descriptors:
            os.close(descriptor)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # type: ignore[arg-type]
        become_worker()
    except SystemExit as error:
        exit_code = error.code if isinstance(error.code, int) else EXIT_FAILED
    except BaseException:
        # Descriptor 2 is the worker's log.
        sys.excepthook(*sys.exc_info())
    finally:
        flush_standard_streams()
        os._exit(exit_code)


class WatchedWorkers:
    """Workers that run hooks in their own process (isolation `none`), where these may keep them
    from noticing the end of their input. So they are killed when it hangs up.

    What such a worker leaves comes to us, its subreaper.
    """

    def __init__(self) -> None:
        self._inputs: Dict[int, int] = {}
        """The reading end of the input of each, by its pid."""

    def has_room(self) -> bool:
        """Whether another can be watched: each takes a descriptor."""
        return len(self._inputs) < os.sysconf("SC_OPEN_MAX") * PART_FOR_INPUTS

    def add(self, pid: int, input_descriptor: int) -> None:
        """Watch a child that is not reaped, until `forget`. The descriptor becomes ours."""
        self._inputs[pid] = input_descriptor

    def inputs(self) -> List[int]:
        """Descriptors to poll for a hang-up, which is reported without being asked for: what comes
        through them is for the workers to read.
        """
        return list(self._inputs.values())

    def kill_hung_up(self, hung_up: Set[int]) -> None:
        """Kill those whose input is among these."""
        for pid in [pid for pid, descriptor in self._inputs.items() if descriptor in hung_up]:
            os.kill(pid, signal.SIGKILL)
            self.forget(pid)

    def forget(self, pid: int) -> None:
        """Watch this child no more: it may be reaped."""
        descriptor = self._inputs.pop(pid, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Close all, in a forked worker."""
        for pid in list(self._inputs):
            self.forget(pid)


class KnownWorkers:
    """The workers among the children, and the state of each. Never waits."""

    def __init__(self) -> None:
        self._alive_or_unacknowledged: Set[int] = set()
        self._acknowledged: Set[int] = set()
        self._ended: Dict[int, Optional[int]] = {}
        """Wait statuses of those that are reaped, but not reported yet."""
        self._condemned: Set[int] = set()

    def add(self, pid: int) -> None:
        """This child is a worker."""
        self._alive_or_unacknowledged.add(pid)

    def any_left(self) -> bool:
        """Whether there are workers whose end was not reported to the supervisor."""
        return bool(self._alive_or_unacknowledged or self._acknowledged or self._ended)

    def acknowledge(self, pid: int) -> bool:
        """The supervisor knows that this worker is dead. False if there is no such worker."""
        if pid in self._alive_or_unacknowledged:
            self._alive_or_unacknowledged.remove(pid)
            self._acknowledged.add(pid)
            return True
        return pid in self._acknowledged

    def look(self) -> Tuple[List[int], Dict[int, Optional[int]]]:
        """Reap children, and kill orphans. Call it after each SIGCHLD and each acknowledgement.

        Returns the orphans that were killed, and, if no orphan is left, the acknowledged workers
        with their wait statuses.
        """
        for pid in list(self._acknowledged):
            ended, status = _reap(pid)
            if ended:
                self._acknowledged.remove(pid)
                self._ended[pid] = status
        killed, any_left = self._sweep()
        if any_left:
            return killed, {}
        told, self._ended = self._ended, {}
        return killed, told

    def _sweep(self) -> Tuple[List[int], bool]:
        """Kill and reap orphans. Returns those that are dead, and whether there are others."""
        killed: List[int] = []
        while True:
            reaped = alive = False
            for pid in _candidates(os.getpid()):
                if pid in self._alive_or_unacknowledged or pid in self._acknowledged:
                    continue
                try:
                    ended = os.waitpid(pid, os.WNOHANG)[0] != 0
                except ChildProcessError:
                    # It is no child of ours: not every kernel can list only children.
                    continue
                if ended:
                    reaped = True
                    if pid in self._condemned:
                        self._condemned.remove(pid)
                        killed.append(pid)
                else:
                    alive = self._kill(pid) or alive
            # If one has died, its children have become ours.
            if not reaped:
                return killed, alive

    def _kill(self, pid: int) -> bool:
        if pid not in self._condemned:
            try:
                os.kill(pid, signal.SIGKILL)
            except PermissionError:
                # It runs as another user. It is not waited for.
                return False
            self._condemned.add(pid)
        return True


def _reap(pid: int) -> Tuple[bool, Optional[int]]:
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        # An imported module has waited for any child.
        return True, None
    return reaped != 0, status
