"""The fork: from a template to a worker that is as if it had been started by itself."""

from __future__ import annotations

import gc
import os
import signal
import sys

from hookd.descriptors import flush_standard_streams
from hookd.signals import WATCHED
from hookd.starting_point import starting_point

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, List, NoReturn

    BecomeWorker = Callable[[List[str]], NoReturn]

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
