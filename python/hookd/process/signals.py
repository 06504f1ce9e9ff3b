"""Signals to the worker."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, List, NoReturn, Set

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
PAUSE_SIGNALS = (signal.SIGTSTP, signal.SIGCONT)
WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


class SignalWatch:
    """Makes signals to the worker readable on a descriptor, for a poll that waits for more."""

    def __init__(self, told: Iterable[int] = STOP_SIGNALS) -> None:
        """`told` are the signals that `take` tells of; SIGCHLD is watched too."""
        self._told = frozenset(told)
        self.descriptor, self._write_end = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._write_end, False)
        self._taken: List[int] = []
        # Started in the background by a shell, SIGINT is ignored, and stays so: sh(1).
        self._caught = [
            number
            for number in (*self._told, signal.SIGCHLD)
            if number not in STOP_SIGNALS or signal.getsignal(number) != signal.SIG_IGN
        ]
        for number in self._caught:
            signal.signal(number, self._note)
        # The interpreter's handler in C writes a byte there, so no signal comes too early or too
        # late for a poll. Which it was is noted by our own handler: the pipe may be full.
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)

    def _note(self, number: int, frame: object) -> None:
        if number in self._told:
            self._taken.append(number)

    def take(self) -> List[int]:
        """The signals that came since the last call, when `descriptor` was readable.

        SIGCHLD is not told: look at the children after each call.
        """
        try:
            while len(os.read(self.descriptor, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass
        taken, self._taken = self._taken, []
        return taken

    def block(self) -> Set[Any]:
        """Hold signals back around a fork; returns what `unblock` takes.

        Between fork and `restore_defaults` the hook process has our handlers, and would tell us of
        a signal that is meant for it.
        """
        return signal.pthread_sigmask(signal.SIG_BLOCK, (*self._told, signal.SIGCHLD))

    def unblock(self, mask: Iterable[Any]) -> None:
        """Go back to what `block` returned."""
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def restore_defaults(self) -> None:
        """In the hook process: the handlers that a fresh interpreter would have."""
        signal.set_wakeup_fd(-1)
        os.close(self.descriptor)
        os.close(self._write_end)
        # subprocess needs SIGCHLD not to be ignored, which could have been inherited.
        for number in (*self._told, signal.SIGCHLD):
            is_interrupt = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if is_interrupt else signal.SIG_DFL)


def signal_name(number: int) -> str:
    """``SIGSEGV``; a number for what has no name (real-time signals)."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return "SIG{}".format(number)


def die_of(number: int) -> NoReturn:
    """End this process by that signal, so that its wait status tells the truth."""
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    # Not reached, unless we are init of a container: the kernel keeps such signals from it.
    os._exit(128 + number)
