"""A template's workers: their fork, their ends, and what they leave behind."""

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
    from typing import Callable, List, NoReturn

    BecomeWorker = Callable[[List[str]], NoReturn]
    from typing import Dict, List, Optional, Set, Tuple

# What Python exits with after an exception that nobody caught.
EXIT_FAILED = 1


class ChildWatch:
    """Makes SIGCHLD readable on a descriptor, while it is enabled.

    Imports run while it is not, so that modules find all signals as in a fresh interpreter. After
    it was enabled, look at the children: some may have ended before.
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
        """Have `descriptor` wait for the next signal."""
        try:
            while len(os.read(self.descriptor, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """For a forked worker."""
        self.disable()
        os.close(self.descriptor)
        os.close(self._write_end)


def _do_nothing(number: int, frame: object) -> None:
    """Not SIG_IGN: with that the kernel would reap children by itself."""


def fork_worker(
    arguments: List[str],
    descriptors: List[int],
    leave_template: Callable[[], None],
    become_worker: BecomeWorker,
) -> int:
    """Fork a worker with that command line and these as its descriptors 0, 1 and 2.

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
            _run(arguments, descriptors, leave_template, become_worker, mask)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def _run(
    arguments: List[str],
    descriptors: List[int],
    leave_template: Callable[[], None],
    become_worker: BecomeWorker,
    mask: object,
) -> NoReturn:
    """Be the worker. Whatever happens, the template's own code is never come back to."""
    exit_code = EXIT_FAILED
    try:
        os.setsid()
        leave_template()
        for place, descriptor in enumerate(descriptors):
            os.dup2(descriptor, place)
        for descriptor in descriptors:
            os.close(descriptor)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # type: ignore[arg-type]
        become_worker(arguments)
    except SystemExit as error:
        exit_code = error.code if isinstance(error.code, int) else EXIT_FAILED
    except BaseException:
        # Descriptor 2 is the worker's log.
        sys.excepthook(*sys.exc_info())
    finally:
        flush_standard_streams()
        os._exit(exit_code)


class KnownWorkers:
    """Which children are workers, and how far each is on its way out. Never waits."""

    def __init__(self) -> None:
        self._alive_or_unacknowledged: Set[int] = set()
        self._acknowledged: Set[int] = set()
        self._ended: Dict[int, Optional[int]] = {}
        """Raw wait statuses of those that were reaped, but not yet told of."""
        self._condemned: Set[int] = set()

    def add(self, pid: int) -> None:
        """This child is a worker."""
        self._alive_or_unacknowledged.add(pid)

    def any_left(self) -> bool:
        """Whether there are workers of whose end the supervisor was not told."""
        return bool(self._alive_or_unacknowledged or self._acknowledged or self._ended)

    def acknowledge(self, pid: int) -> bool:
        """The supervisor knows that this worker is dead. False if there is no such worker."""
        if pid in self._alive_or_unacknowledged:
            self._alive_or_unacknowledged.remove(pid)
            self._acknowledged.add(pid)
            return True
        return pid in self._acknowledged

    def look(self) -> Tuple[List[int], Dict[int, Optional[int]]]:
        """See to all children. Call it after each SIGCHLD and each acknowledgement.

        Returns the orphans that have died of us, and the acknowledged workers with their statuses,
        once there is no orphan left either.
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
        """Kill and reap what is no worker. Returns what has died of that, and whether more will."""
        killed: List[int] = []
        while True:
            reaped = alive = False
            for pid in _candidates(os.getpid()):
                if pid in self._alive_or_unacknowledged or pid in self._acknowledged:
                    continue
                try:
                    ended = os.waitpid(pid, os.WNOHANG)[0] != 0
                except ChildProcessError:
                    # No child of ours: not every kernel can list those alone.
                    continue
                if ended:
                    reaped = True
                    if pid in self._condemned:
                        self._condemned.remove(pid)
                        killed.append(pid)
                else:
                    alive = self._kill(pid) or alive
            # The children of one that has died are ours by now.
            if not reaped:
                return killed, alive

    def _kill(self, pid: int) -> bool:
        if pid not in self._condemned:
            try:
                os.kill(pid, signal.SIGKILL)
            except PermissionError:
                # It runs as another user, and is not waited for.
                return False
            self._condemned.add(pid)
        return True


def _reap(pid: int) -> Tuple[bool, Optional[int]]:
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        # A module that was imported has waited for whatever child there was.
        return True, None
    return reaped != 0, status
