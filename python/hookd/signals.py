"""Signals to the worker."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, List, NoReturn, Set

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


class SignalWatch:
    """Makes signals to the worker readable on a descriptor, for a poll that waits for more."""

    def __init__(self) -> None:
        self.descriptor, self._write_end = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._write_end, False)
        self._stops: List[int] = []
        # Started in the background by a shell, SIGINT is ignored, and stays so: sh(1).
        self._caught = [
            number
            for number in WATCHED
            if number == signal.SIGCHLD or signal.getsignal(number) != signal.SIG_IGN
        ]
        for number in self._caught:
            signal.signal(number, self._note)
        # The interpreter's handler in C writes a byte there, so no signal comes too early or too
        # late for a poll. Which it was is noted by our own handler: the pipe may be full.
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)

    def _note(self, number: int, frame: object) -> None:
        if number in STOP_SIGNALS:
            self._stops.append(number)

    def take_stops(self) -> List[int]:
        """The SIGTERMs and SIGINTs that came since the last call, when `descriptor` was readable.

        SIGCHLD is not told: look at the children after each call.
        """
        try:
            while len(os.read(self.descriptor, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass
        stops, self._stops = self._stops, []
        return stops

    def block(self) -> Set[Any]:
        """Hold signals back around a fork; returns what `unblock` takes.

        Between fork and `restore_defaults` the hook process has our handlers, and would tell us of
        a signal that is meant for it.
        """
        return signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)

    def unblock(self, mask: Iterable[Any]) -> None:
        """Go back to what `block` returned."""
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def restore_defaults(self) -> None:
        """In the hook process: the handlers that a fresh interpreter would have."""
        signal.set_wakeup_fd(-1)
        os.close(self.descriptor)
        os.close(self._write_end)
        # subprocess needs SIGCHLD not to be ignored, which could have been inherited.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
